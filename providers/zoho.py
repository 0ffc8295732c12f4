"""Zoho: a data centre of its own for each account, which only the callback of a login names.

Source: www.zoho.com/accounts/protocol/oauth/multi-dc.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from providers.base import Provider, ProviderError
from providers.login import Login

_PARAM = "accounts_server"


class Zoho(Provider):
    """See `Provider`. The hosts of all data centres are known, so a row may name any of them."""

    def is_supplied(self, template: str, params: Mapping[str, str]) -> bool:
        """See `Provider.is_supplied`."""
        return super().is_supplied(template, params) and params.get(_PARAM) not in self.login.callback_hosts


class ZohoLogin(Login):
    """See `Login`."""

    def params_in_callback(self, callback: Mapping[str, str], client_secret: str) -> dict[str, str]:  # noqa: ARG002
        """See `Login.params_in_callback`."""
        named = callback.get("accounts-server", "")
        host = urlsplit(named).hostname if "://" in named else named
        if not host:
            return {}
        if host not in self.callback_hosts:
            raise ProviderError("the callback names a data centre that is not Zoho's", "Log in again.")
        return {_PARAM: host}
