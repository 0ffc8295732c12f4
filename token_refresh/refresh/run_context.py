"""What a run is made of, built by a command and handed in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # only named here: a command that reads its flags must not pay for the libraries behind these
    from pathlib import Path

    from providers.base import ProviderSummary
    from token_refresh.base.clock import Clock
    from token_refresh.base.events import Audit, Notice, RowFinished
    from token_refresh.journal.entries import Entry, Journal
    from token_refresh.net.transport import Transport
    from token_refresh.refresh.due import DuePolicy
    from token_refresh.refresh.jobs import Held, Job, JobFactory
    from token_refresh.refresh.run_identity import RunIdentity
    from token_refresh.stores.base import Claimant, DueQuery, Row
    from token_refresh.stores.sealed import SealedStore


class RunContext(NamedTuple):
    """What a run works with.

    Attributes:
        folder: the store's state folder.
        providers: what is known of each without its file, by slug.
        concurrency: bounds requests in flight.
        identity: who this run is to others, and whether it may be alone.
        claimant: this process to others.
        audit: gets what happens to credentials, for the security log; never raises.
        first_notices, row_notices: what a person should know at the start of a run, and of rows that were listed.
        resume_admission: brings an onboarding that was cut off to its end; see `Admission.resume`.
        minting: of rows with a dead or lost pair those that get another from their agency, as one more round; the
            others are left in the list.
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
    audit: Audit
    first_notices: Callable[[RunContext, Scope], Iterable[Notice]]
    row_notices: Callable[[RunContext, Sequence[Row], Sequence[Row], DueQuery], Iterable[Notice]]
    resume_admission: Callable[[RunContext, Entry], RowFinished | Notice]
    minting: Callable[[RunContext, list[Held]], Iterator[list[Job]]]

    def provider_of(self, row: Row) -> ProviderSummary | None:
        """What is known of a row's provider; None where the catalogue does not have it."""
        return self.providers.get(self.job_factory.provider_name(row))


class Scope(NamedTuple):
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
