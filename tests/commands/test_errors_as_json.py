"""With `--json` a command that fails says so on stdout, too: one object, whatever went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import crypto
from tests import exits
from tests.commands.test_cli import CANARY, onboarded, state_folder
from tests.conftest import World
from tests.world.airtable import faults as airtable_faults
from tests.world.program import Result
from token_refresh.base.errors import ActionableError, Kind, exit_code
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.journal.lock import run_lock
from token_refresh.settings import SettingsError
from token_refresh.terminal.console import Console
from token_refresh.terminal.guard import guarded, reported


def error_in(result: Result) -> dict[str, Any]:
    content = result.json()
    assert list(content) == ["error"]
    error: dict[str, Any] = content["error"]
    assert list(error) == ["code", "message", "action"]
    assert error["message"] in result.err
    assert error["action"] in result.err
    assert CANARY not in result.said
    return error


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_is_the_code_of_the_object_and_decides_the_exit_code(
    kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> Iterable[Kind]:
        raise ActionableError("what happened", "Do it.", kind)

    assert guarded(Console(as_json=True), act) == exit_code([kind])
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"code": kind.value, "message": "what happened", "action": "Do it."}}
    assert "error: what happened. Do it." in err


def test_without_json_stdout_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> Iterable[Kind]:
        raise ActionableError("what happened", "Do it.", Kind.ROW)

    assert guarded(Console(), act) == exits.FAILED
    assert capsys.readouterr().out == ""


def test_the_object_holds_no_secret_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.hide([CANARY])

    def act() -> Iterable[Kind]:
        raise ActionableError(f"no {CANARY}", f"Never {CANARY}.", Kind.ROW)

    assert guarded(console, act) == exits.FAILED
    assert CANARY not in "".join(capsys.readouterr())


def test_a_strangers_words_are_on_neither_stream(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> Iterable[Kind]:
        raise ValueError(CANARY)

    assert guarded(Console(as_json=True), act) == exits.FAILED
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "internal"
    assert json.loads(out)["error"]["message"].startswith("internal error: ValueError at test_errors_as_json.py:")
    assert CANARY not in out + err


def test_an_error_after_the_answer_adds_no_second_object(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)

    def act() -> Iterable[Kind]:
        console.object({"rows": 1})
        raise ActionableError("what happened", "Do it.", Kind.CONFIGURATION)

    assert guarded(console, act) == exits.USAGE
    assert json.loads(capsys.readouterr().out) == {"rows": 1}


def test_a_command_that_goes_on_prints_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.as_lines = True

    def act() -> Iterable[Kind]:
        raise SettingsError(["A is wrong. Correct A.", "B is wrong. Correct B."])

    console.object({"rows": 1})
    assert reported(console, act) == (Kind.CONFIGURATION,)
    assert reported(console, act) == (Kind.CONFIGURATION,)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    error = {"code": "configuration", "message": "A is wrong. Correct A. B is wrong. Correct B.", "action": ""}
    assert lines == [{"rows": 1}, {"error": error}, {"error": error}]


def test_wrong_settings_are_one_object(world: World) -> None:
    world.program.settings |= {"CONCURRENCY": CANARY, "LOG_FORMAT": "xml"}
    result = world.program.run("--json")
    error = result.json()["error"]
    assert (result.code, error["code"]) == (exits.USAGE, "configuration")
    assert ("CONCURRENCY" in error["message"], "LOG_FORMAT" in error["message"]) == (True, True)
    assert CANARY not in result.said


@pytest.fixture
def locked(airtable_world: World) -> Iterator[World]:
    with run_lock(state_folder(airtable_world), airtable_world.clock):
        yield airtable_world


def test_another_run_that_is_active_is_busy(locked: World) -> None:
    result = locked.program.run("--json")
    assert result.code == exits.BUSY
    assert error_in(result)["code"] == "busy"


def test_a_store_that_does_not_answer_is_unavailable(airtable_world: World) -> None:
    assert airtable_world.airtable is not None
    airtable_world.airtable.inject(airtable_faults.status(503), times=50)
    result = airtable_world.program.run("--json")
    assert result.code == exits.STORE
    assert error_in(result)["code"] == "store_unavailable"


def test_rows_are_missing_or_several(world: World) -> None:
    onboarded(world, "loc1")
    onboarded(world, "loc1", provider="acme-basic")
    missing, several = (world.program.run("get", name, "--json") for name in ("nowhere", "loc1"))
    assert (missing.code, error_in(missing)["code"]) == (exits.FAILED, "not_found")
    assert (several.code, error_in(several)["code"]) == (exits.USAGE, "several")


def test_a_provider_that_nobody_knows_is_a_wrong_call(world: World) -> None:
    result = world.program.run("--provider", "acmee", "--json")
    assert (result.code, error_in(result)["code"]) == (exits.USAGE, "usage")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["refresh", "--json", "--nonsense"], "there is no flag --nonsense"),
        (["--json", f"--nonsense={CANARY}"], "there is no flag --nonsense"),
        (["get", "--json"], "the following arguments are required: LOCATION"),
        (["get", "loc1", "--json", "--min-valid", CANARY], "argument --min-valid: must be a number of seconds"),
        (["recover", "--json", "--forget", CANARY], "argument --forget: invalid int value"),
        (["import", "x", "--json", "--layout", CANARY], "argument --layout: invalid choice (choose from"),
        (["status", f"--check={CANARY}", "--json"], "argument --check: ignored explicit argument"),
        ([CANARY, "--json"], "argument VERB: invalid choice (choose from "),
        (["--json", "revoke", "loc1", "loc2"], "there are more arguments than expected"),
        (["verify", "--json", "--file"], "argument --file: expected one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_cannot_be_used_are_a_wrong_call(world: World, argv: list[str], message: str) -> None:
    result = world.program.run(*argv)
    error = error_in(result)
    assert (result.code, error["code"]) == (exits.USAGE, "usage")
    assert error["message"].startswith(message)
    assert error["action"].startswith(f"See: {TOKEN_MANAGER} ")
    assert f"usage: {TOKEN_MANAGER} " in result.err


@pytest.mark.parametrize("argv", [["--json", "--nonsense"], ["--from-csv", "--json"], ["--json", CANARY]])
def test_flags_of_onboarding_that_cannot_be_used_are_a_wrong_call(world: World, argv: list[str]) -> None:
    result = world.program.onboard(*argv)
    error = error_in(result)
    assert (result.code, error["code"]) == (exits.USAGE, "usage")
    assert error["action"] == f"See: {ONBOARD_CLIENT} --help"


def test_what_follows_two_dashes_is_no_flag(world: World) -> None:
    result = world.program.run("get", "--min-valid", "soon", "--", "--json")
    assert (result.code, result.out) == (exits.USAGE, "")


def test_a_dead_grant_needs_a_login(world: World) -> None:
    onboarded(world, "loc1")
    world.oauth.revoke("loc1")
    world.clock.advance(7200)
    world.program.run()
    result = world.program.run("get", "loc1", "--json")
    assert (result.code, error_in(result)["code"]) == (exits.FAILED, "login_needed")


def test_a_cell_that_does_not_open_is_unreadable(world: World) -> None:
    onboarded(world, "loc1")
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    result = world.program.run("get", "loc1", "--json")
    assert (result.code, error_in(result)["code"]) == (exits.USAGE, "unreadable_cell")
