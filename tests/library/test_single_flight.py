"""Those who ask for the same at the same time get one answer, and nobody waits for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from token_refresh.base.errors import RetryLaterError, TokenError, unwrap
from token_refresh.library.single_flight import SingleFlight


def refuse() -> str:
    raise AssertionError("only the leader's act counts")


def lead_of(joined: tuple[Future[str | TokenError], Callable[[], None] | None]) -> Callable[[], None]:
    lead = joined[1]
    assert lead is not None
    return lead


def test_followers_get_what_the_leader_gets() -> None:
    shared = SingleFlight[str]()
    leader = shared.join("key", lambda: "token")
    follower, lead = shared.join("key", refuse)
    assert lead is None
    lead_of(leader)()
    assert (leader[0].result(), follower.result()) == ("token", "token")


def test_another_key_is_another_flight_and_the_next_one_asks_again() -> None:
    shared = SingleFlight[str]()
    first = shared.join("key", lambda: "one")
    assert shared.join("other", lambda: "two")[1] is not None
    lead_of(first)()
    assert shared.join("key", lambda: "three")[1] is not None


def test_a_leader_that_is_interrupted_leaves_nobody_waiting() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    shared = SingleFlight[str]()
    leader = shared.join("key", interrupted)
    follower, _ = shared.join("key", refuse)
    with pytest.raises(KeyboardInterrupt):
        lead_of(leader)()
    with pytest.raises(RetryLaterError, match="interrupted"):
        unwrap(follower.result())
    assert shared.join("key", lambda: "token")[1] is not None


def test_a_waiting_caller_cannot_cancel_the_flight_of_others() -> None:
    leader = SingleFlight[str]().join("key", lambda: "token")
    assert leader[0].cancel() is False
    lead_of(leader)()
    assert leader[0].result() == "token"


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SingleFlight[str]()
    shared.join("key", refuse)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert shared.join("key", lambda: "token")[1] is not None
