"""Which requests reach the application, and what every answer says to a browser."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.service.asgi import Answer, ask, call
from token_refresh.service import limits
from token_refresh.service.app import CatchAll
from token_refresh.service.limits import MOST_BODY_BYTES, MOST_HEADER_BYTES, Limits, host_in
from token_refresh.settings import ServiceSettings

OWN = ("localhost", "127.0.0.1", "::1", "tokens.example")
PROXIES = ("10.0.0.1", "fd00::/8")


class Echo:
    """Answers with the body that came, and notes from where."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.headers = headers or []
        self.clients: list[str] = []
        self.schemes: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.clients.append(scope["client"][0])
        self.schemes.append(scope["scheme"])
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": body})


def limited(app: Any, proxies: tuple[str, ...] = ()) -> Limits:
    return Limits(app, ServiceSettings("127.0.0.1", 8002, "", frozenset(OWN), frozenset(), proxies, None, None, False))


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    content = answer.json()
    assert (content["success"], content["code"], content["status"]) == (False, code, status)
    assert content["message"]
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8002", "127.0.0.1:80", "[::1]:8002", "[::1]", "tokens.example", "Tokens.Example:443"],
)
def test_a_request_under_one_of_its_names_reaches_the_application(host: str) -> None:
    assert ask(limited(Echo()), headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "evil.example:8002", "tokens.example.", "tokens.example@evil"),
        *("[::2]:8002", "[::1", "localhost:x", "localhost:", "xn--tokens.example", "127.0.0.1.evil.example", "*"),
    ],
)
def test_a_request_under_another_name_does_not(host: str) -> None:
    echo = Echo()
    assert_problem(ask(limited(echo), headers={"host": host}), 400, "host")
    assert echo.clients == []


def test_a_body_up_to_a_mebibyte_reaches_the_application_whole() -> None:
    pieces = [b"x" * (MOST_BODY_BYTES - 1), b"y"]
    answer = ask(limited(Echo()), method="POST", pieces=pieces)
    assert (answer.status, answer.body) == (200, b"".join(pieces))


def test_a_body_that_is_a_byte_larger_does_not() -> None:
    echo = Echo()
    assert_problem(ask(limited(echo), method="POST", pieces=[b"x" * MOST_BODY_BYTES, b"y"]), 413, "too_large")
    assert echo.clients == []


def test_whoever_asks_before_sending_too_much_need_not_send_it() -> None:
    headers = {"expect": "100-continue", "content-length": str(MOST_BODY_BYTES + 1)}
    assert_problem(ask(limited(Echo()), method="POST", headers=headers, pieces=[]), 413, "too_large")


def test_a_body_without_end_is_not_kept_and_ends_in_an_answer() -> None:
    assert_problem(ask(limited(Echo()), method="POST", pieces=[b"x" * MOST_BODY_BYTES] * 100), 413, "too_large")


@pytest.mark.parametrize("what", ["headers", "query", "path"])
def test_headers_and_address_together_have_an_end(what: str) -> None:
    long = "x" * MOST_HEADER_BYTES
    answers = {
        "headers": lambda: ask(limited(Echo()), headers={"x-long": long}),
        "query": lambda: ask(limited(Echo()), f"/?{long}"),
        "path": lambda: ask(limited(Echo()), f"/{long}"),
    }
    assert_problem(answers[what](), 413, "too_large")
    assert ask(limited(Echo()), headers={"x-long": long[:-200]}).status == 200


def test_a_body_that_does_not_come_to_its_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SLOWEST_SECONDS", 0.05)
    echo = Echo()

    async def stalled() -> Answer:
        return await call(limited(_Unfinished(echo)), method="POST", pieces=[])

    assert_problem(asyncio.run(stalled()), 413, "too_large")
    assert echo.clients == []


class _Unfinished(Echo):
    """Is never reached."""

    def __init__(self, echo: Echo) -> None:
        super().__init__()
        self.clients = echo.clients


def test_every_answer_keeps_browsers_from_frames_scripts_guesses_and_caches() -> None:
    headers = ask(limited(Echo())).headers
    policy = headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert not [name for name in headers if name.startswith("access-control")]


def test_an_answer_that_has_a_policy_of_its_own_keeps_it() -> None:
    own = [(b"Content-Security-Policy", b"default-src 'self'")]
    headers = ask(limited(Echo(own))).headers
    assert headers["content-security-policy"] == "default-src 'self'"
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first is what the caller said of itself
        ("10.0.0.1", "203.0.113.9, fd00::5", "203.0.113.9"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.2", "203.0.113.9", "10.0.0.2"),
        ("127.0.0.1", "203.0.113.9", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_who_the_caller_is(peer: str, forwarded: str, seen: str) -> None:
    echo = Echo()
    ask(limited(echo, PROXIES), headers={"x-forwarded-for": forwarded, "x-forwarded-proto": "https"}, client=peer)
    assert echo.clients == [seen]
    assert echo.schemes == ["http" if seen == peer else "https"]


def test_without_trusted_proxies_nobody_s_word_is_taken() -> None:
    echo = Echo()
    ask(limited(echo), headers={"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"})
    assert (echo.clients, echo.schemes) == (["127.0.0.1"], ["http"])


def test_a_caller_that_has_gone_ends_the_request() -> None:
    echo = Echo()
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-length", b"9")]
    scope = {"type": "http", "headers": headers, "raw_path": b"/", "query_string": b""}
    asyncio.run(limited(echo)(scope, receive, send))
    assert (echo.clients, sent) == ([], [])


def test_a_request_that_the_end_of_the_service_cuts_off_is_answered() -> None:
    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def cut() -> Answer:
        task = asyncio.ensure_future(call(limited(wait)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        return await task

    answer = asyncio.run(cut())
    assert_problem(answer, 503, "stopped")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("around", "error"), [(limited, asyncio.CancelledError), (CatchAll, KeyError)])
def test_an_answer_that_has_begun_is_not_followed_by_another(around: Any, error: type[BaseException]) -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "raw_path": b"/", "query_string": b""}
    with suppress(error):
        asyncio.run(around(app)(scope, receive, send))
    assert sent == ["http.response.start"]


def test_what_is_no_request_passes() -> None:
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    asyncio.run(limited(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert scopes == [{"type": "lifespan"}]


@pytest.mark.parametrize(("header", "name"), [("A.example:80", "a.example"), ("[FD00::1]:80", "fd00::1"), ("a:b", "")])
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_in(header) == name
