"""Where runs are struck: real processes between the fake services, which see every request and choose the moment."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sqlite3
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import urlsplit

from crypto import SealedCellError
from tests import exits
from tests.chaos import child
from tests.chaos.oracle import Oracle, comes_alone
from tests.chaos.world import CLOCK_FILE, all_rows, end_sessions, journalled, server, wait_for_sessions
from tests.refresh.runs.faults_world import PostgresRows, Rows
from tests.world import http
from tests.world.airtable import errors
from tests.world.oauth import faults
from tests.world.oauth.faults import Act, Call, Fault
from tests.world.oauth.forms import SHAPES
from tests.world.program import Result

PATIENCE_SECONDS = 60.0
KEPT_WITHIN_SECONDS = 5.0  # real ones; an answer that was delivered takes milliseconds to be durable
RUN_SECONDS = 0.16  # about what a whole run takes
DRAIN_SECONDS = 0.003
KILLED = -9
DROPS_IN_A_ROW = 3
READABLE = [shape for shape in SHAPES.values() if shape.is_read]
UNREAD = SHAPES["two levels down"]

# Where a run may be killed, and how often each is chosen. `timed` is any moment; `busy` holds the database,
# so that answers stay in the journal; the last three stand around a call to Airtable.
POINTS = {
    "sqlite": {"timed": 5, "arrived": 3, "acted": 4, "answered": 6, "busy": 6},
    "postgres": {"timed": 5, "arrived": 3, "acted": 4, "answered": 6, "busy": 6},
    "airtable": {"timed": 4, "arrived": 3, "acted": 4, "answered": 5, "asked": 4, "done": 3, "confirmed": 2},
}
# What happens to it there, and how often.
KILL, DISK_FULL = "killed", "journal's disk full"
FATES = {
    KILL: 24,
    DISK_FULL: 3,  # until the ballast is gone, or even then
    "clock set": 1,  # while it runs
    "database sessions ended": 1,  # of a server
}
CLOCK_STEPS = (-3 * 3600.0, -420.0, 420.0, 3 * 3600.0)


@dataclass(frozen=True)
class Plan:
    """What one run is to meet: at the `nth` event of this kind, after `delay` real seconds, its `fate`.

    `acts`: the provider still does what the killed run asked for. `drops`: the answers to this request of the run
    and the next two are lost, too. `is_double`: a second run starts at the same time. `lot` decides the rest.
    """

    point: str
    nth: int
    delay: float
    acts: bool
    drops: int
    is_double: bool
    fate: str = KILL
    lot: int = 0

    @classmethod
    def draw(cls, rng: random.Random, store: str) -> Plan:
        """The next plan that kills."""
        points = POINTS[store]
        point = rng.choices(list(points), list(points.values()))[0]
        delay = rng.uniform(0, RUN_SECONDS) if point == "timed" else rng.choice((0.0, rng.expovariate(500)))
        drops = rng.randint(1, 9) if rng.random() < 0.3 else 0
        return cls(point, rng.randint(1, 7), delay, rng.random() < 0.5, drops, rng.random() < 0.1)

    def with_fate(self, rng: random.Random, store: str) -> Plan:
        """The same with a fate by chance."""
        fates = [fate for fate in FATES if fate != "database sessions ended" or store == "postgres"]
        return replace(self, fate=rng.choices(fates, [FATES[fate] for fate in fates])[0], lot=rng.randrange(4))


@dataclass
class Weather:
    """What goes wrong beside kills: the next faults of the provider and of the store, and what a person does.

    Attributes:
        provider: `throttled`, `reset`, `down` (nothing is done), `dropped` (done, and the answer is lost) or
            `unread` (done, and answered in a form that is not known).
        store: of Airtable: `down`, `reset` (nothing is done), `unacknowledged`, `failing` (done, and answered with
            500) or `altered` (done, and what was written is changed on the way); `up` is none.
        meanwhile: is called once, while a run waits for a provider that has acted, with the location.
    """

    provider: list[str] = field(default_factory=list)
    store: list[str] = field(default_factory=list)
    meanwhile: Callable[[str], None] | None = None

    def see(self, call: Call) -> None:
        """A provider has acted."""
        act, self.meanwhile = self.meanwhile, None
        if act is not None and call.location_id is not None:
            act(call.location_id)


def _reshaped(call: Call, answer: http.Response) -> http.Response:
    """The answer in one of the forms that can be read, by lot; sometimes without its access token.

    The lot is drawn from the token, so that a round can be repeated.
    """
    lot = zlib.crc32((call.refresh_token or "").encode())
    shape = READABLE[lot % len(READABLE)]
    if answer.status != 200:
        return answer
    content = json.loads(answer.body)
    if "refresh_token" in content and comes_alone(call.refresh_token or ""):
        content = {"refresh_token": content["refresh_token"]}
    return replace(answer, body=shape.write(content), headers={**answer.headers, **shape.headers})


class Trap:
    """Waits at the fake services for the moment of a plan and kills there."""

    def __init__(self, rows: Rows, oracle: Oracle, plan: Plan | None, weather: Weather) -> None:
        self._rows = rows
        self._oracle = oracle
        self._plan = plan
        self._weather = weather
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._started = threading.Event()
        self._threads: list[threading.Thread] = []
        self._there = set(threading.enumerate())
        self._process: BaseProcess | None = None
        self.is_struck = False
        self.writing: set[str] = set()  # refresh tokens on their way into the table

    def aim(self, process: BaseProcess) -> None:
        """From now on this process is the one to kill."""
        self._process = process
        self._started.set()
        if self._is_moment("timed", 1):
            self._later(self._kill)

    def at_provider(self, call: Call, act: Act) -> http.Response:
        """Stands around each token request."""
        refuse_torn(call.request)
        self._oracle.arrived(call)
        if self._weather.provider:
            return self._fail(self._weather.provider.pop(0), call, act)
        if self._is_moment("arrived"):
            self._kill()
            if self._plan is not None and not self._plan.acts:
                self._oracle.dropped(call)
                raise http.Hangup
        is_busy = call.dialect.rotation != "never" and self._is_moment("busy")
        blocked = self._block() if is_busy else None
        before = self._successors(call)
        answer = _reshaped(call, self._done(call, act))
        self._weather.see(call)
        if blocked is not None:
            new = self._successors(call) - before
            self._later(lambda: self._kill_once_kept(call, new, blocked))
        if self._is_moment("acted"):
            self._kill()
        if self._is_dropped() and blocked is None:
            self._oracle.dropped(call)
            raise http.Hangup
        if self._is_moment("answered"):
            self._later(self._kill)
        return answer

    def at_airtable(self, request: http.Request, act: Callable[[], http.Response]) -> http.Response:
        """Stands around each call to Airtable."""
        refuse_torn(request)
        self.writing |= self._tokens_in(request)
        if self._weather.store and (fault := self._weather.store.pop(0)) != "up":
            return self._fail_store(fault, request, act)
        if self._is_moment("asked"):
            self._kill()
            raise http.Hangup
        answer = act()
        if self._is_moment("done"):
            self._kill()
        if self._is_moment("confirmed"):
            self._later(self._kill)
        return answer

    def rest(self) -> None:
        """Until nobody kills and no request is under way any more; a dead process's may still have been waiting."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for url in filter(None, (self._rows.world.oauth.url, getattr(self._rows.world.airtable, "url", None))):
            _reach(url)
        for thread in set(threading.enumerate()) - self._there:
            if "process_request_thread" in thread.name:  # one for each connection
                thread.join(PATIENCE_SECONDS)

    def _fail(self, fault: str, call: Call, act: Act) -> http.Response:
        """The provider has a bad day: of these answers none can be used."""
        if fault == "throttled":
            self._oracle.refused(call)
            return faults.too_many_requests(5).apply(call, act)
        if fault == "unread":
            answer = self._done(call, act)
            return answer if answer.status != 200 else replace(answer, body=UNREAD.write(json.loads(answer.body)))
        self._oracle.dropped(call)
        if fault == "reset":
            return faults.reset().apply(call, act)
        if fault == "down":
            return faults.status(503).apply(call, act)
        act()
        self._oracle.acted(call)
        raise http.Hangup

    def _done(self, call: Call, act: Act) -> http.Response:
        """What the provider answers, to be sent on."""
        answer = act()
        if answer.status >= 400 and call.refresh_token is not None:
            self._oracle.rejected.add(call.refresh_token)
        self._oracle.acted(call)
        return answer

    def _fail_store(self, fault: str, request: http.Request, act: Callable[[], http.Response]) -> http.Response:
        if fault == "down":
            return errors.server_error(503).response()
        if fault == "reset":
            raise http.Hangup
        answer = act()
        if fault == "unacknowledged":
            raise http.Hangup
        if fault == "failing":
            return errors.server_error(500).response()
        if request.method not in ("PATCH", "PUT", "POST") or answer.status != 200:
            return answer
        content = json.loads(answer.body)
        for record in content.get("records", [content]):
            cell = record.get("fields", {}).get("encrypted_refresh")
            if cell:  # as a column of rich text does
                record["fields"]["encrypted_refresh"] = altered = cell.replace("_", "\\_") + "\n"
                self._rows.world.table.edit(record["id"], {"encrypted_refresh": altered})
        return replace(answer, body=json.dumps(content).encode())

    def _counted(self, point: str) -> int:
        with self._lock:
            self._counts[point] += 1
            return self._counts[point]

    def _is_moment(self, point: str, nth: int = 0) -> bool:
        count = self._counted(point)
        return self._plan is not None and self._plan.point == point and count == (nth or self._plan.nth)

    def _is_dropped(self) -> bool:
        count = self._counted("drops")
        return self._plan is not None and 0 <= count - self._plan.drops < DROPS_IN_A_ROW and self._plan.drops > 0

    def _later(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _kill(self) -> None:
        """The moment has come: for most it is the end."""
        assert self._plan is not None
        self._started.wait(PATIENCE_SECONDS)
        time.sleep(self._plan.delay)
        self.is_struck = True
        world, lot = self._rows.world, self._plan.lot
        if self._plan.fate == DISK_FULL:
            (world.program.home / child.DISK_FULL).write_text(child.WITH_BALLAST if lot == 0 else child.WITHOUT_BALLAST)
        elif self._plan.fate == "clock set":
            self._oracle.set_clock(CLOCK_STEPS[lot])
        elif self._plan.fate == "database sessions ended":
            end_sessions(self._rows)
        elif self._process is not None:
            self._process.kill()

    def _block(self) -> ExitStack:
        """Hold the database against all writers: what was answered cannot leave the journal."""
        stack = ExitStack()
        if isinstance(self._rows, PostgresRows):
            shell = stack.enter_context(closing(server().connect(self._rows.address())))
            shell.execute("BEGIN")
            shell.execute("LOCK TABLE credentials IN EXCLUSIVE MODE")
            return stack
        path = self._rows.world.program.settings["DATABASE_URL"].removeprefix("sqlite:///")
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        stack.enter_context(closing(database)).execute("BEGIN IMMEDIATE")
        return stack

    def _successors(self, call: Call) -> set[str]:
        return set(self._rows.world.oauth.tokens[call.refresh_token or ""].successors)

    def _kill_once_kept(self, call: Call, new: set[str], blocked: ExitStack) -> None:
        """The answer with this new token leaves now: it has to become durable although nothing can be stored."""
        deadline = time.monotonic() + KEPT_WITHIN_SECONDS
        with blocked:  # which gives the database free
            while not new <= journalled(self._rows)[0]:
                if time.monotonic() > deadline:
                    self._oracle.violations.append(f"{call.location_id}: its answer is delivered and not durable")
                    break
                time.sleep(DRAIN_SECONDS)
            self._kill()

    def _tokens_in(self, request: http.Request) -> set[str]:
        """The refresh tokens that a request would write."""
        if request.method not in ("PATCH", "PUT"):
            return set()
        names = {record["id"]: record["fields"].get("locationId") for record in self._rows.world.table.records()}
        cells = {record["id"]: record["fields"].get("encrypted_refresh") for record in request.json()["records"]}
        found: set[str] = set()
        for key, cell in cells.items():
            with contextlib.suppress(SealedCellError):  # a cell that the table altered is put back
                found |= {self._rows.world.open_refresh(names[key], cell)} if cell else set()
        return found


def _reach(url: str) -> None:
    """Return once the server has taken up a connection made now, and so every one before it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE_SECONDS) as connection:
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def refuse_torn(request: http.Request) -> None:
    """A process that is killed while it sends leaves half a request, on which no server acts."""
    if len(request.body) < int(request.headers.get("content-length", 0)):
        raise http.Hangup


@dataclass(frozen=True)
class Ended:
    """How the processes of one step ended; of two the first is the one that was to be killed."""

    codes: list[int | None]
    writing: set[str]
    is_struck: bool

    @property
    def is_killed(self) -> bool:
        """Whether the kill came before the end."""
        return self.codes[0] == KILLED

    @property
    def others(self) -> list[int | None]:
        """The exit codes of those that nobody killed."""
        return self.codes[self.is_killed :]


class Stage:
    """A table, the services around it, and processes that work on it.

    Args:
        rows: the table.
        forks: where processes come from.
        folder: holds the clock's file, and takes what the processes print.
    """

    def __init__(self, rows: Rows, forks: ForkServerContext, folder: Path) -> None:
        self.rows = rows
        self.host = ""  # the name of the machine
        self._forks = forks
        self._clock_file = folder / CLOCK_FILE
        self.log = folder / "log"
        settings = rows.world.program.settings
        self.interval = int(settings["REFRESH_INTERVAL"])
        self.oracle = Oracle(rows, self.interval + int(settings["TOKEN_EXPIRY_BUFFER"]))
        self.weather = Weather()
        self._trap = Trap(rows, self.oracle, None, self.weather)
        world = rows.world
        world.oauth.fail(Fault("trap", lambda call, act: self._trap.at_provider(call, act)), times=float("inf"))
        if world.airtable is not None:
            world.airtable.inject(lambda request, act: self._trap.at_airtable(request, act), times=None)

    def run(self, plan: Plan | None, *argv: str, script: str = child.RUN) -> Ended:
        """A process, or two, to their end."""
        count = 2 if plan is not None and plan.is_double else 1
        self._trap = trap = Trap(self.rows, self.oracle, plan, self.weather)
        is_refresh = script == child.RUN and argv[:1] in ((), ("--json",))  # other verbs ask no provider again
        self.oracle.begin(is_alone=count == 1 and is_refresh)
        is_calm = not (self.weather.provider or self.weather.store)
        settings = self.rows.world.program.settings
        place = (self._clock_file, self.log, self.host)
        processes = [child.start(self._forks, script, argv, settings, *place) for _ in range(count)]
        trap.aim(processes[0])
        for process in processes:
            self._await(process, plan)
        wait_for_sessions(self.rows)
        trap.rest()
        (self._clock_file.with_name(child.DISK_FULL)).unlink(missing_ok=True)
        ended = Ended([process.exitcode for process in processes], trap.writing, trap.is_struck)
        is_whole = is_calm and not ended.is_struck and set(ended.codes) <= {exits.DONE, exits.FAILED}
        is_disk_full = plan is not None and plan.fate == DISK_FULL and ended.is_struck
        self.oracle.end(is_killed=ended.is_killed, is_whole=is_whole, is_disk_full=is_disk_full)
        if not is_disk_full:  # then an answer may be on no disk, but printed
            self._require_durable(trap.writing)
        return ended

    def _require_durable(self, written: set[str]) -> None:
        """Of what went into the table, all but what was proved since, or belongs to a client who was ended."""
        oauth, durable = self.rows.world.oauth, self.oracle.durable
        there = {row.location_id for row in all_rows(self.rows) if row.encrypted_refresh}
        left = [one for one in written - durable if oauth.family(one).location_id in there]
        if any(not durable & set(oauth.tokens[one].successors) for one in left):
            self.oracle.violations.append("an answer went to the table before it was durable")

    def note(self, text: str) -> None:
        """Put a line into the log, between what the processes print."""
        with self.log.open("a") as log:
            log.write(f"--- {self.rows.world.clock.now():%d. %H:%M:%S} {text}\n")

    def here(self, act: Callable[[], Result]) -> Result:
        """A command in this process, which nobody kills."""
        self._trap = Trap(self.rows, self.oracle, None, self.weather)
        self.oracle.begin(is_alone=False)
        result = act()
        self.note(f"ended with {result.code}\n{result.said}")
        self.oracle.end(is_killed=False)
        return result

    def _await(self, process: BaseProcess, plan: Plan | None) -> None:
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            self.oracle.violations.append(f"a run hung ({plan})")
            process.kill()
            process.join(PATIENCE_SECONDS)
