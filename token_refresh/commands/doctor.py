"""`doctor`: check the set-up and say how to fix it. It refreshes nothing and changes no value."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping

from token_refresh.base.checks import BAD, DOUBTFUL, GOOD, Check
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.clients.introspection import check_tokens, endpoints_in_use, unused_endpoint
from token_refresh.commands import prepare_with_catalog
from token_refresh.diagnosis.endpoints import check_clock, check_endpoints
from token_refresh.diagnosis.folders import check_folders
from token_refresh.diagnosis.row_state import check_clients, row_statuses
from token_refresh.keys.inspection import check_jobs, check_key
from token_refresh.refresh.due import DuePolicy
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.run_identity import RunIdentity
from token_refresh.settings import check_dotenv
from token_refresh.stores.base import Row, check_columns, check_writing
from token_refresh.stores.sealed import SealedStore
from token_refresh.terminal.console import Console
from token_refresh.wiring import (
    BALLAST_BYTES,
    Installation,
    keyring,
    make_job_factory,
    open_run_context,
    open_sealed,
    proxy_of,
    quota_of,
    recall_failures,
)

_HEAD = ("part", "", "finding", "what to do")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--online", action="store_true", help="also ask providers about each token")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Check every part and report; exit 1 where one is bad."""
    from token_refresh.terminal.report import show_table

    installation = prepare_with_catalog(environ, clock, console)
    checks = list(_checks(installation, online=arguments.online))
    if console.as_json:
        console.object({"findings": [_object(check) for check in checks]})
    else:
        show_table(_HEAD, [(check.part, check.state, check.message, check.action) for check in checks])
    return (Kind.ROW,) if any(check.state == BAD for check in checks) else ()


def _checks(installation: Installation, *, online: bool) -> Iterator[Check]:
    known = installation.settings
    yield from check_folders(installation.state.path, BALLAST_BYTES, known.state_dir_spare, known.security_log)
    yield check_dotenv(known.home)
    made: list[Job | UnusableRow] = []
    yield from _guarded("store", lambda: _table(installation, made))  # a database is asked when it is opened
    yield from _endpoints(installation, made)
    if online:
        yield from _guarded("online", lambda: _tokens(installation))


def _endpoints(installation: Installation, made: list[Job | UnusableRow]) -> Iterator[Check]:
    used = endpoints_in_use(made)
    endpoints = used or unused_endpoint(installation.catalog.get(installation.default_provider))
    settings, unreachable = installation.settings, BAD if used else DOUBTFUL
    yield from check_endpoints(endpoints, installation.clock, proxy_of(settings), settings.ca_bundle, unreachable)


def _table(installation: Installation, made: list[Job | UnusableRow]) -> Iterator[Check]:
    """What is found in the table; what each row's refresh would be, or its fault, is put into `made`."""
    with open_sealed(installation) as store:
        yield from _guarded("store", lambda: _store(installation, store, made))


def _store(installation: Installation, store: SealedStore, made: list[Job | UnusableRow]) -> Iterator[Check]:
    """The table is read first: what is known of its columns may be a day old, and so may the right to see them."""
    rows = list(store.store.rows())
    store.store.read_clock()
    yield from check_columns(store.store, installation.settings.store)
    quota = quota_of(installation, store.store)
    if quota is not None:
        yield quota
    if store.store.clock_offset is not None:
        now = installation.clock.now()
        yield check_clock(now + store.store.clock_offset, now, "the store's")
    yield from _guarded("rows", lambda: _rows(installation, store, made, rows))


def _rows(
    installation: Installation, store: SealedStore, made: list[Job | UnusableRow], rows: list[Row]
) -> Iterator[Check]:
    kept = [row for row in rows if row.encrypted_refresh or row.error]
    yield check_writing(store.store, [row for row in kept if row.error is None])
    job_factory = make_job_factory(installation, store)
    made += [job_factory.job(row) for row in kept]
    yield check_key(keyring(installation.settings).key_id, made)
    yield from check_jobs(made)
    settings, now = installation.settings, installation.clock.now()
    policy = DuePolicy(settings.refresh_interval, settings.token_expiry_buffer)
    rows = recall_failures(installation, store.store, rows)
    yield from _guarded("installation", lambda: _alone(installation, store, rows))
    yield from check_clients(row_statuses(rows, installation.catalog, installation.default_provider, policy, now))


def _alone(installation: Installation, store: SealedStore, rows: list[Row]) -> Iterator[Check]:
    """Whether a run would refuse these rows, since another installation refreshes them."""
    identity = RunIdentity(installation.state.path, store, installation.clock, frozenset(), takes_over=False)
    identity.require_alone()
    for row in rows:
        identity.refuse_others_row(row, installation.settings.refresh_interval)
    yield Check("installation", GOOD, "no other one refreshes this table")


def _tokens(installation: Installation) -> Iterator[Check]:
    with open_run_context(installation) as context:
        yield from check_tokens(context)


def _object(check: Check) -> dict[str, str]:
    return {"part": check.part, "state": check.state, "text": check.message, "action": check.action}


def _guarded(part: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """What `look` finds; an error is one bad check of this part, and the other parts are still looked at."""
    try:
        yield from list(look())
    except ActionableError as error:
        yield Check(part, BAD, str(error), error.action)
