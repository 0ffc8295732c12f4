"""Lives by chance, with kills aimed so that every window of a refresh is hit often, and what became of every token."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from tests.chaos.life import STEPS, Life
from tests.chaos.stage import Ended, Plan, Stage
from tests.chaos.world import STORES, all_rows, installation, journalled, shared_clock

PHASES = ("before anything", "intent", "request out", "answer on its way", "answer kept", "write-back", "after")


@dataclass
class Figures:
    """What was done and found.

    Attributes:
        counts: see `Life.counts`.
        kills_of: how many of which command.
        kills_in: how many runs were killed while some row was in this phase.
        rows_in: how many rows were in it.
    """

    runs: int = 0
    rounds: int = 0
    doubles: int = 0
    refreshes: int = 0
    resends: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kills_of: Counter[str] = field(default_factory=Counter)
    kills_in: Counter[str] = field(default_factory=Counter)
    rows_in: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return self.kills_of.total()

    def add(self, other: Figures) -> None:
        """Take in those of another round."""
        for name in ("runs", "rounds", "doubles", "refreshes", "resends"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("counts", "kills_of", "kills_in", "rows_in"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


class Round:
    """One life, and where the kills caught its rows.

    Args:
        stage: with an empty table.
        store: which kind it is.
        rng: decides everything but the speed of the machine.
    """

    def __init__(self, stage: Stage, store: str, rng: random.Random) -> None:
        self._stage = stage
        self._oracle = stage.oracle
        self._rows = stage.rows
        self._world = stage.rows.world
        self._life = Life(stage, store, rng, self._run)
        self.figures = Figures(rounds=1, counts=self._life.counts, kills_of=self._life.kills)

    def play(self) -> None:
        """One thing after the other; in the end what is left comes to its own."""
        for _ in range(STEPS):
            self._life.step()
            self._life.tend()
            if self._oracle.violations:
                break
        else:
            self._life.settle()
        self.figures.refreshes = len(self._world.oauth.access_tokens)
        self.figures.resends = len(self._world.oauth.sent_twice())
        self.figures.violations = [*self._oracle.violations, *self._world.oauth.violations]

    def _run(self, plan: Plan) -> Ended:
        """One run of cron's, or two at once."""
        before = self._tokens()
        noted = Counter(journalled(self._rows)[1])
        ended = self._stage.run(plan, "--json")
        self.figures.runs += len(ended.codes)
        self.figures.doubles += len(ended.codes) > 1
        if ended.is_killed:
            self._note_phases(before, noted, ended.writing)
        return ended

    def _tokens(self) -> dict[str, str]:
        rows = [row for row in all_rows(self._rows) if row.provider != "acme-never"]
        return {row.location_id: token for row in rows if (token := self._oracle.opened(row))}

    def _note_phases(self, before: dict[str, str], noted: Counter[str], writing: set[str]) -> None:
        """Where the kill caught each row."""
        kept, texts = journalled(self._rows)
        mentions = Counter(texts) - noted
        phases: Counter[str] = Counter()
        now_there = self._tokens()
        for location in before.keys() & now_there.keys():
            now = now_there[location]
            token = self._world.oauth.tokens[before[location]]
            successors = set(token.successors)
            if now != token.value:
                phase = "write-back" if now in kept else "after"
            elif successors & kept:
                phase = "write-back" if successors & writing else "answer kept"
            elif self._oracle.was_sent(token):
                phase = "answer on its way" if token.spent_at is not None else "request out"
            else:
                phase = "intent" if mentions[location] else "before anything"
            phases[phase] += 1
        self.figures.rows_in += phases
        reached = [phase for phase in phases if phase != "before anything"] or ["before anything"]
        self.figures.kills_in.update(reached)


def play(seed: str, number: int, forks: ForkServerContext) -> Figures:
    """One round, from nothing to a table in which every row is fresh."""
    rng = random.Random(f"{seed}/{number}")
    store = STORES[number % len(STORES)]
    settings = {
        "CONCURRENCY": str(rng.choice((1, 3, 9))),
        "REFRESH_INTERVAL": str(rng.choice((600, 600, 3600))),
        "TOKEN_EXPIRY_BUFFER": "120",
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        with shared_clock(folder) as clock, installation(store, folder, clock, **settings) as rows:
            stage = Stage(rows, forks, folder)
            one = Round(stage, store, rng)
            one.play()
            found = [*one.figures.violations, *leaked_secrets(stage)]
            if found:
                found.append(
                    f"what all said is in {shutil.copy(stage.log, Path(gettempdir()) / f'chaos-{number}.log')}"
                )
    one.figures.violations = [f"seed {seed}, round {number} ({store}): {what}" for what in found]
    return one.figures


def leaked_secrets(stage: Stage) -> list[str]:
    """What no process may have printed: a token, or a mistake of its own."""
    printed = stage.log.read_text() if stage.log.exists() else ""
    tokens = stage.rows.world.oauth.tokens.values()
    found = [f"a run printed a token of {token.provider}" for token in tokens if token.value in printed]
    return found + (["a run met an internal error"] if "internal error" in printed else [])
