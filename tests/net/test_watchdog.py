"""How long an exchange may last, over real sockets on loopback."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import requests
from urllib3.util import connection

from providers.base import Answer, RawAnswer
from tests.net.loopback import (
    FOREVER_SECONDS,
    PAIR,
    SECONDS,
    SLACK,
    MakeTransport,
    forever,
    may_have_acted,
    request_to,
    serving,
    within,
)
from tests.world.clock import FakeClock
from tests.world.http import Request, Response
from tests.world.raw import RawServer
from token_refresh.net.tls import make_session
from token_refresh.net.transport import HTTPTransport
from token_refresh.net.watchdog import AWAKE_SECONDS, CURRENT, TimedAdapter, Watch, Watchdog


def test_an_exchange_has_ninety_seconds_of_which_ten_may_go_by_before_it_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given up earlier, a slow provider would have spent the token for nothing; later, it would hold up a run."""
    connecting: list[float | None] = []
    watched: list[tuple[Watch, float]] = []
    hold = Watch.hold

    def look(watch: Watch, connection: Any, sock: socket.socket) -> None:
        connecting.append(sock.gettimeout())
        hold(watch, connection, sock)

    def answer(_: Request) -> Response:
        watched.extend((watch, watch.deadline - time.monotonic()) for watch in usual._watchdog._watches)
        return Response(200, PAIR)

    monkeypatch.setattr(Watch, "hold", look)
    with serving(answer) as server, contextlib.closing(HTTPTransport(FakeClock(), 1)) as usual:
        assert isinstance(usual.post(request_to(server.url)), RawAnswer)
    assert set(connecting) == {10.0}
    [(watch, left)] = watched
    assert left == pytest.approx(90, abs=SLACK)
    assert watch._connection is not None
    assert watch._connection.timeout is None  # between two bytes no limit of its own


def watchdogs() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "exchange-watchdog"}


def test_one_watching_thread_serves_all_and_ends_with_the_transport() -> None:
    others, handles = watchdogs(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    with serving(Response(200, PAIR, {"Connection": "close"})) as server:
        for _ in range(5):
            transport = HTTPTransport(FakeClock(), 4)
            for _ in range(4):
                transport.post(request_to(server.url))
            assert len(watchdogs() - others) == 1
            transport.close()
            assert not watchdogs() - others
            transport.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= handles + 2  # noqa: PTH208 - a count


def test_an_exchange_that_ended_is_no_longer_watched(hasty: HTTPTransport) -> None:
    with serving(Response(200, PAIR)) as server:
        hasty.post(request_to(server.url))
        time.sleep(SECONDS + 0.1)  # its deadline passes while the connection is kept
        assert isinstance(hasty.post(request_to(server.url)), RawAnswer)
    assert hasty._watchdog._watches == set()


def test_a_name_that_is_looked_up_for_longer_than_an_exchange_may_last_sends_nothing(
    hasty: HTTPTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timeout ends a lookup; what comes of it later is not used."""
    lookup = socket.getaddrinfo

    def slow(*args: Any, **options: Any) -> Any:
        while not CURRENT.watch.is_aborted:
            time.sleep(0.01)
        return lookup(*args, **options)

    with serving(Response(200, PAIR)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        ended = hasty.post(request_to(server.url))
        assert server.requests == []
    assert isinstance(ended, Answer)
    assert not may_have_acted(ended)
    assert "no complete connection within" in (ended.error or "")


def test_an_exchange_that_ends_while_it_is_being_connected_sends_nothing_and_leaves_no_socket(
    hasty: HTTPTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, made = connection.create_connection, list[socket.socket]()

    def late(*args: Any, **options: Any) -> socket.socket:
        made.append(connect(*args, **options))
        CURRENT.watch.abort()
        return made[0]

    monkeypatch.setattr(connection, "create_connection", late)
    with serving(Response(200, PAIR)) as server:
        ended = hasty.post(request_to(server.url))
        assert server.requests == []
    assert isinstance(ended, Answer)
    assert not may_have_acted(ended)
    assert [sock.fileno() for sock in made] == [-1]


def test_a_hanging_exchange_ends_alone_and_the_others_go_on(transport_with: MakeTransport) -> None:
    transport = transport_with(connections=8, exchange_seconds=1.0)
    arrived, over = threading.Semaphore(0), threading.Event()

    def some_hang(request: Request) -> Response:
        if request.path == "/hang":
            arrived.release()
            over.wait(FOREVER_SECONDS)
        return Response(200, PAIR)

    with serving(some_hang) as server, ThreadPoolExecutor(8) as pool:
        hanging = [pool.submit(transport.post, request_to(server.url + "/hang")) for _ in range(3)]
        assert all(arrived.acquire(timeout=SLACK) for _ in hanging)
        others = [pool.submit(transport.post, request_to(server.url + "/token")) for _ in range(30)]
        assert all(isinstance(other.result(), RawAnswer) for other in others)
        assert all(isinstance(one.result(), Answer) for one in hanging)
        over.set()
        assert isinstance(transport.post(request_to(server.url)), RawAnswer)


def test_a_request_with_a_limit_of_its_own_ends_before_one_that_was_there_first(transport_with: MakeTransport) -> None:
    transport = transport_with(exchange_seconds=FOREVER_SECONDS)
    arrived, over = threading.Semaphore(0), threading.Event()

    def hang(_: Request) -> Response:
        arrived.release()
        over.wait(FOREVER_SECONDS)
        return Response(200, PAIR)

    with serving(hang) as server, ThreadPoolExecutor(2) as pool:
        patient = pool.submit(transport.post, request_to(server.url))
        assert arrived.acquire(timeout=SLACK)
        with within(SECONDS + SLACK):
            ended = transport.post(replace(request_to(server.url), seconds=SECONDS))
        over.set()
        assert isinstance(patient.result(), RawAnswer)
    assert isinstance(ended, Answer)
    assert (may_have_acted(ended), ended.error) == (True, f"no complete answer within {SECONDS:g} s")


def test_after_a_standstill_an_exchange_has_a_little_time_left_and_no_more() -> None:
    """The process was stopped: the answer may have come meanwhile, and nobody has looked at it."""
    watchdog = Watchdog(seconds=5.0)
    watch = Watch()
    watch.deadline = 5.0
    watchdog._watches.add(watch)
    awake = watchdog._look(100.0, planned=5.0)
    assert (awake, watch.is_aborted) == (100.0 + AWAKE_SECONDS, False)
    assert watchdog._look(100.0 + AWAKE_SECONDS, awake) is None
    assert watch.is_aborted


def test_an_answer_of_a_store_whose_headers_drip_ends_at_the_limit() -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        forever(sock, b"X-Header: y\r\n")

    session = make_session(TimedAdapter(None, 1, SECONDS))
    with RawServer(talk) as server, within(SECONDS + SLACK), pytest.raises(requests.ConnectionError):
        session.get(server.url, timeout=FOREVER_SECONDS)
    session.close()


def test_where_the_system_starts_no_more_threads_a_store_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would end the request."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = make_session(TimedAdapter(None, 1, SECONDS))
    with serving(Response(200, PAIR)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(requests.ConnectionError, match="can't start new thread"):
                session.get(server.url, timeout=FOREVER_SECONDS)
        assert server.requests == []
        assert session.get(server.url, timeout=FOREVER_SECONDS).status_code == 200
    session.close()


def test_once_somebody_wants_the_end_what_is_under_way_and_what_follows_gets_less_time() -> None:
    over, arrived = threading.Event(), threading.Semaphore(0)

    def hang(sock: socket.socket) -> None:
        server.read_request(sock)
        arrived.release()
        over.wait(FOREVER_SECONDS)

    adapter = TimedAdapter(None, 2, FOREVER_SECONDS)
    session = make_session(adapter)
    with RawServer(hang) as server, ThreadPoolExecutor(1) as pool, within(2 * SECONDS + SLACK):
        under_way = pool.submit(session.get, server.url, timeout=FOREVER_SECONDS)
        assert arrived.acquire(timeout=SLACK)
        adapter.shorten(SECONDS)
        with pytest.raises(requests.ConnectionError):
            under_way.result()
        with pytest.raises(requests.ConnectionError):
            session.get(server.url, timeout=FOREVER_SECONDS)
        over.set()
    session.close()
