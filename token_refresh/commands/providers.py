"""`providers`: every provider that is known, one with all that is known of it, or a server that describes itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from providers import Catalog
from providers.base import Provider
from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.clients.provider_facts import changes_of, facts_of, lifetime_of, way_in
from token_refresh.commands import prepare
from token_refresh.settings import SettingsError
from token_refresh.terminal.console import Console
from token_refresh.terminal.report import show_table

_HEAD = ("name here", "provider", "access token", "refresh token", "log in")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("provider", nargs="?", metavar="PROVIDER", help="only this one, and how to make its app")
    parser.add_argument("--discover", metavar="ISSUER", help="ask a server to describe itself, for PROVIDERS_FILE")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Show them. Nothing has to be set up before, but for `--discover`."""
    if arguments.discover:
        from token_refresh.wiring import discover

        table = discover(prepare(environ, clock, console), arguments.discover)
        console.object({"table": table}) if console.as_json else console.data(table.rstrip())
        return ()
    try:
        catalog = prepare(environ, clock, console).catalog
    except SettingsError:  # nothing is set up yet
        catalog = Catalog()
    if arguments.provider:
        entry = entry_of(catalog.get(arguments.provider))
        console.object(entry) if console.as_json else console.data("\n".join(_lines(catalog.get(arguments.provider))))
        return ()
    providers = [catalog.get(slug) for slug in sorted(catalog.summaries)]
    if console.as_json:
        console.object({"providers": [entry_of(one) for one in providers]})
    else:
        show_table(_HEAD, [_row(one) for one in providers])
    return ()


def entry_of(provider: Provider) -> dict[str, Any]:
    """A provider as JSON."""
    return {
        "slug": provider.slug,
        "name": provider.name,
        "grant": provider.grant,
        "rotates": provider.rotates,
        "replay": provider.replay,
        "lifetime": provider.default_lifetime,
        "refresh_lifetime": provider.login.refresh_lifetime or provider.login.refresh_ends_anyway or None,
        "pkce": provider.login.pkce,
        "redirect": provider.login.redirect,
        "device": provider.device_url is not None,
        "revoke": provider.revoke_url is not None,
        "docs": provider.docs,
        "checked": provider.login.checked.isoformat() if provider.login.checked else None,
        "unsure": list(provider.login.unsure),
    }


def _row(provider: Provider) -> tuple[str, ...]:
    return provider.slug, provider.name, lifetime_of(provider), changes_of(provider), way_in(provider)


def _lines(provider: Provider) -> list[str]:
    """All that is known of it, and how to make the app that its clients log in to."""
    head = f"{provider.name} ({', '.join((provider.slug, *provider.aliases))})"
    lines = [head, "", *(f"{name}: {text}" for name, text in facts_of(provider))]
    if provider.login.app_steps:
        steps = enumerate(provider.login.app_steps, 1)
        lines += ["", "To make the app:", *(f"{number}. {step}" for number, step in steps)]
    if provider.authorize_url is not None:
        lines += ["", f"Then: {ONBOARD_CLIENT} --authorize --provider {provider.slug}"]
    return lines
