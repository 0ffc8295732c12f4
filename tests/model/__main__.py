"""`python -m tests.model [FAULTS]`: how many states there are, how long it took, and the shortest way to harm."""

from __future__ import annotations

import argparse
import gc
import itertools
import time

from tests.model.explore import explore
from tests.model.state import KINDS, STORES, Rules


def main() -> int:
    """Try every order of so many faults; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("faults", type=int, nargs="?", default=3)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--store", action="append", choices=STORES)
    parser.add_argument("--machines", type=int, choices=(1, 2), default=2)
    asked, failed = parser.parse_args(), False
    gc.disable()  # nothing here is part of a cycle
    for store, kind in itertools.product(asked.store or STORES, asked.kind or KINDS):
        began = time.process_time()
        states, ways = explore(Rules(kind, store, asked.machines), asked.faults)
        print(f"{store:9} {kind:11} {states:9,} states {time.process_time() - began:7.1f} s", flush=True)
        failed |= bool(ways)
        for promise, way in ways.items():
            print(f"  {promise}:", *way, sep="\n    ")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
