"""Atlassian Cloud: a wrong client secret looks like a user who said no, a dead token like a wrong client.

Source: developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import Provider, Verdict, error_code

_DEAD = "refresh_token is invalid"


class Atlassian(Provider):
    """See `Provider`. For ten minutes after a refresh the old pair still works, so a lost answer can be repeated."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`."""
        description = content.get("error_description")
        is_dead = isinstance(description, str) and _DEAD in description.lower()
        if is_dead and error_code(content) == "unauthorized_client":
            return Verdict.DEAD_GRANT
        return super().judge(status, content)
