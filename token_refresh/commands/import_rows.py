"""`import`: the rows of a source into the table. First what would be done to each row is shown, then it is done.

A source is an export, or what an earlier program kept; it is read into rows whose cells are sealed. What becomes of
them is the same for all.
"""

from __future__ import annotations

import argparse
import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import crypto
from providers.base import ProviderError
from token_refresh.base.clock import Clock
from token_refresh.base.columns import ATTRIBUTES
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.keys.inspection import Finding, Inspector
from token_refresh.refresh.jobs import read_params
from token_refresh.stores.base import (
    STATUS_DISABLED,
    Change,
    Row,
    Store,
    StoreUnavailableError,
    Value,
    WriteResult,
    Written,
)
from token_refresh.stores.sealed import Look, SealedStore
from token_refresh.terminal.console import Talk
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Terminal, can_ask
from token_refresh.transfer.export_file import Line, read_export
from token_refresh.wiring import Context, make_bench, make_import_seals, open_sealed, prepare

ROWS_A_BATCH = 10  # what Airtable creates in one call

_CREDENTIAL = ("client_id", "provider_params", "encrypted_secret", "encrypted_refresh")
_HEAD = ("row", "location", "provider", "", "why", "what to do")


class Step(enum.StrEnum):
    """What becomes of one row of the source."""

    CREATE = "created"
    REPLACE = "replaced"
    UNCHANGED = "unchanged"
    KEEP = "kept"  # the table's row stays as it is
    SKIP = "skipped"  # there is nothing to import in it
    REFUSE = "refused"


@dataclass(frozen=True)
class Move:
    """One row of the source, what is to be done with it, and why not more.

    Attributes:
        row: as the source has it.
        there: the table's row of the same identity.
        change: what is written over it, where that is not what the source says.
    """

    name: str
    location_id: str
    provider: str
    step: Step
    reason: str = ""
    action: str = ""
    row: Row | None = field(default=None, repr=False)
    there: Row | None = field(default=None, repr=False)
    change: Change | None = field(default=None, repr=False, compare=False)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Show the plan, then carry it out where that is wanted; exit 1 where a row was refused."""
    context = prepare(environ, clock, talk)
    lines = _lines(arguments, context)
    with open_sealed(context) as store:
        shown: Sequence[Move] | None = None
        if not arguments.yes:
            shown = _Planner(arguments, context, store).plan(lines)
            _show(shown, talk)
            if not _is_wanted(shown):
                return _end(context, talk, shown, is_done=False)
        with context.patient_lock(talk):
            moves = _Planner(arguments, context, store).plan(lines)
            done = _carry_out(store.store, _as_shown(moves, shown), talk)
    if done != shown:
        _show(done, talk)
    return _end(context, talk, done, is_done=True)


def _lines(arguments: argparse.Namespace, context: Context) -> list[Line]:
    """The rows of the source."""
    if arguments.layout is not None:
        from token_refresh.transfer.layouts.base import Source
        from token_refresh.transfer.layouts.sealing import read_layout

        return read_layout(
            arguments.layout, Source(context, arguments.source, arguments.redirect_uri), arguments.allow_host
        )
    if arguments.redirect_uri or arguments.allow_host:
        raise ActionableError("--redirect-uri and --allow-host are for --layout", "Leave them out.", Kind.USAGE)
    # What anybody could read is in no export; where somebody put it there, the row is refreshed instead.
    return [
        line if line.row is None or crypto.is_sealed(line.row.last_access_token)
        else replace(line, row=replace(line.row, last_access_token=""))
        for line in read_export(arguments.source)
    ]  # fmt: skip


# Planning


class _Planner:
    """Compares a source with the table; writes nothing."""

    def __init__(self, arguments: argparse.Namespace, context: Context, store: SealedStore) -> None:
        self._store = store
        self._bench = make_bench(context, store)
        self._inspector = Inspector(store, self._bench)
        # The table itself may hold what the earlier program sealed.
        self._table_seals = make_import_seals(context) if arguments.layout else store
        bench = make_bench(context, self._table_seals)
        self._table_inspector = Inspector(self._table_seals, bench, arguments.allow_host)
        self._default = context.default_provider
        self._replacing = arguments.replace
        self._reseals = arguments.layout is not None

    def plan(self, lines: Iterable[Line]) -> list[Move]:
        """One move for each line.

        Raises:
            ActionableError: no configured key opens anything in the export.
        """
        there: dict[tuple[str, str], list[Row]] = defaultdict(list)
        owners: dict[str, tuple[str, str]] = {}
        for row in self._store.store.rows(complete=self._reseals):
            there[self._identity(row)].append(row)
            owners.setdefault(row.encrypted_refresh, self._identity(row))
        lines = list(lines)
        counts = Counter(self._identity(line.row) for line in lines if line.row is not None)
        moves: list[Move] = []
        unknown = 0
        for line in lines:
            if line.row is None:
                step = Step.REFUSE if line.is_wrong else Step.SKIP
                moves.append(Move(line.name, line.location_id, line.provider, step, line.problem, line.action))
                continue
            identity = self._identity(line.row)
            fault = self._fault(line.row, there[identity], counts[identity], owners)
            unknown += fault is not None and fault.is_key_unknown
            moves.append(self._move(line.name, line.row, there[identity], fault))
        if unknown and unknown == len(lines):
            raise ActionableError(
                f"ENCRYPTION_KEY opens no cell of the {len(lines)} rows in the file",
                "Set the key that they were sealed with; older keys go into ENCRYPTION_KEY_FALLBACKS.",
                Kind.CONFIGURATION,
            )
        return moves

    def _identity(self, row: Row) -> tuple[str, str]:
        return row.location_id, self._bench.provider_name(row)

    def _move(self, name: str, row: Row, there: Sequence[Row], fault: Finding | None) -> Move:
        provider = self._bench.provider_name(row)
        if fault is not None:
            return Move(name, row.location_id, provider, Step.REFUSE, fault.error, fault.action)
        move = Move(name, row.location_id, provider, Step.CREATE, row=row, there=there[0] if there else None)
        if not there:
            return move
        ours, theirs = _contents(row, self._inspector), _contents(there[0], self._table_inspector)
        differing = [column for column in _CREDENTIAL if ours[column] != theirs[column]]
        if not differing:
            change = self._resealing(there[0])
            if change is None:
                return replace(move, step=Step.UNCHANGED)
            return replace(move, step=Step.REPLACE, reason="sealed anew", change=change)
        is_empty = not there[0].encrypted_refresh
        if is_empty and there[0].status != STATUS_DISABLED:  # nobody took its credential out
            return replace(move, step=Step.REPLACE, reason="the table's row waits for its credential")
        reason = "the table's row is disabled" if is_empty else f"the table has another {' and '.join(differing)}"
        if self._replacing:
            return replace(move, step=Step.REPLACE, reason=reason)
        reason += "" if is_empty else ", which may be newer"
        return replace(move, step=Step.KEEP, reason=reason, action="To have the source's: --replace")

    def _resealing(self, row: Row) -> Change | None:
        """What seals stale cells of the table's row anew; its other columns may be newer than the source's."""
        look = self._table_inspector.look(row)
        if not self._reseals or not isinstance(look, Look) or not look.stale:
            return None
        return self._table_seals.resealing(row, self._table_inspector.binding(row), look, free_for="")

    def _fault(
        self, row: Row, there: Sequence[Row], count: int, owners: Mapping[str, tuple[str, str]]
    ) -> Finding | None:
        """Why this row is not taken at all."""

        def fault(error: str, action: str) -> Finding:
            return Finding("", row.location_id, self._bench.provider_name(row), error, action)

        missing = [name for name in ("provider", "provider_params") if self._needs(row, name)]
        if missing:
            return fault(f"the table has no column {' and '.join(missing)}, which this row needs", _ADD_COLUMN)
        if count > 1:
            return fault(f"{count} rows of the source have this location and provider", "Leave all but one out.")
        if len(there) > 1:
            return fault(f"{len(there)} rows of the table have this location and provider", "Delete all but one.")
        owner = owners.get(row.encrypted_refresh) if row.encrypted_refresh else None
        if owner not in (None, self._identity(row)):
            return fault(f"the table has the same encrypted_refresh in the row of {owner[0]!r}", "Delete one of them.")
        look = self._inspector.look(row)
        if isinstance(look, Finding):
            return look
        return next(iter(self._inspector.findings(row, look)), None)

    def _needs(self, row: Row, column: str) -> bool:
        """Whether the table lacks a column without which the row would be another one."""
        if column in self._store.store.columns:
            return False
        if column == "provider_params":
            return bool(row.provider_params)
        return self._bench.provider_name(row) != self._default


_ADD_COLUMN = "Run: python token_manager.py setup"


def _contents(row: Row, inspector: Inspector) -> dict[str, object]:
    """What a row says, however its cells are sealed; a cell that does not open stands for itself."""
    look = inspector.look(row)
    contents: dict[str, object] = {column: getattr(row, column) for column in _CREDENTIAL}
    if isinstance(look, Look):
        contents |= {column: text for column, text in look.opened.items() if column in contents}
    with suppress(ProviderError):
        contents["provider_params"] = read_params(row.provider_params)
    return contents


def _as_shown(moves: Sequence[Move], shown: Sequence[Move] | None) -> list[Move]:
    """Where the table changed after the plan was shown, the row is left: nobody agreed to what would be done now."""
    if shown is None:
        return list(moves)
    agreed = {move.name: (move.step, move.there) for move in shown}
    return [
        move
        if (move.step, move.there) == agreed[move.name] or move.step in (Step.UNCHANGED, Step.REFUSE)
        else replace(move, step=Step.KEEP, reason="the row was changed after the plan was shown", action="Repeat it.")
        for move in moves
    ]


# Carrying out


def _is_wanted(moves: Sequence[Move]) -> bool:
    """Whether a person, asked at a terminal, agrees. Elsewhere it stays at the plan."""
    counts = Counter(move.step for move in moves)
    if not (counts[Step.CREATE] or counts[Step.REPLACE]) or not can_ask():
        return False
    with Terminal() as ask:
        return ask.yes(f"Create {counts[Step.CREATE]} rows and replace {counts[Step.REPLACE]}?")


def _carry_out(store: Store, moves: Sequence[Move], talk: Talk) -> list[Move]:
    """Create and replace, in batches, until the store fails or somebody wants the end; an answer for each row."""
    done = {move.name: move for move in moves}
    tried = 0
    stopped: list[str] = []
    batches = [*_batches(moves, Step.CREATE), *_batches(moves, Step.REPLACE)]
    left = sum(map(len, batches))
    with ended_by(stopped.append):
        for batch in batches:
            if stopped:
                talk.warn(f"{left - tried} rows were not tried", "Run it again: it goes on.")
                raise ActionableError(stopped[0], "", Kind.STOPPED)
            try:
                results = _create(store, batch) if batch[0].step is Step.CREATE else _replace(store, batch)
            except StoreUnavailableError:
                talk.warn(f"{tried} of {left} rows were stored, the others perhaps", "Run it again later: it goes on.")
                raise
            done |= {move.name: move for move in results}
            tried += len(batch)
    return list(done.values())


def _batches(moves: Sequence[Move], step: Step) -> Iterator[Sequence[Move]]:
    chosen = [move for move in moves if move.step is step]
    for start in range(0, len(chosen), ROWS_A_BATCH):
        yield chosen[start : start + ROWS_A_BATCH]


def _create(store: Store, moves: Sequence[Move]) -> list[Move]:
    rows = [{column: cell for column, cell in _values(store, move).items() if cell is not None} for move in moves]
    refusals = store.create_all(rows)
    return [
        move if error is None else replace(move, step=Step.REFUSE, reason=str(error), action=error.action)
        for move, error in zip(moves, refusals, strict=True)
    ]


def _replace(store: Store, moves: Sequence[Move]) -> list[Move]:
    changes = [
        move.change or Change(
            there.key, there.encrypted_refresh, _values(store, move), free_for="",
            beside={"encrypted_secret": there.encrypted_secret},
        )
        for move in moves
        if (there := move.there) is not None
    ]  # fmt: skip
    return [_replaced(move, result) for move, result in zip(moves, store.write(changes), strict=True)]


def _replaced(move: Move, result: WriteResult) -> Move:
    """What became of one row.

    Raises:
        StoreError: the store did not take it, or is not known to have.
    """
    if result.written is Written.STORED:
        return move
    if result.written is Written.UNDONE:
        raise result.error or StoreUnavailableError("the store did not confirm the write", "Run it again.")
    if result.error is not None:
        return replace(move, step=Step.REFUSE, reason=str(result.error), action=result.error.action)
    is_busy = result.written is Written.BUSY
    reason = "another run is refreshing this row" if is_busy else "somebody changed the row meanwhile; theirs stays"
    return replace(move, step=Step.REFUSE, reason=reason, action="Repeat it.")


def _values(store: Store, move: Move) -> dict[str, Value]:
    """What the source says of a row, as far as the table has columns for it.

    Without its access token the row is due at once, whatever the source says.
    """
    row = move.row
    assert row is not None
    values: dict[str, Value] = {name: getattr(row, attribute) for name, attribute in ATTRIBUTES.items()}
    if not row.last_access_token:
        values |= {"last_access_token": None, "access_token_expiry": None}
    return {name: None if value == "" else value for name, value in values.items() if name in store.columns}


# Reporting


def _end(context: Context, talk: Talk, moves: Sequence[Move], *, is_done: bool) -> Iterable[Kind]:
    counts = Counter(move.step for move in moves)
    if talk.as_json:
        talk.object(_object(context, moves, is_done=is_done))
    summary = ", ".join(f"{counts[step]} {step}" for step in Step if counts[step]) or "there are no rows in it"
    if is_done:
        talk.info(summary)
    else:
        todo = counts[Step.CREATE] + counts[Step.REPLACE]
        talk.info(f"nothing was written; it would be: {summary}" + (". To do it: --yes" if todo else ""))
    return (Kind.ROW,) if counts[Step.REFUSE] else ()


def _show(moves: Sequence[Move], talk: Talk) -> None:
    from token_refresh.terminal.report import show_table

    if moves and not talk.as_json:
        show_table(
            _HEAD,
            [(one.name, one.location_id, one.provider, one.step.value, one.reason, one.action) for one in moves],
        )


def _object(context: Context, moves: Sequence[Move], *, is_done: bool) -> dict[str, Any]:
    return {
        "store": context.settings.store,
        "dry_run": not is_done,
        "counts": dict(Counter(move.step.value for move in moves)),
        "results": [
            {
                "row": move.name,
                "location_id": move.location_id,
                "provider": move.provider,
                "outcome": move.step.value,
                "error": move.reason or None,
                "action": move.action or None,
            }
            for move in moves
        ],
    }
