"""What a run is made of, built by a command and handed in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # only named here: a command that reads its flags must not pay for the libraries behind these
    from pathlib import Path

    from providers.base import ProviderSummary
    from token_refresh.base.checks import Check
    from token_refresh.base.clock import Clock
    from token_refresh.base.events import Notice, RowFinished
    from token_refresh.journal.entries import Entry, Journal
    from token_refresh.net.transport import Transport
    from token_refresh.refresh.due import DuePolicy
    from token_refresh.refresh.jobs import JobFactory
    from token_refresh.refresh.run_identity import RunIdentity
    from token_refresh.stores.base import Claimant, Row, Store
    from token_refresh.stores.sealed import SealedStore, Seals


@dataclass(frozen=True)
class RunContext:
    """What a run works with.

    Attributes:
        folder: the store's state folder.
        providers: what is known of each without its file, by slug.
        concurrency: bounds requests in flight.
        identity: who this run is to others, and whether it may be alone.
        claimant: this process to others.
        check_quota: how the store's calls stand against its plan; None where nobody counts them.
        resume_admission: brings an onboarding that was cut off to its end; see `Admission.resume`.
    """

    store: SealedStore
    folder: Path
    providers: Mapping[str, ProviderSummary]
    job_factory: JobFactory
    transport: Transport
    journal: Journal
    clock: Clock
    policy: DuePolicy
    jitter: random.Random
    default_provider: str
    concurrency: int
    identity: RunIdentity
    claimant: Claimant
    check_quota: Callable[[], Check | None]
    resume_admission: Callable[[RunContext, Entry], RowFinished | Notice]


@dataclass(frozen=True)
class Scope:
    """Which rows a run takes. `everything`: also what is not due. `max_seconds`: start nothing after that.

    `providers`: see `DueQuery`.
    `still`: asked of each row when no other process can refresh it any more; the run leaves it if the answer is no.
    """

    everything: bool = False
    locations: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    dry_run: bool = False
    max_seconds: float | None = None
    takeover: bool = False
    still: Callable[[Row], bool] | None = None

    @property
    def is_by_hand(self) -> bool:
        """Whether a person, or a program for one, asks for certain rows; cron's own run takes what is due."""
        return self.everything or bool(self.locations) or bool(self.providers)


@dataclass(frozen=True)
class Runtime:
    """Opens what single calls of a long-lived program need, when they need it, and closes it again.

    Attributes:
        default_provider: for rows that name none.
        refresh_interval: how often a run is expected, in seconds.
        lock: keeps another run of this host out, where the store has no claims; waits so many seconds for it to end.
        open_store: the store with its keys.
        close: releases the connections that stores shared; the next one opens others.
        run_context_around: what a run needs around a store; holds a journal of its own while it is open.
        job_factory: turns rows into jobs.
        recall: adds to rows what is remembered of their failures and the table has no columns for.
    """

    clock: Clock
    default_provider: str
    refresh_interval: float
    lock: Callable[[float], AbstractContextManager[object]]
    open_store: Callable[[], AbstractContextManager[SealedStore]]
    close: Callable[[], None]
    run_context_around: Callable[[SealedStore], AbstractContextManager[RunContext]]
    job_factory: Callable[[Seals], JobFactory]
    recall: Callable[[Store, Iterable[Row]], list[Row]]
