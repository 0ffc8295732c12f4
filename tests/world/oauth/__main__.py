"""Serves the fakes in a process of their own: `python -m tests.world.oauth [--grants FILE] …`.

Prints one JSON line and serves until stdin closes. The line:
`{"url", "token_urls": {provider: url}, "grants": [{…the entry…, "token_url", "refresh_token"}, …]}`.
`GET /report` counts what has happened since.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.world.oauth import DIALECTS, OAuthServer


def main(arguments: list[str] | None = None) -> None:
    """Start, print the line, wait for the end of stdin."""
    options = _parser().parse_args(arguments)
    entries: list[dict[str, Any]] = json.loads(options.grants.read_bytes()) if options.grants else []
    with OAuthServer(latency=options.latency, jitter=options.jitter, seed=options.seed) as server:
        line = {
            "url": server.url,
            "token_urls": {dialect.name: server.token_url(dialect.name) for dialect in DIALECTS},
            "grants": [_granted(server, dict(entry)) for entry in entries],
        }
        print(json.dumps(line), flush=True)
        while sys.stdin.buffer.read(4096):
            pass


def _granted(server: OAuthServer, entry: dict[str, Any]) -> dict[str, Any]:
    """Register the client of an entry and grant it a token; more members of the entry are facts of the grant."""
    facts = {name: value for name, value in entry.items() if name not in ("provider", "client_id", "client_secret")}
    provider, client_id = entry["provider"], entry["client_id"]
    server.add_client(provider, client_id, entry["client_secret"])
    token = server.grant(provider, client_id, **facts)
    return {**entry, "token_url": server.token_url(provider), "refresh_token": token}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.world.oauth", description="Fake OAuth 2.0 providers.")
    parser.add_argument(
        "--grants",
        type=Path,
        metavar="FILE",
        help="JSON list of {provider, client_id, client_secret, location_id[, scope, user_type, …]}",
    )
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    parser.add_argument("--jitter", type=float, default=0.0, metavar="S", help="up to so many seconds more")
    parser.add_argument("--seed", type=int, default=0, help="of the jitter")
    return parser


if __name__ == "__main__":
    main()
