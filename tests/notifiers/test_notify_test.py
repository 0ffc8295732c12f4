"""`notify --test`: one of each, and an exit code that says whether all were accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import World
from tests.notifiers.test_command import keeping, kept
from tests.notifiers.test_webhook import Receiver, secret
from tests.world.http import HTTPServer, Response


def test_each_gets_one_and_nothing_is_refreshed(world: World, tmp_path: Path) -> None:
    pytest.importorskip("standardwebhooks")
    receiver = Receiver(secret())
    receiver_of_pings = HTTPServer(lambda _: Response(200))
    with HTTPServer(receiver) as hook, receiver_of_pings as monitor:
        world.program.settings |= {
            "NOTIFY_COMMAND": keeping(tmp_path),
            "TOKEN_REFRESH_HOME": str(tmp_path),
            "WEBHOOK_URL": hook.url,
            "WEBHOOK_SECRET": receiver.key,
            "WEBHOOK_EVENTS": "token.failed",
            "PING_URL": f"{monitor.url}/ping",
        }
        result = world.program.run("notify", "--test", "--json")
    assert result.code == 0
    names = ["NOTIFY_COMMAND", "WEBHOOK_URL", "PING_URL"]
    assert result.json() == {"results": [{"name": name, "error": None, "action": None} for name in names]}
    assert [message["title"] for message in kept(tmp_path)] == ["token-refresh: 1 test"]
    assert receiver.types() == ["run.finished"]
    assert [request.target for request in monitor.requests] == ["/ping"]
    assert world.oauth.requests == []


def test_one_that_fails_is_exit_code_1_and_named(world: World, tmp_path: Path) -> None:
    world.program.settings |= {"NOTIFY_COMMAND": keeping(tmp_path, "exit 1"), "TOKEN_REFRESH_HOME": str(tmp_path)}
    with HTTPServer(lambda _: Response(200)) as monitor:
        world.program.settings["PING_URL"] = monitor.url
        result = world.program.run("notify", "--test")
    assert result.code == 1
    assert "error: NOTIFY_COMMAND: it ended with exit code 1." in result.err
    assert "info: PING_URL: accepted" in result.err


def test_where_none_is_set_it_is_exit_code_2(world: World) -> None:
    result = world.program.run("notify", "--test")
    assert result.code == 2
    assert "none of NOTIFY_URLS, NOTIFY_COMMAND, WEBHOOK_URL and PING_URL is set. See docs/alerts.md." in result.err


def test_without_the_flag_nothing_is_sent(world: World, tmp_path: Path) -> None:
    world.program.settings |= {"NOTIFY_COMMAND": keeping(tmp_path), "TOKEN_REFRESH_HOME": str(tmp_path)}
    assert world.program.run("notify").code == 2
    assert kept(tmp_path) == []
