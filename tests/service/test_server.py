"""How long a caller may take, and how the server ends: over real connections, with an application of the test's own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.service.test_limits import limited
from tests.world.raw import Authority
from token_refresh.base.errors import ActionableError
from token_refresh.service import server as server_module
from token_refresh.service.server import Server, configure, listen
from token_refresh.settings import ServiceSettings

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SETTINGS = ServiceSettings("127.0.0.1", 0, "", frozenset(), frozenset(), (), None, None, False)
PATIENCE_SECONDS = 10
MANY = 2_000  # pieces of an answer


class Running:
    """A server in a thread of this process."""

    def __init__(self, app: Any, settings: ServiceSettings = SETTINGS) -> None:
        self.late = threading.Event()
        self.server = Server(configure(app, settings), self.late.set)
        self.entrance = listen("127.0.0.1", 0)
        self.port: int = self.entrance.getsockname()[1]
        self._thread = threading.Thread(target=self.server.run, args=([self.entrance],))
        self._thread.start()
        until(lambda: self.server.started)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def ask(self, *pieces: bytes) -> bytes:
        """All that comes back on a connection of its own, to its end."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return whole(connection)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        self.entrance.close()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what happens in another thread."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.002)


def whole(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    said = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            said += piece
    return said


def answer_on(connection: socket.socket) -> bytes:
    """The answer to one request, on a connection that stays open."""
    said = b""
    while not said.endswith(b"done"):
        piece = connection.recv(65_536)
        assert piece, said
        said += piece
    return said


def is_served(port: int) -> bool:
    """Whether a new request is answered."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(REQUEST)
        return bool(connection.recv(1))
    return False


@contextmanager
def running(app: Any, settings: ServiceSettings = SETTINGS) -> Iterator[Running]:
    made = Running(app, settings)
    try:
        yield made
    finally:
        made.server.stop()
        made.join()


class Slow:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.go_on = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.arrived.set()
        while not self.go_on.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


def quick() -> Slow:
    """Answers at once."""
    made = Slow()
    made.go_on.set()
    return made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a second instead of ten."""
    monkeypatch.setattr(server_module, "SLOWEST_SECONDS", 0.2)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("begin", [b"", b"G", REQUEST[:-2]])
def test_headers_that_do_not_come_are_not_waited_for(begin: bytes) -> None:
    with running(quick()) as served:
        assert served.ask(begin).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("hurried")
def test_the_headers_of_a_second_request_have_their_own_time() -> None:
    with running(quick()) as served, served.connect() as connection:
        connection.sendall(REQUEST)
        answer_on(connection)
        connection.sendall(REQUEST[:20])
        assert whole(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("hurried")
def test_an_answer_may_take_longer_than_a_request() -> None:
    slow = Slow()
    with running(slow) as served, served.connect() as connection:
        connection.sendall(REQUEST)
        assert slow.arrived.wait(PATIENCE_SECONDS)
        time.sleep(0.3)
        slow.go_on.set()
        answer_on(connection)


def test_headers_without_end_are_refused() -> None:
    with running(quick()) as served:
        assert b" 400 " in served.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 17_000)[:20]


def test_an_answer_does_not_say_what_serves_it() -> None:
    with running(quick()) as served, served.connect() as connection:
        connection.sendall(REQUEST)
        assert b"server:" not in answer_on(connection).lower()


def test_head_and_body_of_an_answer_come_in_one_piece() -> None:
    with running(quick()) as served, served.connect() as connection:
        for _ in range(50):
            connection.sendall(REQUEST)
            assert connection.recv(65_536).endswith(b"\r\n\r\ndone")


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
def test_whoever_sends_a_request_and_no_more_is_answered(authority: Authority, is_secure: bool) -> None:
    """As `nc -N` does: the end of what it sends is there before the answer."""
    file = authority.bundle.with_name("server.pem")
    settings = SETTINGS._replace(tls_cert_file=file, tls_key_file=file) if is_secure else SETTINGS
    with running(quick(), settings) as served:
        for _ in range(20):
            plain = served.connect()
            with plain.dup() as end, secured(plain, authority) if is_secure else plain as connection:
                connection.sendall(REQUEST)
                end.shutdown(socket.SHUT_WR)
                answer_on(connection)


def secured(connection: socket.socket, authority: Authority) -> ssl.SSLSocket:
    """Speaks TLS on a connection."""
    trusting = ssl.create_default_context(cafile=authority.bundle)
    return trusting.wrap_socket(connection, server_hostname="localhost")


@pytest.mark.long
def test_a_caller_that_reads_slowly_holds_up_an_application_that_writes_fast() -> None:
    """Else all of an answer would be in memory."""
    sent = []

    async def fast(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
            for number in range(MANY):
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": number < MANY - 1})
                sent.append(number)

    with running(fast) as served, served.connect() as connection:
        connection.sendall(REQUEST)
        until(lambda: len(sent) > 0)
        assert served.ask(REQUEST).count(b"x") == MANY * 10_000
        assert len(sent) < 2 * MANY
        assert whole(connection).count(b"x") == MANY * 10_000


def test_at_the_end_an_open_request_is_answered_and_no_new_one_taken() -> None:
    slow = Slow()
    with running(slow) as served, served.connect() as idle, served.connect() as connection:
        connection.sendall(REQUEST)
        assert slow.arrived.wait(PATIENCE_SECONDS)
        served.server.stop()
        served.server.stop()
        assert idle.recv(1) == b""
        assert not is_served(served.port)
        time.sleep(0.4)  # uvicorn looks ten times a second
        slow.go_on.set()
        assert whole(connection).endswith(b"done")


def test_a_request_that_is_still_open_much_later_gets_the_answer_that_the_service_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "OPEN_REQUESTS_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "NEW_REFRESHES_SECONDS", 0.05)
    slow = Slow()
    with running(limited(slow)) as served, served.connect() as connection:
        connection.sendall(REQUEST)
        assert slow.arrived.wait(PATIENCE_SECONDS)
        served.server.stop()
        answer = whole(connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"stopped"' in answer
        assert b"retry-after: " in answer
        assert served.late.is_set()


def test_a_request_is_answered_also_while_the_store_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.1)
    slow = Slow()
    with running(limited(slow)) as served, served.connect() as connection:
        connection.sendall(REQUEST)
        assert slow.arrived.wait(PATIENCE_SECONDS)
        served.server.note_outage()
        answer = whole(connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"store_unavailable"' in answer
        served.server.note_outage()
        assert b'"code":"store_unavailable"' in served.ask(REQUEST)  # also one that comes later


def test_a_request_may_take_its_time_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "AWAY_SECONDS", 0.05)
    slow = Slow()
    with running(slow) as served, served.connect() as connection:
        served.server.note_outage()
        connection.sendall(REQUEST)
        assert slow.arrived.wait(PATIENCE_SECONDS)
        time.sleep(0.4)
        slow.go_on.set()
        answer_on(connection)


def test_certificate_and_key_encrypt(authority: Authority) -> None:
    file = authority.bundle.with_name("server.pem")
    with (
        running(quick(), SETTINGS._replace(tls_cert_file=file, tls_key_file=file)) as served,
        secured(served.connect(), authority) as connection,
    ):
        connection.sendall(REQUEST)
        answer_on(connection)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "cert.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ActionableError, match="TLS_CERT_FILE and TLS_KEY_FILE cannot be used"):
        configure(quick(), SETTINGS._replace(tls_cert_file=file, tls_key_file=file))


def test_a_port_that_another_program_has_is_named() -> None:
    with listen("127.0.0.1", 0) as entrance, pytest.raises(ActionableError, match="Address already in use") as raised:
        listen("127.0.0.1", entrance.getsockname()[1])
    assert "HOST or PORT" in raised.value.action


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ActionableError, match=r"cannot listen at 192\.0\.2\.1"):
        listen("192.0.2.1", 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_at_every_address_both_protocols_are_served() -> None:
    with listen("::", 0) as entrance:
        port = entrance.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
