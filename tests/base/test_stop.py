"""The wish for the end: its first reason is kept, and passed on once to what is under way."""

from __future__ import annotations

from token_refresh.base.stop import Stop


def test_the_first_reason_for_the_end_is_kept() -> None:
    stop = Stop()
    stop("one")
    stop("two")
    assert stop.reason == "one"


def test_a_run_hears_of_the_end_once_while_it_is_under_way() -> None:
    stop, heard = Stop(), list[str]()
    with stop.forwarding_to(heard.append):
        stop("SIGTERM")
        stop("SIGINT")
    assert heard == ["SIGTERM"]


def test_a_run_that_is_over_hears_of_no_end() -> None:
    stop, heard = Stop(), list[str]()
    with stop.forwarding_to(heard.append):
        pass
    stop("SIGTERM")
    assert (heard, stop.reason) == ([], "SIGTERM")


def test_a_run_that_begins_after_the_end_was_wanted_hears_of_it_at_once() -> None:
    stop, heard = Stop(), list[str]()
    stop("SIGTERM")
    with stop.forwarding_to(heard.append):
        pass
    assert heard == ["SIGTERM"]


def test_runs_of_several_threads_hear_of_the_end_as_long_as_each_is_under_way() -> None:
    stop, heard = Stop(), list[str]()
    with stop.forwarding_to(lambda reason: heard.append(f"first {reason}")):
        with stop.forwarding_to(lambda reason: heard.append(f"second {reason}")):
            pass
        with stop.forwarding_to(lambda reason: heard.append(f"third {reason}")):
            stop("SIGTERM")
    assert heard == ["first SIGTERM", "third SIGTERM"]
