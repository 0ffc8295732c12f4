"""The registry of providers: the built-in catalogue, the user's own file, and what the settings override."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from providers.addresses import CLIENT_ID, placeholders_in
from providers.base import Provider, ProviderError, ProviderSummary
from providers.entries import CatalogError, check_addresses, make_provider
from providers.index import read_index
from token_refresh.base.errors import Kind

_HOST_PARTS = 3  # of an address, between slashes: `https:`, nothing, the host
_SIBLINGS = ("refresh_url", "revoke_url", "introspect_url", "device_url")
CATALOG_FOLDER = Path(__file__).with_name("catalog")  # a file a provider: SLUG.toml


class Override(Protocol):
    """What settings may say of a provider; None where they say nothing."""

    @property
    def token_url(self) -> str | None: ...

    @property
    def authorize_url(self) -> str | None: ...

    @property
    def scope(self) -> str | None: ...


class Catalog:
    """Every known provider. A built-in one is read when somebody asks for it; the index tells what there is.

    Args:
        own_file: more providers, a table each, named by its slug; an entry replaces the built-in one of its slug.
        overrides: addresses from the settings, by any of the provider's names.

    Attributes:
        summaries: what is known of each provider without reading its file, by slug.

    Raises:
        CatalogError: an entry of `own_file` or an override cannot be used.
    """

    def __init__(self, own_file: Path | None = None, overrides: Mapping[str, Override] | None = None) -> None:
        own = _read_toml(own_file, str(own_file), "Correct PROVIDERS_FILE.") if own_file is not None else {}
        self._read = {slug: make_provider(slug, table) for slug, table in own.items()}
        self.summaries: Mapping[str, ProviderSummary] = {**read_index(), **self._read}
        for slug, override in self._by_slug(overrides or {}).items():
            if override.token_url or override.authorize_url or override.scope:
                self._read[slug] = _overridden(self.get(slug), override)

    def get(self, name: str) -> Provider:
        """The provider of that name, in whatever spelling.

        Raises:
            ProviderError: there is none, the message quotes the name; or its entry cannot be used.
        """
        slug = self.slug_of(name)
        if slug is None:
            raise self._unknown(name)
        if slug not in self._read:
            self._read[slug] = _read_entry(slug)
        return self._read[slug]

    def slug_of(self, name: str) -> str | None:
        """The slug that a name means, None where it means none.

        Names are slugs, the names for people and aliases, compared without case, blanks and signs.
        """
        return name if name in self.summaries else self._slugs.get(_key(name))

    def provider_of(self, client_id: str) -> str | None:
        """The slug of the one provider whose client ids look like this one; None where it is none or several.

        Reads all entries, the first time. Raises `ProviderError` where one of them cannot be used.
        """
        logins = {slug: self.get(slug).login for slug in self.summaries}
        fitting = [slug for slug, one in logins.items() if one.client_id_pattern and not one.is_strange(client_id)]
        return fitting[0] if len(fitting) == 1 else None

    @cached_property
    def _slugs(self) -> dict[str, str]:
        """Slugs by the key of each name. A slug wins over a name; one that several share means none of them."""
        summaries = self.summaries.values()
        names = ((name, summary.slug) for summary in summaries for name in summary.spellings)
        return {**_unshared(names), **_unshared((summary.slug, summary.slug) for summary in summaries)}

    def _by_slug(self, overrides: Mapping[str, Override]) -> dict[str, Override]:
        """Settings that name no provider are another program's, such as MAIL_CLIENT_ID.

        Raises:
            CatalogError: a provider is named in two ways.
        """
        names: dict[str, str] = {}
        for name in overrides:
            slug = self.slug_of(name)
            if slug is not None and names.setdefault(slug, name) != name:
                raise CatalogError(
                    f"{names[slug]}_… and {name}_… are settings of one provider, {slug}", "Keep one of the two names."
                )
        return {slug: overrides[name] for slug, name in names.items()}

    def _unknown(self, name: str) -> ProviderError:
        import difflib

        near = difflib.get_close_matches(_key(name), self._slugs, n=1)
        hint = f"Did you mean {self._slugs[near[0]]}?" if near else f"Known: {', '.join(sorted(self.summaries))}."
        action = f"{hint} One of your own goes into PROVIDERS_FILE."
        return ProviderError(f"there is no provider {name[:60]!r}", action, Kind.USAGE)


def read_catalog() -> list[Provider]:
    """Every built-in provider out of its file, whatever the index says."""
    return [_read_entry(path.stem) for path in sorted(CATALOG_FOLDER.glob("*.toml"))]


def _read_entry(slug: str) -> Provider:
    file = f"{slug}.toml"
    table = _read_toml(CATALOG_FOLDER / file, f"the catalogue's {file}", "Install the program again.")
    return make_provider(slug, table)


def _read_toml(path: Path, name: str, action: str) -> dict[str, Any]:
    """A file's content; `name` is for people, and `action` what they do where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CatalogError(f"{name} cannot be read ({error.strerror})", action) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{name} is not TOML: {error}", "Correct that place.") from None


def _unshared(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """From names and slugs to slugs by the names' keys, without those of several slugs, and of no letter or digit."""
    slugs: dict[str, set[str]] = {}
    for name, slug in names:
        slugs.setdefault(_key(name), set()).add(slug)
    return {key: one for key, (one, *others) in slugs.items() if key and not others}


def _key(name: str) -> str:
    """What all spellings of a name share: its letters and digits, whatever their case."""
    return "".join(filter(str.isalnum, name.casefold()))


def _overridden(provider: Provider, override: Override) -> Provider:
    named = dict.fromkeys(placeholders_in(override.token_url or "")) | dict(provider.placeholders)
    if override.scope and "scope" in named:
        named["scope"] = override.scope
    scopes = tuple((override.scope or "").replace(",", " ").split())
    addresses = {key: getattr(provider, key) for key in _SIBLINGS}
    if override.token_url:
        usual = filter(provider.placeholders.get, provider.placeholders)
        named_there = {CLIENT_ID, *placeholders_in(override.token_url), *usual}
        moved = {key: _moved(url, provider.token_url, override.token_url) for key, url in addresses.items()}
        addresses = {
            key: url if named_there.issuperset(placeholders_in(url or "")) else None for key, url in moved.items()
        }
    pattern = None if override.token_url else provider.login.client_id_pattern  # another server may have ids of its own
    changed = dataclasses.replace(
        provider,
        placeholders=named,
        login=dataclasses.replace(provider.login, more_scopes=scopes, client_id_pattern=pattern),
        token_url=override.token_url or provider.token_url,
        authorize_url=override.authorize_url or provider.authorize_url,
        **addresses,
    )
    check_addresses(changed)
    return changed


def _moved(address: str | None, old: str, new: str) -> str | None:
    """Where a sibling of the token endpoint is once that one was moved from `old` to `new`: beside it.

    What is sent there is as secret as what the token endpoint is sent, so nothing goes to the former host any more.
    """
    if address is None:
        return None
    shared = 0  # parts of the path that both end in
    parts, others, place = old.split("/"), new.split("/"), address.split("/")
    while shared < min(len(parts), len(others)) - _HOST_PARTS and parts[-1 - shared] == others[-1 - shared]:
        shared += 1
    before, after = parts[: len(parts) - shared], others[: len(others) - shared]
    if not shared:
        before, after = parts[:_HOST_PARTS], others[:_HOST_PARTS]
    is_beside = place[: len(before)] == before
    return "/".join([*after, *place[len(before) if is_beside else _HOST_PARTS :]])
