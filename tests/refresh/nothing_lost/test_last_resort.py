"""Journal, spare folder and store fail together: the sealed answer is printed, whatever was done to keep words away."""

from __future__ import annotations

import json
import resource
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import exits
from tests.commands.test_refresh_every import run_for
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, entries, refuse_answers, spare_files
from tests.refresh.runs.test_faults import outage
from tests.world.airtable import errors
from tests.world.airtable import faults as airtable_faults
from tests.world.clock import FakeClock
from tests.world.oauth import faults
from tests.world.program import Result
from tests.world.terminal import python
from token_refresh.base.events import NoticeCode


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    """A table that takes no new row and, after the proof of writability, no new tokens."""
    airtable = airtable_world.airtable
    assert airtable is not None
    made = AirtableRows(airtable_world)
    refusal = airtable_faults.refuse(errors.model_not_found())
    outage(made, refusal)
    airtable.inject(refusal, kind="create", times=None)
    return made


@pytest.fixture
def full(table: AirtableRows, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, and neither the journal nor the spare folder has room for an answer; few words are said."""
    refuse_answers(monkeypatch)
    table.world.program.settings |= {"STATE_DIR_SPARE": "/dev/null", "LOG_LEVEL": "ERROR"}
    return table.world


def assert_recovered_from(table: AirtableRows, text: str) -> None:
    """What was printed is all that `recover` needs, once there is room and the table is well."""
    world = table.world
    assert world.airtable is not None
    world.airtable.faults.clear()
    file = world.program.home / "printed"
    file.write_text(text)
    asked = len(world.oauth.requests)
    result = world.program.run("recover", "--cell", str(file))
    assert result.code == exits.DONE, result.err
    assert table.is_current("loc")
    assert (len(world.oauth.requests), entries(world)) == (asked, [])


def printed(text: str) -> str:
    """The one line that is for `recover`."""
    [line] = [line for line in text.splitlines() if "recover --cell -" in line]
    assert "loc: its provider's answer, which may hold new tokens, could not be saved anywhere" in line
    return line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_answer_that_nothing_took_is_printed_on_both_streams_at_any_log_level(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    full.program.settings["LOG_FORMAT"] = log_format
    table.add("acme", "loc")
    result = full.program.run()
    assert result.code == exits.USAGE
    line = printed(result.err)
    assert printed(result.out) == line
    if log_format == "json":
        said = json.loads(line)
        assert (said["level"], said["code"], said["provider"]) == ("ERROR", NoticeCode.ANSWER_NOT_SAVED, "acme")
    monkeypatch.undo()
    assert_recovered_from(table, f"{line}\n{line}\n")  # the log and the mail of cron


def test_with_json_it_is_a_member_of_the_one_object(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.add("acme", "loc")
    result = full.program.run("--json")
    assert result.code == exits.USAGE
    [unsaved] = result.json()["unsaved"]
    assert (unsaved["location_id"], unsaved["provider"], unsaved["file"]) == ("loc", "acme", None)
    assert printed(result.err).endswith(f"recover --cell -`: {unsaved['sealed']}")
    [row] = result.json()["results"]
    assert row["error"].endswith("the new tokens wait, encrypted, in a line that is printed at the end")
    assert row["action"] == "Keep that line as it is: `recover --cell` stores them."
    monkeypatch.undo()
    assert_recovered_from(table, result.out)


def test_with_json_an_answer_in_the_spare_folder_is_there_with_its_file(table: AirtableRows, full: World) -> None:
    full.program.settings["STATE_DIR_SPARE"] = str(full.program.home / "spare")
    table.add("acme", "loc")
    result = full.program.run("--json")
    [file] = spare_files(full)
    [unsaved] = result.json()["unsaved"]
    assert (result.code, unsaved["file"]) == (exits.USAGE, str(file))
    assert file.read_text().strip() == unsaved["sealed"]
    assert f"but in {file}. Keep that file: the next run takes it over." in result.err


@pytest.mark.parametrize("is_valid", [True, False])
def test_get_prints_it_on_stderr_alone_for_its_stdout_is_the_token(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch, is_valid: bool
) -> None:
    table.put(full.consented("acme", "loc"))
    access = table.access("loc")
    table.edit("loc", access_token_expiry=full.clock.now() + timedelta(seconds=60 if is_valid else -1))
    result = full.program.run("get", "loc")
    assert (result.code, result.out) == (exits.USAGE, f"{access}\n" if is_valid else "")
    monkeypatch.undo()
    assert_recovered_from(table, printed(result.err))


def test_get_with_json_shows_it_also_where_it_has_no_token_to_show(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.add("acme", "loc")
    result = full.program.run("get", "loc", "--json")
    assert (result.code, list(result.json())) == (exits.USAGE, ["error", "unsaved"])
    monkeypatch.undo()
    assert_recovered_from(table, result.out)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_onboarding_prints_it_too(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    result = full.program.onboard("--from-csv", full.program.csv(full.csv_line("acme", "loc")), *flags)
    assert result.code == exits.USAGE
    if flags:
        [unsaved] = result.json()["unsaved"]
        assert unsaved["sealed"] in printed(result.err)
        [row] = result.json()["results"]
        assert row["error"].endswith("in a line that is printed at the end, and `recover --cell` stores them")
    else:
        assert printed(result.out) == printed(result.err)
    monkeypatch.undo()
    assert_recovered_from(table, result.out)


def test_rounds_print_it_once_and_the_end_still_tells_of_it(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.add("acme", "loc")
    result = run_for(full, 630, "--json")
    assert result.code == exits.USAGE
    first, second = map(json.loads, result.out.splitlines())
    assert len(first["unsaved"]) == 1
    assert list(second) == ["error"]  # the table stops this round at its start
    assert printed(result.err)
    monkeypatch.undo()
    assert_recovered_from(table, result.out)


@pytest.mark.parametrize(("is_repaired", "code"), [(True, exits.DONE), (False, exits.USAGE)])
def test_rounds_end_well_once_one_of_them_stored_what_was_in_the_spare_folder(
    table: AirtableRows, full: World, monkeypatch: pytest.MonkeyPatch, is_repaired: bool, code: int
) -> None:
    full.program.settings["STATE_DIR_SPARE"] = str(full.program.home / "spare")
    table.add("acme", "loc")
    assert full.airtable is not None
    airtable = full.airtable

    def make_room(passed: float) -> None:
        if is_repaired and passed > 300:
            airtable.faults.clear()
            monkeypatch.undo()

    result = run_for(full, 630, act=make_room)
    assert (result.code, table.is_current("loc"), spare_files(full) == []) == (code, is_repaired, is_repaired)


# One of the streams fails, too: real processes under a limit of the kernel's. No file may grow beyond it, so that the
# journal takes requests and the spare folder is made, but a large answer fits into neither.

ROOM_BYTES = 512 * 1024  # for the ballast of one request, and the journal without an answer
ANSWER_BYTES = 900_000


def padded(content: dict[str, Any]) -> bytes:
    return json.dumps(content | {"padding": "x" * ANSWER_BYTES}).encode()


def limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, hard))


def limited(table: AirtableRows, command: str) -> Result:
    """The installed program without room for an answer, under a shell that may close or redirect its streams."""
    world, program = table.world, table.world.program
    assert world.airtable is not None
    world.airtable.requests_per_second = None
    program.settings |= {"CONCURRENCY": "1", "AIRTABLE_REQUESTS_PER_SECOND": "50"}
    world.oauth.fail(faults.amended(padded))
    process = subprocess.run(
        ["/bin/sh", "-c", command, "sh", *python(program.installed() / "token_manager.py")],
        cwd=program.home,
        env=program.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
    )
    assert not any(token in process.stdout + process.stderr for token in world.oauth.tokens)
    assert spare_files(world) == []
    program.clock = FakeClock(datetime.now(UTC))
    return Result(process.returncode, process.stdout, process.stderr)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "reader"),
    [
        pytest.param('"$@"', "err", id="both are read"),
        pytest.param('"$@" 2>/dev/full', "out", id="stderr on a full disk", marks=pytest.mark.long),
        pytest.param('"$@" 2>&-', "out", id="stderr closed", marks=pytest.mark.long),
        pytest.param(
            *('exec 3>&1; { "$@" 2>&1 >&3; echo $? >code; } | true; exit $(cat code)', "out"),
            id="stderr gone",
            marks=pytest.mark.long,
        ),
        pytest.param('"$@" >/dev/full', "err", id="stdout on a full disk", marks=pytest.mark.long),
        pytest.param('"$@" >&-', "err", id="stdout closed", marks=pytest.mark.long),
    ],
)
def test_a_stream_that_fails_does_not_keep_the_answer_from_the_other(
    table: AirtableRows, command: str, reader: str
) -> None:
    table.add("acme", "loc")
    result = limited(table, command)
    assert result.code == exits.USAGE
    assert_recovered_from(table, printed(result.out if reader == "out" else result.err))
