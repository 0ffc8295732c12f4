"""The key is judged before the scope, the scope before the body; guessing keys comes to an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel

from tests.service.asgi import Answer, ask, call
from tests.world.clock import FakeClock
from token_refresh.access.api_keys import ApiKeys
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import CredentialUsed, Event
from token_refresh.service import access
from token_refresh.service.access import Caller, KeyCheck, needs, network_of
from token_refresh.service.answers import problem
from token_refresh.stores.base import StoreUnavailableError
from token_refresh.stores.database import open_backend

WRONG = "trk_" + "0" * 16 + "_" + "0" * 64


class Wanted(BaseModel):
    """A body."""

    number: int


class World:
    """An application with a route for each scope, and its keys."""

    def __init__(self, keys: ApiKeys, clock: FakeClock) -> None:
        self.keys, self.clock = keys, clock
        self.events: list[Event] = []
        self.app = FastAPI(exception_handlers={ActionableError: _answer})
        self.app.state.service = SimpleNamespace(key_check=KeyCheck(keys, self.events.append, clock))
        router = APIRouter()

        @router.get("/read", dependencies=[needs("read")])
        async def read() -> dict[str, str]:
            return {}

        @router.post("/clients", dependencies=[needs("clients")])
        async def clients(wanted: Wanted) -> dict[str, str]:
            return {}

        @router.get("/tokens/{location}", dependencies=[needs("tokens")])
        async def tokens(location: str, caller: Caller) -> dict[str, str | None]:
            caller.require("tokens", location)
            return {"name": caller.key.name, "only": caller.only_location}

        self.app.include_router(router)

    def ask(self, path: str, key: str | None, **options: Any) -> Answer:
        """With this key."""
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        return ask(self.app, path, headers=headers, **options)


async def _answer(_: Request, error: Exception) -> Response:
    assert isinstance(error, ActionableError)
    return problem(error)


@pytest.fixture
def served(tmp_path: Path, clock: FakeClock) -> Iterator[World]:
    with closing(open_backend(f"sqlite:///{tmp_path / 'service.sqlite3'}", 4)) as database:
        yield World(ApiKeys(database, clock), clock)


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert ("www-authenticate" in answer.headers) is (status == 401)


def test_a_key_opens_what_its_scope_names(served: World) -> None:
    key = served.keys.create("ci", ["read"])
    assert served.ask("/read", key).status == 200
    assert_refused(served.ask("/clients", key, method="POST"), 403, "forbidden")
    assert_refused(served.ask("/tokens/loc1", key), 403, "forbidden")


@pytest.mark.parametrize("header", [None, "", "Basic dXNlcjpwYXNz", "Bearer", "Bearer "])
def test_a_request_without_a_key_is_asked_for_one_and_does_not_count(served: World, header: str | None) -> None:
    headers = {"authorization": header} if header is not None else {}
    for _ in range(30):
        assert_refused(ask(served.app, "/read", headers=headers), 401, "unauthorized")
    assert served.events == []


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_compared_without_case(served: World, scheme: str) -> None:
    key = served.keys.create("ci", ["read"])
    assert ask(served.app, "/read", headers={"authorization": f"{scheme}  {key} "}).status == 200


def test_a_wrong_body_is_judged_after_key_and_scope(served: World) -> None:
    body = [b'{"number": "x"}']
    json = {"content-type": "application/json"}
    for key, status in [(None, 401), (WRONG, 401), (served.keys.create("a", ["read"]), 403)]:
        headers = json | ({"authorization": f"Bearer {key}"} if key else {})
        assert ask(served.app, "/clients", method="POST", headers=headers, pieces=body).status == status
    headers = json | {"authorization": f"Bearer {served.keys.create('b', ['clients'])}"}
    assert ask(served.app, "/clients", method="POST", headers=headers, pieces=body).status == 422


def test_a_key_for_one_location_opens_no_other(served: World) -> None:
    key = served.keys.create("ci", ["tokens:loc1"])
    answer = served.ask("/tokens/loc1", key)
    assert (answer.status, answer.json()) == (200, {"name": "ci", "only": "loc1"})
    assert_refused(served.ask("/tokens/loc2", key), 403, "forbidden")
    assert served.events[-1] == CredentialUsed("access refused", "loc2", outcome=Kind.FORBIDDEN, key="ci")
    wide = served.keys.create("wide", ["tokens"])
    assert served.ask("/tokens/loc2", wide).json() == {"name": "wide", "only": None}


def test_twenty_wrong_keys_a_minute_are_answered_and_no_more(served: World) -> None:
    key = served.keys.create("ci", ["read"])
    for _ in range(20):
        assert_refused(served.ask("/read", WRONG), 401, "unauthorized")
        served.clock.advance(1)
    answer = served.ask("/read", "not even like one")
    assert_refused(answer, 429, "too_many_requests")
    assert answer.headers["retry-after"] == "40"
    assert served.ask("/read", key).status == 200  # a right one is found all the same
    assert served.ask("/read", WRONG, client="127.0.0.2").status == 401
    served.clock.advance(40)
    assert_refused(served.ask("/read", WRONG), 401, "unauthorized")
    assert_refused(served.ask("/read", WRONG), 429, "too_many_requests")
    served.clock.advance(60)
    assert_refused(served.ask("/read", WRONG), 401, "unauthorized")


def test_the_addresses_of_one_ipv6_customer_count_together(served: World) -> None:
    for number in range(20):
        assert served.ask("/read", WRONG, client=f"2001:db8:0:1::{number:x}").status == 401
    assert served.ask("/read", WRONG, client="2001:db8:0:1:ffff::1").status == 429
    assert served.ask("/read", WRONG, client="2001:db8:0:2::1").status == 401


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "192.0.2.1", False),
        ("x" * 1000, "x" * 64, True),
    ],
)
def test_what_counts_as_one_network(one: str, other: str, is_same: bool) -> None:
    assert (network_of(one) == network_of(other)) is is_same


def test_the_memory_of_wrong_keys_has_an_end(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_NETWORKS", 3)
    wrong = access.WrongKeys(served.clock)
    for number in range(10):
        wrong.count(f"192.0.2.{number}")
    assert len(wrong._times) == 3


def test_who_used_a_key_and_who_was_refused_is_noted(served: World) -> None:
    key = served.keys.create("ci", ["read"])
    served.ask("/read", key)
    served.ask("/read", WRONG)
    served.ask("/tokens/loc1", key)
    assert served.events == [
        CredentialUsed("key used", key="ci"),
        CredentialUsed("access refused", outcome=Kind.UNAUTHORIZED),
        CredentialUsed("key used", key="ci"),
        CredentialUsed("access refused", outcome=Kind.FORBIDDEN, key="ci"),
    ]


def test_a_key_that_is_revoked_opens_nothing_from_then_on(served: World) -> None:
    key = served.keys.create("ci", ["read"])
    assert served.ask("/read", key).status == 200
    served.keys.revoke("ci")
    assert_refused(served.ask("/read", key), 401, "unauthorized")


def test_requests_at_once_share_one_look(served: World) -> None:
    key = served.keys.create("ci", ["read"])
    headers = {"authorization": f"Bearer {key}"}

    async def together() -> list[Answer]:
        return list(await asyncio.gather(*(call(served.app, "/read", headers=headers) for _ in range(20))))

    assert {answer.status for answer in asyncio.run(together())} == {200}
    assert served.events == [CredentialUsed("key used", key="ci")]


class AwayKeys(ApiKeys):
    """Of a database that is away, or does not answer at all."""

    def __init__(self, answers: threading.Event | None) -> None:
        self.answers = answers

    def find(self, text: str) -> None:
        if self.answers is not None:
            self.answers.wait()
        raise StoreUnavailableError("no connection to secret-host as user secret-user", "Look at secret-host.")


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_database_that_is_away_is_said_in_time_and_not_described(
    clock: FakeClock, is_silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_UP_SECONDS", 0.05)
    answers = threading.Event() if is_silent else None
    away = World(AwayKeys(answers), clock)

    async def both() -> Answer:
        answer = await call(away.app, "/read", headers={"authorization": f"Bearer {WRONG}"})
        if answers is not None:
            answers.set()  # or the thread would outlive the test
        return answer

    answer = asyncio.run(both())
    assert_refused(answer, 503, "store_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert b"secret" not in answer.body
