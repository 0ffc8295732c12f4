"""A credential is proved by one refresh before it is stored; a refresh token that may be spent is never sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

from crypto import Context
from providers.base import Answer, Provider, Verdict
from token_refresh.base.errors import Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.clients.credential import AdmissionError, Candidate, NewCredential
from token_refresh.journal.entries import ANSWER_FIELD, Step
from token_refresh.refresh import replay
from token_refresh.refresh.exchange import exchange
from token_refresh.refresh.run_context import RunContext

_T = TypeVar("_T")


class Prover:
    """Sends entered refresh tokens.

    Args:
        context: what it works with.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def refuse_used(self, provider: Provider, entered: NewCredential) -> None:
        """A refresh token that has a successor is not sent again.

        Raises:
            AdmissionError: this is one.
        """
        context, journal = self._context, self._context.journal
        if provider.rotates == "never":
            return
        token = context.store.keyring.fingerprints(entered.refresh_token)
        if replay.is_used_up(provider, is_spent=journal.spent_at(token) is not None):
            raise AdmissionError(
                "this refresh token is used up: it was exchanged for a newer one",
                "Connect the account again and enter the new refresh token.",
                Kind.USAGE,
            )
        for entry in journal.entries(Step.ANSWERED):
            if entry.token in token and not entry.admission:
                raise AdmissionError(
                    "this refresh token was sent already, and the new tokens wait in the journal",
                    f"See what they wait for: {TOKEN_MANAGER} recover",
                    Kind.RETRY_LATER,
                )
        for entry in journal.entries(Step.UNREAD):
            if entry.token in token:
                raise AdmissionError(
                    "this refresh token was sent, and its answer has a form that is not known; it is kept, encrypted",
                    f"To send it once more: {TOKEN_MANAGER} recover --resend LOCATION --provider P, then run it again.",
                    Kind.USAGE,
                )

    def prove(self, candidate: Candidate, note_intent: Callable[[], int]) -> tuple[int, Answer]:
        """Ask, and once more where the answer was lost and the provider's replay rule allows it.

        Returns the journal's entry and the answer. Raises `JournalError` where nothing was sent.
        """
        clock, provider = self._context.clock, candidate.provider
        began = clock.monotonic()
        entry_id, answer = self._ask(candidate, note_intent, is_first=True)
        if answer.verdict is not Verdict.UNCLEAR or answer.refresh_token is not None:
            return entry_id, answer
        if clock.monotonic() - began >= replay.may_resend_within(provider, 1, was_lost=False, is_last_minute=False):
            return entry_id, answer
        return entry_id, _newer(answer, self.ask_again(candidate, entry_id))

    def ask_again(self, candidate: Candidate, entry_id: int) -> Answer:
        """Ask where an answer was lost before."""
        note = partial(self._context.journal.send_again, entry_id, candidate.endpoint.origin, is_lost=True)
        return _as_after_loss(self._ask(candidate, note, is_first=False)[1])

    def _ask(self, candidate: Candidate, note_intent: Callable[[], int], *, is_first: bool) -> tuple[int, Answer]:
        seconds = replay.limit_of(candidate.provider, is_first=is_first)
        ask = partial(
            exchange,
            self._context.journal,
            self._context.transport,
            replace(candidate.provider.refresh_request(candidate.credential), seconds=seconds),
            candidate.provider.read_answer,
            Context(ANSWER_FIELD, candidate.entered.location_id, candidate.endpoint.origin),
            note_intent,
        )
        entry_id, answer, _ = _finished_before_exit(ask)
        return entry_id, answer  # also where the journal has no room for it: the store may have


def _finished_before_exit(act: Callable[[], _T]) -> _T:
    """Do it; in a daemon thread, which the end of the program cuts off, by a thread that the end waits for.

    Raises:
        AdmissionError: there can be none, and nothing was done.
    """
    if not threading.current_thread().daemon:
        return act()
    future: Future[_T] = Future()

    def work() -> None:
        try:
            future.set_result(act())
        except BaseException as error:
            future.set_exception(error)

    try:
        threading.Thread(target=work, daemon=False).start()
    except RuntimeError:
        raise AdmissionError(
            "the system starts no more threads, or the program ends; nothing was sent", "Repeat it.", Kind.RETRY_LATER
        ) from None
    return future.result()


def _newer(first: Answer, second: Answer) -> Answer:
    """The second answer, where it says something of what the first request did."""
    says = second.verdict in (Verdict.GRANTED, Verdict.DEAD_GRANT) or second.refresh_token is not None
    return second if says else first


def _as_after_loss(answer: Answer) -> Answer:
    """A refusal right after an answer that did not come means that the lost one brought a new token."""
    if answer.verdict is not Verdict.DEAD_GRANT:
        return answer
    return replace(answer, error=f"the first answer was lost, and the token is used up ({answer.error})")
