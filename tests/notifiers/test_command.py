"""NOTIFY_COMMAND: what a command is given, and what it cannot do to a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import World


def keeping(folder: Path, *more: str) -> str:
    """A command that keeps what it is given, a line each time, then does more."""
    script = folder / "keep.sh"
    script.write_text("#!/bin/sh\n{ cat; echo; } >>got.txt\nenv >env.txt\n" + "\n".join(more))
    script.chmod(0o700)
    return f"'{script}' 'with a blank'"


def kept(folder: Path) -> list[dict[str, Any]]:
    file = folder / "got.txt"
    return [json.loads(line) for line in file.read_text().splitlines() if line] if file.exists() else []


def break_set_up(world: World) -> None:
    """From now on a run ends with 2."""
    assert world.program.run().code == 0
    (world.program.home / "state/tokens.sqlite3").chmod(0o644)


def test_a_command_gets_the_message_and_its_items_once(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    world.program.settings |= {"NOTIFY_COMMAND": keeping(tmp_path), "TOKEN_REFRESH_HOME": str(tmp_path), "LANG": "C"}
    break_set_up(world)
    assert [world.program.run().code for _ in range(3)] == [2, 2, 2]
    [message] = kept(tmp_path)
    [item] = message["items"]
    assert (item["code"], item["severity"], item["location_id"]) == ("needs_fixing", "critical", None)
    assert item["message"].startswith("other users can read the database ")
    assert item["action"].startswith("Run: chmod 600 ")
    assert item["since"] == world.clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert message["title"] == "token-refresh: 1 needs fixing"
    assert message["message"].startswith("needs fixing: other users can read the database ")
    assert set(message) == {"title", "message", "run_id", "items"}


def test_when_it_is_over_the_command_gets_that_too(world: World, tmp_path: Path) -> None:
    world.program.settings |= {"NOTIFY_COMMAND": keeping(tmp_path), "TOKEN_REFRESH_HOME": str(tmp_path)}
    break_set_up(world)
    assert world.program.run().code == 2
    (world.program.home / "state/tokens.sqlite3").chmod(0o600)
    assert [world.program.run().code for _ in range(2)] == [0, 0]
    assert [[item["code"] for item in message["items"]] for message in kept(tmp_path)] == [
        ["needs_fixing"],
        ["recovered"],
    ]


def test_a_command_does_not_see_our_secrets(world: World, tmp_path: Path) -> None:
    world.program.settings |= {
        "NOTIFY_COMMAND": keeping(tmp_path),
        "TOKEN_REFRESH_HOME": str(tmp_path),
        "OTHER": "seen",
    }
    break_set_up(world)
    world.program.run()
    seen = (tmp_path / "env.txt").read_text()
    assert "OTHER=seen" in seen
    assert "ENCRYPTION_KEY" not in seen
    assert world.program.settings["ENCRYPTION_KEY"] not in seen


def test_a_command_that_fails_is_one_warning_and_gets_the_message_again(world: World, tmp_path: Path) -> None:
    world.program.settings |= {"NOTIFY_COMMAND": keeping(tmp_path, "exit 3"), "TOKEN_REFRESH_HOME": str(tmp_path)}
    break_set_up(world)
    results = [world.program.run() for _ in range(2)]
    assert [result.err.count("NOTIFY_COMMAND: it ended with exit code 3") for result in results] == [1, 1]
    assert len(kept(tmp_path)) == 2


def test_runs_by_hand_send_nothing_and_what_they_met_comes_with_the_next(world: World, tmp_path: Path) -> None:
    world.program.settings |= {"NOTIFY_COMMAND": keeping(tmp_path), "TOKEN_REFRESH_HOME": str(tmp_path)}
    break_set_up(world)
    assert world.program.run("--all").code == 2
    assert kept(tmp_path) == []
