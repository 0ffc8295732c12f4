"""Kills runs until enough are dead, then says what became of the tokens: `python -m tests.chaos --runs 1000`."""

from __future__ import annotations

import argparse
import itertools
import secrets
import sys
import time
from collections.abc import Iterator

from tests.chaos import child
from tests.chaos.kills import PHASES, Figures, play


def main() -> int:
    """Exit 1 on any violation, with the seed and the round that show it again."""
    options = _parser().parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    figures = _played(options)
    print("\n".join(_table(figures, time.monotonic() - began)))
    for violation in figures.violations:
        print(f"VIOLATION {violation}", file=sys.stderr)
    if figures.violations:
        print(f"See one again: make chaos SEED={options.seed} ROUND=<its round>", file=sys.stderr)
    return 1 if figures.violations else 0


def _played(options: argparse.Namespace) -> Figures:
    forks, figures = child.context(), Figures()
    rounds: Iterator[int] = itertools.count() if options.round is None else iter([options.round])
    for number in rounds:
        figures.add(play(options.seed, number, forks))
        if figures.kills >= options.runs or figures.violations:
            break
    return figures


def _table(figures: Figures, seconds: float) -> Iterator[str]:
    yield f"{'runs of cron':<46}{figures.runs:>7}   in {figures.rounds} lives, {seconds:.0f} s"
    yield f"{'two runs at once':<46}{figures.doubles:>7}"
    yield f"{'killed by SIGKILL, of all commands':<46}{figures.kills:>7}"
    for name, count in sorted(figures.kills_of.items()):
        yield f"    {name:<42}{count:>7}"
    yield f"{'access tokens issued':<46}{figures.refreshes:>7}"
    yield f"{'refresh tokens sent more than once':<46}{figures.resends:>7}"
    yield f"{'violations':<46}{len(figures.violations):>7}"
    yield ""
    yield "what happened, and what was found"
    for name, count in sorted(figures.counts.items()):
        yield f"    {name:<42}{count:>7}"
    yield ""
    yield f"{'where the kill came':<34}{'kills':>7}{'rows':>7}"
    for phase in PHASES:
        yield f"{phase:<34}{figures.kills_in[phase]:>7}{figures.rows_in[phase]:>7}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="decides everything but the machine's speed")
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="so many are killed at least (1000)")
    parser.add_argument("--round", type=int, metavar="N", help="only this round")
    return parser


if __name__ == "__main__":
    sys.exit(main())
