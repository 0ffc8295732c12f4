"""Those who ask for the same at the same time get one answer, and nobody waits for ever."""

from __future__ import annotations

import os

import pytest

from token_refresh.base.errors import RetryLaterError, TokenError, unwrap
from token_refresh.library.single_flight import SingleFlight


def refuse() -> str:
    raise AssertionError("only the leader's act counts")


def test_followers_get_what_the_leader_gets() -> None:
    shared = SingleFlight[str]()
    leader = shared.join("key", lambda: "token")
    follower = shared.join("key", refuse)
    leader.lead()
    follower.lead()  # which does nothing: it was done
    assert (leader.answer.result(), follower.answer.result()) == ("token", "token")


def test_another_key_is_another_flight_and_the_next_one_asks_again() -> None:
    shared = SingleFlight[str]()
    first = shared.join("key", lambda: "one")
    assert shared.join("other", lambda: "two") is not first
    first.lead()
    assert shared.join("key", lambda: "three") is not first


def test_a_leader_that_is_interrupted_leaves_nobody_waiting() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    shared = SingleFlight[str]()
    leader = shared.join("key", interrupted)
    follower = shared.join("key", refuse)
    with pytest.raises(KeyboardInterrupt):
        leader.lead()
    with pytest.raises(RetryLaterError, match="interrupted"):
        unwrap(follower.answer.result())
    assert shared.join("key", lambda: "token") is not leader


def test_where_the_first_who_asked_was_interrupted_before_it_began_the_next_one_leads() -> None:
    shared = SingleFlight[str]()
    shared.join("key", lambda: "token")  # and never led
    second = shared.join("key", refuse)
    second.lead()
    assert second.answer.result(0) == "token"


def test_an_interrupt_between_the_answer_and_those_who_wait_costs_them_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SingleFlight[str]()
    leader = shared.join("key", lambda: "token")
    hand_out, interrupts = leader.answer.set_result, [KeyboardInterrupt(), KeyboardInterrupt()]

    def interrupted(answer: str | TokenError) -> None:
        if interrupts:
            raise interrupts.pop()
        hand_out(answer)

    monkeypatch.setattr(leader.answer, "set_result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leader.lead()
    assert leader.answer.result(0) == "token"
    assert shared.join("key", lambda: "next") is not leader


def test_a_flight_that_was_given_up_is_not_led_later() -> None:
    flight = SingleFlight[str]().join("key", refuse)
    flight.give_up(RetryLaterError("there is no thread", "Ask again."))
    flight.lead()
    with pytest.raises(RetryLaterError, match="there is no thread"):
        unwrap(flight.answer.result(0))


def test_a_waiting_caller_cannot_cancel_the_flight_of_others() -> None:
    leader = SingleFlight[str]().join("key", lambda: "token")
    assert leader.answer.cancel() is False
    leader.lead()
    assert leader.answer.result() == "token"


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SingleFlight[str]()
    of_parent = shared.join("key", refuse)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert shared.join("key", lambda: "token") is not of_parent


def test_of_two_threads_that_begin_at_the_same_moment_one_leads() -> None:
    class Overtaken(dict[str, int]):
        """Another thread is a step ahead."""

        def setdefault(self, key: str, _: int = 0) -> int:
            return super().setdefault(key, -1)

    flight = SingleFlight[str]().join("key", lambda: "answer")
    flight._leader = Overtaken()
    flight.lead()
    assert not flight.answer.done()
