"""A large table in the hands of eight workers: `python -m tests.workers --rows 10000`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.workers import child
from tests.workers.play import HOSTS, Figures, play
from tests.world.postgres import PostgresServer


def main() -> int:
    """Exit 1 on any violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.workers", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    server = PostgresServer()
    try:
        with TemporaryDirectory() as folder:
            figures = play(server, Path(folder), child.context(), options.rows)
    finally:
        server.close()
    print("\n".join(_table(figures)))
    for violation in figures.violations[:20]:
        print(f"VIOLATION {violation}", file=sys.stderr)
    return 1 if figures.violations else 0


def _table(figures: Figures) -> list[str]:
    shown = {
        "rows": figures.rows,
        "seconds": round(figures.seconds),
        "workers": sum(HOSTS.values()),
        "hosts": len(HOSTS),
        "killed by SIGKILL": figures.killed,
        "requests they had out": figures.window,
        "fresh at the end": figures.fresh,
        "lost in the admitted window": figures.lost,
        "sent more than once": figures.sent_twice,
        "violations": len(figures.violations),
    }
    return [f"{name:<30}{value:>8}" for name, value in shown.items()]


if __name__ == "__main__":
    sys.exit(main())
