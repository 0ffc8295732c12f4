"""Everybody who wants to know of runs: one line each, imported where it is set. A new notifier gets its line here."""

from __future__ import annotations

from collections.abc import Iterator

from token_refresh.notifiers.recorders import recorders_of
from token_refresh.notifiers.watch import Notifier, Surroundings


def notifiers_of(surroundings: Surroundings) -> Iterator[Notifier]:
    """Those that the settings ask for."""
    yield from recorders_of(surroundings)
