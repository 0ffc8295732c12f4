"""A listener that hangs, refuses, drips or breaks TLS: result, tokens, exit code and time stay as they are."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.conftest import World
from tests.notifiers.test_webhook import secret
from tests.world.http import HTTPServer, Request, Response
from tests.world.raw import RawServer
from token_refresh.notifiers import news, ping, watch, webhook


@contextmanager
def hanging() -> Iterator[str]:
    end = threading.Event()

    def hang(_: socket.socket) -> None:
        end.wait(60)

    with RawServer(hang) as server:
        yield f"http://127.0.0.1:{server.port}/x"
        end.set()


@contextmanager
def refusing() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}/x"


@contextmanager
def dripping() -> Iterator[str]:
    with HTTPServer(lambda _: Response(200, b"x" * 1000, drip_seconds=0.05)) as server:
        yield f"{server.url}/x"


@contextmanager
def broken_tls() -> Iterator[str]:
    with HTTPServer(lambda _: Response(200)) as server:
        yield f"https://127.0.0.1:{server.port}/x"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds, where the program has ten."""
    monkeypatch.setattr(watch, "ALL_SECONDS", 1.0)
    for patched in (watch, news):
        monkeypatch.setattr(patched, "GRACE_SECONDS", 0.2)
    for module in (ping, webhook):
        monkeypatch.setattr(module, "MOST_SECONDS", 0.4)


@pytest.mark.parametrize("listener", [hanging, refusing, dripping, broken_tls])
@pytest.mark.usefixtures("short")
def test_what_a_listener_does_changes_nothing_of_the_run(
    world: World, listener: Callable[[], AbstractContextManager[str]]
) -> None:
    assert world.program.onboard("--no-check", "--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == 0
    with listener() as url:
        world.program.settings |= {"PING_URL": url, "WEBHOOK_URL": url, "WEBHOOK_SECRET": secret()}
        begin = time.monotonic()
        result = world.program.run()
    assert time.monotonic() - begin < 4
    assert result.code == 0
    assert "loc acme: refreshed" in result.err
    is_accepted = listener is dripping  # its status says so; nobody waits for the rest
    for name in ("PING_URL", "WEBHOOK_URL"):
        assert result.err.count(f"warning: {name}: ") == (0 if is_accepted else 1)
    assert world.oauth.is_live(world.program.run("get", "loc").out.strip())
    assert world.journalled() == []


@pytest.mark.long
def test_sigterm_ends_the_wait_and_keeps_the_exit_code(world: World) -> None:
    with hanging() as url:
        program = world.program
        environ = program.environment({"PING_URL": url, "NOTIFY_COMMAND": "sleep 60"})
        command = [sys.executable, str(program.installed() / "token_manager.py")]
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any("nothing due" in line for line in process.stderr)
            time.sleep(0.3)  # it waits by now
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(10) == 0
    assert time.monotonic() - begin < 5
    assert "PING_URL: " in said


@pytest.mark.usefixtures("short")
def test_a_start_that_hangs_delays_no_refresh(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "MOST_SECONDS", 5.0)
    world.program.onboard("--no-check", "--from-csv", world.program.csv(world.csv_line("acme", "loc")))
    with hanging() as url:
        world.program.settings["PING_URL"] = url
        asked_at: list[float] = []
        answer = world.oauth._http._service

        def timed(request: Request) -> Response:
            asked_at.append(time.monotonic())
            return answer(request)

        world.oauth._http._service = timed
        begin = time.monotonic()
        world.program.run()
    assert asked_at[0] - begin < 4  # a busy machine may take a second or two
