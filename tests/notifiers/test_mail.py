"""NOTIFY_URLS: mail that really arrives, in a process without our environment."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.notifiers.test_command import break_set_up
from tests.world.ports import free_port
from tests.world.raw import RawServer

controller = pytest.importorskip("aiosmtpd.controller")
pytestmark = pytest.mark.long  # Apprise alone takes a second to load


class Inbox:
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, str]]:
    """A mail server, and the address for it."""
    inbox = Inbox()
    port = free_port()
    server = controller.Controller(inbox, hostname="127.0.0.1", port=port)
    server.start()
    yield inbox, f"mailto://127.0.0.1:{port}/?from=cron@example.org&to=me@example.org"
    server.stop()


def test_mail_arrives_once(world: World, inbox: tuple[Inbox, str]) -> None:
    arrived, url = inbox
    world.program.settings["NOTIFY_URLS"] = url
    break_set_up(world)
    results = [world.program.run() for _ in range(2)]
    assert [result.code for result in results] == [2, 2]
    assert "NOTIFY_URLS" not in results[0].said
    [mail] = arrived.mails
    assert mail["Subject"] == "token-refresh: 1 needs fixing"
    body = mail.get_body(("plain",))
    assert body is not None
    assert body.get_content().startswith("needs fixing: other users can read the database ")


def test_of_two_addresses_the_one_that_hangs_gets_it_again_and_the_other_does_not(
    world: World, inbox: tuple[Inbox, str]
) -> None:
    arrived, url = inbox
    end = threading.Event()

    def hang(_: socket.socket) -> None:
        end.wait(30)

    with RawServer(hang) as silent:
        world.program.settings["NOTIFY_URLS"] = f"{url}, json://127.0.0.1:{silent.port}/secret-path"
        break_set_up(world)
        results = [world.program.run() for _ in range(2)]
        end.set()
    assert [result.code for result in results] == [2, 2]
    assert [
        result.err.count("NOTIFY_URLS, address 2 (json): the message was not accepted (") for result in results
    ] == [1, 1]
    assert "secret-path" not in results[0].said
    assert len(arrived.mails) == 1
    assert silent.accepted >= 2


def test_an_address_that_apprise_does_not_know_is_named_without_it(world: World) -> None:
    world.program.settings["NOTIFY_URLS"] = "nosuch://user:secret-word@host"
    break_set_up(world)
    result = world.program.run()
    assert (
        result.err.count("NOTIFY_URLS, address 1 (nosuch): the message was not accepted (it ended with exit code 1)")
        == 1
    )
    assert "secret-word" not in result.said


def test_the_child_sees_nothing_of_our_environment(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from token_refresh.notifiers import messages

    script = tmp_path / "child.py"
    script.write_text(f"import os\nopen({str(tmp_path / 'env')!r}, 'w').write(repr(dict(os.environ)))\n")
    monkeypatch.setattr(messages, "_CHILD", script)
    world.program.settings |= {"NOTIFY_URLS": "json://host", "OTHER": "ours"}
    break_set_up(world)
    world.program.run()
    assert set(eval((tmp_path / "env").read_text())) <= {"LANG", "LC_CTYPE"}


def test_where_apprise_is_not_installed_one_warning_says_how(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from token_refresh.notifiers import messages

    monkeypatch.setattr(messages, "find_spec", lambda _: None)
    world.program.settings["NOTIFY_URLS"] = "json://host"
    break_set_up(world)
    result = world.program.run()
    assert result.code == 2
    command = r"Run: \S+ -m pip install --require-hashes -r \S*requirements/notify\.txt"
    assert re.search(rf"NOTIFY_URLS, address 1 \(json\): the package apprise is missing\. {command}", result.err)
