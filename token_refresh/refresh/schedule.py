"""Which row goes next, which waits, which is tried again. A state machine without I/O: no network, threads or waiting.

Three things can hold a row back: its host brought no complete answer too often in a row (the breaker), its client was
refused or throttled and another row is tried first, or its own next attempt lies ahead.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from providers.base import SERVER_ERROR, TOO_MANY_REQUESTS, Judgement, Provider, Verdict
from token_refresh.refresh import replay
from token_refresh.refresh.jobs import ClientKey

MAX_PAUSE_SECONDS = 60.0  # a longer Retry-After is left to the next run
BREAKER_FAILURES = 10  # without a complete answer, in a row, from one host
BREAKER_SECONDS = 60.0  # how long other processes leave it alone then; after that each tries once
MAX_CLIENT_PAUSE_SECONDS = 3600.0  # of what a provider asks for; then one request may hear it again
MAX_PROBES = 2


@dataclass(eq=False)
class Task:
    """One row to be refreshed, and what became of it so far in this run. It knows no token.

    Attributes:
        key: the row's.
        expires_at: when its access token ends.
        lost_at: when an earlier run sent its refresh token and never saw a usable answer; None where none did.
        is_last_minute: its access token is nearly out.
        has_failed: it did when it was last tried.
        verdict: its end in this run, once that is known; after a judgement it may differ from the answer's.
        is_lost: an answer of this run was lost, and the token was or may be sent again.
        sent_at: when its last request began (monotonic seconds).
        not_before, not_after: between which times its next one may begin: while a dead run's may arrive it must not,
            and some answer a spent token only for a while.
        entry_id: its journal entry, once a request was about to leave.
        failure: the mistake of this program that it met.
    """

    key: str
    provider: Provider
    client: ClientKey
    expires_at: datetime | None = None
    lost_at: datetime | None = None
    is_last_minute: bool = False
    has_failed: bool = False
    order: int = 0
    attempts: int = 0
    answer: Judgement | None = None
    verdict: Verdict | None = None
    is_lost: bool = False
    sent_at: float = 0.0
    not_before: float = 0.0
    not_after: float = math.inf
    entry_id: int | None = None
    failure: Exception | None = None

    def __lt__(self, other: Task) -> bool:
        return self.order < other.order

    @property
    def is_begun(self) -> bool:
        """Whether a request went out for it."""
        return self.attempts > 0


@dataclass
class _Host:
    """One host and port that token requests go to."""

    name: str
    failures: int = 0
    probe: Task | None = None  # a row that was well so far; the others wait until it is answered
    paused_until: float = 0.0
    is_broken: bool = False


@dataclass(eq=False)
class _Client:
    """One client id and secret at one token endpoint, and whether it is being judged."""

    provider: str
    client_id: str
    host: _Host
    rows: dict[Task, None] = field(default_factory=dict)  # in the order of the run; a task that ended is let go
    in_flight: int = 0
    held: list[Task] = field(default_factory=list)  # until it is judged or its pause is over
    refused: list[Task] = field(default_factory=list)
    probe: Task | None = None
    probes: int = 0
    throttled: Task | None = None  # the row that was, while no other row has been accepted since
    paused_until: float = 0.0
    closed: str = ""  # why none of its rows is started any more

    @property
    def key(self) -> str:
        """Its name to other processes."""
        return f"{self.host.name} {self.client_id}"

    @property
    def held_until(self) -> float:
        """Until when it is left alone, or its host."""
        return max(self.paused_until, self.host.paused_until)

    @property
    def may_start(self) -> bool:
        """Whether any of its rows is started in this run."""
        return not (self.closed or self.host.is_broken)

    def next_probe(self) -> Task | None:
        """The row to send as a probe: of those not begun the one with the latest expiry."""
        left = [task for task in self.rows if not task.is_begun]
        return max(left, key=lambda task: task.expires_at or _BEGINNING_OF_TIME, default=None)


class Hold(NamedTuple):
    """A host, or a client at a host, that is to be left alone for so many seconds, which other processes should know.

    Attributes:
        key: what is paused, by a name that all processes give it.
        is_broken: the host does not answer; otherwise the client was asked to wait.
    """

    key: str
    seconds: float
    is_broken: bool


class Schedule:
    """The order of one run.

    Args:
        jitter: randomness of the back-off.
    """

    def __init__(self, jitter: random.Random) -> None:
        self._jitter = jitter
        self._hosts: dict[str, _Host] = {}
        self._clients: dict[ClientKey, _Client] = {}
        self._waiting: list[Task] = []  # a heap
        self._delayed: list[tuple[float, Task]] = []
        self._holding: dict[_Client, None] = {}
        self._open: set[Task] = set()  # begun, and not settled yet
        self._holds: list[Hold] = []
        self._count = 0

    def extend(self, tasks: Iterable[Task]) -> None:
        """More rows of the same run, after those that are there.

        Those that failed last time come last. Within both, a lost answer comes first, then the soonest expiry.
        """
        for task in sorted(tasks, key=_urgency):
            task.order = self._count
            self._count += 1
            key = task.client
            client = self._clients.get(key)
            if client is None:
                name = urlsplit(key.token_url).netloc.lower()
                host = self._hosts.setdefault(name, _Host(name))
                client = self._clients[key] = _Client(task.provider.name, key.client_id, host)
            client.rows[task] = None
            if task.not_before:
                self._delayed.append((task.not_before, task))
            else:
                heapq.heappush(self._waiting, task)

    def next(self, now: float) -> Task | None:
        """The task to start now (monotonic seconds); None where nothing may start at the moment."""
        self._release(now)
        while (task := self._pop(now)) is not None:
            client = self._client(task)
            if not client.may_start or now >= task.not_after:
                continue
            if self._has_to_wait(task, now):
                client.held.append(task)
                self._holding[client] = None
                continue
            task.attempts, task.sent_at = task.attempts + 1, now
            client.in_flight += 1
            self._open.add(task)
            return task
        return None

    def take_holds(self) -> list[Hold]:
        """What became known since the last time."""
        holds, self._holds = self._holds, []
        return holds

    def hold(self, hold: Hold, now: float) -> list[Task]:
        """Leave a host or a client alone, as another process does; returns the tasks that end by it.

        A host that was broken gets one request afterwards, not as many as it took to find that out.
        """
        if hold.seconds <= 0:
            return []
        if not hold.is_broken:
            named = [client for client in self._clients.values() if client.key == hold.key]
            return self._let_go([task for client in named for task in self._pause(client, hold.seconds, now)])
        host = self._hosts.get(hold.key)
        if host is not None and not host.is_broken:
            host.failures = max(host.failures, BREAKER_FAILURES - 1)
            host.paused_until = max(host.paused_until, now + hold.seconds)
        return []

    def wakes_at(self, now: float) -> float | None:
        """When `next` may have something that it has not now; None where only an answer can change that."""
        times = [max(at, self._client(task).held_until) for at, task in self._delayed if self._client(task).may_start]
        times += [one.held_until for one in self._holding if one.may_start and one.held_until > now]
        return min(times, default=None)

    def settle(self, task: Task, answer: Judgement, now: float) -> list[Task]:
        """Take in an answer; returns the tasks whose end is known by it."""
        task.answer = answer
        client = self._client(task)
        client.in_flight -= 1
        ended: list[Task] = []
        if answer.verdict is Verdict.CLIENT_REFUSED and not client.closed:
            client.refused.append(task)
        elif (at := now + self._delay(task, answer)) < task.not_after and client.may_start:
            self._delayed.append((at, task))
        else:
            ended += _give_up([task])
        ended += self._throttle(client, task, answer, now)
        ended += self._watch(client.host, answer)
        if client.refused and not client.in_flight and not client.closed:
            ended += self._judge(client)
        return self._let_go(ended)

    def withdraw(self, task: Task) -> None:
        """The request did not leave, because the journal took no note of it: nothing was tried."""
        task.attempts -= 1
        self._client(task).in_flight -= 1
        if task.answer is None:
            self._open.discard(task)

    def drain(self) -> list[Task]:
        """Give up what waits for another attempt or for a judgement: the run starts nothing more."""
        self._delayed.clear()
        for client in self._clients.values():
            self._end_judgement(client)
        left, self._open = sorted(self._open), set()
        return _give_up(left)

    def not_begun(self, now: float) -> Iterator[tuple[Task, str, float | None, str]]:
        """The rows that no request went out for, why, when that ends (monotonic seconds) where it is known, and the
        host that does not answer, where that is why. The reason is empty where nothing here holds them back.
        """
        for client in self._clients.values():
            until = client.held_until if client.held_until > now else None
            reason, host = client.closed, ""
            if client.host.is_broken or client.host.paused_until > now:
                reason, host = f"{client.host.name} does not answer", client.host.name
            elif until is not None:
                reason = _asks_for_a_pause(client)
            yield from ((task, reason, until, host) for task in client.rows if not task.is_begun)

    # Picking

    def _pop(self, now: float) -> Task | None:
        ready = min((entry for entry in self._delayed if entry[0] <= now), default=None)
        if ready is not None:
            self._delayed.remove(ready)
            return ready[1]
        return heapq.heappop(self._waiting) if self._waiting else None

    def _release(self, now: float) -> None:
        """Let the held rows of a client go that need not wait any more."""
        for client in list(self._holding):
            held, client.held = client.held, []
            for task in held:
                if self._has_to_wait(task, now):
                    client.held.append(task)
                elif task.is_begun:
                    self._delayed.append((0.0, task))
                else:
                    heapq.heappush(self._waiting, task)
            if not client.held:
                del self._holding[client]

    def _has_to_wait(self, task: Task, now: float) -> bool:
        client = self._client(task)
        if client.held_until > now or (client.throttled is not None and client.in_flight):
            return True
        if client.host.probe not in (None, task):
            return True
        return bool(client.refused) and task is not client.probe

    def _client(self, task: Task) -> _Client:
        return self._clients[task.client]

    # Trying again

    def _delay(self, task: Task, answer: Judgement) -> float:
        """Seconds until the next attempt; infinite where there is none in this run."""
        backoff = self._jitter.uniform(0.5, 1.0) * 2.0**task.attempts
        if replay.is_lost(task.provider, answer):
            was_lost = task.is_lost or task.lost_at is not None
            task.not_after = task.sent_at + replay.may_resend_within(
                task.provider, task.attempts, was_lost=was_lost, is_last_minute=task.is_last_minute
            )
            backoff = backoff if task.is_lost else 0.0
            task.is_lost = True
        elif answer.brings_refresh_token or not replay.may_retry(answer, task.attempts):
            return math.inf  # a token came, although the answer is otherwise unusable: the old one is spent
        delay = max(answer.retry_after or 0.0, backoff)
        return delay if delay <= MAX_PAUSE_SECONDS else math.inf

    # Leaving a client or a host alone

    def _throttle(self, client: _Client, task: Task, answer: Judgement, now: float) -> list[Task]:
        """A pause that is asked for is the row's; once a second row is asked for one, it is the client's.

        In between, one request of the client is out at a time.
        """
        is_asked = answer.status == TOO_MANY_REQUESTS or (answer.retry_after and _is_failure(answer))
        if not is_asked:
            if not _is_failure(answer):
                client.throttled = None
            return []
        is_second = client.throttled not in (None, task)
        client.throttled = task
        if not is_second or client.paused_until > now:
            return []
        seconds = min(max(answer.retry_after or 0.0, 2.0**task.attempts), MAX_CLIENT_PAUSE_SECONDS)
        self._holds.append(Hold(client.key, seconds, is_broken=False))
        return self._pause(client, seconds, now)

    def _pause(self, client: _Client, seconds: float, now: float) -> list[Task]:
        client.paused_until = max(client.paused_until, now + seconds)
        return self._close(client, _asks_for_a_pause(client)) if seconds > MAX_PAUSE_SECONDS else []

    def _watch(self, host: _Host, answer: Judgement) -> list[Task]:
        """The breaker: opens after many requests in a row that brought no complete answer.

        Some servers fail at each grant that is dead: so a row that was well until now is heard before.
        """
        if answer.status == TOO_MANY_REQUESTS:  # which says nothing of the others
            return []
        host.failures = host.failures + 1 if _is_failure(answer) else 0
        if host.is_broken or host.failures < BREAKER_FAILURES:
            host.probe = None
            return []
        if host.probe is None:
            host.probe = self._host_probe(host)
        if host.probe is not None and host.probe.answer is None:
            return []
        host.is_broken = True
        self._holds.append(Hold(host.name, BREAKER_SECONDS, is_broken=True))
        return self._give_up_delayed({client for client in self._clients.values() if client.host is host})

    def _host_probe(self, host: _Host) -> Task | None:
        """Of the rows of a host that have a token, and did not fail last time, the one with the latest expiry."""
        free = [one for one in self._clients.values() if one.host is host and not (one.closed or one.refused)]
        well = [
            task
            for client in free
            for task in client.rows
            if not (task.is_begun or task.has_failed or task.lost_at or task.expires_at is None)
        ]
        return max(well, key=lambda task: task.expires_at or _BEGINNING_OF_TIME, default=None)

    def _give_up_delayed(self, clients: Iterable[_Client]) -> list[Task]:
        given_up = [task for _, task in self._delayed if self._client(task) in clients]
        self._delayed = [entry for entry in self._delayed if self._client(entry[1]) not in clients]
        return _give_up(given_up)

    def _let_go(self, ended: list[Task]) -> list[Task]:
        for one in ended:
            self._open.discard(one)
            self._client(one).rows.pop(one, None)
        return ended

    # Judging a refused client

    def _judge(self, client: _Client) -> list[Task]:
        """A refusal may be the client's fault or its row's: a second row of the client decides."""
        probe = client.probe
        if probe is not None and any(probe is task for _, task in self._delayed):
            return []  # throttled; it will be sent again
        if probe is not None and probe.answer is not None:
            if probe.answer.verdict in _CLIENT_ACCEPTED:
                return self._clear_client(client)
            if probe.answer.verdict is Verdict.CLIENT_REFUSED or client.probes >= MAX_PROBES:
                return self._close(client, _refuses(client))
        client.probe = client.next_probe()
        if client.probe is None:
            # Nobody is left to ask. Rows that were accepted before prove nothing: a secret may be replaced at any time.
            return self._close(client, _refuses(client)) if len(client.refused) > 1 else self._end_judgement(client)
        client.probes += 1
        return []

    def _clear_client(self, client: _Client) -> list[Task]:
        """The client is right: each refusal was its row's own."""
        ended = client.refused
        for task in ended:
            task.verdict = task.provider.refusal_if_client_valid
        client.refused, client.probe, client.probes = [], None, 0
        return ended

    def _close(self, client: _Client, reason: str) -> list[Task]:
        """None of its rows is started any more, and those that were not are not blamed."""
        client.closed = client.closed or reason
        if client.host.probe in client.rows and not client.host.probe.is_begun:
            client.host.probe = None
        return self._end_judgement(client) + self._give_up_delayed({client})

    def _end_judgement(self, client: _Client) -> list[Task]:
        """Nobody will say whose fault a refusal is: that of several rows counts as the client's.

        One alone leaves it to the rows of a later round.
        """
        if len(client.refused) > 1:
            client.closed = client.closed or _refuses(client)
        ended = _give_up([*client.refused, *(task for task in client.held if task.is_begun)])
        client.held, client.refused, client.probe = [], [], None
        self._holding.pop(client, None)
        return ended


_CLIENT_ACCEPTED = (Verdict.GRANTED, Verdict.DEAD_GRANT)  # a grant is only looked at once the client is known
_BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)


def _is_failure(answer: Judgement) -> bool:
    """Whether no complete answer came, or one that the server could not make."""
    is_refusal = answer.status is not None and answer.status < SERVER_ERROR
    return answer.verdict is Verdict.UNCLEAR or (answer.verdict is Verdict.NOT_ACTED and not is_refusal)


def _refuses(client: _Client) -> str:
    return f"{client.provider} refuses client {client.client_id}"


def _asks_for_a_pause(client: _Client) -> str:
    return f"{client.provider} asks for a pause"


def _give_up(tasks: Iterable[Task]) -> list[Task]:
    """Those of the tasks that were answered end as their answer says."""
    ended = []
    for task in tasks:
        if task.answer is not None:
            task.verdict = task.answer.verdict
            ended.append(task)
    return ended


def _urgency(task: Task) -> tuple[bool, bool, datetime]:
    return (task.has_failed, task.lost_at is None, task.expires_at or _BEGINNING_OF_TIME)
