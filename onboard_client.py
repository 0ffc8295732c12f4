#!/usr/bin/env python3
"""Add a client or replace its credential: asked for at a terminal, or from a CSV file."""

from __future__ import annotations

import os
import sys

from token_refresh import settings
from token_refresh.base.clock import SystemClock
from token_refresh.commands import onboard
from token_refresh.commands.cli import guarded
from token_refresh.terminal import process
from token_refresh.terminal.console import Talk


def main(argv: list[str]) -> int:
    """Run and return the exit code."""
    process.settle()
    arguments = onboard.parse(argv)
    talk = Talk(as_json=arguments.json)
    environ = settings.take(os.environ)
    return guarded(talk, lambda: onboard.run(arguments, environ, SystemClock(), talk))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
