"""The row of an admitted credential: found, its cells sealed, created or replaced, and only over what was read."""

from __future__ import annotations

from collections.abc import Callable

from providers.base import Answer
from token_refresh.clients.credential import AdmissionError, Candidate
from token_refresh.clients.rows import find_all
from token_refresh.refresh.duplicates import several_rows
from token_refresh.refresh.jobs import JobFactory, binding_of
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import (
    STATUS_ACTIVE,
    Change,
    Row,
    Store,
    StoreAltersError,
    StoreRefusedError,
    Value,
    Written,
)

Find = Callable[[], Row | None]  # the candidate's row as it is now

_TAKEN = (Written.CHANGED, Written.GONE)  # somebody else's write came between our look and ours


def find_row(store: Store, job_factory: JobFactory, location_id: str, provider: str) -> Row | None:
    """The row of this identity, if any.

    Raises:
        AdmissionError: there are several, or it cannot be used.
    """
    rows = [row for row, _ in find_all(store, job_factory, location_id, provider)]
    error = several_rows(rows, provider)
    if error is not None:
        raise AdmissionError.of(error)
    row = rows[0] if rows else None
    if row is not None and row.error is not None:
        raise AdmissionError(str(row.error), row.error.action)
    return row


def write_row(context: RunContext, candidate: Candidate, answer: Answer | None, find: Find, attempts: int) -> bool:
    """Create or replace the row; whether it holds the credential now, or somebody else's change stays.

    Args:
        answer: what proved the credential, where something did.
        find: looks at the row again.
        attempts: how often to write where somebody else is writing the row, too.

    Raises:
        StoreError: the store did not take it.
    """
    values, row = _values(context, candidate, answer), candidate.row
    written = _write(context, row, values, find)
    for _ in range(1, attempts):
        if written not in _TAKEN:
            break
        row = find()
        written = _write(context, row, values, find)
    if written in _TAKEN:
        return False
    if row is not None:  # what its former credential met does not count any more
        context.journal.failures.record([], [row.key])
    return True


def _write(context: RunContext, row: Row | None, values: dict[str, Value], find: Find) -> Written:
    store = context.store
    if row is None:
        try:
            store.store.create({name: value for name, value in values.items() if name in store.store.columns})
        except StoreAltersError:
            raise  # it was taken back
        except StoreRefusedError:
            if find() is None:
                raise
            return Written.CHANGED  # somebody else has made it meanwhile
        return Written.STORED
    [result] = store.store.write([Change(row.key, row.encrypted_refresh, values, ends_claim=True)])
    if result.error is not None:
        raise result.error
    return result.written


def _values(context: RunContext, candidate: Candidate, answer: Answer | None) -> dict[str, Value]:
    entered = candidate.entered
    refresh = answer.refresh_token if answer is not None else None
    access = answer.access_token if answer is not None else None
    is_unproven = answer is not None and answer.is_unproven and refresh not in (None, entered.refresh_token)
    cells = context.store.cells(
        entered.location_id,
        binding_of(candidate.provider, candidate.endpoint),
        secret=entered.client_secret,
        refresh=refresh or entered.refresh_token,
        access=access or "",
    )
    return {
        "locationId": entered.location_id,
        "provider": entered.provider,
        "provider_params": entered.provider_params,
        "client_id": entered.client_id,
        "encrypted_secret": "",
        "last_access_token": "",
        **cells,
        "access_token_expiry": answer.expires_at if answer is not None and not is_unproven else None,
        "last_refreshed": answer.received_at if access and answer is not None else None,
        "refresh_token_expiry": answer.refresh_expires_at if answer is not None else None,
        "refreshed_by": context.claimant.refreshed_by if access else "",
        "status": STATUS_ACTIVE,
        "last_error": "",
        "failure_count": 0,
    }
