"""One table, the machines that refresh it, and everything that happens to them: see `DEEDS`."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import crypto
from tests import exits
from tests.chaos import child
from tests.chaos.hand import Hand
from tests.chaos.oracle import A_COPY
from tests.chaos.stage import KILL, POINTS, Ended, Plan, Stage
from tests.chaos.world import KEYS, KINDS, MACHINES, all_rows, refresh_tokens_in
from tests.world.program import Result
from token_refresh.journal.installation import FILE

# 2500 s after a refresh a row is due although its last minute, of 720 s, has not begun.
PAUSES = (5.0, 95.0, 120.0, 1000.0, 2500.0, 2500.0, 2500.0, 3600.0, 4000.0, 3 * 3600.0)
CLOCK_STEPS = (-3 * 86400.0, -20 * 3600.0, -3 * 3600.0, -420.0, 420.0, 3 * 3600.0, 20 * 3600.0, 3 * 86400.0)
A_DAY = 86400.0
STEPS = 30  # of a life
SETTLING_RUNS = 8
PROVIDER_FAULTS = ("throttled", "reset", "down", "dropped", "unread")
STORE_FAULTS = ("down", "reset", "unacknowledged", "failing", "altered")
LONGEST_OUTAGE = 30  # calls; more than a run waits for
QUESTIONS = ("Location id: ", "Provider [", "Client id: ", "Client secret (not shown): ", "Refresh token (not shown): ")
PRINTED = re.compile(r"recover --cell -`: (sealed:v1:[A-Za-z0-9_:-]+)")


class Deed(NamedTuple):
    """One kind of thing that happens, and how often it is drawn."""

    name: str
    weight: int
    act: Callable[[Life], object]
    stores: tuple[str, ...] = ("sqlite", "airtable", "postgres")


@dataclass
class Machine:
    """One that has a state folder of its own.

    Attributes:
        known: the numbers of the requests that its folder knows of; see `Oracle.known`.
        seen: the refresh tokens that were in the table while it was in use; see `Oracle.seen`.
        keys: that something in its folder may need.
        is_copy: its folder was copied, or restored, and nobody has said that it goes on alone.
        is_doubted: it may say so, or that another installation refreshes the table.
    """

    state: Path
    host: str
    known: set[int] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    is_copy: bool = False
    is_doubted: bool = False

    def copied(self, folder: Path, **changes: Any) -> Machine:
        """The same, with a copy of its folder there."""
        shutil.copytree(self.state, folder)
        copy = replace(self, state=folder, known=set(self.known), seen=set(self.seen), keys=set(self.keys))
        return replace(copy, **changes)


class Snapshot(NamedTuple):
    """The table at an earlier time, the keys in it, and at Airtable the base that a snapshot of it was restored to."""

    contents: list[tuple[str, dict[str, Any]]]
    keys: set[str]
    base: Any


class Life:
    """One life of a table.

    Args:
        stage: with an empty table.
        store: which kind it is.
        rng: decides everything but the speed of the machine.
        refreshes: does one killed run of cron's.

    Attributes:
        counts: how often which deed was done, and which fate met.
    """

    def __init__(self, stage: Stage, store: str, rng: random.Random, refreshes: Callable[[Plan], Ended]) -> None:
        self._stage = stage
        self._oracle = stage.oracle
        self._rows = stage.rows
        self._world = stage.rows.world
        self._program = self._world.program
        self._settings = self._program.settings
        self._hand = Hand(stage.rows)
        self._store = store
        self._rng = rng
        self._refreshes = refreshes
        self._deeds = [deed for deed in DEEDS if store in deed.stores]
        self.counts: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self._names = [f"{kind}-{number}" for kind in KINDS for number in range(1 if kind == "acme-never" else 2)]
        for name in self._names:
            self._rows.add(_kind(name), name)
        self._machine = Machine(Path(self._settings["STATE_DIR"]), "host-1", self._oracle.known, self._oracle.seen)
        self._others: list[Machine] = []
        self._backups: list[Machine] = []
        self._snapshots: list[Snapshot] = []
        self._made = 1
        self._table_keys: set[str] = set()
        self._refused = ""  # a location that a rule of the database guards
        self._read = 0  # of the log
        self._use(self._machine)

    def step(self) -> None:
        """Something happens, and time passes."""
        deed = self._rng.choices(self._deeds, [one.weight for one in self._deeds])[0]
        self.counts[deed.name] += 1
        deed.act(self)
        self._oracle.look()
        self._world.clock.advance(self._rng.choice(PAUSES))

    # Runs of the program

    def refreshes(self) -> None:
        """As cron does."""
        self._oracle.forbids = self._why_nothing_may_be_sent()
        plan = Plan.draw(self._rng, self._store).with_fate(self._rng, self._store)
        self._judged("refresh", plan, lambda: self._refreshes(plan), is_refresh=True)
        self._oracle.forbids = ""

    def takes_over(self) -> None:
        """Somebody says that the machine in use goes on alone."""
        self._command("refresh", "--takeover", name="refresh --takeover")
        self._note_takeover()

    def lets_another_run(self) -> None:
        """A second machine comes to its cron line, or a person moves to it."""
        if not self._others:
            return self.copies_the_state()
        first, self._machine = self._machine, self._others.pop(self._rng.randrange(len(self._others)))
        self._others.append(first)
        self._use(self._machine)
        if self._rng.random() < 0.4:
            self.takes_over()
            if self._rng.random() < 0.5:
                return None  # it stays
        else:
            self.refreshes()
        self.tend()  # by what this machine knows, which did it
        self._others.append(self._machine)
        self._others.remove(first)
        return self._use(first)

    def onboards_from_csv(self, name: str = "") -> int | None:
        """A person has logged in again, or for the first time."""
        argv = ("--from-csv", self._program.csv(self._new_line(name)), "--replace")
        return self._command(*argv, script=child.ONBOARD, name="onboarding (CSV)")

    def onboards_at_a_terminal(self) -> None:
        """They type it in."""
        line = self._new_line()
        typed = dict(zip(QUESTIONS, line, strict=True)) | {"[y/N] ": "y"}
        self._command(json.dumps(typed), script=child.TERMINAL, name="onboarding (terminal)")

    def logs_in(self, name: str = "") -> int | None:
        """A program keeps what a login brought."""
        location, provider, client_id, secret, token = self._new_line(name)
        access = self._world.oauth.current_access(token)
        login = {"location_id": location, "provider": provider, "client_id": client_id, "client_secret": secret,
                 "refresh_token": token, "access_token": access, "expires_in": 3600}  # fmt: skip
        return self._command("store_tokens", json.dumps(login), script=child.LIBRARY, name="store_tokens")

    def imports(self) -> None:
        """Rows were deleted, and come back out of an export; an import that was cut off is repeated."""
        file = self._program.home / "export.json"
        if self._settings.get("ENCRYPTION_KEY_FALLBACKS") or self._is_table_down():
            return
        if self._here("export", "--output", str(file)).code not in (exits.DONE, exits.FAILED):
            return
        for row in self._rng.sample(self._hand.rows(), 2):
            self._hand.remove(row)
        if self._command("import", str(file), "--yes", name="import") not in (exits.DONE, exits.FAILED):
            self.refreshes()
            self._here("import", str(file), "--yes")

    def rotates_the_key(self) -> None:
        """A new one, or once more where that was cut off."""
        old = self._settings["ENCRYPTION_KEY"]
        if not self._settings.get("ENCRYPTION_KEY_FALLBACKS"):
            self._settings["ENCRYPTION_KEY"] = crypto.generate_key()
            self._settings[KEYS] = f"{old} {self._settings.get(KEYS, '')}"
            self._table_keys.add(old)
            for machine in (self._machine, *self._others, *self._backups):
                machine.keys.add(old)
            self._set_keys()
        if self._command("rotate-key", name="rotate-key") == exits.DONE:
            self._table_keys = set()
            self._machine.keys = set()
            self._set_keys()

    def recovers(self) -> None:
        """What waits is stored by hand."""
        self._command("recover", "--replay", name="recover")

    # The end of a client

    def revokes(self) -> None:
        """A client goes."""
        self._ends(self._rng.choice(self._names))

    def revokes_after_a_login(self) -> None:
        """A login, or an onboarding, was cut off; it is in the journal, and not in the table yet."""
        name, brings = self._rng.choice(self._names), self._rng.choice((self.logs_in, self.onboards_from_csv))
        if brings(name) != exits.DONE:
            self._ends(name)

    def _ends(self, name: str) -> None:
        how = self._rng.choice(("revoke", "delete", "delete_tokens", "disable", "row disabled", "row deleted"))
        self.counts[how] += 1
        if how.startswith("row"):  # by hand
            with self._oracle.harm():
                for row in self._hand.rows_of(name):
                    self._hand.edit(row, status="disabled") if how == "row disabled" else self._hand.remove(row)
            return
        families = {token.family for token in self._world.oauth.tokens.values() if _of(self._world, token) == name}
        whom = {"location_id": name, "provider": _kind(name)}
        for _ in range(2):
            if how == "delete_tokens":
                code = self._command(how, json.dumps(whom), script=child.LIBRARY, name=how)
            else:
                code = self._command(how, name, "--provider", _kind(name), "--yes", name=how)
            if code == exits.DONE and how == "disable":
                return
            if code == exits.DONE:
                self._oracle.ended |= families
                self._names = [one for one in self._names if one != name] or self._names
                return
            self._world.clock.advance(130)  # as it says
        if how != "disable":
            self._oracle.harmed.add(name)  # both were killed, and the provider may have revoked it at a person's wish

    # State folders

    def backs_up_the_state(self) -> None:
        """For later."""
        self._backups.append(self._machine.copied(self._folder("backups")))

    def restores_the_state(self) -> None:
        """An older copy takes the place of the folder."""
        if not self._backups:
            return self.backs_up_the_state()
        older = self._rng.choice(self._backups)
        with self._oracle.harm():
            if self._rng.random() < 0.5:
                shutil.rmtree(self._machine.state)
                shutil.copytree(older.state, self._machine.state)
                self._machine.is_copy = _has_id(older.state)
            else:
                _restore_in_place(older.state, self._machine.state)
                self._machine.is_copy = False  # as far as anybody can see
        self._machine.known, self._machine.seen = set(older.known), set(older.seen)
        self._machine.keys |= older.keys
        self._machine.is_doubted = True
        self._oracle.ended.clear()
        return self._use(self._machine)

    def copies_the_state(self) -> None:
        """To a second machine, while the first lives."""
        if len(self._others) < 2:
            host = f"host-{self._made + 1}"
            is_copy = _has_id(self._machine.state)
            self._others.append(
                self._machine.copied(self._folder(MACHINES), host=host, is_copy=is_copy, is_doubted=True)
            )

    def moves_the_state(self) -> None:
        """To another place on the same disk."""
        self._machine.state = self._machine.state.rename(self._folder(MACHINES))
        self._use(self._machine)

    def renames_the_host(self) -> None:
        """A container that starts again has another name."""
        self._made += 1
        self._machine.host = f"host-{self._made}"
        self._use(self._machine)

    # Clocks

    def sets_the_clock(self) -> None:
        """Wrong, or right again; where it is days off, somebody looks soon why nothing is refreshed."""
        self._oracle.set_clock(self._rng.choice(CLOCK_STEPS))
        if abs(self._oracle.clock.ahead) >= A_DAY:
            self.refreshes()
            self._oracle.set_clock(0)

    # The table

    def takes_a_snapshot(self) -> None:
        """Of the whole table, and at Airtable of the base."""
        base = None
        if self._world.airtable is not None:
            base = self._world.airtable.restore_snapshot(
                self._settings["AIRTABLE_BASE_ID"], keeps_record_ids=self._rng.random() < 0.5
            )
        keys = {*self._table_keys, self._settings["ENCRYPTION_KEY"]}
        self._snapshots.append(Snapshot(self._hand.contents(), keys, base))

    def restores_the_table(self) -> None:
        """As it was in a snapshot."""
        if not self._snapshots:
            return self.takes_a_snapshot()
        snapshot = self._rng.choice(self._snapshots)
        with self._restored(snapshot):
            self._hand.put_back(snapshot.contents)
        return None

    def goes_on_with_a_restored_base(self) -> None:
        """Airtable restores a snapshot to a new base, which has an id of its own."""
        if not self._snapshots:
            return self.takes_a_snapshot()
        snapshot = self._snapshots.pop(self._rng.randrange(len(self._snapshots)))
        with self._restored(snapshot):
            self._settings["AIRTABLE_BASE_ID"] = snapshot.base.id
            self._world.table = snapshot.base.table(self._world.table.name)
            self._hand = Hand(self._rows)
        return None

    @contextmanager
    def _restored(self, snapshot: Snapshot) -> Iterator[None]:
        before = {row.location_id: row.encrypted_refresh for row in all_rows(self._rows)}
        with self._oracle.harm():
            yield
        for row in all_rows(self._rows):
            if before.get(row.location_id) != row.encrypted_refresh or row.status == "reauthorize":
                self._oracle.harmed.add(row.location_id)
        self._table_keys |= snapshot.keys
        self._oracle.ended.clear()
        self._set_keys()

    def meets_a_failing_table(self) -> None:
        """Some calls to come fail, or for long; or a rule of the database refuses what is written."""
        if self._store == "airtable":
            faults = self._rng.choices(STORE_FAULTS, k=self._rng.choice((1, 1, 2)))
            times = self._rng.choice((1, 1, LONGEST_OUTAGE)) if "altered" not in faults else 1
            self._stage.weather.store = ["up"] * self._rng.randrange(6) + faults * times
            for fault in faults:
                self.counts[f"table: {fault}"] += 1
        else:
            self._refused = self._rng.choice(self._names)
            self._hand.refuse_writes_of(self._refused)
        self.refreshes()
        if self._refused:
            self._hand.accept_writes()
            self._refused = ""

    def meets_a_failing_provider(self) -> None:
        """Some requests to come fail."""
        faults = self._rng.choices(PROVIDER_FAULTS, k=self._rng.randint(1, 4))
        self._stage.weather.provider = faults
        for fault in faults:
            self.counts[f"provider: {fault}"] += 1

    # In the end

    def settle(self) -> None:
        """Things calm down; runs at the pace of cron, and the commands that they name, bring every row to its end."""
        self._stage.weather.provider, self._stage.weather.store = [], []
        if self._oracle.clock.ahead:
            self._oracle.set_clock(0)
        self._others.clear()
        said = ""
        for number in range(SETTLING_RUNS):
            self._world.clock.advance(100 if number == 0 else self._stage.interval)
            said = self._quiet_run()
            self.tend()
            if number > 0 and not self._unsettled():
                break
        # Each of several unproven tokens in a row may be an answer of its own, that the last message sends one for.
        for command in (self._by_recover, self._by_resend, self._by_discard, *(self._by_login,) * 3):
            said = self._follow(command, said)
        for _ in range(SETTLING_RUNS):
            if self._unsettled():
                said = self._later(said)  # the last answers happened to be some that the next run has to try again
        for name in self._unsettled():
            [row] = self._hand.rows_of(name)
            self._oracle.blame(name, f"is stuck: {row.status}, {row.last_error!r}, expiry {row.access_token_expiry}")
        self._end_journal()

    def _follow(self, command: Callable[[str, str], str], said: str) -> str:
        """The command for each row that is not well; the runs after it may have ended what another waited for."""
        for name in self._unsettled():
            if name in self._unsettled():
                said = command(name, said)
        return said

    def tend(self) -> None:
        """What is told as lost is judged, and connected again as its owner would."""
        for row in all_rows(self._rows):
            if self._oracle.judge(row) == "lost":
                token = self._world.oauth.tokens[self._oracle.opened(row)]
                why = "by people" if self._oracle.is_persons_loss(row, token) else "in the window"
                self.counts[f"lost {why}: {row.provider}"] += 1
                cells = self._world.cells(row.provider, row.location_id)
                fresh = {"encrypted_refresh": cells["encrypted_refresh"], "status": "active", "last_error": ""}
                self._hand.edit(row, **fresh, failure_count=0, access_token_expiry=None)
                self._oracle.harmed.discard(row.location_id)

    def _quiet_run(self) -> str:
        """One that nothing happens to, and where it asks for it, a takeover; returns what it said."""
        result = self._here("refresh", "--json")
        if "--takeover" in result.said:
            self._note_takeover()
            result = self._here("refresh", "--json", "--takeover")
        if result.code not in (exits.DONE, exits.FAILED):
            self._oracle.blame("a quiet run", f"ended with {result.code}: {result.err[-300:]}")
        return result.said

    def _unsettled(self) -> list[str]:
        return [row.location_id for row in all_rows(self._rows) if self._oracle.judge(row) in ("waiting", "lost")]

    def _by_recover(self, name: str, said: str) -> str:
        self.counts["ended by: recover --replay"] += 1
        return self._here("recover", "--replay").said + self._later(said)

    def _by_resend(self, name: str, said: str) -> str:
        [row] = self._hand.rows_of(name)
        if "a form that is not known" not in row.last_error:
            return said
        self.counts["ended by: recover --resend"] += 1
        self._oracle.agreed(self._oracle.opened(row))
        self._require(self._here("recover", "--resend", name))
        return self._later(said)

    def _by_discard(self, name: str, said: str) -> str:
        [row] = self._hand.rows_of(name)
        if "a form that is not known" not in row.last_error:
            return said
        self.counts["ended by: recover --discard"] += 1
        self._oracle.agreed(self._oracle.opened(row))
        self._require(self._here("recover", "--discard", name, "--yes"))
        return self._later(said)

    def _by_login(self, name: str, said: str) -> str:
        """Where it says so; what is only to be tried again is."""
        [row] = self._hand.rows_of(name)
        lines = [line for line in said.splitlines() if name in line]
        latest = " ".join(lines[-1:])  # what the last run said of it
        if re.search("Nothing to do now|not tried", latest):
            return self._later(said)
        if "recover --replay" in latest:  # for it came to that only now
            return self._by_recover(name, said)
        told = " ".join(lines)
        if not re.search("onboard|log in|connect", told + row.last_error, re.IGNORECASE):
            self._oracle.blame(name, f"needs a login, and nothing says so: {told!r}, {row.last_error!r}")
        self.counts["ended by: onboarding"] += 1
        line = self._new_line(name)
        argv = ("--from-csv", self._program.csv(line), "--replace")
        self._require(self._stage.here(lambda: self._program.onboard(*argv)))
        return self._later(said)

    def _later(self, said: str) -> str:
        for pause in (100, self._stage.interval):
            self._world.clock.advance(pause)
            said = self._quiet_run()
            self.tend()
        return said

    def _end_journal(self) -> None:
        """What is left there are tokens that somebody's own superseded; a command ends them."""
        for entry in self._here("recover", "--json").json()["entries"]:
            if entry["step"] == "superseded":
                self.counts["ended by: recover --forget"] += 1
                self._require(self._here("recover", "--forget", str(entry["entry"]), "--yes"))
            elif entry["step"] == "unread":
                self._require(self._here("recover", "--discard", entry["location_id"], "--yes"))
            elif all(row.status != "disabled" for row in self._hand.rows_of(entry["location_id"])):
                self._end_of_row(entry)

    def _end_of_row(self, entry: dict[str, Any]) -> None:
        """Either its row was deleted, or the next refresh of the row ends it: the row has another credential by now."""
        if self._hand.rows_of(entry["location_id"]):
            self._here("refresh", "--all", "--location", entry["location_id"])
            if entry["entry"] not in [one["entry"] for one in self._here("recover", "--json").json()["entries"]]:
                return
        self.counts["ended by: recover --forget"] += 1
        self._require(self._here("recover", "--forget", str(entry["entry"]), "--yes"))

    def _require(self, result: Result) -> None:
        if result.code != exits.DONE:
            self._oracle.blame("a documented command", f"ended with {result.code}: {result.err[-300:]}")

    # Inside

    def _command(self, *argv: str, name: str, script: str = child.RUN) -> int | None:
        """A command that may be struck; returns the exit code of the process."""
        plan = self._plan(name)
        return self._judged(name, plan, lambda: self._stage.run(plan, *argv, script=script)).codes[0]

    def _plan(self, name: str) -> Plan | None:
        """For a command; the provider is asked once by an onboarding, and seldom by another."""
        plan = Plan.draw(self._rng, self._store).with_fate(self._rng, self._store)
        if self._rng.random() < 0.2:
            return None
        around_table = [point for point in POINTS[self._store] if point in ("asked", "done", "confirmed")]
        points = (*around_table, "timed", *(("arrived", "acted", "answered") if "onboarding" in name else ()))
        point = self._rng.choice(points)
        nth = 1 if point in ("arrived", "acted", "answered") else plan.nth
        delay = self._rng.uniform(0, 0.12) if point == "timed" else plan.delay
        return replace(plan, point=point, nth=nth, delay=delay, drops=0, is_double=False)

    def _judged(self, name: str, plan: Plan | None, act: Callable[[], Ended], *, is_refresh: bool = False) -> Ended:
        """Do it, and look how it ended."""
        has_table_failed = bool(self._stage.weather.store or self._refused)
        self._stage.note(f"{name}: {plan}")
        spare = self._settings["STATE_DIR_SPARE"]
        waits = any(self._program.home.glob("spare/*.sealed"))  # a file that the next run takes over
        if plan is not None and plan.lot > 1 and not waits:
            self._settings["STATE_DIR_SPARE"] = f"{self._stage.log}/spare"  # which no disk takes
        ended = act()
        self._settings["STATE_DIR_SPARE"] = spare
        is_struck = plan is not None and ended.is_struck and plan.fate != KILL
        if plan is not None and (ended.is_killed or is_struck):
            self.counts[f"{plan.fate}"] += 1
            self.kills[name] += ended.is_killed
        good = {exits.DONE, exits.FAILED}
        if has_table_failed or is_struck:
            good |= {exits.STORE, exits.USAGE}
        if self._machine.is_doubted or abs(self._oracle.clock.ahead) >= A_DAY or not is_refresh:
            good |= {exits.USAGE}
        if len(ended.codes) > 1:
            good |= {exits.BUSY}
        self._oracle.violations += [f"{name} ended with {code}" for code in ended.others if code not in good]
        self._take_what_was_printed()
        return ended

    def _take_what_was_printed(self) -> None:
        """An answer that no disk took, and not the table either, is given back as the line says."""
        log = self._stage.log.read_text() if self._stage.log.exists() else ""
        printed, self._read = log[self._read :], len(log)
        for cell in sorted(set(PRINTED.findall(printed))):
            self._oracle.durable |= refresh_tokens_in(self._world, cell)
            self.counts["ended by: recover --cell"] += 1
            file = self._program.home / "printed"
            file.write_text(f"{cell}\n")
            weather, self._stage.weather.store = self._stage.weather.store, []
            result = self._here("recover", "--cell", str(file))
            self._stage.weather.store = weather
            if result.code not in (exits.DONE, exits.FAILED):
                self._oracle.blame("recover --cell", f"ended with {result.code}: {result.err[-300:]}")

    def _here(self, *argv: str) -> Result:
        return self._stage.here(lambda: self._program.run(*argv))

    def _why_nothing_may_be_sent(self) -> str:
        if self._machine.is_copy:
            return A_COPY
        is_hopeless = abs(self._oracle.clock.ahead) >= A_DAY and self._store != "sqlite"
        return "the clock is a day wrong" if is_hopeless else ""

    def _note_takeover(self) -> None:
        """From now on the others are in doubt; what they keep and have not stored is for them alone."""
        self._oracle.has_taken_over = True
        self._machine.is_copy = False
        for machine in (self._machine, *self._others):
            machine.is_doubted = True

    def _use(self, machine: Machine) -> None:
        """From now on the commands are given on this machine."""
        self._machine = machine
        self._settings["STATE_DIR"] = str(machine.state)
        self._stage.host = machine.host
        self._oracle.known, self._oracle.seen = machine.known, machine.seen
        self._set_keys()

    def _set_keys(self) -> None:
        before = (self._machine.keys | self._table_keys) - {self._settings["ENCRYPTION_KEY"]}
        self._settings.pop("ENCRYPTION_KEY_FALLBACKS", None)
        if before:
            self._settings["ENCRYPTION_KEY_FALLBACKS"] = ",".join(sorted(before))

    def _folder(self, kind: str) -> Path:
        self._made += 1
        folder = self._program.home / kind / str(self._made)
        folder.parent.mkdir(exist_ok=True)
        return folder

    def _new_line(self, name: str = "") -> tuple[str, str, str, str, str]:
        """A fresh grant of some client, as a line of a CSV file."""
        name = name or self._rng.choice(self._names)
        return self._world.csv_line(_kind(name), name)

    def _is_table_down(self) -> bool:
        return bool(self._stage.weather.store)


def _kind(name: str) -> str:
    return name.rpartition("-")[0]


def _of(world: Any, token: Any) -> str | None:
    location: str | None = world.oauth.family(token.value).location_id
    return location


def _has_id(state: Path) -> bool:
    """Whether a run came so far as to give the state folder its id; else a copy of it is a new one."""
    if not (state / FILE).exists():
        return False
    with closing(sqlite3.connect(state / FILE)) as database:
        return bool(database.execute("PRAGMA user_version").fetchone()[0])


def _restore_in_place(older: Path, folder: Path) -> None:
    """As `rsync --inplace --delete` does: the files stay the same, with other contents."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not (older / path.relative_to(folder)).exists():
            path.rmdir() if path.is_dir() else path.unlink()
    for path in sorted(older.rglob("*")):
        target = folder / path.relative_to(older)
        if path.is_dir():
            target.mkdir(mode=0o700, exist_ok=True)
        else:
            is_new = not target.exists()
            target.write_bytes(path.read_bytes())
            if is_new:
                shutil.copymode(path, target)


DEEDS = (
    Deed("refresh", 60, Life.refreshes),
    Deed("store_tokens", 4, Life.logs_in),
    Deed("onboarding (CSV)", 4, Life.onboards_from_csv),
    Deed("onboarding (terminal)", 3, Life.onboards_at_a_terminal),
    Deed("import", 3, Life.imports),
    Deed("rotate-key", 4, Life.rotates_the_key),
    Deed("recover", 3, Life.recovers),
    Deed("client revoked, deleted or disabled", 1, Life.revokes),
    Deed("the same after a login that was cut off", 2, Life.revokes_after_a_login),
    Deed("state folder backed up", 3, Life.backs_up_the_state),
    Deed("state folder restored", 2, Life.restores_the_state),
    Deed("state folder copied", 2, Life.copies_the_state),
    Deed("state folder moved", 2, Life.moves_the_state),
    Deed("a second machine", 4, Life.lets_another_run),
    Deed("host renamed", 2, Life.renames_the_host),
    Deed("clock set", 5, Life.sets_the_clock),
    Deed("snapshot of the table", 3, Life.takes_a_snapshot),
    Deed("table restored", 2, Life.restores_the_table),
    Deed("base restored under a new id", 2, Life.goes_on_with_a_restored_base, ("airtable",)),
    Deed("table fails", 6, Life.meets_a_failing_table),
    Deed("provider fails", 6, Life.meets_a_failing_provider),
)
