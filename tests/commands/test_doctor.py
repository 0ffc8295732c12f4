"""`doctor`: each part right, and each part wrong with what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import crypto
from tests.callers import log_in, manager_of
from tests.conftest import World
from tests.refresh.runs.faults_world import PostgresRows, SqliteRows
from tests.world.clock import FakeClock
from tests.world.http import Hangup, HTTPServer, Request, Response
from token_refresh.base.checks import BAD, DOUBTFUL, GOOD
from token_refresh.base.clock import SystemClock


def _found(world: World, *flags: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    run = world.program.run("doctor", "--json", *flags)
    parts: dict[str, list[dict[str, Any]]] = {}
    for finding in run.json()["findings"]:
        parts.setdefault(finding["part"], []).append(finding)
    return run.code, parts


def _states(findings: list[dict[str, Any]]) -> set[str]:
    return {finding["state"] for finding in findings}


def test_everything_in_order_is_all_ok(airtable_world: World) -> None:
    world = airtable_world
    world.table.add(world.cells("google", "loc"))
    code, parts = _found(world)
    assert code == 0
    assert _states(parts.pop("spare folder")) == {DOUBTFUL}  # a test's is on the disk of its state folder
    assert _states([finding for part in parts.values() for finding in part]) == {GOOD}
    assert {
        "key",
        "state folder",
        ".env",
        "store",
        "quota",
        "writing",
        "cells",
        "provider",
        "clock",
        "installation",
    } == set(parts)


def test_everything_in_order_on_a_database(postgres_world: World) -> None:
    rows = PostgresRows(postgres_world)
    rows.add("google", "loc")
    before = rows.row("loc")
    code, parts = _found(postgres_world)
    assert code == 0
    assert _states(parts.pop("spare folder")) == {DOUBTFUL}
    assert _states([finding for part in parts.values() for finding in part]) == {GOOD}
    assert {"key", "state folder", ".env", "store", "writing", "cells", "provider", "clock", "installation"} == set(
        parts
    )
    assert rows.row("loc") == before
    rows.add("google", "bad", encrypted_refresh="scribble")
    code, parts = _found(postgres_world)
    assert code == 1
    [bad] = [finding for finding in parts["cells"] if finding["state"] == BAD]
    assert "bad: encrypted_refresh" in bad["text"]


def test_a_security_log_that_cannot_be_written_is_a_warning(world: World) -> None:
    world.program.settings["SECURITY_LOG"] = str(world.program.home / "gone" / "audit.jsonl")
    code, parts = _found(world)
    assert (code, _states(parts["security log"])) == (0, {DOUBTFUL})


def test_a_spare_folder_that_cannot_be_used_is_a_warning_that_says_what_happens_then(world: World) -> None:
    (world.program.home / "spare").write_text("")
    code, parts = _found(world)
    [found] = parts["spare folder"]
    assert (code, found["state"]) == (0, DOUBTFUL)
    assert (
        "spare cannot be written (Not a directory): where both the state folder's disk and the table" in found["text"]
    )
    assert "set STATE_DIR_SPARE to a folder" in found["action"]


@pytest.mark.parametrize("flags", [(), ("--online",)])
def test_a_database_that_does_not_answer_is_one_bad_part_and_the_others_are_still_looked_at(
    world: World, flags: tuple[str, ...]
) -> None:
    world.program.clock = FakeClock(datetime.now(UTC))  # a server that restarts is waited for
    world.program.settings["DATABASE_URL"] = "postgresql://tom:hunter2hunter2@127.0.0.1:1/tokens"
    code, parts = _found(world, *flags)
    assert code == 1
    assert _states(parts["store"]) == {BAD}
    assert "Check that PostgreSQL runs" in parts["store"][0]["action"]
    assert "hunter2" not in str(parts)
    assert _states(parts["provider"]) == {GOOD}


def test_it_changes_no_value_and_asks_no_provider_for_a_token(airtable_world: World) -> None:
    world = airtable_world
    record = world.table.add(world.cells("google", "loc"))
    before = world.table.cells(record)
    _found(world)
    assert world.table.cells(record) == before
    assert [request.method for request in world.oauth.requests] == ["GET"]


def test_a_cell_that_does_not_open_is_named_with_what_to_do(airtable_world: World) -> None:
    world = airtable_world
    world.table.add(world.cells("google", "good"))
    world.table.add(world.cells("google", "bad") | {"encrypted_refresh": "scribble"})
    code, parts = _found(world)
    assert code == 1
    [bad] = [finding for finding in parts["cells"] if finding["state"] == BAD]
    assert "bad: encrypted_refresh" in bad["text"]
    assert "onboard_client.py" in bad["action"]


def test_of_a_six_column_table_it_says_that_a_second_machine_goes_unnoticed(airtable_world: World) -> None:
    world = airtable_world
    assert world.airtable is not None
    world.airtable.six_column_table("Small")
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Small"
    code, parts = _found(world)
    assert code == 0
    assert "refreshed_by" in parts["columns"][0]["text"]


def test_two_rows_of_one_client_are_bad(airtable_world: World) -> None:
    world = airtable_world
    world.table.duplicate(world.table.add(world.cells("google", "loc")))
    code, parts = _found(world)
    assert code == 1
    assert "several rows have the same location and provider: 'loc'" in parts["rows"][0]["text"]


def test_a_wrong_token_is_one_bad_part_and_the_others_are_still_looked_at(airtable_world: World) -> None:
    world = airtable_world
    world.program.settings["AIRTABLE_API_KEY"] = "pat-nobody"
    code, parts = _found(world)
    assert code == 1
    assert _states(parts["store"]) == {BAD}
    assert _states(parts["provider"]) == {GOOD}


def test_a_token_that_died_since_the_columns_were_read_is_bad(airtable_world: World) -> None:
    """What is known of the columns lasts a day; the token may not."""
    world = airtable_world
    world.table.add(world.cells("google", "loc"))
    assert _found(world)[0] == 0
    world.program.settings["AIRTABLE_API_KEY"] = "pat-nobody"
    code, parts = _found(world)
    assert (code, _states(parts["store"])) == (1, {BAD})
    assert "does not accept AIRTABLE_API_KEY" in parts["store"][0]["text"]


def test_a_key_that_opens_nothing_is_bad(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("google", "one")
    rows.add("google", "two")
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    code, parts = _found(world)
    [key] = parts["key"]
    assert (code, key["state"]) == (1, BAD)
    assert "decrypts no value of the 2 rows" in key["text"]
    assert "ENCRYPTION_KEY_FALLBACKS" in key["action"]


def test_clients_that_need_a_person_are_bad(airtable_world: World) -> None:
    world = airtable_world
    world.table.add(world.cells("google", "dead") | {"status": "reauthorize"})
    world.table.add(world.cells("google", "off") | {"status": "disabled"})
    code, parts = _found(world)
    [clients] = parts["clients"]
    assert (code, clients["state"]) == (1, BAD)
    assert clients["text"] == "1 client needs somebody: dead (login_needed)"
    assert "status" in clients["action"]


def test_the_table_s_clock_is_compared_with_ours(airtable_world: World) -> None:
    world = airtable_world
    world.table.add(world.cells("google", "loc"))
    world.program.clock = FakeClock(world.clock.now() + timedelta(hours=2))
    code, parts = _found(world)
    assert code == 1
    assert any("s off the store's" in one["text"] and one["state"] == BAD for one in parts["clock"])


def test_a_table_that_is_missing_can_be_made(airtable_world: World) -> None:
    airtable_world.program.settings["AIRTABLE_TABLE_NAME"] = "Nowhere"
    code, parts = _found(airtable_world)
    assert code == 1
    assert "python token_manager.py setup" in parts["store"][0]["action"]


def test_a_provider_that_does_not_answer_is_bad(world: World) -> None:
    world.program.settings["GOHIGHLEVEL_TOKEN_URL"] = "http://127.0.0.1:1/token"
    file = world.program.csv(world.csv_line("gohighlevel", "loc"))
    assert world.program.onboard("--from-csv", file, "--no-check").code == 0
    code, parts = _found(world)
    [provider] = parts["provider"]
    assert (code, provider["state"]) == (1, BAD)
    assert provider["text"].startswith("GoHighLevel cannot be reached")


def test_a_default_provider_that_no_row_uses_is_a_warning_where_it_does_not_answer(world: World) -> None:
    world.program.settings["GOHIGHLEVEL_TOKEN_URL"] = "http://127.0.0.1:1/token"
    code, parts = _found(world)
    [provider] = parts["provider"]
    assert (code, provider["state"]) == (0, DOUBTFUL)
    assert provider["text"].startswith("GoHighLevel, which no row uses, cannot be reached")


def test_the_endpoint_of_every_row_is_tried_and_no_host_that_a_row_names_itself(world: World) -> None:
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = host = world.oauth.url.partition("//")[2]
    own = '"{""instance"": ""' + host + '""}"'
    lines = [(*world.csv_line("google", "one"), ""), (*world.csv_line("acme", "two"), "")]
    lines.append(("three", "acme-instance", *world.csv_line("acme", "three")[2:], own))
    file = world.program.csv(*lines, params=True)
    assert world.program.onboard("--from-csv", file, "--allow-host", host).code == 0
    code, parts = _found(world)
    assert code == 0
    assert sorted(finding["text"] for finding in parts["provider"]) == ["Google answers", "acme answers"]


def test_of_an_empty_table_whose_rows_will_name_their_host_no_endpoint_is_tried(world: World) -> None:
    own = world.program.home / "providers.toml"
    own.write_text(own.read_text() + '\n[acme-own]\nname = "Acme"\ntoken_url = "https://{instance}/oauth/token"\n')
    world.program.settings["DEFAULT_PROVIDER"] = "acme-own"
    code, parts = _found(world)
    assert (code, "provider" in parts) == (0, False)


def test_a_clock_that_is_off_is_bad(world: World) -> None:
    world.program.clock = SystemClock()
    code, parts = _found(world)
    assert code == 1
    assert _states(parts["clock"]) == {BAD}


def test_online_asks_for_each_token_where_the_provider_can_say(world: World) -> None:
    """RFC 7662, with the client's own authentication; a token that died is reported."""
    own = world.program.home / "providers.toml"
    url = world.oauth.endpoint("acme-basic", "introspect")
    own.write_text(own.read_text().replace("[acme-basic]\n", f'[acme-basic]\nintrospect_url = "{url}"\n'))
    lines = [
        world.csv_line("acme-basic", "one"),
        world.csv_line("acme-basic", "two"),
        world.csv_line("google", "three"),
    ]
    assert world.program.onboard("--from-csv", world.program.csv(*lines)).code == 0
    code, parts = _found(world, "--online")
    assert (code, parts["online"][0]["text"].split()[0]) == (0, "2")
    world.oauth.revoke(world.program.run("get", "two", "--min-valid", "0").out.strip())
    code, parts = _found(world, "--online")
    assert code == 1
    assert "two: acme-basic says that the access token is not active" in parts["online"][0]["text"]


@pytest.mark.parametrize(
    "answer",
    [Hangup(), Response(404, b"not here"), Response.of_json(200, {"active": "yes"})],
    ids=["none", "404", "odd"],
)
def test_online_where_no_usable_answer_comes_somebody_should_look(world: World, answer: Response | Hangup) -> None:
    def serve(request: Request) -> Response:
        if request.path != "/introspect":
            return Response(404)
        if isinstance(answer, Hangup):
            raise answer
        return answer

    with HTTPServer(serve) as server:
        server.now = world.clock.timestamp
        own = world.program.home / "providers.toml"
        text = own.read_text().replace(world.oauth.token_url("acme-basic"), f"{server.url}/token")
        own.write_text(text.replace("[acme-basic]\n", f'[acme-basic]\nintrospect_url = "{server.url}/introspect"\n'))
        log_in(world, manager_of(world), "one", "acme-basic")
        log_in(world, manager_of(world), "without access token", "acme-basic", access_token=None)
        code, parts = _found(world, "--online")
    assert code == 0
    [doubtful, total] = parts["online"]
    assert (doubtful["state"], total["text"].split()[0]) == (DOUBTFUL, "1")
    assert "one: acme-basic gave no usable answer" in doubtful["text"]
