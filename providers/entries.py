"""From an entry of the catalogue to a provider: every key is checked, and a mistake is a sentence that names it."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from datetime import date
from typing import Any, TypeVar

from providers.addresses import CLIENT_ID, origin_of, placeholders_in
from providers.base import ErrorCodes, Provider, ProviderError
from providers.login import Login, Revocation
from providers.times import LONGEST_LIFETIME_SECONDS
from token_refresh.base.errors import Kind

# Module and class of each provider whose quirk data cannot say; everyone else is a plain `Provider`. They are listed
# here by slug: an entry is data alone, so that no PROVIDERS_FILE can name code, and a plain provider needs no line.
# A module is imported when its provider is met.
QUIRKS: Mapping[str, tuple[str, str]] = {
    "atlassian": ("providers.atlassian", "Atlassian"),
    "bitbucket": ("providers.by_words", "Bitbucket"),
    "exact-online": ("providers.exact_online", "ExactOnline"),
    "gohighlevel": ("providers.gohighlevel", "GoHighLevel"),
    "hubspot": ("providers.hubspot", "HubSpot"),
    "instagram": ("providers.long_lived", "Instagram"),
    "meta": ("providers.long_lived", "Meta"),
    "microsoft": ("providers.microsoft", "Microsoft"),
    "monday": ("providers.monday", "Monday"),
    "shopify": ("providers.shopify", "Shopify"),
    "strava": ("providers.by_words", "Strava"),
    "threads": ("providers.long_lived", "Threads"),
    "twitch": ("providers.by_words", "Twitch"),
    "x-twitter": ("providers.by_words", "XTwitter"),
    "zoho": ("providers.zoho", "Zoho"),
    "zoom": ("providers.zoom", "Zoom"),
}
# The same of logins.
LOGINS: Mapping[str, tuple[str, str]] = {
    "gohighlevel": ("providers.gohighlevel", "GoHighLevelLogin"),
    "shopify": ("providers.shopify", "ShopifyLogin"),
    "zoho": ("providers.zoho", "ZohoLogin"),
}
_T = TypeVar("_T", Provider, Login)

KEYS: Mapping[str, type] = {
    "name": str, "aliases": list, "token_url": str, "refresh_url": str, "authorize_url": str, "revoke_url": str,
    "introspect_url": str, "device_url": str, "grant": str, "auth": str, "encoding": str, "client_id_param": str,
    "params": dict, "placeholders": dict, "rotates": str, "replay": str, "replay_window": int, "lifetime": int,
    "refresh_lifetime": int, "refresh_ends_anyway": int, "secret_lifetime": int, "earliest": int,
    "former_origins": list, "unreliable_invalid_grant": bool, "errors": dict, "revoke_token": str, "revoke_param": str,
    "revoke_auth": str, "revoke_encoding": str, "revoke_method": str, "revoke_ends": bool,
    "authorize_client_id_param": str, "authorize_params": dict, "code_params": dict, "code_param": str,
    "exchange_code_param": str, "scopes": list, "scope_separator": str,
    "scope_prefix": str, "refresh_setting": str, "pkce": str, "redirect": str, "any_port": bool, "issuer": str,
    "iss_required": bool, "account": str, "account_is_location": bool, "callback_hosts": list,
    "client_id_pattern": str, "docs": str, "app_steps": list, "checked": date, "unsure": list,
}  # fmt: skip
_FORMER_NAMES = {"doubtful_refusals": "unreliable_invalid_grant"}
_CHOICES = {
    "grant": ("refresh_token", "exchange", "none"),
    "auth": ("body", "basic", "basic_plain", "basic_secret", "none"),
    "encoding": ("form", "json"),
    "rotates": ("always", "sometimes", "never"),
    "replay": ("safe", "once", "last_minute"),
    "revoke_token": ("refresh", "access", "both"),
    "revoke_auth": ("client", "body", "basic", "bearer", "secret", "none"),
    "revoke_encoding": ("form", "json"),
    "revoke_method": ("POST", "DELETE"),
    "pkce": ("required", "supported", "none", "unknown"),
    "redirect": ("127.0.0.1", "localhost", "https", "name", "unknown"),
}
_SHAPES = {
    str: "a text in quotes", int: "a whole number", bool: "true or false", dict: "a table in braces",
    list: "a list in brackets", date: "a date, such as 2026-11-28",
}  # fmt: skip
_ADDRESSES = ("token_url", "refresh_url", "authorize_url", "revoke_url", "introspect_url", "device_url")
_FILLED = ("params", "authorize_params", "code_params")  # tables that may hold placeholders
_FOR_BROWSERS = ("authorize_url",)  # only opened, and some providers want a query there
_ERROR_KINDS = tuple(entry.name for entry in dataclasses.fields(ErrorCodes))
_OF_REVOCATION = {f"revoke_{entry.name}": entry.name for entry in dataclasses.fields(Revocation)}
_OF_LOGIN = frozenset(entry.name for entry in dataclasses.fields(Login))
_PLACE = r"(?:answer(?:\.\w+)+|callback\.[\w-]+)"
_KEPT = frozenset({"account", "first_account", "login_at", "secret_ends"})  # what a row keeps of its login and client
_ACCOUNT = re.compile(rf"{_PLACE}(?:\|{_PLACE})*")


class CatalogError(ProviderError):
    """An entry of the catalogue, or what the settings say of it, cannot be used."""

    kind = Kind.CONFIGURATION


def make_provider(slug: str, table: Any) -> Provider:
    """The provider that a table of the catalogue describes.

    Raises:
        CatalogError: the table cannot be used.
    """
    if not isinstance(table, dict) or "token_url" not in table:
        raise CatalogError(f"Provider {slug}: token_url is missing", f"Write [{slug}] and token_url below it.")
    for key, value in table.items():
        _check_key(slug, key, value)
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    placeholders = {**_needed(table), **table.get("placeholders", {})}
    for name in _KEPT & placeholders.keys():
        raise CatalogError(f"Provider {slug}: a row keeps something else as {name}", "Call the placeholder otherwise.")
    errors = {kind: frozenset(codes) for kind, codes in table.get("errors", {}).items()}
    of_login: dict[str, Any] = {key: value for key, value in frozen.items() if key in _OF_LOGIN}
    of_revocation: dict[str, Any] = {
        _OF_REVOCATION[key]: value for key, value in table.items() if key in _OF_REVOCATION
    }
    login = _class_of(slug, LOGINS, Login)(**of_login)
    values = {
        key: value
        for key, value in frozen.items()
        if not (key in _OF_LOGIN or key in _OF_REVOCATION or key == "errors")
    } | {
        "slug": slug,
        "name": table.get("name", slug),
        "placeholders": placeholders,
        "error_codes": ErrorCodes(**errors),
        "login": login,
        "revocation": Revocation(**of_revocation),
    }
    provider = _class_of(slug, QUIRKS, Provider)(**values)
    check_addresses(provider)
    return provider


def _class_of(slug: str, quirks: Mapping[str, tuple[str, str]], usual: type[_T]) -> type[_T]:
    if slug not in quirks:
        return usual
    module, name = quirks[slug]
    quirk: type[_T] = getattr(importlib.import_module(module), name)
    return quirk


def _needed(table: Mapping[str, Any]) -> dict[str, None]:
    """Placeholders that stand in an address or parameter and have no default: the row must name them."""
    texts = [table[key] for key in (*_ADDRESSES, "issuer") if key in table]
    texts += [text for key in _FILLED for text in table.get(key, {}).values()]
    return {name: None for text in texts for name in placeholders_in(text) if name != CLIENT_ID}


def _check_key(slug: str, key: str, value: Any) -> None:
    if key in _FORMER_NAMES:
        raise CatalogError(f"Provider {slug}: {key} is called {_FORMER_NAMES[key]} now", "Rename the key.")
    if key not in KEYS:
        raise CatalogError(f"Provider {slug}: there is no key {key}", f"Use {', '.join(KEYS)}.")
    is_of_its_kind = isinstance(value, KEYS[key]) and isinstance(value, bool) == (KEYS[key] is bool)
    if not is_of_its_kind:
        raise CatalogError(f"Provider {slug}: {key} has the wrong type", f"Write {_SHAPES[KEYS[key]]}.")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise CatalogError(f"Provider {slug}: {key} is {value!r}", f"Use {', '.join(_CHOICES[key])}.")
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= LONGEST_LIFETIME_SECONDS:
        raise CatalogError(f"Provider {slug}: {key} is out of range", "Write seconds, from 0 to ten years.")
    if key == "errors":
        _check_errors(slug, value)
    else:
        _check_texts(slug, key, value)
    if key == "account" and not _ACCOUNT.fullmatch(value):
        raise CatalogError(f"Provider {slug}: account is {value!r}", "Write answer.PATH or callback.NAME.")
    if key == "client_id_pattern":
        _check_pattern(slug, value)


def _check_pattern(slug: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise CatalogError(f"Provider {slug}: client_id_pattern: {error}", "Correct the pattern.") from None


def _check_texts(slug: str, key: str, value: Any) -> None:
    """What a table or list holds."""
    texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not all(isinstance(text, str) for text in texts):
        raise CatalogError(f"Provider {slug}: {key} holds something that is not text", "Put it in quotes.")


def _check_errors(slug: str, errors: Mapping[str, Any]) -> None:
    for kind, codes in errors.items():
        if kind not in _ERROR_KINDS:
            raise CatalogError(f"Provider {slug}: errors has no kind {kind}", f"Use {', '.join(_ERROR_KINDS)}.")
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise CatalogError(f"Provider {slug}: errors, {kind}, is no list of codes", f'Write {kind} = ["code"].')


def check_addresses(provider: Provider) -> None:
    """Whether every address can be filled in and used.

    Raises:
        CatalogError: one cannot.
    """
    slug = provider.slug
    filled = {name: default or "placeholder" for name, default in provider.placeholders.items()}
    provider = dataclasses.replace(provider, placeholders={**provider.placeholders, CLIENT_ID: "client"})
    for key in _ADDRESSES:
        url = getattr(provider, key)
        if url is None:
            continue
        if key in _FOR_BROWSERS:
            url = url.partition("?")[0]
        try:
            dataclasses.replace(provider, token_url=url).endpoint(filled)
        except ProviderError as error:
            raise CatalogError(f"Provider {slug}: {key}: {error}", "Write https://HOST/PATH.") from None
    for origin in provider.former_origins:
        if not _is_origin(origin):
            raise CatalogError(f"Provider {slug}: former_origins: {origin!r} is none", "Write https://HOST.")


def _is_origin(text: str) -> bool:
    try:
        return origin_of(text) == text
    except ProviderError:
        return False
