"""The model against the program: lots are drawn from the model's steps, the program takes them, both end alike."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import World
from tests.model.explore import actions
from tests.model.state import KINDS, Expiry, Rules, Sent, Simulation, State
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import SqliteRows, entries
from tests.refresh.runs.test_unproven import alone, behind_a_failure, strange
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.oauth.faults import Act, Call, Fault

PROVIDERS = dict(zip(KINDS, ("acme-never", "acme", "acme-family", "acme-grace", "acme-until-used"), strict=True))
POINTS = {
    "noted": Point.SENT,
    "answered": Point.ACTED,
    "kept": Point.KEPT,
    "decided": Point.WRITE,
    "written": Point.WRITTEN,
}
ANSWERS = {
    "0: never arrived": faults.reset(),
    "0: answer lost": faults.acted_then_dropped(),
    "0: a refresh token alone": faults.amended(alone),
    "0: a form that is not known": faults.amended(strange),
    "0: a pair in a 5xx": behind_a_failure(),
}
REQUESTS = ("0: noted", "0: killed, answered")  # after which one has arrived, and what came of it is not of ANSWERS
TICK_SECONDS = 2700  # after which a token is due, and after two of which it is in its last minute
DUE_SECONDS = 1200  # before its end
QUICK = {"REFRESH_INTERVAL": "300", "TOKEN_EXPIRY_BUFFER": "60"}
RATE = 0.15  # of the steps that are faults, while some are left
STORES = ("refreshed", "unproven", "put back", "dead")  # ends that write to the table


def sample(number: int, code: int, kind: str) -> Fault:
    """What a good answer looks like, on the page of a service that did nothing."""
    content = {"refresh_token": f"sample-refresh-{number}"} | (
        {"access_token": "sample-access"} if code != 200 or kind == "never" else {}
    )
    return faults.raw(json.dumps(content).encode(), code)


@dataclass
class Twin:
    """The program in the state of the model."""

    rows: SqliteRows
    kind: str
    answers: list[tuple[Fault | None, list[str]]] = field(default_factory=list)  # and what is done before they leave
    samples: int = 0

    def __post_init__(self) -> None:
        self.rows.add(PROVIDERS[self.kind], "loc")
        self.snapshot = self.rows.row("loc").encrypted_refresh
        self.theirs = self.rows.stored("loc")
        self.rows.world.program.run("recover")  # which makes the journal
        self.rows.world.program.undone = lambda _: []  # a grant may be revoked before its row is due: no run can tell
        self.rows.world.oauth.fail(Fault("by plan", self._answer), times=float("inf"))

    def _answer(self, call: Call, act: Act) -> Response:
        fault, meanwhile = self.answers.pop(0) if self.answers else (None, [])
        try:
            return act() if fault is None else fault.apply(call, act)
        finally:
            for label in meanwhile:
                self.do(label)

    def do(self, label: str) -> None:
        """What somebody does, or a command."""
        rows, world = self.rows, self.rows.world
        if label == "time passes":
            world.clock.advance(TICK_SECONDS)
        elif label == "somebody onboards":
            cells = world.cells(PROVIDERS[self.kind], "loc")
            rows.edit("loc", encrypted_refresh=cells["encrypted_refresh"], access_token_expiry=None, status="active")
            self.theirs = rows.stored("loc")
        elif label == "the table restored":
            rows.edit("loc", encrypted_refresh=self.snapshot, access_token_expiry=None, status="active")
            self.theirs = rows.stored("loc")
        elif label == "revoked":
            world.oauth.revoke(self.theirs)
        else:
            command = [*label.partition(": ")[2].split(), "loc"]
            world.program.run(*(command[:-1] if command[1] == "--replay" else [*command, "--yes"]))

    def run(self, labels: list[str]) -> int:
        """A run in which this happens; returns how many requests it sent."""
        before = len(self.rows.world.oauth.requests)
        if entries(self.rows.world, "sent", "lost", "answered"):
            self.rows.world.clock.advance(91)  # the model leaves that out where no request is on its way
        self.answers, kill = [], None
        for label in labels:
            if label.startswith("0: a sample"):
                self.samples += 1
                code = 503 if "5xx" in label else 200
                self.answers.append((sample(self.samples, code, self.kind), []))
            elif label in ANSWERS or label == "0: noted":
                self.answers.append((ANSWERS.get(label), []))
            elif label.startswith("0: killed"):
                kill = POINTS[label.split()[-1]]
            elif not label.startswith("0: "):
                self.answers[-1][1].append(label)
        if kill is None:
            self.rows.world.program.run()
        else:
            struck(self.rows.world, kill, Fate.KILL)
        return len(self.rows.world.oauth.requests) - before

    def seen(self) -> tuple[bool, bool, bool, list[str]]:
        """What can be compared."""
        row, oauth = self.rows.row("loc"), self.rows.world.oauth
        token = oauth.tokens.get(self.rows.stored("loc"))
        is_good = token is not None and token.spent_at is None and token.revoked_at is None
        now = self.rows.world.clock.now()
        is_fresh = row.access_token_expiry is not None and (row.access_token_expiry - now).total_seconds() > DUE_SECONDS
        open_steps = sorted(str(one.step) for one in entries(self.rows.world) if one.step != "superseded")
        return is_good, row.status == "reauthorize", is_fresh, open_steps


def seen(state: State) -> tuple[bool, bool, bool, list[str]]:
    """The same of the model."""
    row, [folder] = state.row, state.folders
    open_steps = sorted(one.step for one in folder.entries if one.step != "superseded")
    return state.book[row.token - 1].status == "good", row.dead == row.token, row.expiry == Expiry.FRESH, open_steps


NEEDS_MORE = ("clock", "folder", "machine", "takeover", "dead run", "request out")  # than the program can be made to do


def is_playable(run: Sent, label: str, passed: list[str]) -> bool:
    """Whether the program can be made to do that, here: a kill strikes where a run comes by for the first time."""
    if any(word in label for word in NEEDS_MORE) or run.is_replay:
        return False
    if "killed" not in label:
        return True
    point = label.split()[-1]
    if (point in ("noted", "answered") and passed) or any(point in one for one in passed):
        return False
    if point == "written":
        return run.end in STORES
    return point != "kept" or run.answer[0] != "none"


def walk(rules: Rules, seed: int, faults: int = 3) -> Iterator[tuple[list[str], State]]:
    """Steps by lot: what happens, and what is true then, whenever no run is at work."""
    rng, state = random.Random(seed), State()

    def choose(sim: Simulation, run: Sent, options: Callable[[], list[str]]) -> str:
        nonlocal faults
        playable = [one for one in options() if is_playable(run, one, sim.labels)] if faults else []
        if not playable or rng.random() > RATE:
            return ""
        faults -= 1
        return rng.choice(playable)

    for _ in range(60):
        options = [one for one in actions(state, rules, faults) if not any(word in one[0] for word in NEEDS_MORE)]
        costly = [one for one in options if one[1]]
        usual = [one for one in options if not one[1]]
        label, cost, act = rng.choice(costly if costly and rng.random() < RATE else usual + usual[:1] * 2)
        sim = Simulation(state, rules, choose)
        faults -= cost
        act(sim)
        sim.judge()
        assert not sim.broken
        state = sim.frozen()
        yield [label, *sim.labels], state
        if not faults and state.row.expiry == Expiry.FRESH:
            return


def is_run(labels: list[str]) -> bool:
    """Whether they are those of a run."""
    return labels[0] == "0: run"


def _walk(seed: int, kind: str) -> Any:
    """A trace by its seed; the many are long."""
    return pytest.param(seed, kind, marks=[pytest.mark.long] if seed else [])


@pytest.mark.by_turns("kind")
@pytest.mark.parametrize(  # without `grace`, which is too short for 91 s
    ("seed", "kind"), [_walk(seed, kind) for seed in range(30) for kind in KINDS if kind != "grace"]
)
def test_the_program_goes_where_the_model_goes(world: World, seed: int, kind: str) -> None:
    world.program.settings |= QUICK
    twin, way = Twin(SqliteRows(world), kind), list[str]()
    for labels, state in walk(Rules(kind, "database"), seed):
        way += labels
        if is_run(labels):
            sent = twin.run(labels)
            asked = [one for one in labels if one in REQUESTS or one in ANSWERS or one.startswith("0: a sample")]
            assert sent == len(asked), way
        else:
            twin.do(*labels)
        assert twin.seen() == seen(state), way
    assert world.oauth.violations == []
