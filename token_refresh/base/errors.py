"""The one family of errors: what happened, what to do, and of which kind it is.

The table below alone says what a kind means outside: the exit code of a command, the HTTP status of the service, and
the class that a program catches.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from token_refresh.base.program import INTERRUPTED, unfit

_T = TypeVar("_T")


class Kind(enum.StrEnum):
    """What sort of failure it is; the value is the `code` of JSON answers."""

    USAGE = "usage"  # the command, or the request, was called in a way that cannot work
    CONFIGURATION = "configuration"  # settings, permissions, tables or files have to be corrected
    BUSY = "busy"  # another run is active
    STORE_UNAVAILABLE = "store_unavailable"  # the table or database cannot be reached
    STOPPED = "stopped"  # ended early by a signal or a deadline
    ROW = "row"  # one row, or its client, has to be corrected
    LOGIN_NEEDED = "login_needed"  # a person must log in
    RETRY_LATER = "retry_later"  # a provider or the table does not answer, or another run is at the row
    NOT_FOUND = "not_found"  # there is no such row
    SEVERAL = "several"  # the request fits several rows
    CONFLICT = "conflict"  # the request does not fit what is there: a row that exists, or one of another account
    DISABLED = "disabled"  # somebody has disabled the row
    UNREADABLE_CELL = "unreadable_cell"  # mostly a key that is missing; where other rows go on, it is a `row`
    INTERNAL = "internal"  # a mistake of this program
    EXPIRED = "expired"  # for a monitor: an access token is, or no run comes any more
    NOT_CHECKED = "not_checked"  # for a monitor: nobody knows how the tokens are
    # What the HTTP service alone says of a request.
    UNAUTHORIZED = "unauthorized"  # it has no key, or a wrong one
    FORBIDDEN = "forbidden"  # its key, or its link, is not for this
    INVALID = "invalid"  # a field is missing, unknown, or holds what cannot be there
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_LARGE = "too_large"
    TOO_MANY_REQUESTS = "too_many_requests"
    HOST = "host"  # it is for another host than this one


class ActionableError(Exception):
    """Something went wrong, and a person or a program can do something about it. It holds no secret.

    Args:
        message: what happened.
        action: what to do about it, as a sentence; empty where the message says everything.
        kind: which sort it is; by default the one of the class.

    Attributes:
        action: see above.
        kind: see above.
        fields: what is wrong with each field of what a caller handed in, by its name, without its value.
        after: in how many seconds it may work; None where nobody knows.
    """

    kind: Kind = Kind.INTERNAL
    fields: Mapping[str, str] = MappingProxyType({})
    after: float | None = None

    def __init__(self, message: str, action: str, kind: Kind | None = None) -> None:
        super().__init__(message)
        self.action = action
        if kind is not None:
            self.kind = kind


class RunError(ActionableError):
    """Nothing may be refreshed; the configuration is at fault, not a row."""

    kind = Kind.CONFIGURATION


class TokenError(ActionableError):
    """What a program asked the library for cannot be had. It is chained to no other error."""


class RetryLaterError(TokenError):
    """It may work in a minute: a provider or the store does not answer, or somebody else is at it."""

    kind = Kind.RETRY_LATER


class LoginAgainError(TokenError):
    """The grant is dead, or there is none yet: a person must log in, and `store_tokens` or onboarding follow."""

    kind = Kind.LOGIN_NEEDED


class NoSuchTokenError(TokenError):
    """There is no row of this location and provider."""

    kind = Kind.NOT_FOUND


class MisconfiguredError(TokenError):
    """Somebody who runs the program must correct the row, the client or the settings."""

    kind = Kind.CONFIGURATION


class SeveralTokensError(MisconfiguredError):
    """The location has rows of several providers, and none was named."""

    kind = Kind.SEVERAL


class Meaning(NamedTuple):
    """What a kind is outside of this program."""

    exit_code: int
    http_status: int
    library_class: type[TokenError]


MEANINGS: Mapping[Kind, Meaning] = MappingProxyType(
    {
        Kind.USAGE: Meaning(2, 400, MisconfiguredError),
        Kind.CONFIGURATION: Meaning(2, 500, MisconfiguredError),
        Kind.BUSY: Meaning(75, 503, RetryLaterError),  # sysexits' EX_TEMPFAIL
        Kind.STORE_UNAVAILABLE: Meaning(3, 503, RetryLaterError),
        Kind.STOPPED: Meaning(4, 503, RetryLaterError),
        Kind.ROW: Meaning(1, 500, MisconfiguredError),
        Kind.LOGIN_NEEDED: Meaning(1, 401, LoginAgainError),
        Kind.RETRY_LATER: Meaning(1, 503, RetryLaterError),
        Kind.NOT_FOUND: Meaning(1, 404, NoSuchTokenError),
        Kind.SEVERAL: Meaning(2, 409, SeveralTokensError),
        Kind.CONFLICT: Meaning(1, 409, MisconfiguredError),
        Kind.DISABLED: Meaning(1, 409, MisconfiguredError),
        Kind.UNREADABLE_CELL: Meaning(2, 500, MisconfiguredError),
        Kind.INTERNAL: Meaning(1, 500, TokenError),
        Kind.EXPIRED: Meaning(2, 503, RetryLaterError),
        Kind.NOT_CHECKED: Meaning(3, 503, RetryLaterError),
        Kind.UNAUTHORIZED: Meaning(2, 401, MisconfiguredError),
        Kind.FORBIDDEN: Meaning(2, 403, MisconfiguredError),
        Kind.INVALID: Meaning(2, 422, MisconfiguredError),
        Kind.METHOD_NOT_ALLOWED: Meaning(2, 405, MisconfiguredError),
        Kind.TOO_LARGE: Meaning(2, 413, MisconfiguredError),
        Kind.TOO_MANY_REQUESTS: Meaning(1, 429, RetryLaterError),
        Kind.HOST: Meaning(2, 400, MisconfiguredError),
    }
)
_PRECEDENCE = (2, 75, 3, 4, 1)  # of exit codes, where several apply


def exit_code(kinds: Iterable[Kind]) -> int:
    """What a command ends with that met failures of these kinds; 0 for none."""
    codes = {MEANINGS[kind].exit_code for kind in kinds}
    return next((code for code in _PRECEDENCE if code in codes), 0)


def http_status(kind: Kind) -> int:
    """What the service answers with."""
    return MEANINGS[kind].http_status


def internal_error(error: BaseException) -> ActionableError:
    """An exception that nobody foresaw, without its words, which may quote a request: its type and place alone."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    what = f"internal error: {type(error).__name__}{place}"
    return ActionableError(what, "Please report it; nothing was lost by it.", Kind.INTERNAL)


def actionable_error(error: BaseException) -> ActionableError:
    """Any exception as one of the family; those of the family as they are."""
    if isinstance(error, ActionableError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return ActionableError(INTERRUPTED, "", Kind.STOPPED)
    if isinstance(error, ImportError):
        python = unfit(error)
        return ActionableError(python.what, python.action, Kind.CONFIGURATION)
    if isinstance(error, OSError) and error.filename:
        what = f"{error.filename} cannot be used ({error.strerror})"
        return ActionableError(what, "Correct its permissions, or free the disk.", Kind.CONFIGURATION)
    return internal_error(error)


def library_error(error: Exception) -> TokenError:
    """Any exception as what a program is to catch; it keeps the kind, and is chained to nothing."""
    known = actionable_error(error)
    return _again(MEANINGS[known.kind].library_class, known)


def _again(cls: type[TokenError], error: ActionableError) -> TokenError:
    made = cls(str(error), error.action, error.kind)
    made.fields, made.after = error.fields, error.after
    return made


def capture_error(act: Callable[[], _T]) -> _T | TokenError:
    """What `act` returns, or its error as the library's.

    Returned rather than raised: an error that is raised where another is handled keeps that one, with all its frames,
    and frames hold secrets.
    """
    try:
        return act()
    except Exception as error:
        return library_error(error)


def unwrap(answer: _T | TokenError) -> _T:
    """The answer, or its error raised: a new one each time, for several threads may wait for the same answer."""
    if isinstance(answer, TokenError):
        raise _again(type(answer), answer)
    return answer
