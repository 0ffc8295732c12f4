#!/usr/bin/env python3
"""Keep every client's OAuth access token fresh: what cron runs, what a person runs by hand, what a program imports.

>>> from token_manager import TokenManager
>>> TokenManager.from_settings().get_valid_access_token("LOCATION")
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from token_refresh.commands.cli import main
from token_refresh.terminal.process import end

if TYPE_CHECKING:
    from token_refresh.library.programs import (
        AsyncTokenManager,
        LoginAgainError,
        MisconfiguredError,
        NoSuchTokenError,
        RetryLaterError,
        SeveralTokensError,
        TokenError,
        TokenManager,
        TokenView,
    )

__all__ = [
    "AsyncTokenManager",
    "LoginAgainError",
    "MisconfiguredError",
    "NoSuchTokenError",
    "RetryLaterError",
    "SeveralTokensError",
    "TokenError",
    "TokenManager",
    "TokenView",
    "main",
]


def __getattr__(name: str) -> Any:
    """The library, imported when a program wants it: cron's idle runs stay cheap."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from token_refresh.library import programs

    return getattr(programs, name)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
