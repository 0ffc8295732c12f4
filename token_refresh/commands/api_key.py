"""`api-key create`, `list` and `revoke`: who may use the HTTP service."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import Kind
from token_refresh.base.events import audited
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_json
from token_refresh.terminal.report import show_table
from token_refresh.wiring import service_audit, service_database

if TYPE_CHECKING:
    from token_refresh.access.api_keys import ApiKey

_HEAD = ("name", "id", "scopes", "made", "last used")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("name", metavar="NAME", help="of the program or person that will use it")
    create.add_argument(
        "--scope",
        action="append",
        default=[],
        metavar="S",
        help="what it allows: tokens, tokens:LOCATION, clients, read, or admin for everything; repeatable",
    )
    revoke = actions.add_parser("revoke", help="end a key at once")
    revoke.add_argument("name", metavar="NAME", help="as `list` shows it")
    for one in (create, revoke, actions.add_parser("list", help="show every key, without its secret")):
        add_json(one)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Do it. A key that was made is the only thing on stdout."""
    from token_refresh.access.api_keys import ApiKeys

    installation = prepare(environ, clock, console)
    with closing(service_database(installation)) as database:
        keys, audit = ApiKeys(database, clock), service_audit(installation, database)
        if arguments.action == "create":
            with audited(audit, "key made"):
                key = keys.create(arguments.name, arguments.scope)
            _show_new(arguments.name.strip(), key, console)
        elif arguments.action == "revoke":
            with audited(audit, "key revoked"):
                keys.revoke(arguments.name)
            if console.as_json:
                console.object({"name": arguments.name.strip(), "revoked": True})
            console.info(f"the key {arguments.name.strip()} is revoked: nobody can use it any more")
        else:
            _show_all(keys.all(), console)
    return ()


def _show_new(name: str, key: str, console: Console) -> None:
    console.object({"name": name, "key": key}) if console.as_json else console.data(key)
    console.info(f"the key {name} is made. Copy it now: it is not shown again")


def _show_all(keys: list[ApiKey], console: Console) -> None:
    if console.as_json:
        console.object({"keys": [_object(key) for key in keys]})
        return
    show_table(_HEAD, [_line(key) for key in keys])


def _object(key: ApiKey) -> dict[str, object]:
    used = iso(key.last_used_at) if key.last_used_at is not None else None
    return {
        "name": key.name,
        "id": key.id,
        "scopes": list(key.scopes),
        "created_at": iso(key.created_at),
        "last_used_at": used,
    }


def _line(key: ApiKey) -> tuple[str, ...]:
    used = f"{key.last_used_at:%Y-%m-%d %H:%M} UTC" if key.last_used_at is not None else "never"
    return key.name, key.id, " ".join(key.scopes), f"{key.created_at:%Y-%m-%d %H:%M} UTC", used
