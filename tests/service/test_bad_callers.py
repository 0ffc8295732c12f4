"""Whatever a caller gets wrong: what went wrong and what to do, in one form; no secret, no traceback, no log of it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
from opentelemetry import trace

from tests.conftest import World
from tests.service.server import ServiceServer
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer
from tests.world.program import Program
from token_refresh.service.access import WrongKeys

pytestmark = pytest.mark.by_turns("server")

CANARY = "canary-of-a-caller"  # stands wherever a caller may put a secret by mistake


class Call(NamedTuple):
    """One request; `scopes` of its key, none for a request without."""

    method: str
    path: str
    scopes: str | None
    status: int
    code: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


def calls() -> Iterator[Call]:
    """Every endpoint, and what may be wrong with a request of it."""
    needs = {
        ("POST", "/clients"): "clients",
        ("GET", "/clients"): "read",
        ("GET", "/clients/1"): "read",
        ("PATCH", "/clients/1"): "clients",
        ("DELETE", "/clients/1"): "clients",
        ("GET", "/auth/token?location=loc"): "tokens",
        ("POST", "/auth/revoke"): "clients",
        ("GET", "/tokens/loc"): "tokens",
        ("POST", "/tokens/refresh"): "tokens",
        ("GET", "/tokens"): "read",
        ("POST", "/links"): "clients",
        ("GET", "/metrics"): "read",
    }
    for (method, path), scope in needs.items():
        others = [one for one in ("tokens", "clients", "read") if one != scope]
        malformed = "{" if method in ("POST", "PATCH") else None
        yield Call(method, path, None, 401, "unauthorized", malformed)
        yield Call(method, path, " ".join(others), 403, "forbidden", malformed)
        yield Call(method, path, None, 401, "unauthorized", malformed, (("Authorization", f"Bearer {CANARY}"),))
        yield Call(method, path, None, 401, "unauthorized", malformed, (("Authorization", f"Basic {CANARY}"),))
        if malformed:
            yield Call(method, path, scope, 422, "invalid", malformed)
            yield Call(method, path, scope, 422, "invalid", "[" * 20_000)
            yield Call(method, path, scope, 422, "invalid", b"\xff\xfe\x00")
            yield Call(method, path, scope, 422, "invalid", [CANARY])
            yield Call(method, path, scope, 422, "invalid", {CANARY: CANARY})
            yield Call(
                method, path, scope, 422, "invalid", f"client_secret={CANARY}", (("Content-Type", "text/plain"),)
            )
    yield from (
        Call("GET", "/tokens/other", "tokens:loc", 403, "forbidden"),
        Call("GET", "/tokens/nowhere", "tokens:loc", 403, "forbidden"),
        Call("GET", "/tokens/loc", "tokens:LOC", 403, "forbidden"),
        Call("GET", "/auth/token?location=other", "tokens:loc", 403, "forbidden"),
        Call("POST", "/tokens/refresh", "tokens:loc", 403, "forbidden", {"branch_id": "other"}),
        Call("POST", "/tokens/refresh", "tokens:loc", 403, "forbidden", {"client_id": 1}),
        Call("POST", "/tokens/refresh", "tokens:loc", 403, "forbidden", {"client_id": 99}),
        Call("GET", "/auth/token", "tokens", 409, "several"),
        Call("GET", "/auth/token", "admin", 409, "several"),
        Call("GET", "/tokens/nowhere", "tokens", 404, "not_found"),
        Call("GET", "/tokens/", "tokens", 422, "invalid"),
        Call("GET", "/tokens/loc%00", "tokens", 422, "invalid"),
        Call("GET", "/tokens/" + "x" * 1001, "tokens", 422, "invalid"),
        Call("GET", "/tokens/loc?min_valid=-1", "tokens", 422, "invalid"),
        Call("GET", "/tokens/loc?min_valid=NaN", "tokens", 422, "invalid"),
        Call("GET", f"/tokens/loc?min_valid={CANARY}", "tokens", 422, "invalid"),
        Call("GET", "/tokens/loc?provider=xero", "tokens", 404, "not_found"),
        Call("POST", "/tokens/refresh", "tokens", 422, "invalid", {}),
        Call("POST", "/tokens/refresh", "tokens", 422, "invalid", {"branch_id": "loc", "client_id": 1}),
        Call("POST", "/tokens/refresh", "tokens", 422, "invalid", {"client_id": True}),
        Call("POST", "/tokens/refresh", "tokens", 422, "invalid", {"client_id": 1.5}),
        Call("POST", "/tokens/refresh", "tokens", 404, "not_found", {"client_id": 10**30}),
        Call("POST", "/tokens/refresh", "tokens", 404, "not_found", {"client_id": 99}),
        Call("POST", "/tokens/refresh", "tokens", 401, "login_needed", {"branch_id": "loc"}),
        Call("GET", "/tokens/loc", "tokens", 401, "login_needed"),
        Call("POST", "/auth/revoke", "clients", 409, "several"),
        Call("POST", "/auth/revoke?location=nowhere", "clients", 404, "not_found"),
        Call("POST", "/auth/revoke", "clients", 404, "not_found", {"branch_id": "loc"}),
        Call("POST", "/links", "clients", 404, "not_found", {"branch_id": "nowhere"}),
        Call("POST", "/links", "clients", 422, "invalid", {"branch_id": "loc", "expires": CANARY}),
        Call("POST", "/links", "clients", 422, "invalid", {"branch_id": "loc", "expires": "0s"}),
        Call("POST", "/links", "clients", 422, "invalid", {"branch_id": "loc", "expires": "31d"}),
        Call("POST", "/links", "clients", 422, "invalid", {"branch_id": "loc", "expires": "99999999d"}),
        Call("GET", "/clients?limit=0", "read", 422, "invalid"),
        Call("GET", "/clients?limit=1001", "read", 422, "invalid"),
        Call("GET", f"/clients?status={CANARY}", "read", 422, "invalid"),
        Call("GET", f"/clients?{CANARY}=1", "read", 422, "invalid"),
        Call("GET", "/clients?after=%27%3B--", "read", 422, "invalid"),
        Call("GET", f"/{CANARY}", None, 404, "not_found"),
        Call("GET", "/clients/", "read", 404, "not_found"),
        Call("PUT", "/clients", "clients", 405, "method_not_allowed"),
        Call("TRACE", "/tokens/loc", "tokens", 405, "method_not_allowed"),
        Call("POST", "/health", None, 405, "method_not_allowed"),
        Call("GET", "/links", "clients", 405, "method_not_allowed"),
        Call("GET", "/health", None, 400, "host", None, (("Host", f"{CANARY}.example"),)),
        Call("POST", "/clients", "clients", 413, "too_large", "x" * 1_048_577),
    )


CALLS = list(calls())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path[:40]} {call.status}")
def test_a_bad_call_is_answered_in_one_form(
    bad_server: ServiceServer, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = key_of(bad_server, call.scopes) if call.scopes else ""
    body = call.body if isinstance(call.body, str | bytes | None) else json.dumps(call.body)
    headers = {"Content-Type": "application/json", **dict(call.headers)}
    bad_server.service.key_check._wrong = WrongKeys(bad_server.world.clock)  # so many wrong ones are counted elsewhere
    answer = bad_server.call(call.method, call.path, key, data=body, headers=headers)
    content = answer.json()
    assert (answer.status_code, content["code"]) == (call.status, call.code), content
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "success", "message", "action", "code"} <= set(content)
    assert (content["status"], content["success"], content["title"]) == (
        call.status,
        False,
        HTTPStatus(call.status).phrase,
    )
    assert ("errors" in content) == (call.code == "invalid")
    assert ("WWW-Authenticate" in answer.headers) == (call.code == "unauthorized")
    assert ("Retry-After" in answer.headers) == (call.status in (429, 503))
    assert ("Allow" in answer.headers) == (call.status == 405)
    assert CANARY not in answer.text
    logged = logged_in(caplog)
    assert not [text for text in (CANARY, "Traceback", key.rpartition("_")[2] or CANARY) if text in logged]


KEYS: dict[str, str] = {}


def key_of(server: ServiceServer, scopes: str) -> str:
    """One key for all calls that need the same scopes."""
    return KEYS.get(scopes) or KEYS.setdefault(scopes, server.key(*scopes.split()))


def logged_in(caplog: pytest.LogCaptureFixture) -> str:
    """What the service logs, without what its caller does."""
    ours = (one for one in caplog.records if not one.name.startswith(("urllib3", "charset_normalizer")))
    return "\n".join(one.getMessage() for one in ours) + str([one.exc_info for one in caplog.records if one.exc_info])


@pytest.fixture(scope="module")
def bad_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceServer]:
    """One service for all bad calls: none of them changes anything."""
    clock = FakeClock()
    with (
        OAuthServer(clock=clock.timestamp) as oauth,
        ServiceServer(
            World(
                clock,
                oauth,
                Program(tmp_path_factory.mktemp("home"), {"GOOGLE_TOKEN_URL": oauth.token_url("google")}, clock),
            )
        ) as server,
    ):
        server.register()
        server.register("other")
        yield server


def test_a_hundred_of_them_are_tried() -> None:
    assert len(CALLS) >= 100


def test_the_answer_to_a_wrong_method_names_all_methods_of_the_address(server: ServiceServer) -> None:
    allowed = {
        path: server.call("PUT", path).headers["Allow"]
        for path in ("/clients", "/clients/1", "/tokens", "/tokens/refresh", "/health")
    }
    assert allowed == {
        "/clients": "GET, HEAD, POST",
        "/clients/1": "DELETE, GET, HEAD, PATCH",
        "/tokens": "GET, HEAD",
        "/tokens/refresh": "POST",
        "/health": "GET, HEAD",
    }


def test_head_is_answered_like_get_without_the_body(server: ServiceServer) -> None:
    answer = server.call("HEAD", "/health")
    assert (answer.status_code, answer.text) == (200, "")


def test_a_mistake_of_ours_is_named_by_type_and_place_alone(
    server: ServiceServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def broken(*_: object) -> None:
        raise KeyError("canary-secret-of-a-mistake")

    server.service.manager.find = broken  # type: ignore[assignment, method-assign]
    answer = server.call("GET", "/clients/1", server.admin)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert re.fullmatch(r"internal error: KeyError at \w+\.py:\d+", answer.json()["message"])
    assert "internal error: KeyError at" in caplog.text
    assert not [text for text in ("canary-secret", "Traceback") if text in caplog.text + answer.text]


def test_who_collects_traces_in_this_process_hears_nothing_of_requests(
    server: ServiceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace holds the address, and that may hold a link's token; FastAPI tells by itself."""
    told: list[object] = []

    class Collector(trace.TracerProvider):
        def get_tracer(self, *args: Any, **_: Any) -> trace.Tracer:
            told.append(args)
            return trace.NoOpTracer()

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Collector())
    assert server.call("GET", "/connect/link-canary").status_code == 404
    assert told == []
