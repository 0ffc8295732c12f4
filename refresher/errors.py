"""What a program reads when it cannot have a token: try again later, log in again, or mend something."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from providers.base import ProviderError
from refresher.enrol import EnrolmentError
from refresher.journal_file import JournalError
from refresher.lock import LockedError
from refresher.outcome import Outcome, RowResult
from refresher.parts import RunError
from refresher.state import StateError
from stores.base import StoreError, StoreUnavailableError
from stores.sealed import CellError

_T = TypeVar("_T")


class TokenError(Exception):
    """What was asked for cannot be had. No secret is in it, and it is chained to nothing.

    Attributes:
        action: what to do about it, as a sentence.
    """

    def __init__(self, message: str, action: str) -> None:
        super().__init__(message)
        self.action = action


class RetryLaterError(TokenError):
    """It may work in a minute: a provider or the store does not answer, or somebody else is at it."""


class LoginAgainError(TokenError):
    """The grant is dead, or there is none yet: a person must log in, and `store_tokens` or onboarding follow."""


class NoSuchTokenError(TokenError):
    """There is no row of this location and provider."""


class MisconfiguredError(TokenError):
    """Somebody who runs the program must mend the row, the client or the settings."""


class SeveralTokensError(MisconfiguredError):
    """The location has rows of several providers, and none was named."""


_WORDS = {Outcome.REAUTHORIZE: LoginAgainError, Outcome.OPERATOR: MisconfiguredError}
_MISCONFIGURED = (StoreError, RunError, JournalError, CellError, ProviderError, EnrolmentError, StateError)


def error_of(result: RowResult) -> TokenError:
    """What a row's failure means for whoever wanted its token."""
    kind = _WORDS.get(result.outcome or Outcome.OPERATOR, RetryLaterError)
    return kind(
        f"{result.location_id} {result.provider}: {result.outcome}, {result.error or 'no reason was given'}",
        result.action or "",
    )


def told(act: Callable[[], _T]) -> _T | TokenError:
    """What `act` returns, or what its error is to a program.

    Returned rather than raised: an error that is raised where another is handled keeps that one, with all its frames.
    """
    try:
        return act()
    except Exception as error:
        return _told_as(error)


def given(answer: _T | TokenError) -> _T:
    """The answer, or its error raised: a fresh one for each, for several threads may wait for the same."""
    if isinstance(answer, TokenError):
        raise type(answer)(str(answer), answer.action)
    return answer


def _told_as(error: Exception) -> TokenError:
    action = str(getattr(error, "action", ""))
    if isinstance(error, TokenError):
        return type(error)(str(error), action)
    if isinstance(error, LockedError):
        return RetryLaterError(str(error), "Try again in a minute.")
    if isinstance(error, StoreUnavailableError):
        return RetryLaterError(str(error), action)
    if isinstance(error, _MISCONFIGURED):
        return MisconfiguredError(str(error), action)
    if isinstance(error, OSError) and error.filename:
        what = f"{error.filename} cannot be used ({error.strerror})"
        return MisconfiguredError(what, "Correct its permissions, or free the disk.")
    # The message of a stranger's exception may carry a request body: only its kind and place are shown.
    [*_, last] = traceback.extract_tb(error.__traceback__)
    place = f"{Path(last.filename).name}:{last.lineno}"
    return TokenError(f"internal error: {type(error).__name__} at {place}", "Please report it; nothing was lost by it.")
