"""Which row a person means who names a location."""

from __future__ import annotations

from commands import exits
from commands.context import Context, keyring
from refresher.failures import all_recalled
from stores.base import Row, Store


def the_row(context: Context, store: Store, location_id: str, provider: str | None) -> tuple[Row, str]:
    """The one row that is meant, complete, and the name of its provider.

    Raises:
        CommandError: there is none, or there are several.
    """
    default = context.settings.default_provider
    rows = all_recalled(store.find(location_id), context.folder, keyring(context.settings), store.columns)
    found = [(row, row.provider or default) for row in rows]
    matching = [(row, name) for row, name in found if provider in (None, name)]
    if not matching:
        raise exits.CommandError(
            f"there is no row of {location_id!r}" + (f" and {provider}" if provider else ""),
            "Check the name with: python token_manager.py status",
            exits.FAILED,
        )
    if len(matching) > 1:
        names = ", ".join(sorted(name for _, name in matching))
        raise exits.CommandError(f"{location_id!r} has several rows: {names}", "Choose one with --provider.")
    return matching[0]
