"""Providers without refresh tokens, whose access token is traded for another one that lives longer.

What stands for the refresh token is the access token itself, as long as it lives. Sources:
developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived,
developers.facebook.com/docs/instagram-platform/reference/refresh_access_token,
developers.facebook.com/docs/threads/get-started/long-lived-tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from providers.base import Answer, Credential, Provider, RawAnswer, TokenRequest
from providers.by_words import ByWords


class LongLived(Provider):
    """See `Provider`."""

    grant_type: ClassVar[str]
    token_param: ClassVar[str]
    names_client: ClassVar[bool] = False

    def refresh_request(self, credential: Credential) -> TokenRequest:
        """The request that trades the token. Raises as `Provider.refresh_request` does."""
        endpoint = self.endpoint(credential.params)
        fields = {"grant_type": self.grant_type, self.token_param: credential.refresh_token}
        if self.names_client:
            fields |= {"client_id": credential.client_id, "client_secret": credential.client_secret}
        return replace(self.request(endpoint, fields, None), method="GET")

    def read_answer(self, raw: RawAnswer) -> Answer:
        """See `Provider.read_answer`. The new access token is what is traded the next time."""
        answer = super().read_answer(raw)
        return replace(answer, refresh_token=answer.access_token, refresh_expires_at=answer.expires_at)


class Meta(ByWords, LongLived):
    """Facebook's: also trades the short-lived token of a login.

    A wrong client shows in the words alone: the code beside them may be 1 or 190, which mean other things elsewhere, as
    public programs note that met them.
    """

    dead, client = (), ("error validating client secret", "error validating application")
    grant_type, token_param, names_client = "fb_exchange_token", "fb_exchange_token", True


class ShortLived(LongLived):
    """Where a login brings a token of an hour, which another request trades for one of sixty days."""

    login_grant_type: ClassVar[str]

    def trade_request(self, credential: Credential, answer: Answer) -> TokenRequest:
        """The request that trades the token of a login. Raises as `Provider.endpoint` does."""
        endpoint = self.endpoint(credential.params)
        fields = {
            "grant_type": self.login_grant_type,
            "client_secret": credential.client_secret,
            "access_token": answer.access_token or "",
        }
        url = endpoint.url.replace("/refresh_access_token", "/access_token")
        return replace(self.request(replace(endpoint, url=url), fields, None), method="GET")


class Instagram(ShortLived):
    """Instagram's: the token must be a day old."""

    grant_type, login_grant_type, token_param = "ig_refresh_token", "ig_exchange_token", "access_token"


class Threads(ShortLived):
    """Threads': as Instagram's."""

    grant_type, login_grant_type, token_param = "th_refresh_token", "th_exchange_token", "access_token"
