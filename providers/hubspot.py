"""HubSpot: answers in two spellings, errors as objects of its own.

Source: developers.hubspot.com, reference of the OAuth token endpoint; its samples show camelCase, the live answer is
snake_case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import SERVER_ERROR, TOO_MANY_REQUESTS, Provider, Verdict

_DEAD = ("BAD_REFRESH_TOKEN",)
_CLIENT = ("BAD_CLIENT_ID", "BAD_CLIENT_SECRET")


class HubSpot(Provider):
    """See `Provider`. Refresh tokens stay the same until the app is uninstalled."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict:
        """See `Provider.judge`."""
        if status < SERVER_ERROR and status != TOO_MANY_REQUESTS:
            if content.get("status") in _DEAD:
                return Verdict.DEAD_GRANT
            if content.get("status") in _CLIENT:
                return Verdict.CLIENT_REFUSED
        return super().judge(status, content)

    def describe(self, status: int, content: Mapping[str, Any]) -> str:
        """See `Provider.describe`."""
        words = [content.get("status"), content.get("message")]
        said = ", ".join(word for word in words if isinstance(word, str) and word)
        return super().describe(status, content) + (f", {said}" if said else "")
