"""Changing the key while rows come and go, and somebody wants the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.commands.test_verify import new_key
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, Rows, SqliteRows, table_of
from tests.refresh.runs.test_faults_inside import run_context_of
from token_refresh.base.errors import ActionableError
from token_refresh.base.stop import Stop
from token_refresh.keys.inspection import Inspector
from token_refresh.keys.rotation import KeyRotation, RotationResult


class Journal:
    """A journal that something happens beside."""

    def __init__(self, journal: Any, happens: Callable[[], None]) -> None:
        self._journal = journal
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def rekey_entries(self, cells: Mapping[str, str]) -> None:
        self._happens()
        self._journal.rekey_entries(cells)


def rotated(rows: Rows, happens: Callable[[], None], stop: Stop | None = None) -> RotationResult:
    """A rotation of all rows, beside which something happens."""
    with run_context_of(rows) as context:
        journal: Any = Journal(context.journal, happens)
        inspector = Inspector(context.store, context.job_factory)
        rotation = KeyRotation(replace(context, journal=journal), inspector, rows.world.program.keyring.key_id)
        return rotation.run(rotation.stale_rows(), lambda _: None, stop or Stop())


@pytest.mark.parametrize("store", DATABASES)
def test_a_row_that_is_deleted_while_it_is_re_encrypted_is_nobody_s_worry(
    request: pytest.FixtureRequest, store: str
) -> None:
    rows = table_of(store, request)
    rows.add("acme", "stays")
    rows.add("acme", "goes")
    new_key(rows.world)
    there = ["goes"]
    result = rotated(rows, lambda: rows.remove(there.pop()) if there else None)
    assert (result.is_done, result.resealed, there) == (True, 1, [])


def test_a_rotation_that_nobody_wants_any_more_ends_before_the_next_rows(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    cell = rows.row("loc").encrypted_refresh
    new_key(world)
    stop = Stop()
    stop("SIGTERM")
    with pytest.raises(ActionableError, match="SIGTERM; 0 of 1 rows were re-encrypted"):
        rotated(rows, lambda: None, stop)
    assert rows.row("loc").encrypted_refresh == cell
