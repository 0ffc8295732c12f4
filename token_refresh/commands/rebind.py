"""`rebind LOCATION`: after an honest change of location id, tenant, instance or endpoint, seal the cells for it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from providers.base import ProviderError, origin_of
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.net.hosts import agreement_question, is_agreed, require_agreement
from token_refresh.refresh.rows import find_one
from token_refresh.stores.base import Row, StoreUnavailableError, Written
from token_refresh.stores.sealed import Binding, Look, SealedStore
from token_refresh.terminal.console import Talk
from token_refresh.terminal.prompts import Terminal, can_ask
from token_refresh.wiring import Context, make_bench, open_sealed, parts_around, prepare


@dataclass(frozen=True)
class Move:
    """A row, what its cells were sealed for, and what they are to be sealed for."""

    row: Row
    provider: str
    was_location: str
    was_origin: str
    binding: Binding
    look: Look


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Show both places, ask, and seal what opens only in the former one."""
    context = prepare(environ, clock, talk)
    if arguments.was_location is None and arguments.was_origin is None:
        raise ActionableError("what was different before?", "Name --was-origin or --was-location, or both.", Kind.USAGE)
    with open_sealed(context) as store:
        move = _plan(arguments, context, store)
        if move.look.stale:
            _agree(arguments, move, talk)
            _carry_out(arguments, context, store, move, talk)
    columns = list(move.look.stale)
    if talk.as_json:
        talk.object(_object(move))
    what = f"{', '.join(columns)} sealed for {move.binding.origin}" if columns else "all cells open already"
    talk.info(f"{move.row.location_id} {move.provider}: {what}")
    return ()


def _plan(arguments: argparse.Namespace, context: Context, store: SealedStore) -> Move:
    """What is there now.

    Raises:
        ActionableError: a cell opens neither here nor there.
        NoSuchTokenError, SeveralTokensError: there is no such row, or there are several.
        ProviderError: it cannot be said where the row's secrets go.
    """
    bench = make_bench(context, store)
    row, provider = find_one(store.store, bench, arguments.location.strip(), arguments.provider)
    binding = bench.binding(row)
    was_location = row.location_id if arguments.was_location is None else arguments.was_location.strip()
    was_origin = binding.origin if arguments.was_origin is None else _origin(arguments.was_origin)
    look = store.look_moved(row, binding, was_location, was_origin)
    for error in look.errors:
        raise ActionableError(
            f"{row.location_id}: {error}, neither for {binding.origin} nor for {was_origin} and {was_location!r}",
            f"Check what it was sealed for. {error.action}",
            Kind.ROW,
        )
    return Move(row, provider, was_location, was_origin, binding, look)


def _origin(given: str) -> str:
    try:
        return origin_of(given.strip())
    except ProviderError:
        raise ActionableError("--was-origin is no address", "Write it like https://host", Kind.USAGE) from None


def _agree(arguments: argparse.Namespace, move: Move, talk: Talk) -> None:
    """A yes to this very host: from a person, or by flags where nobody can be asked.

    Raises:
        ActionableError: there is none.
    """
    talk.info(f"sealed for: {move.was_origin}, location {move.was_location!r}")
    talk.info(f"the row is: {move.binding.origin}, location {move.row.location_id!r}")
    if arguments.yes and is_agreed(move.binding, arguments.allow_host):
        return
    if can_ask():
        with Terminal() as ask:
            if ask.yes(agreement_question(move.binding)):
                return
        raise ActionableError("nothing was changed", "", Kind.ROW)
    if not arguments.yes:
        raise ActionableError(
            "this is no terminal, so nobody can be asked", "If both are right, repeat with --yes.", Kind.USAGE
        )
    require_agreement(move.binding, arguments.allow_host)


def _carry_out(arguments: argparse.Namespace, context: Context, store: SealedStore, shown: Move, talk: Talk) -> None:
    """Seal and write, only over what was shown.

    Raises:
        ActionableError: the row was changed meanwhile.
        StoreError: the store did not take it.
    """
    changed = ActionableError("somebody changed the row meanwhile; nothing was written", "Repeat it.", Kind.RETRY_LATER)
    with context.patient_lock(talk), parts_around(context, store) as parts:
        move = _plan(arguments, context, store)
        if (move.row, move.binding) != (shown.row, shown.binding):
            raise changed
        dead = parts.claimant.of_slot(parts.claimant.slot)
        change = store.resealing(move.row, move.binding, move.look, dead)
        cell = change.values.get("encrypted_refresh")
        if isinstance(cell, str):  # what the journal has of this token must still be known for this row's
            parts.journal.rekey_entries({move.row.encrypted_refresh: cell})
        [result] = store.write([change])
    if result.error is not None:
        raise result.error
    if result.written is Written.UNDONE:
        raise StoreUnavailableError("the store did not confirm the write", "Run it again.")
    if result.written is Written.BUSY:
        raise ActionableError("another run is refreshing this row; nothing was written", "Repeat it.", Kind.BUSY)
    if result.written is not Written.STORED:
        raise changed


def _object(move: Move) -> dict[str, object]:
    return {
        "location_id": move.row.location_id,
        "provider": move.provider,
        "was": {"location_id": move.was_location, "origin": move.was_origin},
        "is": {"location_id": move.row.location_id, "origin": move.binding.origin},
        "columns": list(move.look.stale),
    }
