"""Random kills of real runs, aimed so that every window of a refresh is hit often, and what became of every token."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import exits
from tests.chaos.stage import Plan, Stage
from tests.chaos.world import KINDS, STORES, all_rows, installation, journalled, shared_clock

PHASES = ("before anything", "intent", "request out", "answer on its way", "answer kept", "write-back", "after")
RUNS_A_ROUND = 14
SETTLING_RUNS = 14
# 2500 s after a refresh a row is due although its last minute, of 720 s, has not begun.
PAUSES = (5.0, 95.0, 120.0, 1000.0, 2500.0, 2500.0, 2500.0, 3600.0, 4000.0, 3 * 3600.0)


@dataclass
class Figures:
    """What was done and found."""

    runs: int = 0
    kills: int = 0
    rounds: int = 0
    doubles: int = 0
    dropped: int = 0
    refreshes: int = 0
    resends: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # in the admitted window, by kind
    kills_in: Counter[str] = field(default_factory=Counter)
    rows_in: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Take in those of another round."""
        for name in ("runs", "kills", "rounds", "doubles", "dropped", "refreshes", "resends"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("lost", "kills_in", "rows_in"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations


class Round:
    """One installation and the runs on it, most of them killed.

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
        self._store = store
        self._rng = rng
        self.figures = Figures(rounds=1)
        for kind in KINDS:
            for number in range(1 if kind == "acme-never" else 2):
                self._rows.add(kind, f"{kind}-{number}")

    def play(self) -> None:
        """Kill, go on, kill again; in the end let the runs come to theirs."""
        for _ in range(RUNS_A_ROUND):
            self._run(Plan.draw(self._rng, self._store))
            self._tend()
            self._world.clock.advance(self._rng.choice(PAUSES))
        self._settle()
        self.figures.refreshes = len(self._world.oauth.access_tokens)
        self.figures.resends = len(self._world.oauth.sent_twice())
        self.figures.violations = [*self._oracle.violations, *self._world.oauth.violations]

    def _run(self, plan: Plan | None) -> None:
        """One run, or two at once."""
        before = self._tokens()
        noted = Counter(journalled(self._rows)[1])
        ended = self._stage.run(plan, "--json")
        is_double = len(ended.codes) > 1
        good = {exits.DONE, exits.FAILED, *((exits.BUSY,) if is_double else ())}
        self._oracle.violations += [f"a run ended with {code}" for code in ended.others if code not in good]
        self.figures.runs += len(ended.codes)
        self.figures.doubles += is_double
        if ended.is_killed:
            self.figures.kills += 1
            self._note_phases(before, noted, ended.writing)

    def _tokens(self) -> dict[str, str]:
        rows = all_rows(self._rows)
        return {
            row.location_id: self._world.open_refresh(row.location_id, row.encrypted_refresh)
            for row in rows
            if row.provider != "acme-never"
        }

    def _note_phases(self, before: dict[str, str], noted: Counter[str], writing: set[str]) -> None:
        """Where the kill caught each row."""
        kept, texts = journalled(self._rows)
        mentions = Counter(texts) - noted
        phases: Counter[str] = Counter()
        for location, now in self._tokens().items():
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

    def _tend(self) -> None:
        """What was told as lost is judged and connected anew, as its owner would."""
        for row in all_rows(self._rows):
            if self._oracle.judge(row) != "lost":
                continue
            self.figures.lost[row.provider] += 1
            cells = self._world.cells(row.provider, row.location_id)
            fresh = {"encrypted_refresh": cells["encrypted_refresh"], "status": "active", "last_error": ""}
            self._rows.edit(row.location_id, **fresh, failure_count=0, access_token_expiry=None)

    def _settle(self) -> None:
        """Whole runs at the pace of cron, until every row is fresh after at least two of them."""
        for number in range(SETTLING_RUNS):
            self._world.clock.advance(100 if number == 0 else self._stage.interval)
            self._run(None)
            self._tend()
            states = {row.location_id: self._oracle.judge(row) for row in all_rows(self._rows)}
            if number > 0 and set(states.values()) == {"fresh"}:
                return
        for row in all_rows(self._rows):
            if self._oracle.judge(row) == "waiting":
                self._oracle.judge_left(row)


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
    one.figures.violations = [f"seed {seed}, round {number} ({store}): {what}" for what in found]
    return one.figures


def leaked_secrets(stage: Stage) -> list[str]:
    """What no process may have printed: a token, or a mistake of its own."""
    printed = stage.log.read_text() if stage.log.exists() else ""
    tokens = stage.rows.world.oauth.tokens.values()
    found = [f"a run printed a token of {token.provider}" for token in tokens if token.value in printed]
    return found + (["a run met an internal error"] if "internal error" in printed else [])
