"""From an entry of the catalogue to a provider: every key is checked, and a mistake is a sentence that names it."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from providers.addresses import origin_of, placeholders_in
from providers.base import ErrorCodes, Provider, ProviderError
from providers.times import LONGEST_LIFETIME_SECONDS
from token_refresh.base.errors import Kind

# Module and class of each provider whose quirk data cannot say; everyone else is a plain `Provider`. They are listed
# here by slug: an entry is data alone, so that no PROVIDERS_FILE can name code, and a plain provider needs no line.
# A module is imported when its provider is met.
QUIRKS: Mapping[str, tuple[str, str]] = {
    "atlassian": ("providers.atlassian", "Atlassian"),
    "exact-online": ("providers.exact_online", "ExactOnline"),
    "gohighlevel": ("providers.gohighlevel", "GoHighLevel"),
    "hubspot": ("providers.hubspot", "HubSpot"),
    "microsoft": ("providers.microsoft", "Microsoft"),
    "zoom": ("providers.zoom", "Zoom"),
}

KEYS: Mapping[str, type] = {
    "name": str, "aliases": list, "token_url": str, "authorize_url": str, "revoke_url": str, "introspect_url": str,
    "auth": str, "encoding": str, "params": dict, "placeholders": dict, "rotates": str, "replay": str, "lifetime": int,
    "earliest": int, "former_origins": list, "unreliable_invalid_grant": bool, "errors": dict, "docs": str,
}  # fmt: skip
_FORMER_NAMES = {"doubtful_refusals": "unreliable_invalid_grant"}
_CHOICES = {
    "auth": ("body", "basic", "basic_plain", "none"),
    "encoding": ("form", "json"),
    "rotates": ("always", "sometimes", "never"),
    "replay": ("safe", "once", "last_minute"),
}
_SHAPES = {
    str: "a text in quotes", int: "a whole number", bool: "true or false", dict: "a table in braces",
    list: "a list in brackets",
}  # fmt: skip
_ADDRESSES = ("token_url", "authorize_url", "revoke_url", "introspect_url")
_ERROR_KINDS = tuple(entry.name for entry in dataclasses.fields(ErrorCodes))


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
    errors = {kind: frozenset(codes) for kind, codes in table.get("errors", {}).items()}
    values = {key: value for key, value in table.items() if key != "errors"} | {
        "slug": slug,
        "name": table.get("name", slug),
        "aliases": tuple(table.get("aliases", ())),
        "former_origins": tuple(table.get("former_origins", ())),
        "placeholders": {**_needed(table), **table.get("placeholders", {})},
        "error_codes": ErrorCodes(**errors),
    }
    provider = _class_of(slug)(**values)
    check_addresses(provider)
    return provider


def _class_of(slug: str) -> type[Provider]:
    if slug not in QUIRKS:
        return Provider
    module, name = QUIRKS[slug]
    quirk: type[Provider] = getattr(importlib.import_module(module), name)
    return quirk


def _needed(table: Mapping[str, Any]) -> dict[str, None]:
    """Placeholders that stand in an address or parameter and have no default: the row must name them."""
    addresses = [table[key] for key in _ADDRESSES if key in table]
    return {name: None for text in (*addresses, *table.get("params", {}).values()) for name in placeholders_in(text)}


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
    if isinstance(value, int) and not 0 <= value <= LONGEST_LIFETIME_SECONDS:
        raise CatalogError(f"Provider {slug}: {key} is out of range", "Write seconds, from 0 to ten years.")
    if key == "errors":
        _check_errors(slug, value)
    else:
        _check_texts(slug, key, value)


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
    for key in _ADDRESSES:
        url = getattr(provider, key)
        if url is None:
            continue
        if key == "authorize_url":  # only opened in a browser, and some providers want a query there
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
