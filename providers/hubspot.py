"""HubSpot: answers in two spellings, errors as objects of its own.

Source: developers.hubspot.com, reference of the OAuth token endpoint; its samples show camelCase, the live answer is
snake_case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import Provider, Verdict

_DEAD = ("BAD_REFRESH_TOKEN",)
_CLIENT = ("BAD_CLIENT_ID", "BAD_CLIENT_SECRET")


class HubSpot(Provider):
    """See `Provider`. Refresh tokens stay the same until the app is uninstalled."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`."""
        if content.get("status") in _DEAD:
            return Verdict.DEAD_GRANT
        if content.get("status") in _CLIENT:
            return Verdict.CLIENT_REFUSED
        return super().judge(status, content)

    def describe(self, content: Mapping[str, Any]) -> str:
        """See `Provider.describe`. Its `status` is a code in words, such as BAD_REFRESH_TOKEN."""
        words = [content.get("status"), super().describe(content)]
        return ": ".join(word for word in words if isinstance(word, str) and word)
