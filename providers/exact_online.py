"""Exact Online: a refresh that comes early is refused, and the words tell which refusal it is.

An access token lives ten minutes, and a new one is given only in the last thirty seconds of it.
Source: support.exactonline.com, "OAuth 2.0 in Exact Online"; error texts from field reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import Provider, Verdict

_TOO_EARLY = "access_token not expired"
_USED = "old refresh token used"


class ExactOnline(Provider):
    """See `Provider`."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`."""
        words = " ".join(value for value in content.values() if isinstance(value, str)).lower()
        if _TOO_EARLY in words:
            return Verdict.NOT_ACTED
        if _USED in words:
            return Verdict.DEAD_GRANT
        return super().judge(status, content)
