"""Which row goes next, which waits, which is tried again. Pure rules: no network, no threads, no waiting.

Three things can hold a row back: its provider asked for a pause or failed too often in a row (the breaker), its
client was refused and a second row is tried first, or its own next attempt lies ahead.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from providers.base import TOO_MANY_REQUESTS, Judgement, Provider, Verdict
from token_refresh.refresh import replay
from token_refresh.refresh.jobs import ClientKey

MAX_PAUSE_SECONDS = 60.0  # a longer Retry-After is left to the next run
BREAKER_FAILURES = 10  # without an answer, in a row, at one provider
BREAKER_SECONDS = 60.0  # how long other processes leave it alone then; after that each tries once
MAX_HOST_PAUSE_SECONDS = 3600.0  # of what a provider asks for; then one request may hear it again
MAX_PROBES = 2


@dataclass(eq=False)
class Task:
    """One row to be refreshed, and what became of it so far in this run. It knows no token.

    Attributes:
        key: the row's.
        expires_at: when its access token ends.
        lost_at: when an earlier run sent its refresh token and never saw a usable answer; None where none did.
        is_last_minute: its access token is nearly out.
        verdict: its end in this run, once that is known; after a judgement it may differ from the answer's.
        is_lost: an answer of this run was lost, and the token was or may be sent again.
        entry_id: its journal entry, once a request was about to leave.
        failure: the mistake of this program that it met.
    """

    key: str
    provider: Provider
    client: ClientKey
    expires_at: datetime | None = None
    lost_at: datetime | None = None
    is_last_minute: bool = False
    order: int = 0
    attempts: int = 0
    answer: Judgement | None = None
    verdict: Verdict | None = None
    is_lost: bool = False
    entry_id: int | None = None
    failure: Exception | None = None

    def __lt__(self, other: Task) -> bool:
        return self.order < other.order

    @property
    def is_begun(self) -> bool:
        """Whether a request went out for it."""
        return self.attempts > 0


@dataclass
class _Client:
    """One client id and secret at one token endpoint, and whether it is being judged."""

    name: str
    rows: dict[Task, None] = field(default_factory=dict)  # soonest expiry first; a task that ended is let go
    in_flight: int = 0
    held: list[Task] = field(default_factory=list)
    refused: list[Task] = field(default_factory=list)
    probe: Task | None = None
    probes: int = 0
    is_closed: bool = False

    def next_probe(self) -> Task | None:
        """The row to send as a probe: of those not begun the one with the latest expiry."""
        return next((task for task in reversed(self.rows) if not task.is_begun), None)


@dataclass
class _Provider:
    waiting: list[Task] = field(default_factory=list)  # a heap
    paused_until: float = 0.0
    failures: int = 0
    is_broken: bool = False
    reason: str = "does not answer"  # why, where it is left alone for the rest of the run


@dataclass(frozen=True)
class HostPause:
    """A provider that is to be left alone for so many seconds, which other processes should know."""

    provider: str
    seconds: float
    is_broken: bool


class Schedule:
    """The order of one run.

    Args:
        jitter: randomness of the back-off.
    """

    def __init__(self, jitter: random.Random) -> None:
        self._jitter = jitter
        self._providers: dict[str, _Provider] = {}
        self._clients: dict[ClientKey, _Client] = {}
        self._delayed: list[tuple[float, Task]] = []
        self._urgent: list[Task] = []
        self._open: set[Task] = set()  # begun, and not settled yet
        self._pauses: list[HostPause] = []
        self._count = 0

    def extend(self, tasks: Iterable[Task]) -> None:
        """More rows of the same run, after those that are there.

        Those with a lost answer come first, then the soonest expiry.
        """
        for task in sorted(tasks, key=_urgency):
            task.order = self._count
            self._count += 1
            heapq.heappush(self._providers.setdefault(task.provider.slug, _Provider()).waiting, task)
            name = f"{task.provider.name} refuses client {task.client.client_id}"
            self._clients.setdefault(task.client, _Client(name)).rows[task] = None

    def next(self, now: float) -> Task | None:
        """The task to start now (monotonic seconds); None where nothing may start at the moment."""
        while (task := self._pop(now)) is not None:
            client = self._client(task)
            if not self._may_go(task):
                continue
            if client.refused and task is not client.probe:
                client.held.append(task)
                continue
            task.attempts += 1
            client.in_flight += 1
            self._open.add(task)
            return task
        return None

    def take_pauses(self) -> list[HostPause]:
        """What became known since the last time."""
        pauses, self._pauses = self._pauses, []
        return pauses

    def hold(self, slug: str, seconds: float, now: float, *, is_broken: bool) -> list[Task]:
        """Leave a provider alone, as another process does; returns the tasks that end by it.

        One that was broken gets one request afterwards, not as many as it took to find that out.
        """
        provider = self._providers.get(slug)
        if provider is None or provider.is_broken or seconds <= 0:
            return []
        if is_broken:
            provider.failures = max(provider.failures, BREAKER_FAILURES - 1)
        if seconds > MAX_PAUSE_SECONDS:
            return self._let_go(self._break(provider, "asks for a pause"))
        provider.paused_until = max(provider.paused_until, now + seconds)
        return []

    def wakes_at(self, now: float) -> float | None:
        """When `next` may have something that it has not now; None where only an answer can change that."""
        times = [self._ready_at(at, task) for at, task in self._delayed if self._may_go(task)]
        times += [self._provider(task).paused_until for task in self._urgent if self._may_go(task)]
        paused = [entry for entry in self._providers.values() if entry.paused_until > now]
        times += [entry.paused_until for entry in paused if any(map(self._may_go, entry.waiting))]
        return min(times, default=None)

    def settle(self, task: Task, answer: Judgement, now: float) -> list[Task]:
        """Take in an answer; returns the tasks whose end is known by it."""
        task.answer = answer
        client = self._client(task)
        client.in_flight -= 1
        ended: list[Task] = []
        was_paused = self._provider(task).paused_until > now
        if answer.verdict is Verdict.CLIENT_REFUSED and not client.is_closed:
            client.refused.append(task)
        elif not self._postponed(task, answer, now):
            ended += self._give_up([task])
        if answer.status != TOO_MANY_REQUESTS or not was_paused:  # of a burst of 429 the first counts
            ended += self._watch(task, answer)
        if client.refused and not client.in_flight and not client.is_closed:
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
            self._close_client(client)
        left, self._open = sorted(self._open), set()
        return self._give_up(left)

    def not_begun(self) -> list[Task]:
        """The rows that no request went out for."""
        return [task for client in self._clients.values() for task in client.rows if not task.is_begun]

    def why_not_begun(self) -> list[str]:
        """Why rows were passed over: a broken provider or a refused client, as phrases."""
        broken = [f"{slug} {provider.reason}" for slug, provider in self._providers.items() if provider.is_broken]
        return broken + [client.name for client in self._clients.values() if client.is_closed]

    # Picking

    def _pop(self, now: float) -> Task | None:
        for task in self._urgent:
            if self._provider(task).paused_until <= now:
                self._urgent.remove(task)
                return task
        ready = min((entry for entry in self._delayed if self._ready_at(*entry) <= now), default=None)
        if ready is not None:
            self._delayed.remove(ready)
            return ready[1]
        heaps = [entry.waiting for entry in self._providers.values() if entry.paused_until <= now]
        for heap in heaps:
            while heap and heap[0].is_begun:  # went out as a probe
                heapq.heappop(heap)
        heads = [heap for heap in heaps if heap]
        return heapq.heappop(min(heads, key=lambda heap: heap[0].order)) if heads else None

    def _ready_at(self, at: float, task: Task) -> float:
        """A provider that asked for a pause gets it from those that wait for another attempt, too."""
        return max(at, self._provider(task).paused_until)

    def _may_go(self, task: Task) -> bool:
        return not (self._client(task).is_closed or self._provider(task).is_broken)

    def _client(self, task: Task) -> _Client:
        return self._clients[task.client]

    def _provider(self, task: Task) -> _Provider:
        return self._providers[task.provider.slug]

    # Trying again

    def _postponed(self, task: Task, answer: Judgement, now: float) -> bool:
        """Whether the task is to be tried again in this run; it is put on the list then."""
        delay = self._delay(task, answer)
        if delay is None or self._provider(task).is_broken:
            return False
        if answer.status == TOO_MANY_REQUESTS:
            self._provider(task).paused_until = max(self._provider(task).paused_until, now + delay)
            self._pauses.append(HostPause(task.provider.slug, delay, is_broken=False))
        self._delayed.append((now + delay, task))
        return True

    def _delay(self, task: Task, answer: Judgement) -> float | None:
        """Seconds until the next attempt; None where there is none in this run."""
        if answer.brings_refresh_token:  # although it is otherwise unusable: the old one is spent
            return None
        is_first = not task.is_lost
        if replay.is_lost(task.provider, answer):
            may_resend = replay.may_resend(
                task.provider,
                task.attempts,
                was_lost=task.is_lost or task.lost_at is not None,
                is_last_minute=task.is_last_minute,
            )
            task.is_lost = True
            return None if not may_resend else 0.0 if is_first else self._backoff(task)
        if not replay.may_retry(answer, task.attempts):
            return None
        delay = max(answer.retry_after or 0.0, self._backoff(task))
        return delay if delay <= MAX_PAUSE_SECONDS else None

    def _backoff(self, task: Task) -> float:
        return self._jitter.uniform(0.5, 1.0) * 2.0**task.attempts

    def _watch(self, task: Task, answer: Judgement) -> list[Task]:
        """The breaker: opens after many requests in a row that brought no answer to the question."""
        provider = self._provider(task)
        failed = answer.verdict is Verdict.UNCLEAR or (
            answer.verdict is Verdict.NOT_ACTED and (answer.status is None or answer.status >= TOO_MANY_REQUESTS)
        )
        provider.failures = provider.failures + 1 if failed else 0
        if provider.is_broken:
            return []
        slug, asked = task.provider.slug, answer.retry_after or 0.0
        if answer.status == TOO_MANY_REQUESTS and asked > MAX_PAUSE_SECONDS:
            self._pauses.append(HostPause(slug, min(asked, MAX_HOST_PAUSE_SECONDS), is_broken=False))
            return self._break(provider, "asks for a pause")
        if provider.failures < BREAKER_FAILURES:
            return []
        self._pauses.append(HostPause(slug, BREAKER_SECONDS, is_broken=True))
        return self._break(provider, "does not answer")

    def _break(self, provider: _Provider, reason: str) -> list[Task]:
        provider.is_broken, provider.reason = True, reason
        given_up = [waiting for _, waiting in self._delayed if self._provider(waiting) is provider]
        self._delayed = [entry for entry in self._delayed if entry[1] not in given_up]
        return self._give_up(given_up)

    def _let_go(self, ended: list[Task]) -> list[Task]:
        for one in ended:
            self._open.discard(one)
            self._client(one).rows.pop(one, None)
        return ended

    def _give_up(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of the tasks that were answered end as their answer says."""
        ended = []
        for task in tasks:
            if task.answer is not None:
                task.verdict = task.answer.verdict
                ended.append(task)
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
                return self._close_client(client)
        client.probe = client.next_probe()
        if client.probe is None:
            # Nobody is left to ask. Rows that were accepted before prove nothing: a secret may be replaced at any time.
            return self._close_client(client)
        client.probes += 1
        client.held = [task for task in client.held if task is not client.probe]
        self._urgent.append(client.probe)
        return []

    def _clear_client(self, client: _Client) -> list[Task]:
        """The client is right: each refusal was its row's own."""
        ended = client.refused
        for task in ended:
            task.verdict = task.provider.refusal_if_client_valid
        for task in client.held:
            if task.is_begun:
                self._delayed.append((0.0, task))
            else:
                heapq.heappush(self._provider(task).waiting, task)
        client.held, client.refused, client.probe, client.probes = [], [], None, 0
        return ended

    def _close_client(self, client: _Client) -> list[Task]:
        """The client itself is refused, or could not be heard: none of its rows is started or blamed."""
        delayed = [task for _, task in self._delayed if self._client(task) is client]
        self._delayed = [entry for entry in self._delayed if self._client(entry[1]) is not client]
        ended = self._give_up([*client.refused, *(task for task in client.held if task.is_begun), *delayed])
        client.is_closed = client.is_closed or bool(client.refused)
        client.held, client.refused, client.probe = [], [], None
        return ended


_CLIENT_ACCEPTED = (Verdict.GRANTED, Verdict.DEAD_GRANT)  # a grant is only looked at once the client is known
_BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)


def _urgency(task: Task) -> tuple[bool, datetime]:
    return (task.lost_at is None, task.expires_at or _BEGINNING_OF_TIME)
