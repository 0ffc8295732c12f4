"""An independent judge: it sees what reaches the providers and what is stored, and knows the rules, not the program."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

from crypto import SealedCellError
from tests.chaos.clock import SharedClock
from tests.chaos.world import GRACE_SECONDS, all_rows, journalled, state_folder
from tests.refresh.runs.faults_world import Rows
from tests.world.oauth import RefreshToken
from tests.world.oauth.faults import Call
from token_refresh.stores.base import Row

State = Literal["fresh", "lost", "waiting", "ended"]
TOLD = "the answer was lost on"
EARLIEST_RESEND_SECONDS = 45.0  # 90 s from the intent; other threads' waits may pass between that and the arrival
EXCHANGE_SECONDS = 95.0
FUTURE = timedelta(minutes=5)
A_COPY = "the state folder is a copy"
REPLAY_UNSAFE = ("acme", "acme-family")
LONE_TOKENS = 9  # one answer in so many has no access token
SENDS_IN_A_RUN = {"acme": 2, "acme-family": 2, "acme-grace": 3, "acme-until-used": 3}


def comes_alone(token: str) -> bool:
    """Whether the new refresh token that is got with this one comes without an access token."""
    return zlib.crc32(token.encode()) % LONE_TOKENS == 0


@dataclass(frozen=True)
class _Arrival:
    number: int
    run: int
    at: float


@dataclass(frozen=True)
class _Run:
    number: int
    began: float


class Oracle:
    """Judges one table.

    Args:
        rows: the table.
        last_minute: seconds before the old access token's end from which `last_minute` allows a replay.

    Attributes:
        violations: what must never be, as sentences.
        harmed: locations where a person put something old back, so that a loss is theirs.
        run: the number of the run that is under way.
        durable: refresh tokens that were once seen in a journal or in the table.
        rejected: those that a provider has answered with a refusal.
        stored: those of the table alone.
        known: the numbers of the requests that the state folder in use knows of; another one, or one that was
            restored, does not know the others.
        seen: the refresh tokens that were in the table while that folder was in use, or that it is a copy of.
        forbids: why nothing that the table holds may be sent now, and by a copy of a state folder nothing that was
            entered, either; empty where it may.
        thrown_away: refresh tokens that were durable until a person restored, deleted or took over.
        ended: grants that a person revoked, or whose tokens a person deleted.
        has_taken_over: a person said of some machine that it goes on alone.
    """

    def __init__(self, rows: Rows, last_minute: float) -> None:
        self._rows = rows
        self._world = rows.world
        self._last_minute = last_minute
        self._arrivals: dict[str, list[_Arrival]] = defaultdict(list)
        self._spent_in: dict[str, int] = {}
        self._dropped: dict[str, int] = {}  # tokens with an answer that never left the provider, and the last such run
        self._killed: set[int] = set()
        self._begun_at: dict[int, float] = {0: 0.0}
        self._number = 0
        self._clock_set_at: list[float] = []
        self._overtaken: set[str] = set()  # tokens that were sent, and their rows had others at a run's end since
        self._unnoted: set[str] = set()
        self._refusals_unnoted: set[str] = set()
        self._whole_runs: list[_Run] = []
        self.violations: list[str] = []
        self.harmed: set[str] = set()
        self.run = 0
        self.durable: set[str] = set()
        self.rejected: set[str] = set()
        self.stored: set[str] = set()
        self.known: set[int] = set()
        self.seen: set[str] = set()
        self.forbids = ""
        self.thrown_away: set[str] = set()
        self.ended: set[str] = set()
        self.has_taken_over = False

    # What it is told

    def begin(self, *, is_alone: bool) -> None:
        """A run starts; `is_alone` where no other does at the same time."""
        self.run += 1
        self._begun_at[self.run] = self._world.clock.timestamp()
        self._began = self._world.clock.timestamp() if is_alone else None

    def end(self, *, is_killed: bool, is_whole: bool = False, is_disk_full: bool = False) -> None:
        """It has ended, `is_whole` where nothing kept it from its work: what it left behind is looked at.

        `is_disk_full`: its journal's was, so which tokens it used need not be remembered once their rows have others.
        """
        if is_disk_full:
            self._unnoted |= {token for token, run in self._spent_in.items() if run == self.run}
            self._refusals_unnoted |= {token for token in self.rejected if self._last_run(token) == self.run}
        if is_killed:
            self._killed.add(self.run)
        elif self._began is not None and is_whole:
            self._whole_runs.append(_Run(self.run, self._began))
        self.look()
        stored = {token: row.location_id for row in all_rows(self._rows) if (token := self.opened(row))}
        gone = self._arrivals.keys() - stored.keys()
        taken = set(stored.values())
        self._overtaken |= {value for value in gone if self._world.oauth.family(value).location_id in taken}

    def look(self) -> set[str]:
        """The refresh tokens that are durable in a journal now; they and the table's are remembered."""
        kept, _ = journalled(self._rows)
        self.durable |= kept
        self.seen |= self.in_table()
        self.stored |= self.seen
        self.durable |= self.stored
        return kept

    def in_table(self) -> set[str]:
        """The refresh tokens in the table now."""
        return {self.opened(row) for row in all_rows(self._rows)} - {""}

    @contextmanager
    def harm(self) -> Iterator[None]:
        """A person does something that may throw away what was durable before."""
        before = self.look() | self.in_table()
        yield
        self.thrown_away |= before - self.look() - self.in_table()

    def set_clock(self, seconds: float) -> None:
        """The clock of the program's machine is set forwards, or back; to be right again where it is so far off."""
        clock = self.clock
        self._clock_set_at.append(clock.timestamp())  # first: another thread may judge a request of this very moment
        clock.ahead = 0 if clock.ahead else seconds
        self.forbids = A_COPY if self.forbids == A_COPY else ""

    def arrived(self, call: Call) -> None:
        """A token reached its provider, which has not acted yet."""
        token = self._world.oauth.tokens.get(call.refresh_token or "")
        if token is None:
            self.violations.append(f"{call.dialect.name}: a token arrived that nobody issued")
            return
        if self._arrivals[token.value] and token.provider != "acme-never":
            self._check_resend(token)
        if self.forbids and (token.value in self.stored or self.forbids == A_COPY):
            self.blame(f"{token.provider} {token.family}", f"was sent, although {self.forbids}")
        self._number += 1
        self.known.add(self._number)
        self._arrivals[token.value].append(_Arrival(self._number, self.run, self._world.clock.timestamp()))

    def acted(self, call: Call) -> None:
        """The provider has acted on it."""
        token = self._world.oauth.tokens[call.refresh_token or ""]
        if token.spent_at is not None:
            self._spent_in.setdefault(token.value, self.run)

    def dropped(self, call: Call) -> None:
        """The provider's answer goes nowhere."""
        self._dropped[call.refresh_token or ""] = self.run

    def agreed(self, token: str) -> None:
        """A person has it sent once more, whatever was answered."""
        self._dropped[token] = self._arrivals[token][-1].run
        self.thrown_away |= set(self._world.oauth.tokens[token].successors)  # in an answer that nobody can read

    def refused(self, call: Call) -> None:
        """The provider does nothing, and says so."""
        self._arrivals[call.refresh_token or ""].pop()

    def was_sent(self, token: RefreshToken) -> bool:
        """Whether it reached its provider in this run."""
        return any(arrival.run == self.run for arrival in self._arrivals[token.value])

    def _last_run(self, token: str) -> int | None:
        return self._arrivals[token][-1].run if self._arrivals[token] else None

    # Verdicts

    def judge(self, row: Row) -> State:
        """What became of a row; a loss is looked into."""
        if not row.encrypted_refresh or row.status == "disabled":
            return "ended"
        token = self._world.oauth.tokens.get(self.opened(row))
        if token is None:
            return "waiting"  # altered by the table
        if token.family in self.ended:
            self.blame(row.location_id, "holds a token of a grant that a person ended")
        if row.status == "reauthorize":
            self._judge_loss(row, token)
            return "lost"
        now = self._world.clock.now()
        lives = row.access_token_expiry is not None and row.access_token_expiry > now
        return "fresh" if lives and not row.last_error and self.is_current(token) else "waiting"

    def _check_resend(self, token: RefreshToken) -> None:
        before = [arrival for arrival in self._arrivals[token.value] if arrival.number in self.known]
        if not before:  # another machine sent it, or what this one knew was restored from before that
            if self._arrivals[token.value] and token.provider == "acme-family":
                self.harmed.add(str(self._world.oauth.family(token.value).location_id))  # the grant is revoked by it
            return
        who = f"{token.provider} {token.family}"
        in_run = [arrival for arrival in before if arrival.run == self.run]
        is_harmed = self._world.oauth.family(token.value).location_id in self.harmed
        # A lost answer is remembered until the row is refreshed or onboarded: a person who then puts the token back,
        # and nobody else, begins anew.
        is_anew = is_harmed and token.value in self._overtaken and not self.durable & set(token.successors)
        if in_run and (len(in_run) >= SENDS_IN_A_RUN[token.provider] or (len(in_run) < len(before) and not is_anew)):
            self._blame_strict(token, who, len(in_run) + 1)
        if self.rejected & set(token.successors):
            return  # one that came without an access token was refused, so this one counts again
        if token.value in self._unnoted and self.thrown_away & set(token.successors):
            return  # the disk was full, so the table alone had its answer, and a person deleted the row
        if not is_harmed:
            self._check_resend_of_lost(token, who, before[-1])
        elif token.provider in REPLAY_UNSAFE and self.seen & set(token.successors) and token.value not in self._unnoted:
            # A person put an old cell back, and with it goes what was known of its answer; but not this.
            if token.provider == "acme" and comes_alone(token.value) and not self._is_proved(token):
                return  # which only refuses a second use: then the one that came alone is tried once more
            self.blame(who, "was sent again although its successor had been stored")

    def _is_proved(self, token: RefreshToken) -> bool:
        """Whether something came for a successor of it, and was durable."""
        successors = map(self._world.oauth.tokens.__getitem__, token.successors)
        return any(self.durable & set(one.successors) for one in successors)

    def _check_resend_of_lost(self, token: RefreshToken, who: str, last: _Arrival) -> None:
        has_come = last.run not in self._killed and self._dropped.get(token.value) != last.run
        if has_come and token.value not in self._refusals_unnoted:
            self.blame(who, "was sent again although its answer had come")
        passed = self._world.clock.timestamp() - last.at
        # A request is noted before it leaves, and its row looked at before that: by the clock as it was then.
        was_set = self._was_clock_set_since(self._begun_at[last.run])
        if last.run != self.run and passed < EARLIEST_RESEND_SECONDS and not was_set:
            self.blame(who, f"was sent again {passed:.0f} s after a run that died; it may still have been on its way")
        is_set = self._was_clock_set_since(self._begun_at[self.run])
        if token.provider == "acme-family" and not self._is_last_minute(token) and not is_set:
            self.blame(who, "was sent again before the last minute; that kills the family")

    def _blame_strict(self, token: RefreshToken, who: str, times: int) -> None:
        if times > SENDS_IN_A_RUN[token.provider] or token.provider in REPLAY_UNSAFE:
            self.blame(who, f"was sent {times} times in one run")

    def _is_last_minute(self, token: RefreshToken) -> bool:
        """By what the table says of the old access token; a time in the future that has passed says nothing."""
        rows = [row for row in all_rows(self._rows) if self.opened(row) == token.value]
        now = self.clock.machines_now()
        known = [row for row in rows if row.last_refreshed is None or row.last_refreshed <= now + FUTURE]
        left = [row.access_token_expiry - now for row in known if row.access_token_expiry is not None]
        return len(left) < max(len(rows), 1) or min(left).total_seconds() < self._last_minute

    def _judge_loss(self, row: Row, token: RefreshToken) -> None:
        who = row.location_id
        if self.is_current(token):
            self.blame(who, f"was given up although its token is the current one ({row.last_error})")
        elif self.is_persons_loss(row, token):
            return
        elif not self.is_admitted(token):
            self.blame(who, f"was lost outside the admitted window ({row.last_error})")
        elif TOLD not in row.last_error and not self._is_elsewhere(token):
            self.blame(who, f"was lost and is not told so: {row.last_error}")

    def is_persons_loss(self, row: Row, token: RefreshToken) -> bool:
        """A person put something old back, threw the successor away, or let two machines refresh one table.

        In a database what one machine keeps is safe from the others, unless somebody took over.
        """
        is_elsewhere = self._is_elsewhere(token)
        if is_elsewhere or self.has_taken_over or self._world.airtable is not None:
            own, _ = journalled(self._rows, state_folder(self._rows).name)
            successors = set(token.successors)
            if successors & (journalled(self._rows)[0] - own) or (is_elsewhere and not successors & self.durable):
                return True
        return row.location_id in self.harmed or token.family in self.ended or self._is_thrown_away(token)

    def _is_elsewhere(self, token: RefreshToken) -> bool:
        """Whether the state folder in use does not know of each time that it was sent, as one that was restored."""
        return not {arrival.number for arrival in self._arrivals[token.value]} <= self.known

    def _is_thrown_away(self, token: RefreshToken) -> bool:
        later = map(self._world.oauth.tokens.__getitem__, token.successors)
        return any(one.value in self.thrown_away or self._is_thrown_away(one) for one in later)

    def is_admitted(self, token: RefreshToken) -> bool:
        """The provider had committed, and a kill or the provider itself kept the answer from being durable."""
        run = self._spent_in.get(token.value)
        was_cut = run in self._killed or token.value in self._dropped
        if known := self.durable & set(token.successors):  # one that was not proved yet may have been lost itself
            return any(self.is_admitted(self._world.oauth.tokens[one]) for one in known)
        if token.spent_at is None or not was_cut:
            return False
        if token.provider == "acme-until-used":
            return False  # the old token lives until a successor is used, and nobody has that
        return token.provider != "acme-grace" or not any(map(partial(self._was_in_grace, token), self._whole_runs))

    def _was_in_grace(self, token: RefreshToken, run: _Run) -> bool:
        """Whether a whole run had to ask for the lost answer again, and would have got it."""
        assert token.spent_at is not None
        began = run.began
        if not token.spent_at < began < token.spent_at + GRACE_SECONDS - EXCHANGE_SECONDS:
            return False
        if self._was_clock_set_since(token.spent_at) or self._dropped.get(token.value) == run.number:
            return False
        return all(
            arrival.at >= began or began - arrival.at > EXCHANGE_SECONDS for arrival in self._arrivals[token.value]
        )

    def is_current(self, token: RefreshToken) -> bool:
        """Whether it is what the provider accepts now."""
        try:
            return self._world.oauth.current(token.value) == token.value
        except LookupError:
            return False

    def opened(self, row: Row) -> str:
        """The refresh token of a row; empty where it has none. The backslashes are those of rich text."""
        cell = row.encrypted_refresh.replace("\\", "")
        try:
            return self._world.open_refresh(row.location_id, cell) if cell else ""
        except SealedCellError:
            return ""

    def _was_clock_set_since(self, at: float) -> bool:
        return any(moment >= at for moment in self._clock_set_at)

    @property
    def clock(self) -> SharedClock:
        """The services', and by how much the machine's is wrong."""
        clock = self._world.clock
        assert isinstance(clock, SharedClock)
        return clock

    def blame(self, who: str, what: str) -> None:
        self.violations.append(f"{who} {what}")
