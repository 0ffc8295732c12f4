"""`get LOCATION`: that location's access token alone on stdout, refreshed first where it would not last."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import Kind
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_row, seconds
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.report import LineReport
from token_refresh.wiring import runtime


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_row(parser)
    parser.add_argument(
        "--min-valid", type=seconds, metavar="S", help="seconds the token must still live (TOKEN_EXPIRY_BUFFER, 300)"
    )


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Print the token; when a refresh fails, the old one as long as it lives."""
    from token_refresh.library.tokens import Tokens

    console.reserve_stdout()
    installation = prepare(environ, clock, console)
    with closing(runtime(installation)) as opened:
        tokens = Tokens(opened, LineReport(console), guard=ended_by)
        served = tokens.serve(arguments.location, arguments.provider, arguments.min_valid)
    if served.warning:
        console.warn(served.warning, served.action)
    token = served.token
    if console.as_json:
        console.object(
            {
                "location_id": token.row.location_id,
                "provider": token.provider,
                "access_token": token.text,
                "token_type": token.type,
                "expires_at": iso(token.expires_at) if token.expires_at else None,
                "scopes": token.scopes,
            }
        )
    else:
        console.data(token.text)
    return ()
