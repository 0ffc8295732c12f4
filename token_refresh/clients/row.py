"""The row of an admitted credential: found, its cells sealed, created or replaced, and only over what was read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from providers.base import Answer
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.columns import DETAILS, ColumnType, split_details
from token_refresh.base.text import one_line
from token_refresh.clients.credential import AdmissionError, Candidate
from token_refresh.clients.rows import find_all
from token_refresh.refresh.duplicates import several_rows
from token_refresh.refresh.jobs import JobFactory, binding_of, read_params
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

_EMPTY: dict[str, Value] = {  # what a new credential leaves nothing of
    "encrypted_secret": "",
    "encrypted_refresh": "",
    "status": STATUS_ACTIVE,
    "last_error": "",
    "failure_count": 0,
    "last_used_at": None,
    "previous_refresh": None,
}
_SEALED_DETAILS = {column.name for column in DETAILS if column.is_sealed}
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
    row = candidate.row
    written = _write(context, candidate, answer, row, find)
    for _ in range(1, attempts):
        if written not in _TAKEN:
            break
        row = find()
        written = _write(context, candidate, answer, row, find)
    if written in _TAKEN:
        return False
    if row is not None and candidate.entered.refresh_token:  # what its former one met does not count any more
        context.journal.failures.record([], [row.key])
    return True


def _write(context: RunContext, candidate: Candidate, answer: Answer | None, row: Row | None, find: Find) -> Written:
    store = context.store
    values = _values(context, candidate, answer, row)
    if row is None:
        try:
            store.store.create(values)
        except StoreAltersError:
            raise  # it was taken back
        except StoreRefusedError:
            if find() is None:
                raise
            return Written.CHANGED  # somebody else has made it meanwhile
        return Written.STORED
    is_whole = bool(candidate.entered.refresh_token)  # else whoever refreshes the row goes on
    [result] = store.store.write([Change(row.key, row.encrypted_refresh, values, ends_claim=is_whole)])
    if result.error is not None:
        raise result.error
    return result.written


def _values(context: RunContext, candidate: Candidate, answer: Answer | None, row: Row | None) -> dict[str, Value]:
    """What is written over `row`, as far as the table has columns for it.

    Where a login brought no refresh token, as Google's second does, the one in the row stays, with all that is of it.
    """
    entered, columns = candidate.entered, context.store.store.columns
    is_kept = not entered.refresh_token and row is not None and bool(row.encrypted_refresh)
    # No database takes half of an emoji, and PostgreSQL no zero byte: a page of a provider may have held either.
    shown = {name: one_line(text).strip() for name, text in entered.details.items()}
    details, params = split_details(shown, columns)
    values = _token_values(context, candidate, answer, is_kept=is_kept) | _details(context, candidate, answer, details)
    if not is_kept:
        values = _EMPTY | values | {
            "locationId": entered.location_id,
            "provider": entered.provider,
            "provider_params": _with_params(entered.provider_params, params),
            "client_id": entered.client_id,
            "refresh_token_expiry": answer.refresh_expires_at if answer is not None else None,
        }  # fmt: skip
    return {name: value for name, value in values.items() if name in columns}


def _token_values(
    context: RunContext, candidate: Candidate, answer: Answer | None, *, is_kept: bool
) -> dict[str, Value]:
    """The cells of the secret and the tokens, and the times of the access token."""
    entered, binding = candidate.entered, binding_of(candidate.provider, candidate.endpoint)
    refresh = answer.refresh_token if answer is not None else None
    access = answer.access_token if answer is not None else None
    is_unproven = answer is not None and answer.is_unproven and refresh not in (None, entered.refresh_token)
    cells = context.store.cells(
        entered.location_id,
        binding,
        encrypted_secret=entered.client_secret,
        encrypted_refresh=refresh or entered.refresh_token,
        access=access or "",
        previous_refresh=entered.refresh_token if is_unproven else "",
    )
    if access and not entered.refresh_token and not is_kept:  # it may live for ever: never in the clear
        cells |= context.store.cells(entered.location_id, binding, last_access_token=access)
    return {
        "last_access_token": "",
        **cells,
        "access_token_expiry": answer.expires_at if answer is not None and not is_unproven else None,
        "last_refreshed": answer.received_at if access and answer is not None else None,
        "refreshed_by": context.claimant.refreshed_by if access else "",
    }


def _details(
    context: RunContext, candidate: Candidate, answer: Answer | None, entered: Mapping[str, str]
) -> dict[str, Value]:
    """What is known of the client beside its tokens; the rest is emptied: it was another login's."""
    params, received_at = read_params(candidate.entered.provider_params), answer and answer.received_at
    known = {
        "redirect_uri": params.get("redirect_uri", ""),
        "connected_at": iso(received_at or context.clock.now()),
        **entered,
    }
    values: dict[str, Value] = {}
    for column in DETAILS:
        text = known.get(column.name)
        if column.name not in _EMPTY:
            values[column.name] = parse_time(text) if column.type is ColumnType.DATETIME else text
    binding = binding_of(candidate.provider, candidate.endpoint)
    sealed = context.store.cells(
        candidate.entered.location_id, binding, **{name: known[name] for name in _SEALED_DETAILS & known.keys()}
    )
    return values | sealed


def _with_params(provider_params: str, params: Mapping[str, str]) -> str:
    """`provider_params` with these, too; what they say themselves stays."""
    both = {**params, **read_params(provider_params)}
    return one_line(json.dumps(both, ensure_ascii=False)) if params else provider_params
