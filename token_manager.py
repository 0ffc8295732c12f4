#!/usr/bin/env python3
"""Keep every client's OAuth access token fresh: what cron runs, and what a person runs by hand."""

from __future__ import annotations

import sys

from commands.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
