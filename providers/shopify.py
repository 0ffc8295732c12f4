"""Shopify: a host for each shop, and a callback that is signed with the client secret.

Source: shopify.dev/docs/apps/build/authentication-authorization/access-tokens/authorization-code-grant.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from providers.base import Provider, ProviderError
from providers.login import Login

_DOMAIN = ".myshopify.com"
_SHOP = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Shopify(Provider):
    """See `Provider`. Every shop is below one domain, so a row may name any."""

    def is_supplied(self, template: str, params: Mapping[str, str]) -> bool:
        """See `Provider.is_supplied`. Only a plain label stays below the domain."""
        return super().is_supplied(template, params) and not (
            _DOMAIN in template and _SHOP.fullmatch(params.get("shop", "").lower())
        )


class ShopifyLogin(Login):
    """See `Login`."""

    def params_in_callback(self, callback: Mapping[str, str], client_secret: str) -> dict[str, str]:
        """See `Login.params_in_callback`. The signature is HMAC-SHA256 of the other members, sorted, in hexadecimal."""
        signed = urlencode(sorted((name, text) for name, text in callback.items() if name != "hmac"))
        wanted = hmac.new(client_secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted.encode(), callback.get("hmac", "").lower().encode()):
            raise ProviderError("the callback is not signed by Shopify (hmac)", "Log in again, from the address shown.")
        shop = callback.get("shop", "").lower().removesuffix(_DOMAIN)
        if not _SHOP.fullmatch(shop):
            raise ProviderError("the callback names no shop", "Log in again.")
        return {"shop": shop}
