"""Zoom: errors come as `reason` and `error`, or as a number in the 4700 range.

Source: developers.zoom.us/docs/integrations/oauth-error-messages. Seen in the field rather than documented: the
members `errorCode` and `errorMessage` around a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import Provider, Verdict

_CLIENT = (4702, 4704, 4706, 4717)  # client id or secret wrong or missing, or the whole app disabled
_ROW = (4705, 4709)  # grant type, redirect URI
_NO_EVIDENCE = (4700, 4724, 4732)  # "a catch all for unexpected errors"; another grant type's; a service that is down
_TOKEN_NUMBERS = range(4700, 4800)
_NUMBER_MEMBERS = ("code", "error_code", "errorCode", "error")
_WORD_MEMBERS = ("reason", "errorMessage", "message")
_INVALID_TOKEN = "invalid token"  # noqa: S105 - what Zoom says of a dead refresh token, as `invalid_request`


class Zoom(Provider):
    """See `Provider`."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`."""
        number = _number(content)
        if number in _CLIENT:
            return Verdict.CLIENT_REFUSED
        if number in _ROW:
            return Verdict.REQUEST_REFUSED
        if number in _NO_EVIDENCE:
            return Verdict.UNCLEAR
        if number in _TOKEN_NUMBERS or _words(content).lower().startswith(_INVALID_TOKEN):
            return Verdict.DEAD_GRANT
        return super().judge(status, content)

    def describe(self, content: Mapping[str, Any]) -> str:
        """See `Provider.describe`."""
        number = _number(content)
        return ": ".join(filter(None, [str(number) if number else "", super().describe(content)]))


def _number(content: Mapping[str, Any]) -> int:
    """Zoom's own number, 0 where there is none; other numbers, such as the HTTP status, are none."""
    named = {str(content.get(name)) for name in _NUMBER_MEMBERS}
    return next((number for number in _TOKEN_NUMBERS if str(number) in named), 0)


def _words(content: Mapping[str, Any]) -> str:
    found = (content.get(name) for name in _WORD_MEMBERS)
    return next((words.strip() for words in found if isinstance(words, str) and words.strip()), "")
