"""Carrying out an import: rows are created and replaced in batches; one that is refused stops no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from token_refresh.base.columns import ATTRIBUTES
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import CredentialUsed, Subscriber
from token_refresh.base.stop import Stop
from token_refresh.base.text import counted
from token_refresh.stores.base import Change, Store, StoreUnavailableError, Value, WriteResult, Written
from token_refresh.transfer.export import without_plain_token
from token_refresh.transfer.export_file import SourceRow, read_export
from token_refresh.transfer.import_plan import ImportStep, PlannedRow

ROWS_A_BATCH = 10  # what Airtable creates in one call


def rows_of_export(name: str) -> list[SourceRow]:
    """The rows of an export. It holds no access token that anybody could read; one that somebody put there is left out.

    Raises:
        ActionableError: see `read_export`.
    """
    return [
        line if line.row is None else replace(line, row=without_plain_token(line.row)) for line in read_export(name)
    ]


def carry_out(store: Store, rows: Sequence[PlannedRow], stop: Stop, audit: Subscriber) -> list[PlannedRow]:
    """Create and replace, in batches, until the store fails or somebody wants the end.

    Args:
        store: the table.
        rows: what is to be done.
        stop: looked at before each batch.
        audit: gets each row that was tried.

    Returns:
        What was done with each row.

    Raises:
        ActionableError: somebody wanted the end; what is done is done.
        StoreError: the store cannot be reached, or refuses everything.
    """
    done = {one.name: one for one in rows}
    tried = 0
    batches = [*_batches(rows, ImportStep.CREATE), *_batches(rows, ImportStep.REPLACE)]
    left = sum(map(len, batches))
    for batch in batches:
        if stop.reason is not None:
            rest = counted(left - tried, "row was", "rows were")
            raise ActionableError(f"{stop.reason}; {rest} not tried", "Run it again: it goes on.", Kind.STOPPED)
        try:
            results = _create(store, batch) if batch[0].step is ImportStep.CREATE else _replace(store, batch)
        except StoreUnavailableError as error:
            what = f"{error}; stored: {tried} of {counted(left, 'row')}, the others perhaps"
            raise StoreUnavailableError(what, f"{error.action} Then run it again: it goes on.".lstrip()) from None
        done |= {one.name: one for one in results}
        tried += len(batch)
        for one in results:
            client_id = one.row.client_id if one.row is not None else ""
            audit(CredentialUsed("import", one.location_id, client_id, one.step.value))
    return list(done.values())


def _batches(rows: Sequence[PlannedRow], step: ImportStep) -> Iterator[Sequence[PlannedRow]]:
    chosen = [one for one in rows if one.step is step]
    for start in range(0, len(chosen), ROWS_A_BATCH):
        yield chosen[start : start + ROWS_A_BATCH]


def _create(store: Store, rows: Sequence[PlannedRow]) -> list[PlannedRow]:
    values = [{column: cell for column, cell in _values(store, one).items() if cell is not None} for one in rows]
    refusals = store.create_all(values)
    return [
        one if error is None else replace(one, step=ImportStep.REFUSE, reason=str(error), action=error.action)
        for one, error in zip(rows, refusals, strict=True)
    ]


def _replace(store: Store, rows: Sequence[PlannedRow]) -> list[PlannedRow]:
    changes = [
        one.change or Change(
            there.key, there.encrypted_refresh, _values(store, one), free_for="",
            beside={"encrypted_secret": there.encrypted_secret},
        )
        for one in rows
        if (there := one.there) is not None
    ]  # fmt: skip
    return [_replaced(one, result) for one, result in zip(rows, store.write(changes), strict=True)]


def _replaced(one: PlannedRow, result: WriteResult) -> PlannedRow:
    """What became of one row.

    Raises:
        StoreError: the store did not accept it, or is not known to have.
    """
    if result.written is Written.STORED:
        return one
    if result.written is Written.UNDONE:
        raise result.error or StoreUnavailableError("the store did not confirm the write", "Run it again.")
    if result.error is not None:
        return replace(one, step=ImportStep.REFUSE, reason=str(result.error), action=result.error.action)
    is_busy = result.written is Written.BUSY
    reason = "another run is refreshing this row" if is_busy else "somebody changed the row meanwhile; theirs stays"
    return replace(one, step=ImportStep.REFUSE, reason=reason, action="Repeat it.")


def _values(store: Store, one: PlannedRow) -> dict[str, Value]:
    """What the source says of a row, as far as the table has columns for it.

    Without its access token the row is due at once, whatever the source says.
    """
    row = one.row
    assert row is not None
    values: dict[str, Value] = {name: getattr(row, attribute) for name, attribute in ATTRIBUTES.items()}
    if not row.last_access_token:
        values |= {"last_access_token": None, "access_token_expiry": None}
    return {name: None if value == "" else value for name, value in values.items() if name in store.columns}
