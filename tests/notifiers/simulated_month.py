"""A month of hourly runs on Airtable, by a clock that the test moves: `make month`, which takes long.

See `tests/notifiers/test_simulated_days.py`, whose year is shorter.
"""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

from tests.conftest import World
from tests.notifiers.test_simulated_days import MOST_BYTES, Life
from tests.refresh.runs.faults_world import AirtableRows
from tests.world.airtable import AirtableServer
from tests.world.oauth import faults

HOUR = 3600
# Fourteen whose tokens live for hours, so that an hourly run is often enough; most rows are the first one's.
HOURLY = (
    *("gohighlevel", "linear", "keap", "reddit", "tiktok-business", "constant-contact", "slack", "freshbooks"),
    *("docusign", "paypal", "twitch", "strava", "dropbox", "canva"),
)


def test_thirty_days_of_three_hundred_clients_on_airtable(
    every_provider: World, airtable_world: World, airtable: AirtableServer, tmp_path: Path
) -> None:
    rows = AirtableRows(airtable_world)
    life = Life(rows, tmp_path, HOUR)
    for number in range(300):
        provider = HOURLY[number % len(HOURLY)] if number < 100 else HOURLY[0]
        rows.put(every_provider.consented(provider, f"loc{number}"))
    oauth, settings = every_provider.oauth, life.settings
    settings["AIRTABLE_PLAN"] = "team"
    of = {slug: [f"loc{number}" for number in range(100) if HOURLY[number % len(HOURLY)] == slug] for slug in HOURLY}

    assert life.run_for(3) == []
    oauth.fail(faults.status(503), times=math.inf, provider="canva")  # an outage of six hours
    life.run_for(0.25)
    oauth.behave()
    life.run_for(2)
    assert {code for code, location in life.begun if location in of["canva"]} == {"failing"}
    assert life.open == {}

    dead = of["gohighlevel"][:3]
    for location in dead:
        oauth.revoke(location)
    life.run_for(2)
    assert life.open == {location: {"login_needed"} for location in dead}
    for location in dead:
        life.log_in_again(location, "gohighlevel")
    life.run_for(2)
    assert life.open == {}

    life.rotate_key()
    life.run_for(0.25)
    assert life.open == {"": {"rotation_unfinished"}}
    assert life.program.run("rotate-key").code == 0
    life.run_for(3.25)
    assert life.open == {}
    del settings["ENCRYPTION_KEY_FALLBACKS"]

    every_provider.add_client("linear", secret="another")  # the app's secret has expired
    life.run_for(1)
    assert {code for codes in life.open.values() for code in codes} <= {"needs_fixing"}
    assert life.open.keys() <= set(of["linear"])
    every_provider.add_client("linear")
    life.run_for(2)
    assert life.open == {}

    airtable.monthly_calls = 0  # the table refuses everything
    life.run_for(0.125)
    airtable.monthly_calls = None
    life.run_for(1)
    assert life.open == {}

    life.clock.off = timedelta(days=2)  # a clock that jumps
    assert life.run() == 2
    life.clock.off = timedelta(0)
    life.run_for(1)
    assert life.open == {}

    settings["AIRTABLE_PLAN"] = "free"
    life.run_for(2)
    assert life.open == {"": {"quota"}}
    settings["AIRTABLE_PLAN"] = "team"
    life.run_for(1)
    assert life.open == {}

    life.move(tmp_path / "moved")
    assert [life.run(), life.run()] == [2, 2]
    assert life.open == {"": {"needs_fixing"}}
    assert life.program.run("refresh", "--takeover").code == 0
    life.run_for(30 - 22)
    assert life.open == {}

    print("\n".join(life.messages))
    print(f"state folder: {life.state_bytes()} bytes; exit codes: {dict(life.codes)}; requests: {len(oauth.requests)}")
    assert {key: count for key, count in life.begun.items() if not key[1] or key[1] in dead} == {
        **{("login_needed", location): 1 for location in dead},
        **{(code, ""): 1 for code in ("rotation_unfinished", "quota")},
        ("needs_fixing", ""): life.begun["needs_fixing", ""],
        ("store_unavailable", ""): life.begun["store_unavailable", ""],
    }
    assert life.begun["needs_fixing", ""] + life.begun["store_unavailable", ""] == 3
    assert max(life.begun.values()) <= 3
    life.assert_nothing_lost()
    assert life.state_bytes() < MOST_BYTES
