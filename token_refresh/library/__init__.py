"""What programs import: valid tokens, logins stored, runs without cron. See docs/library.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from token_refresh.base.errors import (
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    SeveralTokensError,
    TokenError,
)

if TYPE_CHECKING:
    from token_refresh.clients.row_login import LoginBegun
    from token_refresh.library.async_manager import AsyncTokenManager
    from token_refresh.library.manager import TokenManager
    from token_refresh.library.views import AccessToken, TokenView

__all__ = [
    "AccessToken",
    "AsyncTokenManager",
    "LoginAgainError",
    "LoginBegun",
    "MisconfiguredError",
    "NoSuchTokenError",
    "RetryLaterError",
    "SeveralTokensError",
    "TokenError",
    "TokenManager",
    "TokenView",
]
_MODULES = {
    "AccessToken": f"{__name__}.views",
    "AsyncTokenManager": f"{__name__}.async_manager",
    "LoginBegun": "token_refresh.clients.row_login",
    "TokenManager": f"{__name__}.manager",
    "TokenView": f"{__name__}.views",
}


def __getattr__(name: str) -> Any:
    """The managers, imported when a program wants them: a module of this room that cron needs stays cheap."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
