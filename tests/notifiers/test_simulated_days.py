"""A month on Airtable and a year on SQLite, by a clock that the test moves: each message that is needed came, and once.

What went wrong is in the list of each test. After every run it is checked that no token has expired without a message
about its row, and at the end that every grant that lives is the one in the table.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.notifiers.test_command import keeping
from tests.refresh.runs.faults_world import AirtableRows, Rows
from tests.world.clock import FakeClock
from tests.world.oauth import faults
from token_refresh.base.clock import parse_time

pytestmark = pytest.mark.long

HOUR, DAY = 3600, 86_400
PROVIDERS = (
    *("gohighlevel", "google", "microsoft", "hubspot", "salesforce", "slack", "xero", "quickbooks", "zoho", "dropbox"),
    *("box", "zoom", "linkedin", "atlassian"),
)


class Skewed(FakeClock):
    """The program's own clock: that of the world, but for what it is off."""

    def __init__(self, world: FakeClock) -> None:
        self._world = world
        self.off = timedelta(0)

    def now(self) -> datetime:
        return self._world.now() + self.off

    def monotonic(self) -> float:
        return self._world.monotonic()

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class Life:
    """A table and its messages, run after run.

    Attributes:
        begun: how often a message said that something began, by code and location.
        over: the same for what is over.
        lasting: in how many messages of each day something lasted.
    """

    def __init__(self, rows: Rows, folder: Path, interval: float) -> None:
        self.rows, self.world, self.interval = rows, rows.world, interval
        self.clock = Skewed(self.world.clock)
        self.inbox = folder / "got.txt"
        self.begun: Counter[tuple[str, str]] = Counter()
        self.over: Counter[str] = Counter()
        self.open: dict[str, set[str]] = {}
        self.digests: Counter[int] = Counter()
        self.messages: list[str] = []
        self.codes: Counter[int] = Counter()
        self._read = 0
        program = self.world.program
        program.clock = self.clock
        program.planted = lambda: ()  # tens of thousands; other tests search for them
        program.settings |= {
            "NOTIFY_COMMAND": keeping(folder),
            "TOKEN_REFRESH_HOME": str(folder),
            "REFRESH_INTERVAL": str(int(interval)),
            "LOG_LEVEL": "WARNING",
        }

    def add(self, provider: str, location: str) -> None:
        """A client, as onboarding leaves it."""
        self.rows.put(self.world.consented(provider, location))

    def log_in_again(self, provider: str, location: str) -> None:
        """What a person does about a dead grant."""
        cells = self.world.consented(provider, location)
        self.rows.remove(location)
        self.rows.put(cells)

    def run(self, *argv: str) -> int:
        """The next run of cron."""
        self.world.clock.advance(self.interval - 30)
        self.world.clock.advance(30)
        code = self.world.program.run(*argv).code
        self.codes[code] += 1
        self._hear()
        return code

    def run_for(self, days: float) -> None:
        """So many days of them."""
        for _ in range(round(days * DAY / self.interval)):
            self.run()
            self.check()

    def _hear(self) -> None:
        if not self.inbox.exists():
            return
        lines = [line for line in self.inbox.read_text().splitlines() if line][self._read :]
        self._read += len(lines)
        for message in map(json.loads, lines):
            self.messages.append(f"{self.world.clock.now():%m-%d %H:%M} {message['title']}")
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        for item in message["items"]:
            location, code = item["location_id"] or "", item["code"]
            began = parse_time(item["since"])
            assert began is not None
            if code == "recovered":
                self.over[location] += 1
                self.open.pop(location, None)
            elif code not in self.open.setdefault(location, set()):
                self.begun[code, location] += 1
                self.open[location].add(code)

    def check(self) -> None:
        """No token has expired without a message about its row."""
        now = self.world.clock.now()
        expired = {location for location, end in self.ends().items() if end is not None and end < now}
        assert expired <= self.open.keys(), (now, sorted(expired - self.open.keys())[:5], self.messages[-3:])

    def ends(self) -> dict[str, datetime | None]:
        """When each access token does."""
        rows = self.world._rows()
        names = [(row.get("location_id", row.get("locationId")), row.get("access_token_expiry")) for row in rows]
        return {str(name): parse_time(end) for name, end in names}

    def assert_nothing_lost(self, *dead: str) -> None:
        """Each grant that lives is the one in the table."""
        for location in self.ends().keys() - set(dead):
            assert self.rows.is_current(location), location
        assert self.world.journalled() == []

    def state_bytes(self) -> int:
        """Of the state folder, without the room that is kept free, and the table itself."""
        folder = Path(self.world.program.settings["STATE_DIR"])
        files = [path for path in folder.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files if not path.name.startswith(("ballast", "tokens.sqlite3")))


@contextlib.contextmanager
def outage(life: Life, provider: str) -> Iterator[None]:
    """A provider answers 503 as long as this lasts."""
    life.world.oauth.fail(faults.status(503), times=math.inf, provider=provider)
    yield
    life.world.oauth.behave()


def test_thirty_days_of_three_hundred_clients_on_airtable(every_provider: World, request: Any, tmp_path: Path) -> None:
    life = Life(AirtableRows(request.getfixturevalue("airtable_world")), tmp_path, HOUR)
    for number in range(300):
        # Most have tokens that live a day; an hour's are refreshed in each run.
        provider = PROVIDERS[number] if number < 56 and number < len(PROVIDERS) else PROVIDERS[number % 4 and 0]
        life.add(provider, f"loc{number}")
    life.run_for(2)
    assert life.messages == []
    with outage(life, "google"):
        life.run_for(0.5)
    life.run_for(30)
    print("\n".join(life.messages))
    print("state folder", life.state_bytes(), "bytes; exit codes", dict(life.codes))
    life.assert_nothing_lost()
