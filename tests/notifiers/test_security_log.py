"""The security log: one line a use of a credential, never a name or a secret, and nothing that can stop a run."""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import crypto
from tests.callers import log_in, manager_of
from tests.commands.test_cli import change_row
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows
from tests.refresh.runs.test_faults import outage
from tests.world.airtable import faults as airtable_faults
from tests.world.clock import START, FakeClock
from tests.world.oauth import faults
from token_refresh.base.clock import iso
from token_refresh.base.events import CredentialUsed, Outcome, RowFinished
from token_refresh.base.files import user_name
from token_refresh.notifiers import security_log
from token_refresh.notifiers.security_log import FILE, KEY_FILE, MOST_BYTES, OLDER_FILES, SecurityLog

ROOT = Path(__file__).parents[2]
ME = user_name(os.geteuid())
HOUR = 3600
WRITER = """
import sys
from pathlib import Path
from token_refresh.base.clock import SystemClock
from token_refresh.base.events import CredentialUsed
from token_refresh.notifiers import security_log
from token_refresh.notifiers.security_log import SecurityLog

path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
security_log.MOST_BYTES, security_log.OLDER_FILES = 10_000, 99
log = SecurityLog(path, path.parent, "writer", SystemClock(), lambda *words: sys.exit(" ".join(words)))
for number in range(count):
    log.note([CredentialUsed("onboard", f"{name}-{number}")], Path)
    log.note([CredentialUsed("get", "shared")], Path)
"""


class Log:
    """A log of its own, and what it warned of."""

    def __init__(self, folder: Path, clock: FakeClock, path: Path | str | None = None, caller: str = "get") -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self.log = SecurityLog(path, folder, caller, clock, lambda *words: self.warnings.append(". ".join(words)))

    def note(self, use: str, location_id: str | None = None, client_id: str = "", outcome: str = "done") -> None:
        self.finished(CredentialUsed(use, location_id, client_id, outcome))

    def finished(self, event: CredentialUsed | RowFinished) -> None:
        self.log.note([event], lambda: self.folder)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / FILE).read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path, clock: FakeClock) -> Log:
    """One in an empty folder."""
    return Log(tmp_path, clock)


def uses(world: World) -> list[tuple[str, str, str]]:
    """What the program's log holds: event, the verb of its actor, outcome."""
    return [(line["event"], line["actor"].removeprefix(f"{ME} "), line["outcome"]) for line in lines_of(world)]


def lines_of(world: World) -> list[dict[str, Any]]:
    return [json.loads(line) for path in files(world) for line in path.read_text().splitlines()]


def files(world: World) -> list[Path]:
    return sorted((world.program.home / "state").glob(f"*/{FILE}"))


def onboarded(world: World, *locations: str) -> None:
    path = world.program.csv(*(world.csv_line("acme", one) for one in locations))
    assert world.program.onboard("--from-csv", path).code == 0


# What stands in a line


def test_a_line_has_these_six_and_names_nobody(log: Log) -> None:
    log.finished(RowFinished("loc-1", "acme", Outcome.REFRESHED, client_id="app-1"))
    [line] = log.lines()
    assert list(line) == ["time", "event", "actor", "outcome", "location", "client"]
    assert (line["time"], line["event"], line["outcome"]) == (iso(START), "refresh", "refreshed")
    assert line["actor"] == f"{ME} get"
    content = (log.folder / FILE).read_bytes()
    assert not any(name in content for name in (b"loc-1", b"app-1", b"acme"))


def test_log_and_key_are_for_their_user_alone(log: Log) -> None:
    before = os.umask(0)
    try:
        log.note("revoke", "loc-1")
    finally:
        os.umask(before)
    made = sorted(log.folder.iterdir())
    assert [path.name for path in made] == [KEY_FILE, FILE, f"{FILE}.lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}


def test_one_location_has_one_hash_and_another_installation_another(log: Log, tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "other").mkdir()
    other = Log(tmp_path / "other", clock)
    for one in (log, other):
        one.note("onboard", "loc-1", "loc-1")
        one.note("revoke", "loc-1")
        one.note("revoke", "loc-2")
    first, second, third = [line["location"] for line in log.lines()]
    assert (first == second, first == third, first == log.lines()[0]["client"]) == (True, False, False)
    assert first != other.lines()[0]["location"]


def test_what_a_dry_run_would_refresh_is_no_use(log: Log) -> None:
    log.finished(RowFinished("loc-1", "acme", None))
    assert list(log.folder.iterdir()) == []


def test_without_a_log_nothing_is_made(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Log(tmp_path, clock, "none").note("export")
    assert list(tmp_path.iterdir()) == []


@example("\udcff")  # a byte of the command line that is no text
@given(st.text(max_size=20))
def test_whatever_a_location_is_called_it_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, location: str
) -> None:
    log = Log(tmp_path_factory.mktemp("log"), FakeClock())
    log.note("onboard", location)
    log.note("onboard", f"{location}x")
    assert len(list(log.log.lines_of(location))) == 1
    assert log.warnings == []


# get, once an hour


def test_a_get_is_noted_once_an_hour_with_how_often(log: Log, clock: FakeClock) -> None:
    for minutes in (0, 20, 39, 1, 59, 1):
        clock.advance(minutes * 60)
        log.note("get", "loc-1")
    assert [line["count"] for line in log.lines()] == [1, 3, 2]


def test_each_actor_location_and_outcome_has_an_hour_of_its_own(log: Log, tmp_path: Path, clock: FakeClock) -> None:
    library = Log(tmp_path, clock, caller="library")
    for _ in range(2):
        log.note("get", "loc-1")
        log.note("get", "loc-2")
        log.note("get", "loc-1", outcome="login_needed")
        library.note("get", "loc-1")
    assert [line["count"] for line in log.lines()] == [1, 1, 1, 1]


def test_a_clock_that_was_set_back_silences_no_get(log: Log, clock: FakeClock) -> None:
    log.note("get", "loc-1")
    clock.set_back(86_400)
    log.note("get", "loc-1")
    assert [line["count"] for line in log.lines()] == [1, 1]


def test_of_many_locations_each_is_noted_once(log: Log) -> None:
    for number in (*range(200), *range(200)):
        log.note("get", f"loc-{number}")
    assert (len(log.lines()), len({line["location"] for line in log.lines()})) == (200, 200)


def test_where_places_run_out_a_get_is_noted_too_often_rather_than_not_at_all(
    log: Log, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security_log, "_BUCKETS", 1)
    for number in (*range(8), 8, *range(8, 0, -1), 0):  # there are eight, and the oldest gives way
        log.note("get", f"loc-{number}")
        clock.advance(1)
    locations = [line["location"] for line in log.lines()]
    assert len(locations) == 10
    assert locations[0] == locations[-1]


def test_a_lock_file_that_was_cut_off_or_overwritten_is_no_failure(log: Log) -> None:
    log.note("get", "loc-1")
    lock = log.folder / f"{FILE}.lock"
    for content in (b"", os.urandom(lock.stat().st_size - 5)):
        lock.write_bytes(content)
        log.note("get", "loc-1")
    assert log.warnings == []
    assert log.lines()


# Files


def test_at_ten_megabytes_another_file_begins_and_five_older_ones_are_kept(log: Log) -> None:
    for number in range(OLDER_FILES + 2):
        log.note("onboard", f"loc-{number}")
        os.truncate(log.folder / FILE, MOST_BYTES - 100)  # sparse; its end is cut off, too
    log.note("export")
    kept = sorted(path.name for path in log.folder.glob(f"{FILE}*") if not path.name.endswith(".lock"))
    assert kept == [FILE, *(f"{FILE}.{number}" for number in range(1, OLDER_FILES + 1))]
    assert all(path.stat().st_size <= MOST_BYTES for path in log.folder.iterdir())
    assert [line["event"] for line in log.lines()] == ["export"]
    assert b"onboard" in (log.folder / f"{FILE}.{OLDER_FILES}").read_bytes()[:200]


def test_lines_of_a_location_come_from_all_files_in_order_with_those_of_all_locations(log: Log) -> None:
    log.note("onboard", "loc-1")
    log.note("onboard", "loc-2")
    (log.folder / FILE).rename(log.folder / f"{FILE}.{OLDER_FILES}")
    log.note("export")
    (log.folder / FILE).rename(log.folder / f"{FILE}.1")
    log.note("revoke", "loc-1")
    assert [line["event"] for line in log.log.lines_of("loc-1")] == ["onboard", "export", "revoke"]


@pytest.mark.parametrize("rest", ['{"time": "2026', "\x00\x00", '{"location": "', "[]\n", "{}\n", "\xff\n"])
def test_a_line_that_was_cut_off_stays_alone_and_the_next_begins_its_own(log: Log, rest: str) -> None:
    log.note("onboard", "loc-1")
    with (log.folder / FILE).open("ab") as file:
        file.write(rest.encode("latin-1"))
    log.note("revoke", "loc-1")
    log.note("export")
    assert [line["event"] for line in log.log.lines_of("loc-1")] == ["onboard", "revoke", "export"]


def test_uses_that_are_noted_together_are_a_line_each_but_what_is_only_counted(log: Log) -> None:
    log.note("get", "loc-1")
    (log.folder / FILE).write_bytes((log.folder / FILE).read_bytes().removesuffix(b"\n"))
    together = [CredentialUsed(use, "loc-1") for use in ("onboard", "get", "revoke")]
    log.log.note(together, Path)
    assert [line["event"] for line in log.lines()] == ["get", "onboard", "revoke"]


def test_a_use_that_comes_twice_together_is_counted_twice(log: Log, clock: FakeClock) -> None:
    log.log.note([CredentialUsed("get", "loc-1")] * 3, lambda: log.folder)
    clock.advance(HOUR)
    log.note("get", "loc-1")
    assert [line["count"] for line in log.lines()] == [1, 3]


# What cannot be written


def full_disk(folder: Path) -> Path:
    (folder / FILE).symlink_to("/dev/full")
    return folder / FILE


FAILURES: dict[str, Callable[[Path], Path]] = {
    "No space left on device": full_disk,
    "No such file or directory": lambda folder: folder / "gone" / FILE,
    "Is a directory": lambda folder: folder / "folder",
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_log_that_cannot_be_written_is_one_warning(tmp_path: Path, clock: FakeClock, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    log = Log(tmp_path, clock, FAILURES[reason](tmp_path))
    for _ in range(3):
        log.note("export")
        log.note("get", "loc-1")
        clock.advance(HOUR)
    [warning] = log.warnings
    assert warning.startswith("the security log ")
    assert reason in warning


def test_whatever_goes_wrong_in_it_is_one_warning_and_no_error(tmp_path: Path, clock: FakeClock) -> None:
    log = Log(tmp_path, clock)
    log.log.path = tmp_path / "log\0"
    log.note("export")
    [warning] = log.warnings
    assert "embedded null byte" in warning


def test_uses_that_could_not_be_written_are_noted_when_they_come_again(tmp_path: Path, clock: FakeClock) -> None:
    """Not an hour later, as those that were written."""
    (tmp_path / "log").mkdir()
    log, together = Log(tmp_path, clock, tmp_path / "log"), [CredentialUsed("get", f"loc-{n}") for n in range(3)]
    log.log.note(together, Path)
    (tmp_path / "log").rmdir()
    clock.advance(120)
    log.log.note(together, Path)
    assert [line["count"] for line in map(json.loads, (tmp_path / "log").read_text().splitlines())] == [1, 1, 1]


def test_a_mistake_in_a_programs_own_logging_stops_nothing(tmp_path: Path, clock: FakeClock) -> None:
    def say(*_: str) -> None:
        raise RuntimeError

    SecurityLog(tmp_path / "gone" / FILE, tmp_path, "library", clock, say).note([CredentialUsed("export")], Path)


def test_a_line_of_which_the_disk_takes_only_a_part_is_one_warning(log: Log) -> None:
    log.note("export")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((log.folder / FILE).stat().st_size + 10, limits[1]))
    try:
        log.note("import")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    [warning] = log.warnings
    assert "No space left on device" in warning


def test_a_log_that_can_be_written_again_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    log = Log(tmp_path, clock, tmp_path / "later" / FILE)
    log.note("onboard", "loc-1")
    (tmp_path / "later").mkdir()
    log.note("onboard", "loc-2")  # too soon to try again
    clock.advance(HOUR)
    log.note("onboard", "loc-3")
    assert len((tmp_path / "later" / FILE).read_text().splitlines()) == 1
    assert len(log.warnings) == 1


@pytest.mark.long
def test_who_holds_the_lock_and_hangs_holds_up_nobody_for_long(log: Log) -> None:
    log.note("onboard", "loc-1")
    with (log.folder / f"{FILE}.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        log.note("revoke", "loc-1")
    assert [line["event"] for line in log.lines()] == ["onboard"]
    [warning] = log.warnings
    assert "cannot be written" in warning


# Many processes


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    """A process that notes so many uses; its files are small, so that another one begins all the time."""
    words = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(words, cwd=ROOT)


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Those that can be read, of all files; broken ones are left out."""
    found = []
    for file in [path, *path.parent.glob(f"{path.name}.[0-9]*")]:
        for line in file.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


@pytest.mark.long
def test_twenty_processes_at_once_lose_no_line_while_files_become_full(tmp_path: Path) -> None:
    path, count, processes = tmp_path / FILE, 50, 20
    writers = [start_writer(path, f"p{number}", count) for number in range(processes)]
    assert [writer.wait(120) for writer in writers] == [0] * processes
    lines = whole_lines(path)
    counted = Counter(line["event"] for line in lines)
    assert counted == {"onboard": processes * count, "get": 1}
    assert len({line["location"] for line in lines if line["event"] == "onboard"}) == processes * count
    assert (tmp_path / f"{FILE}.10").exists()
    assert len((tmp_path / KEY_FILE).read_bytes()) == 32


@pytest.mark.long
def test_processes_that_are_killed_leave_no_lock_and_no_broken_line(tmp_path: Path) -> None:
    path = tmp_path / FILE
    for number in (5, 10, 15):
        writers = [start_writer(path, f"p{number}-{one}", 10_000) for one in range(2)]
        while not (tmp_path / f"{FILE}.{number}").exists():
            os.sched_yield()
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
    written = sum(len(file.read_bytes().splitlines()) for file in tmp_path.glob(f"{FILE}*") if "lock" not in file.name)
    assert written == len(whole_lines(path))
    assert start_writer(path, "last", 1).wait(60) == 0


# The program


def test_a_run_notes_what_it_refreshed_and_one_that_does_nothing_makes_no_log(world: World) -> None:
    assert world.program.run().code == 0
    assert files(world) == []
    onboarded(world, "loc-1", "loc-2")
    noted = len(lines_of(world))
    world.clock.advance(3500)
    world.oauth.fail(faults.status(503), token="loc-2", times=math.inf)
    assert world.program.run().code == 1
    assert sorted(uses(world)[noted:]) == [("refresh", "refresh", "refreshed"), ("refresh", "refresh", "unknown")]
    [client] = {line["client"] for line in lines_of(world)}
    assert client
    content = files(world)[0].read_bytes()
    assert world.program.run("--dry-run").code == 0
    world.clock.advance(60)
    world.program.run("status")
    assert files(world)[0].read_bytes() == content


@pytest.mark.long
def test_an_idle_run_does_not_even_load_what_writes_the_log_or_runs_commands(world: World) -> None:
    code = "import sys, token_manager; token_manager.main([]); print(*sys.modules)"
    words, environ = [sys.executable, "-c", code], world.program.environment()
    ended = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert "nothing due" in ended.stderr
    assert not {"token_refresh.notifiers.security_log", "token_refresh.base.child"} & set(ended.stdout.split())


def test_each_use_of_a_credential_is_noted_with_who_it_was(world: World, tmp_path: Path) -> None:
    program = world.program
    onboarded(world, "loc-1", "loc-2")
    world.clock.advance(3500)
    for argv in (
        ["get", "loc-1"],
        ["get", "loc-1"],
        ["export", "--output", str(tmp_path / "rows.json")],
        ["disable", "loc-1", "--yes"],
        ["get", "loc-1"],
        ["enable", "loc-1", "--yes"],
        ["revoke", "loc-2", "--yes"],
        ["delete", "loc-2", "--yes"],
    ):
        program.run(*argv)
    program.settings["ENCRYPTION_KEY_FALLBACKS"] = program.settings["ENCRYPTION_KEY"]
    program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    program.run("rotate-key")
    program.run("import", str(tmp_path / "rows.json"), "--yes")
    assert uses(world) == [
        ("onboard", "onboard", "refreshed"),
        ("onboard", "onboard", "refreshed"),
        ("refresh", "get", "refreshed"),
        ("get", "get", "done"),
        ("export", "export", "done"),
        ("disable", "disable", "done"),
        ("get", "get", "disabled"),
        ("enable", "enable", "done"),
        ("revoke", "revoke", "row"),  # this provider has no endpoint for it
        ("delete", "delete", "done"),
        ("rotate", "rotate-key", "done"),
        ("import", "import", "created"),
    ]


def test_what_an_earlier_run_could_not_store_is_noted_by_who_stores_it(airtable_world: World) -> None:
    world, table = airtable_world, AirtableRows(airtable_world)
    table.add("acme", "loc-1")
    outage(table, airtable_faults.status(503))
    world.program.run()
    assert world.airtable is not None
    world.airtable.faults.clear()
    noted = len(lines_of(world))
    assert world.program.run("recover", "--replay").code == 0
    assert uses(world)[noted:] == [("refresh", "recover", "refreshed")]


def test_an_onboarding_that_a_run_brings_to_its_end_is_noted_as_its(airtable_world: World) -> None:
    world = airtable_world
    assert world.airtable is not None
    world.airtable.inject(airtable_faults.status(503), kind="create", times=None)
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc-1"))).code != 0
    world.airtable.faults.clear()
    noted = len(lines_of(world))
    assert world.program.run().code == 0
    assert uses(world)[noted:] == [("onboard", "refresh", "refreshed")]


def test_a_row_that_is_bound_to_another_location_is_noted(world: World) -> None:
    onboarded(world, "loc-1")
    change_row(world, "loc-1", location_id="loc-2")
    assert world.program.run("rebind", "loc-2", "--was-location", "loc-1", "--yes").code == 0
    assert uses(world)[-1] == ("rebind", "rebind", "done")
    assert lines_of(world)[-1]["location"] != lines_of(world)[0]["location"]


def test_a_program_that_uses_the_library_is_named_so(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager, "loc-1")
    manager.get_valid_access_token("loc-1")
    manager.delete_tokens("loc-1")
    assert uses(world) == [("login", "library", "refreshed"), ("get", "library", "done"), ("delete", "library", "done")]


def test_audit_prints_the_lines_of_one_location_and_those_of_all(world: World, tmp_path: Path) -> None:
    onboarded(world, "loc-1", "loc-2")
    world.program.run("export", "--output", str(tmp_path / "rows.json"))
    result = world.program.run("audit", " loc-1 ")
    assert result.code == 0
    assert [json.loads(line)["event"] for line in result.out.splitlines()] == ["onboard", "export"]
    assert world.program.run("audit", "nobody", "--json").json()["lines"] == lines_of(world)[-1:]


def test_lines_stay_comparable_when_the_key_is_rotated(world: World) -> None:
    onboarded(world, "loc-1")
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = world.program.settings["ENCRYPTION_KEY"]
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    assert world.program.run("rotate-key").code == 0
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert world.program.run("disable", "loc-1", "--yes").code == 0
    lines = world.program.run("audit", "loc-1", "--json").json()["lines"]
    assert [line["event"] for line in lines] == ["onboard", "rotate", "disable"]


@pytest.mark.parametrize("setting", ["none", "None"])
def test_with_none_there_is_no_log(world: World, setting: str) -> None:
    world.program.settings["SECURITY_LOG"] = setting
    onboarded(world, "loc-1")
    assert files(world) == []


def test_a_log_elsewhere_is_written_and_read_there(world: World, tmp_path: Path) -> None:
    world.program.settings["SECURITY_LOG"] = str(tmp_path / "audit.jsonl")
    onboarded(world, "loc-1")
    assert (files(world), stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode)) == ([], 0o600)
    assert len(world.program.run("audit", "loc-1", "--json").json()["lines"]) == 1


@pytest.mark.parametrize("what", ["moved away", "never there", "default, moved away", "no folder"])
def test_audit_without_a_log_says_so_and_does_not_say_that_nothing_was_done(
    world: World, tmp_path: Path, what: str
) -> None:
    path = tmp_path / ("gone/audit.jsonl" if what == "no folder" else "audit.jsonl")
    if "default" not in what:
        world.program.settings["SECURITY_LOG"] = str(path)
    if what != "never there":
        onboarded(world, "loc-1")
    for log in (path, *files(world)):
        log.unlink(missing_ok=True)
    result = world.program.run("audit", "loc-1")
    where = world.program.home / "state/*/security.log" if "default" in what else path
    assert (result.code, result.out) == (2, "")
    assert f"there is no security log at {where}, so nothing is known of what was done" in result.err
    assert "0 lines" not in result.err


def test_audit_of_a_log_that_is_switched_off_says_that_its_lines_are_from_before(world: World) -> None:
    onboarded(world, "loc-1")
    world.program.settings["SECURITY_LOG"] = "none"
    result = world.program.run("audit", "loc-1")
    assert (result.code, len(result.out.splitlines())) == (0, 1)
    assert "SECURITY_LOG is none, so nothing is noted any more; what is found is from before" in result.err


def test_a_log_that_cannot_be_read_is_named_with_the_reason(world: World, tmp_path: Path) -> None:
    world.program.settings["SECURITY_LOG"] = str(tmp_path)
    result = world.program.run("audit", "loc-1")
    assert (result.code, result.out) == (2, "")
    assert f"{tmp_path} cannot be used (Is a directory)" in result.err


def test_a_log_that_cannot_be_written_changes_nothing_about_a_run(world: World, tmp_path: Path) -> None:
    world.program.settings["SECURITY_LOG"] = str(tmp_path / "gone" / "audit.jsonl")
    onboarded(world, "loc-1", "loc-2")
    world.clock.advance(3500)
    result = world.program.run()
    assert result.code == 0
    assert result.err.count("cannot be written") == 1
    assert world.program.run("get", "loc-1").code == 0


def test_generate_key_makes_no_state_folder(world: World) -> None:
    assert world.program.run("generate-key").code == 0
    assert not (world.program.home / "state").exists()


def test_the_command_of_a_secret_is_not_run_where_no_secret_is_wanted(world: World, tmp_path: Path) -> None:
    del world.program.settings["ENCRYPTION_KEY"]
    world.program.settings["ENCRYPTION_KEY_COMMAND"] = f"touch {tmp_path}/was-run"
    for words in (["--version"], ["--help"], ["refresh", "--help"], ["generate-key"], ["nonsense"]):
        world.program.run(*words)
    world.program.onboard("--help")
    assert not (tmp_path / "was-run").exists()
    assert world.program.run().code == 2
    assert (tmp_path / "was-run").exists()
