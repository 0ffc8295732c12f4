"""What is asked for while an answer is under way is answered together."""

from __future__ import annotations

import os
from concurrent.futures import Future

from token_refresh.base.errors import RetryLaterError, TokenError
from token_refresh.library.batches import Batches


class Echo:
    """Answers what it is asked; `meanwhile` is asked while it answers its first batch."""

    def __init__(self, *meanwhile: str) -> None:
        self.batches = Batches(self._act)
        self.seen: list[list[str]] = []
        self._meanwhile = meanwhile
        self.others: list[Future[str | TokenError]] = []

    def _act(self, asked: list[str]) -> list[str] | TokenError:
        if not self.seen:
            joined = [self.batches.join(one) for one in self._meanwhile]
            assert [lead for _, lead in joined] == [None] * len(joined)
            self.others += [future for future, _ in joined]
        self.seen.append(asked)
        if "away" in asked:
            return RetryLaterError("the store is away", "Ask again.")
        return [f"answer to {one}" for one in asked]


def test_those_who_ask_while_one_is_answered_are_answered_together_each_in_its_place() -> None:
    echo = Echo("b", "c", "d")
    first, lead = echo.batches.join("a")
    assert lead is not None
    lead()
    assert echo.seen == [["a"], ["b", "c", "d"]]
    assert [one.result(0) for one in (first, *echo.others)] == [f"answer to {name}" for name in "abcd"]


def test_an_error_is_everybodys_of_its_batch_and_of_no_other() -> None:
    echo = Echo("b", "away")
    first, lead = echo.batches.join("a")
    assert lead is not None
    lead()
    assert first.result(0) == "answer to a"
    assert {str(one.result(0)) for one in echo.others} == {"the store is away"}


def test_whoever_asks_when_nobody_waits_any_more_leads_again() -> None:
    echo = Echo()
    for name in ("a", "b"):
        future, lead = echo.batches.join(name)
        assert lead is not None
        lead()
        assert future.result(0) == f"answer to {name}"


def test_a_child_that_was_forked_while_one_was_answered_does_not_wait_for_its_parents_thread() -> None:
    echo = Echo()
    echo.batches.join("in the parent")  # which leads, and has not begun
    if (child := os.fork()) == 0:
        future, lead = echo.batches.join("in the child")
        if lead is not None:
            lead()
        os._exit(0 if future.done() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
