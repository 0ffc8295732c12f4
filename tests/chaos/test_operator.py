"""A table in an operator's hands: whatever they do, and whatever fails or dies meanwhile, the promises hold.

A few lives in the usual tests; `make chaos` sets CHAOS to how many there shall be, of fifty steps each.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests import exits
from tests.chaos import child
from tests.chaos.hand import Hand
from tests.chaos.kills import leaked_secrets
from tests.chaos.stage import KILLED, Plan, Stage
from tests.chaos.world import GRACE_SECONDS, installation, shared_clock
from tests.world.oauth import RefreshToken
from tests.world.program import Result
from token_refresh.stores.base import Row

pytestmark = pytest.mark.long

LIVES = int(os.environ.get("CHAOS", "0"))
MOST_LONE_PROOFS = 3  # in a row, by the lot that the provider's answers are drawn from
PROFILE = settings(
    max_examples=max(1, LIVES // 3) if LIVES else 6,  # on each of three stores
    stateful_step_count=50 if LIVES else 25,
    derandomize=not LIVES,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # a life hangs on the machine's speed as well: made shorter, it may be another
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
FORKS = child.context()
CLIENTS = {
    "Anna": "acme", "Bert": "acme-family", "Cora": "acme-grace", "Dora": "acme-until-used", "Emil": "acme-never",
}  # fmt: skip
CLIENT = st.sampled_from(sorted(CLIENTS))
PROVIDER_FAULTS = st.lists(st.sampled_from(["throttled", "reset", "down", "dropped"]), min_size=1, max_size=4)
STORE_FAULTS = st.lists(st.sampled_from(["down", "reset", "unacknowledged"]), min_size=1, max_size=3)


class Operator(RuleBasedStateMachine):
    """What a person does to one table, against what has to be true of it.

    Attributes:
        theirs: by location the grants that a person put into the row last.
        entered: grants that a person entered and the program has not confirmed; it may still save them over what
            was there then.
        waiting: all of these; they may be saved again once nothing, or the old cell, is there again.
        harmed: locations where a person put something old or the same twice: there a loss is theirs.
    """

    store = ""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(TemporaryDirectory()))
        self.clock = self._stack.enter_context(shared_clock(folder))
        quick = {"REFRESH_INTERVAL": "600", "TOKEN_EXPIRY_BUFFER": "120", "CONCURRENCY": "3"}
        self.rows = self._stack.enter_context(installation(self.store, folder, self.clock, **quick))
        self.world = self.rows.world
        self.world.program.planted = lambda: list(self.world.oauth.tokens)
        self.stage = Stage(self.rows, FORKS, folder)
        self.hand = Hand(self.rows)
        self.theirs: dict[str, set[str]] = defaultdict(set)
        self.entered: dict[str, set[str]] = defaultdict(set)
        self.waiting: dict[str, set[str]] = defaultdict(set)
        self.harmed = self.stage.oracle.harmed
        self.snapshots: list[list[Row]] = []

    def teardown(self) -> None:
        """In the end two quiet runs, and nothing told that is secret."""
        try:
            self.two_quiet_runs()
            assert leaked_secrets(self.stage) == []
            assert self.world.oauth.violations == []
        finally:
            self._stack.close()

    @initialize(names=st.sets(CLIENT, min_size=2))
    def begin(self, names: set[str]) -> None:
        """Some clients are there already."""
        for name in sorted(names):
            self.rows.add(CLIENTS[name], name)
            self.theirs[name] = {self.world.oauth.family(name).family}

    # What a person does

    @rule(name=CLIENT, nth=st.none() | st.integers(1, 6), seed=st.integers(0, 999), is_overtaken=st.booleans())
    def onboards(self, name: str, nth: int | None, seed: int, is_overtaken: bool) -> None:
        """By a CSV file; with `nth` the process is killed on its way, and a colleague may edit the row after that."""
        line = self.world.csv_line(CLIENTS[name], name)
        family = self.world.oauth.family(line[-1]).family
        argv = ("--from-csv", self.world.program.csv(line), "--replace")
        if nth is None:
            code: int | None = self.stage.here(lambda: self.world.program.onboard(*argv)).code
        else:
            plan = self._plan(nth, seed)
            if plan.point not in ("asked", "done", "confirmed"):
                plan = replace(plan, nth=1)  # it asks the provider once
            ended = self.stage.run(plan, *argv, script=child.ONBOARD)
            [code] = ended.codes
        assert ended_well(code), code
        if code == exits.DONE:
            self._settle_on(name, family)
        else:
            self.entered[name].add(family)
            self.waiting[name].add(family)
        self._check()
        if is_overtaken:
            self._put_by_hand(name)

    @rule(name=CLIENT)
    def puts_in_another_grant(self, name: str) -> None:
        """By their own hand, in the table."""
        self._put_by_hand(name)

    @rule(name=CLIENT, minutes=st.sampled_from([None, -60, 5, 15, 600]))
    def edits_the_expiry(self, name: str, minutes: int | None) -> None:
        """To nothing, or so many minutes from now."""
        for row in self.hand.rows_of(name):
            self.hand.edit(row, access_token_expiry=self.hand.in_minutes(minutes))

    @rule(name=CLIENT, status=st.sampled_from(["disabled", "active"]))
    def edits_the_status(self, name: str, status: str) -> None:
        """Off, or on again."""
        for row in self.hand.rows_of(name):
            self._reopen(row)
            self.hand.edit(row, status=status)

    @rule(name=CLIENT)
    def duplicates_a_row(self, name: str) -> None:
        """Where the table lets them."""
        for row in self.hand.rows_of(name)[:1]:
            if self.hand.duplicate(row):
                self.harmed.add(name)

    @rule(name=CLIENT, is_first_only=st.booleans())
    def deletes(self, name: str, is_first_only: bool) -> None:
        """One row of a client, or all."""
        for row in self.hand.rows_of(name)[: 1 if is_first_only else None]:
            self.hand.remove(row)
            self.entered[name] = set(self.waiting[name])

    @rule()
    def takes_a_snapshot(self) -> None:
        """Of the whole table."""
        self.snapshots.append(self.hand.rows())

    @precondition(lambda self: self.snapshots)
    @rule(which=st.integers(0, 9), name=st.none() | CLIENT)
    def restores(self, which: int, name: str | None) -> None:
        """A snapshot of one row, or of the table."""
        for row in self.snapshots[which % len(self.snapshots)]:
            if name in (None, row.location_id):
                self._restore(row)

    # What happens

    @rule(seconds=st.sampled_from([5, 95, 600, 1800, 2700, 4000, 20000]))
    def time_passes(self, seconds: float) -> None:
        """Nothing else does."""
        self.clock.advance(seconds)

    @rule(faults=PROVIDER_FAULTS)
    def provider_fails(self, faults: list[str]) -> None:
        """The next requests come to nothing."""
        self.stage.weather.provider = faults

    @precondition(lambda self: self.store == "airtable")
    @rule(faults=STORE_FAULTS, times=st.sampled_from([1, 1, 30]))
    def store_fails(self, faults: list[str], times: int) -> None:
        """The next calls come to nothing; thirty times is longer than a run waits."""
        self.stage.weather.store = faults * times

    @rule()
    def runs(self) -> None:
        """As cron does."""
        self._run()

    @rule()
    def runs_while_a_person_edits(self) -> None:
        """Somebody puts in another grant while the provider is asked."""
        self.stage.weather.meanwhile = self._put_by_hand
        self._run()

    @rule(nth=st.integers(1, 7), seed=st.integers(0, 999))
    def is_killed(self, nth: int, seed: int) -> None:
        """At a random seam."""
        ended = self.stage.run(self._plan(nth, seed), "--json")
        assert all(map(ended_well, ended.codes)), ended.codes
        self._check()

    @rule(nth=st.integers(1, 7), seed=st.integers(0, 999))
    def two_runs_at_once(self, nth: int, seed: int) -> None:
        """Of which one may be killed."""
        ended = self.stage.run(replace(self._plan(nth, seed), is_double=True), "--json")
        assert all(code == exits.BUSY or ended_well(code) for code in ended.codes), ended.codes
        self._check()

    @rule()
    def two_quiet_runs(self) -> None:
        """Afterwards every row that is well has a live access token, or the last run says what it waits for."""
        self.stage.weather.provider, self.stage.weather.store = [], []
        for pause in (100, *(self.stage.interval for _ in range(1 + MOST_LONE_PROOFS))):
            self.clock.advance(pause)
            last = self._run()
            if pause != 100 and all(row["outcome"] != "unknown" for row in last.json()["results"]):
                break  # else the proof of a token that had come alone brought one that came alone, too
        waiting = {row["location_id"] for row in last.json().get("waiting", ())}
        for row in self._well():
            expiry = row.access_token_expiry or self.clock.now()
            is_fine = expiry > self.clock.now() or row.location_id in waiting
            assert is_fine, f"{row.location_id} is well and not refreshed: {last.said}"

    # The model

    def _run(self) -> Result:
        result = self.stage.here(lambda: self.world.program.run("--json"))
        self.stage.weather.meanwhile = None
        assert ended_well(result.code), result.said
        assert "internal error" not in result.said
        self._check()
        return result

    def _plan(self, nth: int, seed: int) -> Plan:
        plan = Plan.draw(random.Random(seed), self.store)
        return replace(plan, nth=nth, drops=0, is_double=False)

    def _put_by_hand(self, name: str) -> None:
        rows = self.hand.rows_of(name)
        if len(rows) != 1:
            return
        cells = self.world.cells(CLIENTS[name], name)
        self._settle_on(name, self.world.oauth.family(name).family)
        self.hand.edit(rows[0], encrypted_refresh=cells["encrypted_refresh"], status="active", access_token_expiry=None)

    def _settle_on(self, name: str, family: str) -> None:
        """A person has put in a fresh grant: it is theirs, and well."""
        self.theirs[name], self.entered[name] = {family}, set()
        self.harmed.discard(name)

    def _restore(self, old: Row) -> None:
        name = old.location_id
        rows = self.hand.rows_of(name)
        if len(rows) > 1:
            return
        for row in rows:
            self._reopen(row)
        if not rows or rows[0].encrypted_refresh != old.encrypted_refresh:
            self.harmed.add(name)
            self.theirs[name] = {self._token(old).family}
        self.entered[name] = set(self.waiting[name])
        self.hand.restore(old, rows[0] if rows else None)

    def _reopen(self, row: Row) -> None:
        """A status that told a person to log in again is taken away without a login: the dead token is sent again."""
        if row.status == "reauthorize":
            self.harmed.add(row.location_id)

    def _token(self, row: Row) -> RefreshToken:
        return self.world.oauth.tokens[self.stage.oracle.opened(row)]

    def _check(self) -> None:
        """After every run: nothing lost, nothing sent that may not be, nothing of a person's overwritten."""
        kept = self.stage.oracle.look()
        assert not self.stage.oracle.violations, "; ".join(self.stage.oracle.violations)
        for row in self.hand.rows():
            token, name = self._token(row), row.location_id
            assert token.family in self.theirs[name] | self.entered[name], f"{name}: what a person put in is gone"
            if name not in self.harmed:
                assert self._is_safe(token, kept), f"{name} is lost: {row.last_error!r}"

    def _is_safe(self, token: RefreshToken, kept: set[str]) -> bool:
        """The token works, or its successor waits in the journal, or it was lost where nobody could help it."""
        oracle = self.stage.oracle
        if oracle.is_current(token) or kept & set(token.successors) or oracle.is_admitted(token):
            return True
        if token.revoked_at is not None or token.spent_at is None:
            return False
        is_in_grace = self.clock.timestamp() < token.spent_at + GRACE_SECONDS
        return token.provider == "acme-until-used" or (token.provider == "acme-grace" and is_in_grace)

    def _well(self) -> list[Row]:
        """Rows that have to be fresh: on, alone, unharmed, and with a token that works."""
        rows = [row for row in self.hand.rows() if row.location_id not in self.harmed and row.status != "disabled"]
        return [row for row in rows if self.stage.oracle.is_current(self._token(row))]


def ended_well(code: int | None) -> bool:
    """Whether a process ended as one does that nobody stopped, or by our own kill."""
    return code in (exits.DONE, exits.FAILED, exits.STORE, KILLED)


class SqliteOperator(Operator):
    """On the embedded database."""

    store = "sqlite"


class PostgresOperator(Operator):
    """On a PostgreSQL database."""

    store = "postgres"


class AirtableOperator(Operator):
    """On the fake Airtable."""

    store = "airtable"


TestSqliteOperator = SqliteOperator.TestCase
TestSqliteOperator.settings = PROFILE
TestPostgresOperator = PostgresOperator.TestCase
TestPostgresOperator.settings = PROFILE
TestAirtableOperator = AirtableOperator.TestCase
TestAirtableOperator.settings = PROFILE


def test_a_lost_token_that_a_person_puts_back_after_another_may_be_sent_like_a_new_one() -> None:
    """Nobody lost anything: what was known of it went with the row's next grant, and the person put it back."""
    operator = SqliteOperator()
    try:
        operator.begin({"Anna"})
        operator.takes_a_snapshot()
        operator.provider_fails(["dropped"] * 2)
        operator.runs()
        operator.puts_in_another_grant("Anna")
        operator.runs()
        operator.restores(0, "Anna")
        operator.provider_fails(["dropped"] * 2)
        operator.time_passes(600)
        operator.runs()
        [lost] = [operator._token(row) for row in operator.snapshots[0]]
        assert lost.replays == 3  # once more in the first run, and twice in the last
    finally:
        operator.teardown()
