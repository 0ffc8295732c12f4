"""Serves the fakes in a process of their own: `python -m tests.world.oauth [--grants FILE] …`.

Prints one JSON line and serves until stdin closes or Ctrl-C. The line:
`{"url", "providers": {provider: {"token", "code", "authorize", "device", "revoke"}}, "token_urls": {provider: url},
"grants": [{…the entry…, "token_url", "refresh_token"}, …]}`. `code` is where a code is exchanged; an endpoint that a
provider does not have is null. `GET /report` counts what has happened since and lists what was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.world.oauth import DIALECTS, OAuthServer, faults

ENDPOINTS = ("code", "authorize", "device", "revoke")
FAULTS = {
    "throttle": faults.throttled(),
    "outage": faults.status(503),
    "reset": faults.reset(),
    "lost-answer": faults.acted_then_dropped(),
    "wrong-secret": faults.wrong_secret(),
}


def main(arguments: list[str] | None = None) -> None:
    """Start, print the line, wait for the end of stdin."""
    options = _parser().parse_args(arguments)
    entries: list[dict[str, Any]] = json.loads(options.grants.read_bytes()) if options.grants else []
    server = OAuthServer(port=options.port, latency=options.latency, jitter=options.jitter, seed=options.seed)
    with server, contextlib.suppress(KeyboardInterrupt):
        line = {
            "url": server.url,
            "providers": {dialect.name: _addresses(server, dialect.name) for dialect in DIALECTS},
            "token_urls": {dialect.name: server.token_url(dialect.name) for dialect in DIALECTS},
            "grants": [_granted(server, dict(entry)) for entry in entries],
        }
        if options.fail:
            server.fail(FAULTS[options.fail], times=options.times)
        print(json.dumps(line), flush=True)
        while sys.stdin.buffer.read(4096):
            pass


def _addresses(server: OAuthServer, provider: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {"token": server.token_url(provider)}
    for name in ENDPOINTS:
        with contextlib.suppress(LookupError):
            found[name] = None
            found[name] = server.endpoint(provider, name)
    return found


def _granted(server: OAuthServer, entry: dict[str, Any]) -> dict[str, Any]:
    """Register the client of an entry and grant it a token; more members of the entry are facts of the grant."""
    facts = {name: value for name, value in entry.items() if name not in _OF_CLIENT}
    provider, client_id = entry["provider"], entry["client_id"]
    server.add_client(provider, client_id, entry["client_secret"], entry.get("redirect_uris", ()))
    token = server.grant(provider, client_id, **facts)
    return {**entry, "token_url": server.token_url(provider), "refresh_token": token}


_OF_CLIENT = ("provider", "client_id", "client_secret", "redirect_uris")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.world.oauth", description="Fake OAuth 2.0 providers.")
    parser.add_argument(
        "--grants",
        type=Path,
        metavar="FILE",
        help="JSON list of {provider, client_id, client_secret[, redirect_uris, location_id, scope, user_type, …]}",
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    parser.add_argument("--jitter", type=float, default=0.0, metavar="S", help="up to so many seconds more")
    parser.add_argument("--seed", type=int, default=0, help="of the jitter")
    parser.add_argument("--fail", choices=FAULTS, help="what the first token requests meet")
    parser.add_argument("--times", type=float, default=1, metavar="N", help="how many (inf: all); default 1")
    return parser


if __name__ == "__main__":
    main()
