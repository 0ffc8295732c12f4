"""Zoom: errors come as `reason` and `error`, or as a number in the 4700 range.

Source: developers.zoom.us/docs/integrations/oauth; the numbers are from field reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import SERVER_ERROR, TOO_MANY_REQUESTS, Provider, Verdict

_CLIENT = (4702, 4704, 4706)  # client id or secret wrong or missing
_GRANT_TYPE = 4705
_TOKEN_NUMBERS = range(4700, 4800)
_INVALID_TOKEN = "invalid token"  # noqa: S105 - what Zoom says of a dead refresh token, as `invalid_request`


class Zoom(Provider):
    """See `Provider`."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict:
        """See `Provider.judge`."""
        if status >= SERVER_ERROR or status == TOO_MANY_REQUESTS:
            return super().judge(status, content)
        number = _number(content)
        if number in _CLIENT:
            return Verdict.CLIENT_REFUSED
        if number == _GRANT_TYPE:
            return Verdict.REQUEST_REFUSED
        if number in _TOKEN_NUMBERS or _reason(content).lower().startswith(_INVALID_TOKEN):
            return Verdict.DEAD_GRANT
        return super().judge(status, content)

    def describe(self, status: int, content: Mapping[str, Any]) -> str:
        """See `Provider.describe`."""
        reason = _reason(content)
        return super().describe(status, content) + (f", {reason}" if reason else "")


def _number(content: Mapping[str, Any]) -> int:
    for name in ("code", "error_code", "errorCode", "error"):
        value = content.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == len("4700"):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0


def _reason(content: Mapping[str, Any]) -> str:
    reason = content.get("reason")
    return reason.strip() if isinstance(reason, str) else ""
