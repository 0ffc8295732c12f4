#!/usr/bin/env python3
"""Add a client or replace its credential: asked for at a terminal, or from a CSV file."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from token_refresh import settings
from token_refresh.base.clock import SystemClock
from token_refresh.commands import guarded, onboard
from token_refresh.terminal import process
from token_refresh.terminal.console import Console


def main(argv: list[str]) -> int:
    """Run and return the exit code."""
    process.settle()
    arguments = onboard.parse(argv)
    console = Console(as_json=arguments.json)
    environ = settings.strip_secrets(os.environ)
    return guarded(console, lambda: onboard.run(arguments, environ, SystemClock(), console))


def command() -> NoReturn:
    """The installed command `token-refresh-onboard`."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
