"""The command line as its users meet it: what it prints where, how it ends, what it says when something is wrong."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import crypto
from tests.callers import log_in, manager_of
from tests.commands.test_verify import rows
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, DatabaseRows, Rows, SqliteRows
from tests.world.airtable import faults as airtable_faults
from tests.world.clock import START, FakeClock
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.program import Program, Result
from tests.world.terminal import TerminalProcess, python
from token_refresh.base.clock import iso
from token_refresh.base.errors import Kind, exit_code
from token_refresh.base.events import NoticeCode, Outcome, RowFinished, RunFinished
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.journal.file import JournalError
from token_refresh.journal.lock import run_lock
from token_refresh.stores.base import StoreRefusedError, StoreUnavailableError

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (error|warning|info): [^\x00-\x1f\x7f-\x9f]+")
CANARY = "canary-S3cret"


def onboarded(world: World, *locations: str, provider: str = "acme") -> None:
    lines = [world.csv_line(provider, location) for location in locations]
    assert world.program.onboard("--from-csv", world.program.csv(*lines)).code == 0


def change_row(world: World, location: str, **cells: object) -> None:
    names = ", ".join(f"{name} = ?" for name in cells)
    with closing(sqlite3.connect(world.program.home / "state/tokens.sqlite3")) as database:
        database.execute(f"UPDATE credentials SET {names} WHERE location_id = ?", (*cells.values(), location))
        database.commit()


def state_folder(world: World) -> Path:
    assert world.program.run("status").code == 0
    [folder] = [path for path in (world.program.home / "state").iterdir() if path.is_dir()]
    return folder


def shell(world: World, command: str, *argv: str, script: str = "token_manager.py") -> subprocess.CompletedProcess[str]:
    """The installed program under a shell that closes or redirects its streams: `"$@"` stands for it."""
    program = world.program
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", *python(program.installed() / script, *argv)],
        cwd=program.home,
        env=program.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_reported(result: Result, code: int, *sentences: str) -> None:
    """The exit code, and on stderr nothing but well-formed lines that hold these sentences."""
    assert result.code == code, result.said
    assert result.out == ""
    for line in result.err.splitlines():
        assert LINE.fullmatch(line), line
    for sentence in sentences:
        assert sentence in result.err
    assert CANARY not in result.said
    assert "Traceback" not in result.said


# Wrong settings


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ENCRYPTION_KEY": ""}, f"Copy the key you have, or make one with `{TOKEN_MANAGER} generate-key`."),
        ({"ENCRYPTION_KEY": CANARY}, "ENCRYPTION_KEY "),
        ({"ENCRYPTION_KEY": base64.b64encode(bytes(32)).decode()}, "ENCRYPTION_KEY "),
        ({"ENCRYPTION_KEY_FALLBACKS": CANARY}, "ENCRYPTION_KEY_FALLBACKS, key 1,"),
        ({"AIRTABLE_API_KEY": CANARY}, "AIRTABLE_BASE_ID is not set."),
        ({"AIRTABLE_BASE_ID": "appX"}, "AIRTABLE_API_KEY is not set."),
        ({"DATABASE_URL": f"mysql://root:{CANARY}@db/x"}, "DATABASE_URL is no address of a database."),
        ({"TOKEN_STORE": CANARY}, "TOKEN_STORE cannot be used. Use one of: airtable, database."),
        ({"REFRESH_INTERVAL": "soon"}, "REFRESH_INTERVAL cannot be used. Use a whole number from 1 to"),
        ({"CONCURRENCY": "0"}, "CONCURRENCY cannot be used."),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL cannot be used. Use one of: DEBUG, INFO, WARNING, ERROR."),
        ({"DEFAULT_PROVIDER": "gohighlevl"}, "there is no provider 'gohighlevl'. Did you mean gohighlevel?"),
        ({"PROVIDERS_FILE": "/nowhere.toml"}, "PROVIDERS_FILE names no file that can be read."),
        ({"GOOGLE_TOKEN_URL": f"http://u:{CANARY}@host/token"}, "GOOGLE_TOKEN_URL cannot be used. Use https://"),
        ({"HTTPS_PROXY_URL": f"{CANARY}@proxy"}, "HTTPS_PROXY_URL cannot be used."),
        ({"CA_BUNDLE": "/nowhere.pem"}, "CA_BUNDLE names no file that can be read."),
    ],
)
@pytest.mark.parametrize("verb", ["refresh", "status", "get", "onboard"])
def test_wrong_setting_is_named_with_its_fix(world: World, verb: str, settings: dict[str, str], told: str) -> None:
    world.program.settings |= settings
    assert_reported(run_verb(world.program, verb), 2, told)
    assert world.oauth.requests == []


def run_verb(program: Program, verb: str) -> Result:
    if verb == "onboard":
        return program.onboard("--from-csv", program.csv())
    return program.run(verb, *(["loc1"] if verb == "get" else []))


def test_all_wrong_settings_are_reported_at_once(world: World) -> None:
    world.program.settings |= {"ENCRYPTION_KEY": "", "CONCURRENCY": "many", "LOG_FORMAT": "xml"}
    result = world.program.run()
    assert_reported(result, 2, "ENCRYPTION_KEY", "CONCURRENCY", "LOG_FORMAT")
    assert len(result.err.splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[acme\n", "is not TOML"),
        ('[mine]\ntoken_url = "http://evil.example/token"\n', "token_url: the token endpoint is not a plain https"),
        ('[mine]\ntoken_url = "https://mine.example/token"\nrotates = "often"\n', "Use always, sometimes, never."),
        ('[mine]\ntoken_uri = "https://mine.example/token"\n', "Provider mine: token_url is missing."),
    ],
)
def test_wrong_providers_file_is_reported_with_its_place(world: World, content: str, told: str) -> None:
    Path(world.program.settings["PROVIDERS_FILE"]).write_text(content)
    assert_reported(world.program.run(), 2, told)


@pytest.mark.long
def test_open_env_file_beside_the_program_is_refused(world: World) -> None:
    path = world.program.install() / ".env"
    path.write_text(f"GOOGLE_CLIENT_SECRET={CANARY}\n")
    path.chmod(0o644)
    assert_reported(world.program.spawn(), 2, f"Other users can read {path}. Run: chmod 600 {path}")


def test_a_secret_file_that_others_can_read_is_reported_and_used(world: World, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(world.program.settings.pop("ENCRYPTION_KEY"))
    file.chmod(0o644)
    world.program.settings["ENCRYPTION_KEY_FILE"] = str(file)
    result = world.program.run("status")
    assert result.code == 0
    assert f"warning: ENCRYPTION_KEY_FILE: other users can read {file}. Run: chmod 600 {file}" in result.err


# Wrong flags


@pytest.mark.parametrize(
    "argv",
    [
        ["--nonsense"],
        ["refresh", f"--client-secret={CANARY}"],
        ["refresh", "--refresh-token", CANARY],
        ["refresh", CANARY],
        ["refrsh"],
        ["get"],
        ["get", "loc1", CANARY],
        ["get", "loc1", "--min-valid", "soon"],
        ["get", "loc1", "--min-valid", "nan"],
        ["get", "loc1", "--min-valid=-1"],
        ["--max-seconds", "soon"],
        ["--max-seconds"],
        ["--loc", "loc1"],
        ["get", "loc\udcff"],
        [""],
    ],
    ids=lambda argv: " ".join(argv).encode(errors="replace").decode() or "empty",
)
def test_wrong_flag_is_usage(world: World, argv: list[str]) -> None:
    result = world.program.run(*argv)
    assert (result.code, result.out) == (2, "")
    assert f"usage: {TOKEN_MANAGER} " in result.err
    assert "error: " in result.err
    assert CANARY not in result.err
    assert not re.search(r"Traceback|_seconds|[\x00-\x09\x0b-\x1f]", result.err)


@pytest.mark.parametrize("argv", [[f"--refresh-token={CANARY}"], ["--client-secret", CANARY], [CANARY], ["--from-csv"]])
def test_secret_as_an_argument_is_refused_and_not_repeated(world: World, argv: list[str]) -> None:
    result = world.program.onboard(*argv)
    assert result.code == 2
    assert f"usage: {ONBOARD_CLIENT} " in result.err
    assert CANARY not in result.said


@pytest.mark.parametrize(
    "argv", [["--help"], ["refresh", "-h"], ["status", "-h"], ["get", "-h"], ["generate-key", "-h"]]
)
def test_help_is_data(argv: list[str], tmp_path: Path) -> None:
    result = Program(tmp_path).run(*argv)
    assert (result.code, result.err) == (0, "")
    assert f"usage: {TOKEN_MANAGER} " in result.out
    assert "--json" in result.out or argv == ["--help"]


@pytest.mark.long
def test_both_scripts_show_their_help_without_any_settings(world: World) -> None:
    world.program.settings.clear()
    for script in ("token_manager.py", "onboard_client.py"):
        result = world.program.spawn("--help", script=script)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("usage: ")
        assert f"/{script} " in result.out.partition("[-h]")[0].replace("\n", " ")


# Wrong places and stores


def test_state_folder_that_cannot_be_used_is_named(world: World) -> None:
    home = world.program.home
    (home / "file").write_text("")
    (home / "open").mkdir(mode=0o755)
    (home / "open").chmod(0o755)
    for name, told in (("file", "cannot be written (File exists)"), ("open", "Run: chmod -R go= ")):
        world.program.settings["STATE_DIR"] = str(home / name)
        assert_reported(world.program.run(), 2, str(home / name), told)


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%2Fb", "a b", "a%", "ä?mode=ro"])
def test_a_state_folder_of_any_name_holds_the_database(world: World, name: str) -> None:
    folder = world.program.home / name
    world.program.settings["STATE_DIR"] = str(folder)
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == 0
    assert (folder / "tokens.sqlite3").stat().st_size > 0
    assert world.program.run("--all", "--json").outcomes() == {"loc": "refreshed"}
    assert [one.name for one in world.program.home.iterdir() if one.name.startswith(name[:1])] == [name]


# A location that somebody names


def test_a_location_without_a_row_is_refused_before_anything_is_refreshed(world: World) -> None:
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == 0
    asked = len(world.oauth.requests)
    for words in (["nowhere"], ["loc", "--location", "nowhere"], ["loc", "--provider", "google"]):
        result = world.program.run("refresh", "--all", "--json", "--location", *words)
        name = "loc" if "google" in words else "nowhere"
        assert (result.code, result.json()["error"]["code"]) == (2, "usage")
        assert f"there is no row of '{name}'" in result.json()["error"]["message"]
        assert "token_manager.py status" in result.json()["error"]["action"]
    assert world.program.run("--dry-run", "--location", "nowhere").code == 2
    assert len(world.oauth.requests) == asked
    assert world.program.run("--location", "loc").code == 0  # it is there, and not due


@pytest.mark.parametrize("text", ["", " ", "\u200b"])
@pytest.mark.parametrize("words", [["--location"], ["refresh", "--location"], ["get"], ["revoke"], ["rebind"]])
def test_an_empty_location_is_refused(world: World, words: list[str], text: str) -> None:
    result = world.program.run(*words, text)
    assert (result.code, "must not be empty" in result.err) == (2, True)


def test_what_nobody_sees_around_a_location_is_cut(world: World) -> None:
    line = world.csv_line("acme", "loc")
    assert world.program.onboard("--from-csv", world.program.csv(("\u200bloc\u00a0\ufeff", *line[1:]))).code == 0
    assert list(world.rows()) == ["loc"]
    assert world.program.run("--all", "--json", "--location", "\u200b loc ").outcomes() == {"loc": "refreshed"}


def test_folder_in_the_lock_s_place_is_named(airtable_world: World) -> None:
    world = airtable_world
    folder = state_folder(world)
    (folder / "run.lock").mkdir()
    assert_reported(world.program.run(), 2, "run.lock cannot be used (Is a directory). Correct its permissions")


def test_journal_that_is_no_database_is_reported(world: World) -> None:
    folder = state_folder(world)
    (folder / "journal-1.sqlite3").write_bytes(b"no database at all, but long enough to be read as one" * 20)
    assert_reported(world.program.run(), 2, "the journal cannot be ", "STATE_DIR")


def test_database_that_others_can_read_is_refused(world: World) -> None:
    onboarded(world, "loc1")
    (world.program.home / "state/tokens.sqlite3").chmod(0o640)
    assert_reported(world.program.run(), 2, "other users can read the database", "chmod 600")


@pytest.mark.parametrize(
    ("arrange", "code", "told"),
    [
        (lambda server: server.revoke_token(server.token), 2, "Airtable does not accept AIRTABLE_API_KEY"),
        (
            lambda server: server.add_token(server.token, scopes=()),
            2,
            "Give it data.records:read and data.records:write",
        ),
        (lambda server: server.table("APISecrets").remove_column("client_id"), 2, "the table has no column client_id"),
        (
            lambda server: server.inject(airtable_faults.status(503), times=10**6),
            3,
            "Airtable does not answer (HTTP 503)",
        ),
        (lambda server: server.inject(airtable_faults.html(), times=10**6), 3, "makes no sense"),
        (lambda server: setattr(server, "monthly_calls", 0), 3, "Airtable's monthly API calls"),
    ],
    ids=["token", "scope", "column", "down", "portal", "quota"],
)
@pytest.mark.parametrize("verb", ["refresh", "status", "get", "onboard"])
def test_table_that_cannot_be_used_is_reported(
    airtable_world: World, verb: str, arrange: Any, code: int, told: str
) -> None:
    world = airtable_world
    arrange(world.airtable)
    if verb == "onboard":
        result = world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc1")))
    else:
        result = run_verb(world.program, verb)
    assert_reported(Result(result.code, "", result.err), code, told)
    assert world.oauth.requests == []


def test_missing_base_is_reported(airtable_world: World) -> None:
    airtable_world.program.settings["AIRTABLE_BASE_ID"] = "appNowhere0000001"
    assert_reported(airtable_world.program.run("status"), 2, "AIRTABLE_BASE_ID")


def test_key_that_opens_no_row_is_a_wrong_setting(world: World) -> None:
    onboarded(world, "loc1", "loc2")
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    world.clock.advance(3600)
    assert_reported(world.program.run(), 2, "needs key", "Set it as ENCRYPTION_KEY_FALLBACKS")
    world.program.run("refresh", "--takeover")  # as where nothing is known of used tokens
    assert_reported(
        world.program.run(), 2, "ENCRYPTION_KEY decrypts no value of the 2 rows", "ENCRYPTION_KEY_FALLBACKS"
    )
    assert_reported(world.program.run("get", "loc1"), 2, "Add that key to ENCRYPTION_KEY_FALLBACKS")


# The order of errors


def test_another_run_is_reported_with_who_and_since_when(airtable_world: World) -> None:
    world = airtable_world
    folder = state_folder(world)
    descriptor = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, b'{"pid": 4711, "since": "2026-03-01T11:59:00Z"}')
        assert_reported(world.program.run(), 75, "another run is active: process 4711, since 2026-03-01T11:59:00Z")
        assert_reported(world.program.run("--provider", "nonsense"), 2, "there is no provider 'nonsense'")
        assert world.program.run("status").code == 0
        world.program.settings["CONCURRENCY"] = "0"
        assert_reported(world.program.run(), 2, "CONCURRENCY cannot be used")
    finally:
        os.close(descriptor)


FULL = JournalError("the journal cannot be written", "Free disk space.")
AWAY = StoreUnavailableError("the store does not answer", "Wait.")
REFUSED = StoreRefusedError("the store refuses", "Mend it.")
BAD = RowFinished("loc", "acme", Outcome.TRANSIENT)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ({"journal_error": FULL, "store_error": AWAY, "stopped": "SIGTERM", "results": [BAD]}, 2),
        ({"store_error": REFUSED, "stopped": "SIGTERM", "results": [BAD]}, 2),
        ({"store_error": AWAY, "stopped": "SIGTERM", "results": [BAD]}, 3),
        ({"stopped": "SIGTERM", "results": [BAD]}, 4),
        ({"results": [BAD]}, 1),
        ({}, 0),
    ],
)
def test_of_several_ends_of_a_run_the_exit_code_tells_the_gravest(ends: dict[str, Any], code: int) -> None:
    assert exit_code(RunFinished("run", START, **ends).kinds()) == code


# status


def test_status_tells_each_row_s_state(rows: Rows) -> None:
    world = rows.world
    onboarded(world, "fresh", "due", "failing", "expired", "gone", "off")
    changes: dict[str, dict[str, object]] = {
        "failing": {"failure_count": 2, "last_error": "HTTP 500"},
        "gone": {"status": "reauthorize"},
        "off": {"status": "disabled"},
        "due": {
            "access_token_expiry": START + timedelta(minutes=10),
            "last_refreshed": START - timedelta(minutes=50),
        },
        "expired": {"access_token_expiry": START - timedelta(hours=1)},
    }
    for location, cells in changes.items():
        rows.edit(location, **cells)
    report = world.program.run("status", "--json")
    assert report.code == 0
    states = {row["location_id"]: (row["state"], row["note"]) for row in report.json()["rows"]}
    assert states == {
        "fresh": ("valid", None),
        "due": ("valid", "due"),
        "failing": ("failing", None),
        "expired": ("expired", None),
        "gone": ("login_needed", None),
        "off": ("disabled", None),
    }
    assert report.json()["counts"] == {"valid": 2, "failing": 1, "expired": 1, "login_needed": 1, "disabled": 1}
    text = world.program.run("status")
    assert text.code == 0
    assert re.search(r"(?m)^expired +acme +expired +expired 1 h 0 min ago", text.out)
    assert re.search(r"(?m)^due +acme +valid, due +\d+ min", text.out)
    assert "6 rows: 1 disabled, 1 expired, 1 failing, 1 login_needed, 2 valid" in text.err


def test_status_shows_first_what_needs_a_person_and_says_what_to_do(rows: Rows) -> None:
    world, long = rows.world, "a-location-id-as-long-as-some-providers-make-them-0123456789"
    onboarded(world, "a-fresh", "b-off", "c-dead", "d-failing", long)
    rows.edit("b-off", status="disabled")
    rows.edit("c-dead", status="reauthorize")
    rows.edit("d-failing", last_error="HTTP 500", failure_count=1)
    rows.edit(long, access_token_expiry=START - timedelta(hours=1))
    shown = world.program.run("status")
    lines = shown.out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [long, "c-dead", "d-failing", "a-fresh", "b-off"]
    for line, action in zip(
        lines, ("Run: ", "log in again", "last error says", "", "enable --provider acme b-off"), strict=True
    ):
        assert action in line
    found = {row["location_id"]: row for row in world.program.run("status", "--json").json()["rows"]}
    assert (found["b-off"]["is_active"], found["a-fresh"]["is_active"]) == (False, True)
    assert "enable --provider acme b-off" in found["b-off"]["action"]
    assert found["a-fresh"]["action"] is None
    assert "log in again" in found["c-dead"]["action"]


def test_status_shows_what_is_known_of_a_client(world: World) -> None:
    """All but secrets."""
    known = {"username": "tom", "email": "tom@acme.example", "workspace_name": "Acme", "scope": "mail calendar"}
    log_in(world, manager_of(world), **known, id_token="an.id.token")
    result = world.program.run("status", "--json")
    [row] = result.json()["rows"]
    assert {name: row[name] for name in ("username", "email", "workspace_name", "workspace_email")} == {
        "username": "tom", "email": "tom@acme.example", "workspace_name": "Acme", "workspace_email": None
    }  # fmt: skip
    assert (row["scopes"], row["connected_at"], row["last_used_at"]) == (["mail", "calendar"], iso(START), None)
    assert "an.id.token" not in result.said


@pytest.mark.long
def test_status_and_doctor_alarm_while_a_client_is_refused(rows: Rows) -> None:
    """Its rows are not marked, for the fault is none of theirs."""
    onboarded(rows.world, "loc1")
    rows.world.clock.advance(3600)
    rows.world.oauth.fail(faults.wrong_secret(), times=9)
    assert rows.world.program.run().code == 1
    assert rows.row("loc1").last_error == ""
    rows.edit("loc1", access_token_expiry=rows.world.clock.now() + timedelta(hours=1))
    assert rows.world.program.run("status", "--check").code == 2  # by now its token has expired, too
    [row] = rows.world.program.run("status", "--json").json()["rows"]
    assert row["state"] == "failing"
    assert "invalid_client" in row["last_error"]
    found = rows.world.program.run("doctor", "--json").json()["findings"]
    assert "1 client needs somebody: loc1 (failing)" in [one["text"] for one in found if one["part"] == "clients"]
    rows.world.oauth.behave()
    assert rows.world.program.run("--all").code == 0
    [row] = rows.world.program.run("status", "--json").json()["rows"]
    assert row["state"] == "valid"


def test_status_warns_of_the_end_of_a_token_that_nothing_refreshes(world: World) -> None:
    tokens = manager_of(world)
    for name, days in (("never", None), ("far", 30), ("near", 3)):
        end = START + timedelta(days=days) if days else None
        tokens.store_tokens(name, "acme", client_id="app", access_token=f"gho_{name}-token", expires_at=end)
    result = world.program.run("status", "--json")
    assert {row["location_id"]: (row["state"], row["note"]) for row in result.json()["rows"]} == {
        "never": ("valid", None), "far": ("valid", None), "near": ("valid", "ending")
    }  # fmt: skip
    assert "no token ends" not in result.err


def test_status_of_an_empty_store_says_how_to_begin(world: World) -> None:
    result = world.program.run("status")
    assert (result.code, result.out) == (0, "")
    assert f"no rows yet; add one with: {ONBOARD_CLIENT}" in result.err


# get


@pytest.fixture
def stored(rows: Rows) -> World:
    """One onboarded location, in each kind of store."""
    onboarded(rows.world, "loc1")
    return rows.world


def test_get_prints_the_fresh_token_alone_and_asks_nobody(stored: World) -> None:
    asked = len(stored.oauth.requests)
    result = stored.program.run("get", " loc1 ")
    assert (result.code, result.out, result.err) == (0, stored.oauth.current_access("loc1") + "\n", "")
    as_json = stored.program.run("get", "loc1", "--json").json()
    assert (as_json["access_token"], as_json["provider"]) == (stored.oauth.current_access("loc1"), "acme")
    assert as_json["expires_at"].startswith("2026-03-01T13:00:00")
    assert len(stored.oauth.requests) == asked


def test_get_refreshes_what_would_not_last(stored: World) -> None:
    stored.clock.advance(3500)
    assert stored.program.run("get", "loc1", "--min-valid", "60").out.strip() == stored.oauth.current_access("loc1")
    asked = len(stored.oauth.requests)
    result = stored.program.run("get", "loc1", "--min-valid", "600")
    [line] = result.err.splitlines()
    assert (result.code, "info: loc1 acme: refreshed, until 2026-03-01 " in line) == (0, True)
    assert stored.oauth.is_live(result.out.strip())
    assert len(stored.oauth.requests) == asked + 1
    if stored.airtable is not None:
        assert stored.airtable.answers[429] == 0


def test_get_serves_the_stored_token_with_a_warning_while_a_refresh_fails(stored: World) -> None:
    stored.clock.advance(3500)
    old = stored.oauth.current_access("loc1")
    stored.oauth.fail(faults.too_many_requests(), times=10)
    result = stored.program.run("get", "loc1")
    assert (result.code, result.out) == (0, old + "\n")
    assert "loc1 acme: transient, HTTP 429" in result.err
    assert "the stored token is still valid" in result.err


def test_get_fails_where_the_refresh_fails_and_the_token_is_out(stored: World) -> None:
    stored.clock.advance(3700)
    stored.oauth.revoke("loc1")
    assert_reported(stored.program.run("get", "loc1"), 1, "loc1 acme: reauthorize, HTTP 400, invalid_grant")
    asked = len(stored.oauth.requests)
    assert_reported(stored.program.run("get", "loc1"), 1, "loc1 acme: reauthorize, ", "A person must log in again")
    assert len(stored.oauth.requests) == asked


def test_get_of_a_dead_grant_serves_what_is_left_of_its_token(world: World) -> None:
    onboarded(world, "loc1")
    change_row(world, "loc1", status="reauthorize", last_error="HTTP 400, invalid_grant")
    world.clock.advance(3500)
    asked = len(world.oauth.requests)
    result = world.program.run("get", "loc1")
    assert (result.code, result.out.strip()) == (0, world.oauth.current_access("loc1"))
    assert "reauthorize, HTTP 400, invalid_grant; the stored token is still valid" in result.err
    assert len(world.oauth.requests) == asked


def test_get_of_a_disabled_row_says_so(world: World) -> None:
    onboarded(world, "loc1")
    change_row(world, "loc1", status="disabled")
    world.clock.advance(3700)
    assert_reported(
        world.program.run("get", "loc1"),
        1,
        "its status is disabled. To use it again: .venv/bin/python token_manager.py enable --provider acme loc1",
    )


def test_get_of_a_row_without_credential_says_so(airtable_world: World) -> None:
    airtable_world.table.add({"locationId": "loc1", "provider": "acme"})
    assert_reported(
        airtable_world.program.run("get", "loc1"), 1, "it has no credential yet", "python onboard_client.py"
    )


def test_get_of_an_unknown_location_says_where_to_look(world: World) -> None:
    assert_reported(
        world.program.run("get", "loc1"), 1, "there is no row of 'loc1'. Check the name with: .venv/bin/python token_"
    )
    onboarded(world, "loc1")
    assert_reported(world.program.run("get", "loc1", "--provider", "google"), 1, "there is no row of 'loc1' and google")


def test_get_of_a_location_with_several_providers_asks_which(world: World) -> None:
    onboarded(world, "loc1")
    onboarded(world, "loc1", provider="google")
    assert_reported(
        world.program.run("get", "loc1"), 2, "'loc1' has several rows: acme, google. Choose one with --provider"
    )
    assert world.program.run("get", "loc1", "--provider", "google").out.strip() in world.oauth.access_tokens


def test_get_warns_where_no_token_can_last_that_long(world: World) -> None:
    onboarded(world, "loc1")
    result = world.program.run("get", "loc1", "--min-valid", "7200")
    assert (result.code, result.out.strip()) == (0, world.oauth.current_access("loc1"))
    assert "a fresh token of this provider does not live as long as was asked for. Ask for less." in result.err


def test_get_during_another_run_serves_the_token_that_is_still_valid(airtable_world: World) -> None:
    world = airtable_world
    onboarded(world, "loc1")
    old = world.oauth.current_access("loc1")
    world.clock.advance(3400)
    with run_lock(state_folder(world), world.clock):
        result = world.program.run("get", "loc1")
        assert (result.code, result.out) == (0, old + "\n")
        assert "another run is active: process" in result.err
        world.clock.advance(600)
        assert_reported(world.program.run("get", "loc1"), 75, "another run is active: process")


def test_get_refuses_a_cell_that_is_no_token(airtable_world: World) -> None:
    """Whoever may edit the table may not write what they like into the output of a script."""
    world = airtable_world
    onboarded(world, "loc1")
    [record] = world.table.find(locationId="loc1")
    world.table.edit(record, {"last_access_token": "token\nX-Forged: yes\x1b[2J"})
    result = world.program.run("get", "loc1")
    assert (result.code, result.out) == (0, world.oauth.current_access("loc1") + "\n")


def test_token_is_sealed_in_a_database_and_plain_for_automations_on_airtable(rows: Rows, stored: World) -> None:
    token, cell = stored.oauth.current_access("loc1"), rows.row("loc1").last_access_token
    assert (cell == token) == isinstance(rows, AirtableRows)
    assert crypto.is_sealed(cell) == isinstance(rows, DatabaseRows)
    if isinstance(rows, SqliteRows):
        assert token.encode() not in (stored.program.home / "state/tokens.sqlite3").read_bytes()


# generate-key, refresh


def test_generated_key_can_be_used_and_needs_no_settings(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.settings.clear()
    for flags in ([], ["--json"]):
        result = program.run("generate-key", *flags)
        assert (result.code, result.err) == (0, "")
        key = json.loads(result.out)["encryption_key"] if flags else result.out.strip()
        assert len(crypto.parse_key(key)) == 32
    assert list(tmp_path.iterdir()) == []


def test_refresh_as_json_is_one_object_with_words_elsewhere(world: World) -> None:
    onboarded(world, "good", "dead")
    world.oauth.revoke("dead")
    world.clock.advance(3600)
    result = world.program.run("--json")
    assert result.code == 1
    report = result.json()
    assert report["counts"] == {"refreshed": 1, "reauthorize": 1}
    assert report["store"] == "database"
    [dead, good] = sorted(report["results"], key=lambda row: row["location_id"])
    assert (good["error"], good["action"]) == (None, None)
    assert dead["error"].startswith("HTTP 400, invalid_grant")
    assert "python onboard_client.py" in dead["action"]
    assert all(LINE.fullmatch(line) for line in result.err.splitlines())
    dry = world.program.run("--all", "--dry-run", "--json").json()
    assert (dry["counts"], [row["outcome"] for row in dry["results"]]) == ({"due": 1}, [None])


@pytest.mark.parametrize(("seconds", "is_told"), [(5300, False), (5500, True)])
def test_cron_that_comes_more_rarely_than_the_settings_say_is_reported(
    world: World, seconds: int, is_told: bool
) -> None:
    """Tokens are renewed in time only if REFRESH_INTERVAL is true; one run that was a little late is no news."""
    assert "longer ago" not in world.program.run().err
    world.clock.advance(seconds - 100)
    assert "longer ago" not in world.program.run("--all").err  # by hand: that says nothing of cron
    world.clock.advance(100)
    told = "the last run was at 2026-03-01 12:00 UTC, longer ago than REFRESH_INTERVAL (3600 s)"
    assert (told in world.program.run().err) == is_told
    assert "longer ago" not in world.program.run().err


def test_jitter_is_a_wait_of_another_length_each_time(world: World) -> None:
    """Many hosts whose cron starts at the full hour must not all ask at once."""
    waits = []
    for _ in range(5):
        before = world.clock.slept
        assert world.program.run("--jitter", "100").code == 0
        waits.append(world.clock.slept - before)
    assert len(set(waits)) == 5
    assert all(0 <= wait <= 100 for wait in waits)


def test_row_that_cannot_be_used_is_named_and_stops_no_other(airtable_world: World) -> None:
    world = airtable_world
    world.table.add(world.cells("acme", "good"))
    world.table.add(world.cells("acme", "unknown") | {"provider": "acmee"})
    world.table.add(world.cells("acme", "params", provider_params=f"{{{CANARY}"))
    world.table.add(world.cells("acme", "cell") | {"encrypted_refresh": f"sealed:v1:{CANARY}"})
    world.table.add(world.cells("acme", "moved") | {"locationId": "copied"})
    world.table.add(world.cells("acme", "client") | {"client_id": ""})
    result = world.program.run()
    assert_reported(
        result,
        1,
        "good acme: refreshed",
        "unknown acmee: operator, there is no provider 'acmee'. Did you mean acme?",
        "params acme: operator, provider_params is not a JSON object of texts",
        "cell acme: operator, encrypted_refresh",
        "copied acme: operator, encrypted_refresh",
        "client acme: operator, client_id is empty",
        "1 refreshed, 5 need fixing",
    )


# Streams


@pytest.mark.long
def test_closed_streams_end_nothing_and_put_nothing_into_files(world: World) -> None:
    """Where 2 is closed, the next file opened would take its number, and words would go into the database."""
    onboarded(world, "loc1")
    program = world.program
    quiet = shell(world, '"$@" <&- >&- 2>&-', "--all")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert world.token_of("loc1") == world.oauth.current("loc1")
    no_words = shell(world, '"$@" 2>&-', "get", "loc1")
    assert (no_words.returncode, no_words.stdout.strip()) == (0, world.oauth.current_access("loc1"))
    no_input = shell(world, '"$@" <&-', "--from-csv", "-", script="onboard_client.py")
    assert no_input.returncode == 2
    assert "the first line is not the expected header" in no_input.stderr
    assert program.run("status", "--json").code == 0


@pytest.mark.by_turns("command", "code", "told")
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ('trap "" PIPE; { "$@"; echo "ended with $?" >&2; } | true', 0, "ended with 4"),
        ('"$@" >/dev/full', 4, "the output cannot be written (No space left on device)"),
    ],
    ids=["reader gone", "disk full"],
)
def test_output_that_nobody_takes_ends_quietly(world: World, command: str, code: int, told: str) -> None:
    onboarded(world, "loc1")
    # `true` is gone long before the program has started to print.
    result = shell(world, command, "status")
    assert (result.returncode, result.stdout) == (code, "")
    assert told in result.stderr
    assert not re.search(r"Traceback|Exception|BrokenPipe", result.stderr)


@pytest.mark.by_turns("words")
@pytest.mark.parametrize(
    "words", ["export", "get loc1", "generate-key", "status", "status --json", "api-key list", "--print-completion zsh"]
)
def test_an_answer_for_which_the_output_is_closed_is_no_success(world: World, words: str) -> None:
    """A backup or a key would be missed when it is needed."""
    onboarded(world, "loc1")
    result = shell(world, '"$@" >&-', *words.split())
    assert (result.returncode, result.stdout) == (4, ""), result.stderr
    assert "the output cannot be written (it is closed). Free the disk, or send it elsewhere." in result.stderr
    assert not re.search(r"Traceback|Exception", result.stderr)


@pytest.mark.by_turns("words", "code")
@pytest.mark.parametrize(("words", "code"), [("--all", 0), ("--all --json", 4), ("--help", 0)])
def test_a_run_goes_on_where_the_output_is_closed_and_misses_only_what_it_was_to_print(
    world: World, words: str, code: int
) -> None:
    onboarded(world, "loc1")
    asked = len(world.oauth.requests)
    result = shell(world, '"$@" >&-', *words.split())
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert len(world.oauth.requests) == asked + ("--all" in words)
    assert not re.search(r"Traceback|Exception", result.stderr)


@pytest.mark.long
def test_words_that_nobody_reads_stop_no_refresh(world: World) -> None:
    """`2>&1 | head`, and a full disk under the log: the rows are refreshed all the same."""
    onboarded(world, *(f"loc{number}" for number in range(20)))
    for command in (
        'exec 3>&1; { "$@" 2>&1 >&3; echo "ended with $?" >&3; } | true',
        '"$@" 2>/dev/full; echo "ended with $?"',
    ):
        asked = len(world.oauth.requests)
        result = shell(world, command, "--all")
        assert "ended with 0" in result.stdout + result.stderr
        assert len(world.oauth.requests) == asked + 20
    assert world.journalled() == []
    assert world.oauth.sent_twice() == []


# Words


def test_every_line_is_an_object_where_a_program_reads_them(world: World) -> None:
    onboarded(world, "good", "dead")
    world.oauth.revoke("dead")
    world.clock.advance(3600)
    world.program.settings["LOG_FORMAT"] = "json"
    results = [world.program.run(), world.program.run("get", "nowhere")]
    lines = [world.csv_line("acme", "new"), ("bad", "", "", "", "")]
    results.append(world.program.onboard("--from-csv", world.program.csv(*lines)))
    world.program.settings["CONCURRENCY"] = "0"
    results.append(world.program.run())
    assert [result.code for result in results] == [1, 1, 1, 2]
    for result in results:
        objects = [json.loads(line) for line in result.err.splitlines()]
        assert objects
        for one in objects:
            assert {"time", "level", "message"} <= one.keys()
    assert "reauthorize" in results[0].err
    assert results[1].codes() == [Kind.NOT_FOUND]
    assert results[3].codes() == [Kind.CONFIGURATION]


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_wrong_flag_is_one_object_a_line_too(world: World, where: str) -> None:
    if where == "environment":
        world.program.settings["LOG_FORMAT"] = "json"
    else:
        file = world.program.home / ".env"
        file.write_text("LOG_FORMAT=json\n")
        file.chmod(0o600)
        world.program.settings["TOKEN_REFRESH_HOME"] = str(world.program.home)
    for result in (world.program.run("status", "--nonsense"), world.program.onboard("--nonsense")):
        [line] = result.lines()
        assert (result.code, line["code"], line["level"]) == (2, "usage", "ERROR")
        assert "there is no flag --nonsense" in line["message"]
        assert line["action"] in (f"See: {TOKEN_MANAGER} --help", f"See: {ONBOARD_CLIENT} --help")


def test_lines_for_a_program_carry_what_their_events_know(world: World) -> None:
    onboarded(world, "good", "dead", "none")
    world.oauth.revoke("dead")
    change_row(world, "none", status="disabled")
    world.clock.advance(3600)
    world.program.settings["LOG_FORMAT"] = "json"
    result = world.program.run("--json", "--all", "--location", "dead", "--location", "good", "--location", "none")
    run_id = result.json()["run_id"]
    rows = {row["location_id"]: row for row in result.json()["results"]}
    said = {line["location_id"]: line for line in result.lines() if "location_id" in line}
    for line in result.lines():
        assert line.pop("time")
        assert line["run_id"] == run_id
    for name in ("good", "dead"):
        assert {key: said[name].get(key) for key in rows[name]} == rows[name]
    assert said["dead"]["level"] == "WARNING"
    assert said["dead"]["action"].startswith("A person must log in again")
    assert "action" not in said["good"]
    assert said["none"].items() >= {"code": NoticeCode.NOT_SELECTED, "level": "WARNING"}.items()
    assert result.lines()[-1]["counts"] == {"refreshed": 1, "reauthorize": 1}


@pytest.mark.parametrize(
    ("level", "levels"),
    [("DEBUG", {"info", "warning"}), ("info", {"info", "warning"}), ("WARNING", {"warning"}), ("ERROR", set())],
)
def test_level_chooses_the_lines(world: World, level: str, levels: set[str]) -> None:
    onboarded(world, "good", "dead")
    world.oauth.revoke("dead")
    world.clock.advance(3600)
    world.program.settings["LOG_LEVEL"] = level
    result = world.program.run()
    assert result.code == 1
    assert {line.split(" ")[1].rstrip(":") for line in result.err.splitlines()} == levels


def test_library_has_no_word_on_stderr(world: World) -> None:
    """The HTTP library logs a traceback over headers that it cannot read."""
    onboarded(world, "loc1")
    broken = Response(400, b'{"error": "invalid_grant"}', {"Bro ken": "x"}, cut=100)
    world.oauth.fail(faults.Fault("broken headers", lambda call, act: broken))
    result = world.program.spawn("--all")
    assert result.code == 1
    assert all(LINE.fullmatch(line) for line in result.err.splitlines()), result.err


FORGED = [
    "loc\n2026-03-01T12:00:00Z info: forged refreshed",
    "loc\r\x1b[2K\x1b[1;32mforged",
    "loc\x1b]0;title\x07\x9b31m\u2028forged\u202e",
]


@pytest.mark.parametrize("location", FORGED)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_location_cannot_forge_a_line_or_move_the_cursor(airtable_world: World, location: str, log_format: str) -> None:
    world = airtable_world
    world.table.add(world.cells("acme", location))
    odd = {"last_error": location, "provider": location[:20]}
    world.table.add(world.cells("acme", f"dead {location}") | odd)
    world.program.settings["LOG_FORMAT"] = log_format
    for argv in (
        [],
        ["status"],
        ["status", "--json"],
        ["--json", "--all"],
        ["get", location],
        ["get", f"no {location}"],
    ):
        result = world.program.run(*argv)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", result.said), argv
        forged = [
            line for line in result.said.splitlines() if line.startswith(("2026-03-01T12:00:00Z info: f", "forged"))
        ]
        assert forged == []
        for line in result.err.splitlines():
            assert LINE.fullmatch(line) if log_format == "text" else json.loads(line)["message"]


# On a terminal


def test_terminal_shows_progress_and_a_table_of_what_failed(world: World, tmp_path: Path) -> None:
    onboarded(world, "good", "dead")
    world.oauth.revoke("dead")
    program = world.program
    with program.at_terminal("--all") as terminal:
        assert terminal.end() == 1
        assert terminal.modes() == terminal.modes_before
    for seen in ("refreshing", "2/2", "what to do", "dead", "reauthorize", "1 refreshed, 1 needs a new login"):
        assert seen in terminal.transcript
    assert terminal.transcript.count("\x1b[?25l") == terminal.transcript.count("\x1b[?25h")
    output = tmp_path / "output"
    with program.at_terminal("status", output=output) as terminal:
        assert terminal.end() == 0
    assert output.read_text().startswith("location  provider")
    assert "\x1b" not in output.read_text()
    with program.at_terminal("status") as terminal:
        assert terminal.end() == 0
    said = "dead acme: A person must log in again: connect the account again, then run `"
    assert [line for line in terminal.transcript.splitlines() if line.startswith(said) and line.endswith("`.")]
    assert terminal.transcript.count("must log in again") == 1


def test_no_terminal_sees_plain_lines(world: World) -> None:
    onboarded(world, "good", "dead")
    world.oauth.revoke("dead")
    result = world.program.spawn("--all", FORCE_COLOR="1", COLORTERM="truecolor")
    assert result.code == 1
    assert result.out == ""
    assert all(LINE.fullmatch(line) for line in result.err.splitlines()), result.err


def test_hang_up_lets_the_open_refresh_finish(world: World) -> None:
    """A closed connection to the machine must not cost the token that is on its way."""
    onboarded(world, "loc1")
    closed: list[TerminalProcess] = []

    def close(call: faults.Call, act: faults.Act) -> Response:
        answer = act()
        closed[0].hang_up()
        return answer

    world.oauth.fail(faults.Fault("hang-up", close))
    with world.program.at_terminal("--all") as terminal:
        closed.append(terminal)
        assert terminal.process.wait(60) == 0
    assert world.token_of("loc1") == world.oauth.current("loc1")
    assert world.journalled() == []


@pytest.mark.long
def test_get_that_is_stopped_finishes_its_refresh(world: World) -> None:
    onboarded(world, "loc1")
    change_row(world, "loc1", access_token_expiry="2026-03-01T11:00:00.000Z")
    program = world.program
    running: list[subprocess.Popen[bytes]] = []

    def stop(call: faults.Call, act: faults.Act) -> Response:
        answer = act()
        running[0].send_signal(signal.SIGTERM)
        return answer

    world.oauth.fail(faults.Fault("stop", stop))
    argv = python(program.installed() / "token_manager.py", "get", "loc1")
    with subprocess.Popen(argv, env=program.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        running.append(process)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.decode().strip() == world.oauth.current_access("loc1")
    assert world.token_of("loc1") == world.oauth.current("loc1")


# Files


@pytest.mark.long
@pytest.mark.by_turns("store")
@pytest.mark.parametrize("store", ["sqlite", "airtable"])
def test_created_files_are_the_user_s_own(request: pytest.FixtureRequest, world: World, store: str) -> None:
    if store == "airtable":
        request.getfixturevalue("airtable_world").airtable.requests_per_second = None
    program = world.program
    line = ",".join(world.csv_line("acme", "loc1"))
    text = f"location_id,provider,client_id,client_secret,refresh_token\n{line}\n"
    before = os.umask(0)
    try:
        assert program.spawn("--from-csv", "-", script="onboard_client.py", stdin=text).code == 0
        assert program.spawn("--all").code == 0
    finally:
        os.umask(before)
    created = [program.home / "state", *(program.home / "state").rglob("*")]
    assert len(created) > 3
    assert any(path.name.startswith("columns-") for path in created) == (store == "airtable")
    for path in created:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_mistake_of_our_own_is_reported_by_place_without_its_words(tmp_path: Path) -> None:
    """The message of a stranger's exception may carry a request body."""
    program = Program(tmp_path, clock=BrokenClock())
    result = program.run("status")
    assert_reported(result, 1, "internal error: ZeroDivisionError at test_cli.py:", "Please report it")


class BrokenClock(FakeClock):
    def now(self) -> Any:
        raise ZeroDivisionError(CANARY)


def test_interrupt_is_reported_in_a_sentence(tmp_path: Path) -> None:
    class Interrupted(FakeClock):
        def now(self) -> Any:
            raise KeyboardInterrupt

    result = Program(tmp_path, clock=Interrupted()).run("status")
    assert_reported(result, 4, "interrupted; nothing half-written is left behind")
