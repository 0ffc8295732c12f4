"""The registry of providers: `catalog.toml`, the user's own file, and what the settings override."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from providers.atlassian import Atlassian
from providers.base import (
    LONGEST_LIFETIME_SECONDS,
    Endpoint,
    ErrorCodes,
    Provider,
    ProviderError,
    origin_of,
    placeholders_in,
)
from providers.exact_online import ExactOnline
from providers.gohighlevel import GoHighLevel
from providers.hubspot import HubSpot
from providers.microsoft import Microsoft
from providers.zoom import Zoom
from token_refresh.base.errors import ActionableError, Kind

CATALOG_FILE = Path(__file__).with_name("catalog.toml")

# A provider whose quirk data cannot say. Everyone else is a plain `Provider`.
QUIRKS: Mapping[str, type[Provider]] = {
    "atlassian": Atlassian,
    "exact-online": ExactOnline,
    "gohighlevel": GoHighLevel,
    "hubspot": HubSpot,
    "microsoft": Microsoft,
    "zoom": Zoom,
}

_KINDS: Mapping[str, type] = {
    "name": str, "token_url": str, "authorize_url": str, "revoke_url": str, "introspect_url": str,
    "auth": str, "encoding": str, "params": dict, "placeholders": dict, "rotates": str, "replay": str,
    "lifetime": int, "earliest": int, "former_origins": list, "doubtful_refusals": bool, "errors": dict, "docs": str,
}  # fmt: skip
_CHOICES = {
    "auth": ("body", "basic", "none"),
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


class Override(Protocol):
    """What settings may say of a provider; None where they say nothing."""

    @property
    def token_url(self) -> str | None: ...

    @property
    def authorize_url(self) -> str | None: ...

    @property
    def scope(self) -> str | None: ...


class CatalogError(ActionableError):
    """A catalogue cannot be used."""

    kind = Kind.CONFIGURATION


class Catalog:
    """Every known provider by its slug.

    Args:
        own_file: more providers in the format of `catalog.toml`; an entry replaces the built-in one of its slug.
        overrides: addresses from the settings, by slug in upper case with `_` for `-`.

    Raises:
        CatalogError: an entry or an override cannot be used.
    """

    def __init__(self, own_file: Path | None = None, overrides: Mapping[str, Override] | None = None) -> None:
        tables = _tables(CATALOG_FILE)
        if own_file is not None:
            tables |= _tables(own_file)
        self._providers = {slug: _provider(slug, table) for slug, table in tables.items()}
        for slug, provider in self._providers.items():
            override = (overrides or {}).get(slug.upper().replace("-", "_"))
            if override is not None:
                self._providers[slug] = _overridden(provider, override)

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._providers.values())

    def get(self, slug: str) -> Provider:
        """The provider of that name.

        Raises:
            ProviderError: there is none; the message quotes the name.
        """
        if slug in self._providers:
            return self._providers[slug]
        near = difflib.get_close_matches(slug.lower(), self._providers, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(self._providers))}."
        raise ProviderError(
            f"there is no provider {slug[:60]!r}", f"{hint} One of your own goes into PROVIDERS_FILE.", Kind.USAGE
        )


def _overridden(provider: Provider, override: Override) -> Provider:
    named = dict.fromkeys(placeholders_in(override.token_url or "")) | dict(provider.placeholders)
    if override.scope and "scope" in named:
        named["scope"] = override.scope
    changed = dataclasses.replace(
        provider,
        placeholders=named,
        token_url=override.token_url or provider.token_url,
        authorize_url=override.authorize_url or provider.authorize_url,
        revoke_url=_unmoved(provider.revoke_url, provider, override.token_url),
        introspect_url=_unmoved(provider.introspect_url, provider, override.token_url),
    )
    _check_address(changed.slug, changed)
    return changed


def _unmoved(address: str | None, provider: Provider, token_url: str | None) -> str | None:
    """An endpoint that is sent tokens; None where the token endpoint was moved away from its host.

    Who moves the token endpoint does not want the tokens to go to the old host for their revocation.
    """
    moved = token_url is not None and _host(token_url) != _host(provider.token_url)
    return None if moved and _host(address) != _host(token_url) else address


def _host(template: str | None) -> str:
    return (template or "").partition("://")[2].partition("/")[0].lower()


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CatalogError(f"{path} cannot be read ({error.strerror})", "Correct PROVIDERS_FILE.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not TOML: {error}", "Correct that place.") from None


def _provider(slug: str, table: Any) -> Provider:
    if not isinstance(table, dict) or "token_url" not in table:
        raise CatalogError(f"Provider {slug}: token_url is missing", f"Write [{slug}] and token_url below it.")
    for key, value in table.items():
        _check_key(slug, key, value)
    values = {**table, "slug": slug, "name": table.get("name", slug)}
    values["former_origins"] = tuple(table.get("former_origins", ()))
    errors = {kind: frozenset(codes) for kind, codes in values.pop("errors", {}).items()}
    placeholders = table.get("placeholders", {})
    named = {**_needed(table), **placeholders}
    provider = QUIRKS.get(slug, Provider)(**{**values, "placeholders": named, "error_codes": ErrorCodes(**errors)})
    _check_address(slug, provider)
    return provider


def _needed(table: Mapping[str, Any]) -> dict[str, None]:
    """Placeholders that stand in an address or parameter and have no default: the row must name them."""
    addresses = [table[key] for key in _ADDRESSES if key in table]
    return {name: None for text in (*addresses, *table.get("params", {}).values()) for name in placeholders_in(text)}


def _check_key(slug: str, key: str, value: Any) -> None:
    if key not in _KINDS:
        raise CatalogError(f"Provider {slug}: there is no key {key}", f"Use {', '.join(_KINDS)}.")
    is_of_its_kind = isinstance(value, _KINDS[key]) and isinstance(value, bool) == (_KINDS[key] is bool)
    if not is_of_its_kind:
        raise CatalogError(f"Provider {slug}: {key} has the wrong type", f"Write {_SHAPES[_KINDS[key]]}.")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise CatalogError(f"Provider {slug}: {key} is {value!r}", f"Use {', '.join(_CHOICES[key])}.")
    if isinstance(value, int) and not 0 <= value <= LONGEST_LIFETIME_SECONDS:
        raise CatalogError(f"Provider {slug}: {key} is out of range", "Write seconds, from 0 to ten years.")
    if key == "errors":
        _check_errors(slug, value)
    texts = value.values() if key in ("params", "placeholders") else value if key == "former_origins" else ()
    if not all(isinstance(text, str) for text in texts):
        raise CatalogError(f"Provider {slug}: {key} holds something that is not text", "Put it in quotes.")


def _check_errors(slug: str, errors: Mapping[str, Any]) -> None:
    for kind, codes in errors.items():
        if kind not in _ERROR_KINDS:
            raise CatalogError(f"Provider {slug}: errors has no kind {kind}", f"Use {', '.join(_ERROR_KINDS)}.")
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise CatalogError(f"Provider {slug}: errors, {kind}, is no list of codes", f'Write {kind} = ["code"].')


def _check_address(slug: str, provider: Provider) -> None:
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


__all__ = ["Catalog", "CatalogError", "Endpoint", "Override", "Provider", "ProviderError", "origin_of"]
