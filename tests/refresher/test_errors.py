"""Whatever goes wrong below is one of a few errors above: with an action, without a secret or a chain to one."""

from __future__ import annotations

import traceback

import pytest

from providers.base import ProviderError
from refresher.enrol import EnrolmentError
from refresher.errors import (
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    SeveralTokensError,
    TokenError,
    error_of,
    given,
    told,
)
from refresher.journal_file import JournalError
from refresher.lock import LockedError
from refresher.outcome import Outcome, RowResult
from refresher.parts import RunError
from refresher.state import StateError
from stores.base import StoreQuotaError, StoreRefusedError, StoreUnavailableError
from stores.sealed import CellError

SECRET = "canary-refresh-token"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LockedError("a run"), RetryLaterError),
        (StoreUnavailableError("away", "Wait."), RetryLaterError),
        (StoreQuotaError("spent", "Wait."), RetryLaterError),
        (StoreRefusedError("no", "Mend."), MisconfiguredError),
        (RunError("no", "Mend."), MisconfiguredError),
        (JournalError("full", "Free."), MisconfiguredError),
        (CellError("encrypted_refresh", "is not", "Mend."), MisconfiguredError),
        (ProviderError("unknown", "Mend."), MisconfiguredError),
        (EnrolmentError("no", "Mend."), MisconfiguredError),
        (StateError("no", "Mend."), MisconfiguredError),
        (PermissionError(13, "Permission denied", "/state"), MisconfiguredError),
        (NoSuchTokenError("none", "Look."), NoSuchTokenError),
    ],
)
def test_every_error_below_is_one_of_a_few_above(error: Exception, kind: type[TokenError]) -> None:
    def act() -> str:
        raise error

    answer = told(act)
    assert type(answer) is kind
    assert answer.action
    assert str(error) in str(answer) or "/state cannot be used" in str(answer)


def test_a_strangers_error_is_told_by_its_place_and_keeps_nothing_of_its_words() -> None:
    def act() -> str:
        try:
            raise ValueError(f"body: {SECRET}")
        except ValueError as cause:
            raise KeyError(SECRET) from cause

    with pytest.raises(TokenError, match=r"internal error: KeyError at test_errors\.py:") as caught:
        given(told(act))
    error = caught.value
    assert type(error) is TokenError
    assert (error.__cause__, error.__context__) == (None, None)
    words = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert SECRET not in words


def test_an_answer_is_given_as_it_is() -> None:
    assert given(told(lambda: "token")) == "token"


def test_each_caller_gets_an_error_of_its_own() -> None:
    shared = RetryLaterError("away", "Wait.")
    for _ in range(2):
        with pytest.raises(RetryLaterError) as caught:
            given(shared)
        assert caught.value is not shared
    assert shared.__traceback__ is None


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome.TRANSIENT, RetryLaterError),
        (Outcome.UNKNOWN, RetryLaterError),
        (Outcome.CHANGED, RetryLaterError),
        (Outcome.REAUTHORIZE, LoginAgainError),
        (Outcome.OPERATOR, MisconfiguredError),
    ],
)
def test_an_outcome_says_whether_to_wait_to_log_in_or_to_mend(outcome: Outcome, kind: type[TokenError]) -> None:
    error = error_of(RowResult("loc1", "acme", outcome, "HTTP 400", "Do it."))
    assert type(error) is kind
    assert (str(error), error.action) == (f"loc1 acme: {outcome}, HTTP 400", "Do it.")


def test_who_names_no_provider_among_several_has_something_to_mend() -> None:
    assert issubclass(SeveralTokensError, MisconfiguredError)
