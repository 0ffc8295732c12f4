"""Building: settings, state folder and lock first, then what a run works with."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

import crypto
from token_refresh import settings as configuration
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.files import AGENCIES_FILE
from token_refresh.journal.lock import run_lock
from token_refresh.journal.state_folder import StateFolder

if TYPE_CHECKING:
    from prometheus_client import Histogram

    from providers import Catalog
    from token_refresh.base.checks import Check
    from token_refresh.base.events import AnswerNotSaved, Audit, Event, Notice, RowFinished, RunFinished, Subscriber
    from token_refresh.diagnosis.row_state import RememberedFailures
    from token_refresh.journal.entries import Entry, Journal
    from token_refresh.journal.file import Connect
    from token_refresh.net.transport import HTTPTransport, Transport
    from token_refresh.net.watchdog import TimedAdapter
    from token_refresh.notifiers.history import History
    from token_refresh.notifiers.security_log import SecurityLog
    from token_refresh.notifiers.summary import Facts
    from token_refresh.notifiers.watch import RunWatch, Surroundings
    from token_refresh.refresh.jobs import Held, Job, JobFactory
    from token_refresh.refresh.run_context import RunContext, Scope
    from token_refresh.refresh.run_identity import RunIdentity
    from token_refresh.stores.base import DueQuery, Row, Store
    from token_refresh.stores.database import Backend
    from token_refresh.stores.sealed import SealedStore, Seals
    from token_refresh.transfer.export_file import SourceRow
    from token_refresh.transfer.import_plan import ImportPlanner

DATABASE_FILE = "tokens.sqlite3"
SERVICE_FILE = "service.sqlite3"
_PORT = ":5432"
_WHERE = ("host=", "port=", "dbname=", "options=")  # of the options in an address those that say which table it is
LOCK_WAIT_SECONDS = 120.0  # of what a person started: whoever has typed everything should not have to again
DISCOVERY_SECONDS = 30.0
SHARED_CONNECTIONS = 4  # at the most, of one program with any number of threads; each is needed for milliseconds
BALLAST_BYTES = 256 * 1024  # room for one answer in flight


@dataclass(frozen=True)
class Installation:
    """One configured table and its state folder: what every command knows before anything heavy is imported.

    Attributes:
        say_not_saved: called wherever a journal is closed, with each answer that neither it nor the store took; must
            not raise.
        say_outage: called when the store begins to be waited for, with what happened and what follows.
        warn: called when the security log cannot be written; by default `say_outage` is.
        caller: who asks, for the security log: the verb, or `library`.
        connections: what the calls of one program share; a command opens and closes its own.
        provider_seconds: of a program that goes on, how long providers take to answer.
    """

    settings: configuration.Settings
    state: StateFolder
    clock: Clock
    say_not_saved: Callable[[AnswerNotSaved], None]
    say_outage: Callable[[str, str], None]
    caller: str = ""
    connections: Connections | None = None
    warn: Callable[[str, str], None] | None = None
    provider_seconds: Histogram | None = None

    @cached_property
    def catalog(self) -> Catalog:
        """The providers, read when somebody asks: a run that finds another one active does not.

        Raises:
            CatalogError: a provider's description, or the default's name, cannot be used.
        """
        from providers import Catalog, CatalogError, ProviderError

        settings = self.settings
        catalog = Catalog(settings.providers_file, settings.providers)
        try:
            catalog.get(settings.default_provider)
        except ProviderError as error:
            raise CatalogError(f"DEFAULT_PROVIDER: {error}", error.action) from None
        return catalog

    @property
    def default_provider(self) -> str:
        """The slug of the provider of rows that name none. Raises like `catalog`."""
        return self.catalog.get(self.settings.default_provider).slug

    def provider_settings(self, slug: str) -> configuration.ProviderSettings:
        """What the settings say of a provider, under whichever of its names."""
        named = {self.catalog.slug_of(name): own for name, own in self.settings.providers.items()}
        return named.get(slug, configuration.ProviderSettings())

    def misspelt_settings(self) -> list[str]:
        """See `misspelt_providers`; others are another program's. Raises like `catalog`."""
        catalog = self.catalog
        unknown = {name: own for name, own in self.settings.providers.items() if catalog.slug_of(name) is None}
        return configuration.misspelt_providers(unknown, catalog.summaries) if unknown else []

    @cached_property
    def keyring(self) -> crypto.Keyring:
        """The keys that the settings hold, and what this installation recognises tokens by. Raises `JournalError`."""
        from token_refresh.journal.installation import InstallationFile

        return InstallationFile(self.state.path).keyring(*_keys(self.settings))

    @cached_property
    def security_log(self) -> SecurityLog:
        """Where uses of credentials are noted."""
        from token_refresh.notifiers.security_log import SecurityLog

        known = self.settings
        return SecurityLog(known.security_log, self.state.path, self.caller, self.clock, self.warn or self.say_outage)

    def audit(self, store: Store) -> Audit:
        """What notes uses of the credentials of a table. Most runs use none, and do not open the log."""
        from token_refresh.base.events import CredentialUsed, RowFinished

        def note(*events: Event) -> None:
            uses = [event for event in events if isinstance(event, CredentialUsed | RowFinished)]
            if uses:
                self.security_log.note(uses, lambda: self.folder_of(store))

        return note

    @property
    def store_name(self) -> str:
        """What stands for the table in the names of files, also where it cannot be reached: 16 hex digits."""
        airtable = self.settings.airtable
        address = (
            airtable.identity if airtable is not None else f"database {_without_user(_database_url(self.settings))}"
        )
        return hashlib.sha256(address.encode()).hexdigest()[:16]

    def folder_of(self, store: Store) -> Path:
        """Where what is known of a store is kept."""
        return self.state.of_store(store.identity)

    def lock(
        self, wait_seconds: float = 0.0, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[object]:
        """What keeps two runs apart: a lock at Airtable; in a database each row is claimed, and nobody is kept out."""
        if self.settings.airtable is None:
            return nullcontext()
        folder = self.state.of_store(self.settings.airtable.identity)
        return run_lock(folder, self.clock, wait_seconds, on_wait)


class Connections:
    """What the calls of one program share: connections to its database, or to Airtable. Used by any thread.

    A forked child makes its own: two processes on one connection would read each other's answers.
    """

    def __init__(self) -> None:
        self._made: dict[int, Backend | TimedAdapter] = {}  # by process; a child keeps its parent's, and never uses it

    def database(self, settings: configuration.Settings) -> Backend:
        """The database. Raises like `open_backend`."""
        from token_refresh.stores.database import open_backend

        return cast("Backend", self._kept(lambda: open_backend(_database_url(settings), SHARED_CONNECTIONS)))

    def adapter(self, ca_bundle: Path | None) -> TimedAdapter:
        """What sends requests to Airtable."""
        from token_refresh.net.watchdog import TimedAdapter

        return cast("TimedAdapter", self._kept(lambda: TimedAdapter(ca_bundle, SHARED_CONNECTIONS)))

    def counts(self) -> dict[str, int]:
        """How many connections to a database are `used` and `idle`; none where nobody knows."""
        pool: Any = getattr(getattr(self._made.get(os.getpid()), "engine", None), "pool", None)
        return {"used": pool.checkedout(), "idle": pool.checkedin()} if pool is not None else {}

    def close(self) -> None:
        """Release them; the next call makes others."""
        made = self._made.pop(os.getpid(), None)
        if made is not None:
            made.close()

    def _kept(self, make: Callable[[], Backend | TimedAdapter]) -> Backend | TimedAdapter:
        made = self._made.get(os.getpid())
        if made is None:
            new = make()
            made = self._made.setdefault(os.getpid(), new)  # in one step: another thread may have been first
            if made is not new:
                new.close()
        return made


def assemble(
    settings: configuration.Settings,
    clock: Clock,
    say_not_saved: Callable[[AnswerNotSaved], None],
    say_outage: Callable[[str, str], None],
    caller: str,
) -> Installation:
    """Where checked settings keep things, made where it is not there.

    Raises:
        StateError: with its fix; nothing was called yet.
    """
    state = StateFolder(settings.state_dir, is_explicit=settings.state_dir_is_explicit)
    return Installation(settings, state, clock, say_not_saved, say_outage, caller)


def open_store(installation: Installation) -> Store:
    """The plain store that the settings name. A new kind of store gets its line here."""
    settings = installation.settings
    if settings.airtable is None:
        from token_refresh.stores.database import DatabaseStore

        shared = installation.connections
        database = _database_url(settings) if shared is None else shared.database(settings)
        return DatabaseStore(database, installation.clock, installation.say_outage)
    return open_airtable(installation, settings.airtable)


def open_airtable(installation: Installation, airtable: configuration.AirtableSettings, table_name: str = "") -> Store:
    """A table of that base; by default the one that the settings name."""
    from token_refresh.net.watchdog import TimedAdapter
    from token_refresh.stores.airtable import AirtableOptions, AirtableStore

    settings, shared = installation.settings, installation.connections
    airtable = airtable._replace(table_name=table_name or airtable.table_name)
    folder = installation.state.of_store(airtable.identity)
    adapter = shared.adapter(settings.ca_bundle) if shared else TimedAdapter(settings.ca_bundle, connections=1)
    options = AirtableOptions(
        api_key=airtable.api_key.reveal(),
        base_id=airtable.base_id,
        identity=airtable.identity,
        table_name=airtable.table_name,
        id_field=airtable.id_field,
        endpoint_url=airtable.endpoint_url,
        requests_per_second=airtable.requests_per_second,
        schema_file=folder / f"columns-{hashlib.sha256(airtable.table_name.encode()).hexdigest()[:16]}.json",
        pace_file=folder / "pace.json",
        adapter=adapter,
        is_adapter_shared=shared is not None,
        say_outage=installation.say_outage,
        shorten=adapter.shorten if shared is None else lambda _: None,  # the requests of other calls keep their time
        proxy=proxy_of(settings),
    )
    return AirtableStore(options, installation.clock)


def service_database(installation: Installation) -> Backend:
    """Where the HTTP service keeps keys, links and logins: the table's database; at Airtable a file of its own.

    Raises:
        StoreRefusedError: the address cannot be used. Nothing is asked of the database yet.
    """
    from token_refresh.stores.database import open_backend

    airtable, shared = installation.settings.airtable, installation.connections
    if airtable is None:
        settings = installation.settings
        return shared.database(settings) if shared is not None else open_backend(_database_url(settings))
    file = installation.state.of_store(airtable.identity) / SERVICE_FILE
    return open_backend(f"sqlite:///{quote(str(file))}", SHARED_CONNECTIONS)


def service_audit(installation: Installation, database: Backend) -> Subscriber:
    """What notes uses of keys, in the security log of the table that they are for.

    Args:
        installation: the settings.
        database: see `service_database`; before it was reached once, nobody knows which table's log that is.
    """
    from token_refresh.base.events import CredentialUsed

    airtable = installation.settings.airtable

    def note(event: Event) -> None:
        if isinstance(event, CredentialUsed) and database.identity:
            identity = airtable.identity if airtable is not None else f"database {database.identity}"
            installation.security_log.note([event], lambda: installation.state.of_store(identity))

    return note


class Obstacle(NamedTuple):
    """What keeps the HTTP service from its work: `part` is `store`, `key` or `journal`."""

    part: str
    error: ActionableError


def find_obstacle(installation: Installation) -> Obstacle | None:
    """Whether the store answers, a key opens its newest row, and the journal can be used; the first that is not so."""
    from token_refresh.base.errors import actionable_error
    from token_refresh.clients.rows import require_key

    part = "store"
    try:
        with open_sealed(installation) as store:
            row = store.store.newest()
            part = "key"
            if row is not None:
                require_key(make_job_factory(installation, store), store, row)
            part = "journal"
            with run_context_around(installation, store, is_bystander=True):
                return None
    except Exception as error:
        return Obstacle(part, actionable_error(error))


def discover(installation: Installation, issuer: str) -> str:
    """What an authorization server says of itself, as a table for PROVIDERS_FILE.

    Raises:
        ProviderError: it says nothing that can be used.
    """
    from providers.addresses import is_loopback
    from providers.base import Answer, TokenRequest, Verdict
    from providers.discovery import DiscoveryError, described, metadata_in, metadata_urls

    error = ""
    is_fixed = is_loopback(urlsplit(issuer).hostname or "")
    transport = _open_transport(installation, DISCOVERY_SECONDS)
    try:
        for url in metadata_urls(issuer):
            raw = transport.post(TokenRequest(url, {"Accept": "application/json"}, b"", is_fixed, "GET"))
            if isinstance(raw, Answer):
                if raw.verdict is Verdict.REQUEST_REFUSED:
                    action = "If it is yours, add its host to ALLOWED_PRIVATE_HOSTS."
                    raise DiscoveryError(f"{issuer} is not on the public internet", action)
                error = raw.error or ""
            elif not raw.is_complete:
                error = f"HTTP {raw.status}, cut off or too large"
            elif raw.status != 200 or (metadata := metadata_in(raw.body)) is None:
                error = f"HTTP {raw.status}" + (", no JSON object" if raw.status == 200 else "")
            else:
                return described(issuer, metadata)
    finally:
        transport.close()
    raise DiscoveryError(
        f"{issuer} does not describe itself ({error})", "Write the table by hand: see docs/providers.md."
    )


def left_in_embedded(installation: Installation) -> int:
    """How many clients the embedded database holds where the settings name another store: nobody refreshes them."""
    import sqlite3

    settings = installation.settings
    file = settings.state_dir / DATABASE_FILE
    if not file.is_file() or (settings.airtable is None and _is_address_of(file, _database_url(settings))):
        return 0
    query = "SELECT count(*) FROM credentials WHERE encrypted_refresh <> '' AND status <> 'disabled'"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            return int(database.execute(query).fetchone()[0])
    except sqlite3.Error:  # it is not in use: a broken one concerns nobody
        return 0


def _is_address_of(file: Path, url: str) -> bool:
    """Whether a database's address is that of this file, however it is spelled, and through whatever links."""
    from token_refresh.stores.database.store import parse_address

    if url.startswith("sqlite:"):
        with suppress(OSError):  # whoever opens it will say what is wrong with it
            return file.samefile(parse_address(url).database or "")
    return False


def quota_of(installation: Installation, store: Store) -> Check | None:
    """How the month's calls stand against the Airtable plan; None for other stores."""
    airtable, usage = installation.settings.airtable, store.usage()
    if airtable is None or usage is None:
        return None
    from token_refresh.stores.airtable.quota import check_quota

    return check_quota(airtable.plan, usage, installation.settings.refresh_interval)


def monthly_calls(installation: Installation) -> int | None:
    """How many calls a month the Airtable plan has; None where that is not known."""
    airtable = installation.settings.airtable
    if airtable is None:
        return None
    from token_refresh.stores.airtable.quota import MONTHLY_CALLS

    return MONTHLY_CALLS.get(airtable.plan)


def run_watch(installation: Installation, say: Callable[[str, str], None], *, is_scheduled: bool) -> RunWatch:
    """What follows one run and lets everybody act who wants to know of it.

    Args:
        installation: the settings.
        say: warns of what failed in that, with what to do.
        is_scheduled: the run comes by itself, for all rows that are due.
    """
    from token_refresh.notifiers.watch import Notifier, RunWatch

    surroundings = notifiers_surroundings(installation, say)

    def notifiers() -> Iterable[Notifier]:
        from token_refresh.notifiers.channels import notifiers_of  # a run that finds another one active needs none

        return notifiers_of(surroundings)

    def facts(context: RunContext, run: RunFinished) -> Facts:
        from functools import partial

        from token_refresh.notifiers.facts import Look

        settings = installation.settings
        remember, quota = partial(remembered_failures, installation), monthly_calls(installation)
        named = (settings.metrics_file, settings.notify_urls, settings.notify_command, settings.webhook_url)
        look = Look(installation.catalog, remember, quota, wants_all=any(named), is_scheduled=is_scheduled)
        return look.facts(context, run)

    return RunWatch(surroundings, notifiers, facts, is_scheduled=is_scheduled)


def shared(installation: Installation) -> Installation:
    """One for all calls of a service: on the same connections, and with what its `/metrics` says of providers."""
    from token_refresh.notifiers.metrics import make_provider_seconds

    return replace(installation, connections=Connections(), provider_seconds=make_provider_seconds())


def metrics_text(installation: Installation) -> bytes:
    """The numbers of the last run that came by itself, and of all rows as they are now, in Prometheus' text format.

    Where no run has come yet, the last one was in 1970.
    """
    from datetime import UTC, datetime
    from functools import partial

    from token_refresh.base.events import RunFinished
    from token_refresh.notifiers.facts import Look
    from token_refresh.notifiers.last_run import LastRun
    from token_refresh.notifiers.metrics import Numbers, text_of
    from token_refresh.notifiers.summary import RunSummary

    never, interval = datetime.fromtimestamp(0, UTC), installation.settings.refresh_interval
    last = LastRun(installation.state.path, installation.store_name)
    run = RunFinished("", last.started_at or never, finished_at=last.ended_at or never)
    summary = RunSummary(run, is_scheduled=True, interval=interval, exit_code=last.exit_code)
    remember, quota = partial(remembered_failures, installation), monthly_calls(installation)
    look = Look(installation.catalog, remember, quota, wants_all=True, is_scheduled=False)
    with open_run_context(installation, is_bystander=True) as context:
        summary.facts = look.facts(context, run)
    with open_history(installation, installation.say_outage, context.folder) as history:
        counts = history.counts()
    connections = installation.connections.counts() if installation.connections is not None else {}
    return text_of(Numbers(summary, counts, last.success_at, connections, installation.provider_seconds))


def notifiers_surroundings(installation: Installation, say: Callable[[str, str], None]) -> Surroundings:
    """What those who act after a run may need; `say` warns of something, with what to do."""
    from functools import partial

    from token_refresh.notifiers.watch import Surroundings

    return Surroundings(
        settings=installation.settings,
        state=installation.state.path,
        name=installation.store_name,
        clock=installation.clock,
        open_store=lambda: closing(open_store(installation)),
        open_transport=partial(_open_transport, installation),
        open_history=partial(open_history, installation, say),
        say=say,
    )


@contextmanager
def open_history(
    installation: Installation, say: Callable[[str, str], None], folder: Path | None = None
) -> Iterator[History]:
    """What the runs on the table did: in its database where that is PostgreSQL, else in a file of its own.

    Args:
        installation: the settings.
        say: warns where what was in the file cannot be read any more, with what to do.
        folder: of the file; where it is not given, the table is opened (at Airtable that costs no call).

    Raises:
        ActionableError: it cannot be read.
    """
    from token_refresh.notifiers.history import FILE, SCHEMA, History
    from token_refresh.notifiers.ledger import transact_in

    settings, slug_of = installation.settings, installation.catalog.slug_of
    if settings.airtable is None and not _database_url(settings).startswith("sqlite:"):
        from token_refresh.stores.database import transact_in_words

        database = service_database(installation)
        try:
            yield History(lambda act: transact_in_words(database, act), slug_of)
        finally:
            if installation.connections is None:
                database.close()
        return
    if folder is None:
        with closing(open_store(installation)) as store:
            folder = installation.folder_of(store)
    yield History(transact_in(folder / FILE, SCHEMA, say), slug_of)


def record_rows(installation: Installation, results: Sequence[RowFinished]) -> None:
    """Put rows into the history that somebody refreshed or onboarded one by one. Never raises, but warns."""
    from token_refresh.base.errors import exit_code
    from token_refresh.base.events import RunFinished
    from token_refresh.notifiers.summary import RunSummary

    now = installation.clock.now()
    run = RunFinished(secrets.token_hex(8), now, finished_at=now, results=list(results))
    run.due = len(run.results)
    kinds = run.kinds()
    summary = RunSummary(run, False, installation.settings.refresh_interval, exit_code=exit_code(kinds))
    try:
        if results:
            with open_history(installation, installation.say_outage) as history:
                history.record(summary)
    except ActionableError as error:
        installation.say_outage(f"history: {error}", error.action)


def _open_transport(installation: Installation, seconds: float) -> HTTPTransport:
    from token_refresh.net.transport import HTTPTransport

    settings = installation.settings
    return HTTPTransport(
        installation.clock, 1, proxy_of(settings), settings.ca_bundle, settings.allowed_private_hosts, seconds
    )


@contextmanager
def open_sealed(installation: Installation) -> Iterator[SealedStore]:
    """The store with its keys."""
    from token_refresh.stores.sealed import SealedStore

    store = open_store(installation)
    try:
        yield SealedStore(store, installation.keyring, **_sealing(installation.settings))
    finally:
        store.close()


def make_seals(installation: Installation) -> Seals:
    """The keys alone, for cells that are in no store."""
    from token_refresh.stores.sealed import Seals

    return Seals(keyring(installation.settings), **_sealing(installation.settings))


def resume_admission(context: RunContext, entry: Entry) -> RowFinished | Notice:
    """Bring an onboarding to its end that is in the journal: that of an entered token, or of a login.

    Raises:
        SealedCellError: the entry's key is gone.
        StoreError, JournalError: it waits for the next run.
    """
    from token_refresh.base.events import CredentialUsed, RowFinished
    from token_refresh.clients.admission import Admission  # most runs find no onboarding that was cut off
    from token_refresh.clients.login import redemption

    if not entry.token:
        return redemption.resume(context, entry)
    end = Admission(context).resume(entry)
    if isinstance(end, RowFinished):
        context.audit(CredentialUsed("onboard", end.location_id, outcome=str(end.outcome)))
    return end


def minting(context: RunContext, held: list[Held]) -> Iterator[list[Job]]:
    """See `agencies.minting`."""
    if held:  # most runs find no dead pair of an agency's location
        from token_refresh.clients import agencies

        yield from agencies.minting(context, held)


def first_notices(
    installation: Installation, store: SealedStore, context: RunContext, scope: Scope
) -> Iterator[Notice]:
    """What a person should know at the start of a run, of its agencies, too."""
    from token_refresh.diagnosis import notices
    from token_refresh.notifiers.last_run import LastRun

    last = LastRun(installation.state.path, installation.store_name)
    yield from notices.table_notices(context, last.folder)
    yield from notices.first_notices(context, scope, quota_of(installation, store.store), last.started_at)
    is_by_itself = not (scope.is_by_hand or scope.dry_run or scope.takeover)
    if is_by_itself and (context.folder / AGENCIES_FILE).exists():
        from token_refresh.clients import installs

        yield from installs.install_notices(context)


def row_notices(context: RunContext, listed: Sequence[Row], due: Sequence[Row], query: DueQuery) -> Iterator[Notice]:
    """What a person should know of rows that were listed; agencies among them are looked at from now on."""
    from token_refresh.diagnosis import notices

    if any('"Company"' in row.provider_params for row in listed):
        from token_refresh.clients import installs

        installs.register_agencies(context, listed)
    if query.lone is not None and not context.store.store.claims:  # the daily look, also at dead grants
        from token_refresh.diagnosis.row_memory import RowMemory

        with suppress(OSError):  # the next look may do it
            RowMemory(context).confirm(listed, query)
    yield from notices.row_notices(context, listed, due, query)


@contextmanager
def open_run_context(
    installation: Installation, connect: Connect | None = None, *, takes_over: bool = False, is_bystander: bool = False
) -> Iterator[RunContext]:
    """Everything a refresh needs. The caller holds the lock. See `run_context_around`."""
    with (
        open_sealed(installation) as store,
        run_context_around(installation, store, connect, takes_over=takes_over, is_bystander=is_bystander) as context,
    ):
        yield context


@contextmanager
def run_context_around(
    installation: Installation,
    store: SealedStore,
    connect: Connect | None = None,
    *,
    takes_over: bool = False,
    is_bystander: bool = False,
) -> Iterator[RunContext]:
    """The same around a store that is open already.

    Args:
        installation: the settings.
        store: the table.
        connect: opens the journal's file, where given.
        takes_over: a person said that no other installation refreshes this store any more.
        is_bystander: the lock is not held, so what earlier runs left in the journal is not touched.
    """
    import random
    from functools import partial

    from token_refresh.net.transport import HTTPTransport
    from token_refresh.refresh.due import DuePolicy
    from token_refresh.refresh.run_context import RunContext
    from token_refresh.refresh.run_identity import RunIdentity

    settings = installation.settings
    transport = HTTPTransport(
        installation.clock, settings.concurrency, proxy_of(settings), settings.ca_bundle, settings.allowed_private_hosts
    )
    summaries = installation.catalog.summaries
    non_rotating = frozenset(name for one in summaries.values() if one.rotates == "never" for name in one.spellings)
    identity = RunIdentity(installation.state.path, store, installation.clock, non_rotating, takes_over=takes_over)
    journal = _open_journal(installation, store, connect, None if is_bystander else identity)
    claimant = identity.claimant(journal.slot)
    if takes_over and store.store.claims:  # also of rows that no run would take, which nobody else would ever free
        others = [owner for owner in store.store.claim_owners() if not owner.startswith(claimant.of_installation)]
        store.store.inherit(claimant, others)
    try:
        yield RunContext(
            store=store,
            folder=installation.folder_of(store.store),
            providers=summaries,
            job_factory=make_job_factory(installation, store),
            transport=_timed(installation, transport),
            journal=journal,
            clock=installation.clock,
            policy=DuePolicy(settings.refresh_interval, settings.token_expiry_buffer),
            jitter=random.Random(),
            default_provider=installation.default_provider,
            concurrency=settings.concurrency,
            identity=identity,
            claimant=claimant,
            audit=installation.audit(store.store),
            first_notices=partial(first_notices, installation, store),
            row_notices=row_notices,
            resume_admission=resume_admission,
            minting=minting,
        )
    finally:
        for answer in journal.not_saved():  # also when an error ended the run
            installation.say_not_saved(answer)
        journal.close()
        transport.close()


def _timed(installation: Installation, transport: HTTPTransport) -> Transport:
    if installation.provider_seconds is None:
        return transport
    from token_refresh.notifiers.metrics import TimedTransport

    return TimedTransport(transport, installation.provider_seconds)


def _open_journal(
    installation: Installation, store: SealedStore, connect: Connect | None, identity: RunIdentity | None
) -> Journal:
    """The journal of a store; what version 0.1.0 kept of it, by how it was addressed, is taken over."""
    import sqlite3

    from token_refresh.journal.earlier import earlier_folders
    from token_refresh.journal.entries import Journal

    def marks(keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
        rows = store.store.read(keys)
        return {key: store.keyring.fingerprints(row.encrypted_refresh) for key, row in rows.items()}

    settings, folder = installation.settings, installation.folder_of(store.store)
    earlier: list[Path] = []
    if identity is not None:
        identities = _earlier_identities(settings, store.store)
        earlier = earlier_folders(installation.state, identities, folder, marks)
    with ExitStack() as stack:
        for path in earlier if settings.airtable is not None else ():
            stack.enter_context(run_lock(path, installation.clock))  # a run of that version may still be active
        return Journal(
            folder,
            store.keyring,
            installation.clock,
            settings.concurrency * BALLAST_BYTES,
            connect or sqlite3.connect,
            identity.inherit if identity is not None else None,
            settings.state_dir_spare,
            store.store.place,
            earlier,
            installation.state.path,
        )


class Runtime(NamedTuple):
    """Opens what single calls of a long-lived program need, when they need it, and closes it again.

    Attributes:
        default_provider: for rows that name none.
        refresh_interval: how often a run is expected, in seconds.
        expiry_buffer: how many seconds a token that is handed out has to live at least, where nobody says otherwise.
        lock: keeps another run of this host out, where the store has no claims; waits so many seconds for it to end.
        open_store: the store with its keys.
        close: releases the connections that stores shared; the next one opens others.
        run_context_around: what a run needs around a store; holds a journal of its own while it is open.
        bystander_context_around: the same without the lock: what earlier runs left is not touched.
        job_factory: turns rows into jobs.
        audit: gets what is done with credentials of a store, for the security log; never raises.
        run_watch: see `run_watch`; takes `say` and `is_scheduled`.
        catalog: the providers.
        remembered: what is remembered of the failures of a store's rows, and its table has no columns for.
        record_rows: puts rows into the history that were refreshed or onboarded; never raises.
    """

    clock: Clock
    catalog: Catalog
    default_provider: str
    refresh_interval: float
    expiry_buffer: float
    lock: Callable[[float], AbstractContextManager[object]]
    open_store: Callable[[], AbstractContextManager[SealedStore]]
    close: Callable[[], None]
    run_context_around: Callable[[SealedStore], AbstractContextManager[RunContext]]
    bystander_context_around: Callable[[SealedStore], AbstractContextManager[RunContext]]
    job_factory: Callable[[Seals], JobFactory]
    audit: Callable[[Store], Audit]
    run_watch: Callable[[Callable[[str, str], None], bool], RunWatch]
    remembered: Callable[[Store], RememberedFailures]
    record_rows: Callable[[Sequence[RowFinished]], None]


def runtime(installation: Installation) -> Runtime:
    """What opens the context above for one call of a program, and closes them after it, but for connections.

    Raises:
        CatalogError: see `Installation.catalog`.
    """
    from functools import partial

    connections = installation.connections or Connections()
    installation = replace(installation, connections=connections)
    return Runtime(
        clock=installation.clock,
        catalog=installation.catalog,
        default_provider=installation.default_provider,
        refresh_interval=installation.settings.refresh_interval,
        expiry_buffer=installation.settings.token_expiry_buffer,
        lock=installation.lock,
        open_store=partial(open_sealed, installation),
        close=connections.close,
        run_context_around=partial(run_context_around, installation),
        bystander_context_around=partial(run_context_around, installation, is_bystander=True),
        job_factory=partial(make_job_factory, installation),
        audit=installation.audit,
        run_watch=lambda say, is_scheduled: run_watch(installation, say, is_scheduled=is_scheduled),
        remembered=partial(remembered_failures, installation),
        record_rows=partial(record_rows, installation),
    )


def recall_failures(installation: Installation, store: Store, rows: Iterable[Row]) -> list[Row]:
    """Rows of a store with what is remembered of their failures and its table has no columns for."""
    return list(map(remembered_failures(installation, store).added_to, rows))


def remembered_failures(installation: Installation, store: Store) -> RememberedFailures:
    """What is remembered of the failures of a store's rows, and its table has no columns for."""
    from token_refresh.diagnosis.row_state import RememberedFailures

    columns = store.columns - store.journalled_columns
    return RememberedFailures(installation.folder_of(store), installation.keyring, columns)


def make_job_factory(installation: Installation, seals: Seals) -> JobFactory:
    """Turns rows into jobs, with the settings' default clients."""
    from token_refresh.refresh.jobs import Client, JobFactory

    @cache
    def default_client(slug: str) -> Client:
        own = installation.provider_settings(slug)
        return Client(own.client_id or "", own.client_secret.reveal() if own.client_secret else "")

    return JobFactory(seals, installation.catalog, installation.default_provider, default_client)


def make_import_seals(installation: Installation) -> Seals:
    """What also opens what an earlier program encrypted, whatever `LEGACY_CIPHERTEXT` says of it elsewhere."""
    from token_refresh.stores.sealed import Seals

    settings = installation.settings
    older = [settings.imports.key] if settings.imports.key else []
    return Seals(keyring(settings, older), **{**_sealing(settings), "accept_legacy": True})


def read_source(
    installation: Installation,
    layout: str,
    name: str,
    redirect_uri: str,
    allowed_hosts: Collection[str],
    columns: Collection[str],
) -> list[SourceRow]:
    """The rows of what an earlier program kept, sealed for this table.

    Args:
        installation: with the settings.
        layout: one of `LAYOUTS`.
        name: the source as the command line has it: an address of a database, or a table of the Airtable base.
        redirect_uri: of the logins, where the source does not keep it.
        allowed_hosts: token hosts that records may name themselves.
        columns: of the table that they are for.

    Raises:
        ActionableError: the source cannot be used, or no key opens anything in it.
    """
    from functools import partial

    from token_refresh.keys.inspection import Inspector, consent_to_hosts
    from token_refresh.transfer.layouts.base import EarlierApp, Source
    from token_refresh.transfer.layouts.sealing import read_layout

    app = installation.settings.imports
    secret = app.client_secret.reveal() if app.client_secret else ""
    source = Source(
        database_url=partial(configuration.parse_database_url, name, Path.cwd()),
        open_table=partial(_open_source_table, installation, name),
        providers=installation.catalog,
        app=EarlierApp(app.tenant_id, app.client_id, secret, app.redirect_uri),
        redirect_uri=redirect_uri,
    )
    seals = make_import_seals(installation)
    job_factory = make_job_factory(installation, seals)
    inspector = Inspector(seals, job_factory, consent_to_hosts(allowed_hosts))
    return read_layout(layout, source, seals, job_factory, inspector, columns)


def _open_source_table(installation: Installation, name: str) -> Store:
    airtable = installation.settings.airtable
    if airtable is None:
        raise ActionableError(
            "this layout reads a table of the Airtable base that the settings name, and they name none",
            "Set AIRTABLE_API_KEY and AIRTABLE_BASE_ID (and TOKEN_STORE=airtable where a database is set too).",
            Kind.CONFIGURATION,
        )
    return open_airtable(installation, airtable, name)


def make_import_planner(
    installation: Installation,
    store: SealedStore,
    allowed_hosts: Collection[str],
    *,
    is_layout: bool,
    is_replacing: bool,
) -> ImportPlanner:
    """What compares a source with the table. Of a layout, the table itself may hold what the earlier program sealed."""
    from token_refresh.keys.inspection import Inspector, consent_to_hosts
    from token_refresh.transfer.import_plan import ImportPlanner

    seals = make_import_seals(installation) if is_layout else store
    return ImportPlanner(
        store.store,
        Inspector(store, make_job_factory(installation, store)),
        Inspector(seals, make_job_factory(installation, seals), consent_to_hosts(allowed_hosts)),
        installation.default_provider,
        is_replacing=is_replacing,
        is_resealing=is_layout,
        seals_access_tokens=installation.settings.seal_access_tokens,
    )


def keyring(settings: configuration.Settings, older: Iterable[configuration.Secret] = ()) -> crypto.Keyring:
    """The keys that the settings hold; `older` ones open, too. It recognises nothing that was seen before."""
    return crypto.Keyring(*_keys(settings, older))


def _keys(settings: configuration.Settings, older: Iterable[configuration.Secret] = ()) -> tuple[bytes, list[bytes]]:
    fallbacks = [crypto.parse_key(key.reveal()) for key in (*settings.encryption_key_fallbacks, *older)]
    return crypto.parse_key(settings.encryption_key.reveal()), fallbacks


def _sealing(settings: configuration.Settings) -> dict[str, bool]:
    return {
        "accept_legacy": settings.accept_legacy_ciphertext,
        "seal_access_tokens": settings.seal_access_tokens,
    }


def _earlier_identities(settings: configuration.Settings, store: Store) -> Iterator[str]:
    """What version 0.1.0 knew this store by: its address, in each spelling that it may have had."""
    airtable = settings.airtable
    if airtable is not None:
        plain = airtable.endpoint_url.rstrip("/").removesuffix(":443")
        endpoints = {airtable.endpoint_url, plain, f"{plain}/", f"{plain}:443", f"{plain}:443/"}
        yield from (f"airtable {url} {airtable.base_id} {name}" for url in endpoints for name in store.places)
        return
    scheme, _, place = _without_user(_database_url(settings)).partition("://")
    yield f"database {scheme}://{place}"
    yield f"database {scheme}://{unquote(place)}"
    if scheme != "sqlite":
        server, slash, rest = place.partition("/")
        other = server.removesuffix(_PORT) if server.endswith(_PORT) else f"{server}{_PORT}"
        yield f"database {scheme}://{other}{slash}{rest}"


def _without_user(url: str) -> str:
    """A database's address without what may change while the table stays: user, password, and options as of TLS."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return url
    place, _, query = rest.rpartition("@")[2].partition("?")
    where = sorted(option for option in query.split("&") if option.startswith(_WHERE))
    return "&".join([f"{scheme}://{place}", *where])


def _database_url(settings: configuration.Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url.reveal()
    return f"sqlite:///{quote(str(settings.state_dir / DATABASE_FILE))}"


def proxy_of(settings: configuration.Settings) -> str | None:
    """The address of the HTTPS proxy, with its password."""
    return settings.https_proxy_url.reveal() if settings.https_proxy_url else None
