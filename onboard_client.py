#!/usr/bin/env python3
"""Add a client or replace its credential: asked for at a terminal, or from a CSV file."""

import sys
from typing import NoReturn

from token_refresh.base.program import Starting

with Starting(is_script=__name__ == "__main__"):  # up to here, any Python from 3.6 on can read this file
    from token_refresh.commands.onboard import main


def command() -> NoReturn:
    """The installed command `token-refresh-onboard`."""
    with Starting(is_script=True):
        sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
