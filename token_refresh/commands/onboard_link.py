"""`onboard-link LOCATION`: a one-time link with which a customer logs in, and needs no key."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind, NoSuchTokenError
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.commands import prepare
from token_refresh.stores.base import Row
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_row
from token_refresh.wiring import Installation, make_job_factory, open_sealed, service_database


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_row(parser, "whose row the login is for; it must exist")
    parser.add_argument("--client", metavar="ROW", help="the row by its id, as the service calls it")
    parser.add_argument("--expires", metavar="TIME", default="7d", help="90s, 30m, 12h or 30d at most (default: 7d)")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Make it. The link is the only thing on stdout."""
    from token_refresh.access.links import Links, link_url, parse_lifetime

    installation = prepare(environ, clock, console)
    public_url, lifetime = installation.settings.service.public_url, parse_lifetime(arguments.expires)
    if not public_url:
        action = "Set it to the address under which customers reach the service, such as https://tokens.example.com."
        raise ActionableError("PUBLIC_URL is not set, so a link would lead nowhere", action, Kind.CONFIGURATION)
    row, provider = _find(installation, arguments)
    _check_login(installation, row, provider, console)
    with closing(service_database(installation)) as database:
        links = Links(database, clock)
        token, end = links.create(row.key, row.location_id, provider, lifetime, f"{console.verb} command")
    url = link_url(public_url, token)
    if console.as_json:
        known = {"client_id": row.key, "location_id": row.location_id, "provider": provider}
        console.object({**known, "url": url, "expires_at": iso(end)})
    else:
        console.data(url)
    console.info(f"whoever opens it until {end:%Y-%m-%d %H:%M} UTC may log in for {row.location_id} {provider}, once")
    return ()


def _find(installation: Installation, arguments: argparse.Namespace) -> tuple[Row, str]:
    """The row that is meant, and the slug of its provider."""
    from token_refresh.clients.rows import find_all, find_one

    with open_sealed(installation) as store:
        job_factory = make_job_factory(installation, store)
        if arguments.client is None:
            return find_one(store.store, job_factory, arguments.location, arguments.provider)
        found = find_all(store.store, job_factory, arguments.location, arguments.provider)
    for row, provider in found:
        if row.key == arguments.client.strip():
            return row, provider
    what = f"{arguments.location!r} has no row of that id"
    raise NoSuchTokenError(what, f"Check the name with: {TOKEN_MANAGER} status")


def _check_login(installation: Installation, row: Row, provider: str, console: Console) -> None:
    """Whether a login can come of it: that the row's app knows the service's callback may still be put right."""
    from token_refresh.library.tokens import readable_params

    name = installation.catalog.get(provider).name
    if installation.catalog.get(provider).authorize_url is None:
        raise ActionableError(f"nobody can log in at {name}", f"See: {ONBOARD_CLIENT} --help", Kind.CONFIGURATION)
    callback = f"{installation.settings.service.public_url}/auth/callback"
    if callback != (row.redirect_uri or readable_params(row).get("redirect_uri")):
        action = f"Set the row's redirect URI to {callback}, and enter it in the app at {name}."
        console.warn("the service will refuse the login: the row has another redirect URI, or none", action)
