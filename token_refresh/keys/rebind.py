"""Sealing a row's cells for its new host or location id, after an honest change of either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from providers.addresses import origin_of
from providers.base import ProviderError
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.keys.cells import CellCheck, check_moved_cells, resealing
from token_refresh.refresh.jobs import JobFactory
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row, Written
from token_refresh.stores.sealed import Binding, Seals

FindRow = Callable[[], tuple[Row, str]]
"""The one row that is meant, as it is now, and the name of its provider; raises where it is not one."""


@dataclass(frozen=True)
class FormerPlace:
    """What cells may have been sealed for before; None: that has not changed.

    Raises:
        ActionableError: neither is given, or the origin is no address.
    """

    location_id: str | None
    origin: str | None

    def __post_init__(self) -> None:
        if self.location_id is None and self.origin is None:
            raise ActionableError(
                "what was different before?", "Name --was-origin or --was-location, or both.", Kind.USAGE
            )
        if self.origin is None:
            return
        try:
            origin_of(self.origin.strip())
        except ProviderError:
            raise ActionableError("--was-origin is no address", "Write it like https://host", Kind.USAGE) from None


@dataclass(frozen=True)
class Rebinding:
    """A row, what its cells were sealed for, and what they are to be sealed for."""

    row: Row
    provider: str
    was_location: str
    was_origin: str
    binding: Binding
    check: CellCheck

    def as_json(self) -> dict[str, object]:
        """The answer of `rebind`."""
        return {
            "location_id": self.row.location_id,
            "provider": self.provider,
            "was": {"location_id": self.was_location, "origin": self.was_origin},
            "is": {"location_id": self.row.location_id, "origin": self.binding.origin},
            "columns": list(self.check.stale),
        }


def plan_rebinding(find_row: FindRow, seals: Seals, job_factory: JobFactory, former: FormerPlace) -> Rebinding:
    """What is there now; nothing is written.

    Raises:
        ActionableError: a cell opens neither here nor there.
        NoSuchTokenError, SeveralTokensError: there is no such row, or there are several.
        ProviderError: it cannot be said where the row's secrets go.
    """
    row, provider = find_row()
    binding = job_factory.binding(row)
    was_location = row.location_id if former.location_id is None else former.location_id.strip()
    was_origin = binding.origin if former.origin is None else origin_of(former.origin.strip())
    check = check_moved_cells(seals, row, binding, was_location, was_origin)
    for error in check.errors:
        raise ActionableError(
            f"{row.location_id}: {error}, neither for {binding.origin} nor for {was_origin} and {was_location!r}",
            f"Check what it was encrypted for. {error.action}",
            Kind.ROW,
        )
    return Rebinding(row, provider, was_location, was_origin, binding, check)


def rebind(context: RunContext, find_row: FindRow, former: FormerPlace, agreed: Rebinding) -> None:
    """Seal and write, only over what somebody agreed to. The caller holds the lock.

    Raises:
        ActionableError: the row was changed meanwhile, or is being refreshed.
        StoreError: the store did not accept it.
    """
    changed = ActionableError("somebody changed the row meanwhile; nothing was written", "Repeat it.", Kind.RETRY_LATER)
    plan = plan_rebinding(find_row, context.store, context.job_factory, former)
    if (plan.row, plan.binding) != (agreed.row, agreed.binding):
        raise changed
    dead = context.claimant.inherited
    change = resealing(context.store, plan.row, plan.binding, plan.check, dead)
    cell = change.values.get("encrypted_refresh")
    if isinstance(cell, str):  # what the journal has of this token must still be known for this row's
        context.journal.rekey_entries({plan.row.encrypted_refresh: cell})
    [result] = context.store.store.write([change])
    if result.error is not None:
        raise result.error
    if result.written is Written.BUSY:
        raise ActionableError("another run is refreshing this row; nothing was written", "Repeat it.", Kind.BUSY)
    if result.written is not Written.STORED:
        raise changed
