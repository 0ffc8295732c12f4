#!/usr/bin/env python3
"""Keep every client's OAuth access token fresh: what cron runs, what a person runs by hand, what a program imports.

>>> from token_manager import TokenManager
>>> TokenManager.from_settings().get_valid_access_token("LOCATION")
"""

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from token_refresh.base.program import Starting

with Starting(is_script=__name__ == "__main__"):  # up to here, any Python from 3.6 on can read this file
    from token_refresh import library
    from token_refresh.commands import main
    from token_refresh.library import (
        LoginAgainError,
        MisconfiguredError,
        NoSuchTokenError,
        RetryLaterError,
        SeveralTokensError,
        TokenError,
    )
    from token_refresh.terminal.process import collect_seldom, end

if TYPE_CHECKING:
    from token_refresh.library import AccessToken, AsyncTokenManager, TokenManager, TokenView

__all__ = [
    "AccessToken",
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
    """The managers, imported when a program wants them: cron's idle runs stay cheap."""
    return getattr(library, name)


def command() -> NoReturn:
    """The installed command `token-refresh`."""
    with Starting(is_script=True):
        collect_seldom()
        end(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
