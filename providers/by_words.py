"""Providers that say in words what others say by a code.

Sources: dev.twitch.tv/docs/authentication/refresh-tokens, developers.strava.com/docs/authentication, and what was
quoted of their answers: for X at devcommunity.x.com, for Bitbucket in readthedocs/readthedocs.org#2992.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import Provider, Verdict


class ByWords(Provider):
    """See `Provider`. `dead` and `client` are parts of what is said, in lower case."""

    dead: ClassVar[tuple[str, ...]]
    client: ClassVar[tuple[str, ...]] = ()

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`."""
        words = self.describe(content).lower()
        if any(part in words for part in self.dead):
            return Verdict.DEAD_GRANT
        if any(part in words for part in self.client):
            return Verdict.CLIENT_REFUSED
        return super().judge(status, content)


class Bitbucket(ByWords):
    """Bitbucket's, whose code for a dead refresh token is `invalid_request`."""

    dead = ("invalid refresh_token",)


class Twitch(ByWords):
    """Twitch's."""

    dead = ("invalid refresh token",)
    client = ("invalid client",)


class XTwitter(ByWords):
    """X's."""

    dead = ("value passed for the token was invalid",)


class Strava(ByWords):
    """Strava's: the words are names of what was refused, in `errors`."""

    dead = ("refreshtoken refresh_token invalid",)
    client = ("application client_id invalid", "application client_secret invalid")

    def describe(self, content: Mapping[str, Any]) -> str:
        """See `Provider.describe`."""
        errors = content.get("errors")
        named = [one for one in errors if isinstance(one, Mapping)] if isinstance(errors, list) else []
        parts = [" ".join(str(one.get(name, "")) for name in ("resource", "field", "code")) for one in named]
        return ": ".join([super().describe(content), *parts])
