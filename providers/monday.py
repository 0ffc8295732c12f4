"""monday.com: its answers do not say when an access token ends, but the token itself does: a JWT with `exp`.

Source: developer.monday.com/apps/docs/oauth-2-1, and mondaycom's own guide for a migration (skill
monday-oauth-migrate): "Decode the JWT access token and check the `exp` (expiration) claim".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.base import Answer, Provider, RawAnswer
from providers.times import access_end


class Monday(Provider):
    """See `Provider`."""

    def read_answer(self, raw: RawAnswer) -> Answer:
        """See `Provider.read_answer`. The end that the token names counts where the answer names none."""
        answer = super().read_answer(raw)
        if answer.access_token is None or not answer.is_expiry_assumed:
            return answer
        said = {"expires_at": claims_of(answer.access_token).get("exp")}
        end = access_end(said, raw.received_at, self.longest_lifetime)
        return answer if end.at is None else replace(answer, expires_at=end.at, is_expiry_assumed=False)


def claims_of(token: str) -> Mapping[str, Any]:
    """The claims of a JWT (RFC 7519 section 7.2), unverified: to be believed of one's own token alone. Empty: none."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
