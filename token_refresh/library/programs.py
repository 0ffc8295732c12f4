"""What `token_manager.py` gives to programs: the manager, made from the same settings as the command line."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import crypto
from token_refresh import settings as configuration
from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import (
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    SeveralTokensError,
    TokenError,
    capture_error,
    unwrap,
)
from token_refresh.library import async_manager, manager
from token_refresh.library.manager import TokenView
from token_refresh.wiring import assemble, workshop

_LOG = logging.getLogger("token_refresh")


class TokenManager(manager.TokenManager):
    """See `token_refresh.library.manager.TokenManager`."""

    @classmethod
    def from_settings(cls, environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> TokenManager:
        """From the environment and `.env`, like the command line. The environment is left as it is.

        Raises:
            MisconfiguredError: with all problems at once; nothing was called yet.
        """
        values = dict(os.environ) if environ is None else environ
        return unwrap(capture_error(lambda: cls._made(values, clock or SystemClock())))

    @classmethod
    def _made(cls, environ: Mapping[str, str], clock: Clock) -> TokenManager:
        settings = configuration.load(environ, crypto.parse_key)
        parts = workshop(assemble(settings, clock))
        for warning in settings.warnings:
            _LOG.warning("%s", warning)
        return cls(parts)


class AsyncTokenManager(async_manager.AsyncTokenManager):
    """See `token_refresh.library.async_manager.AsyncTokenManager`."""

    @classmethod
    def from_settings(cls, environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> AsyncTokenManager:
        """See `TokenManager.from_settings`."""
        return cls(TokenManager.from_settings(environ, clock))


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
]
