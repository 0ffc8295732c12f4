"""Changing the key while rows come and go, and somebody wants the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.commands.test_verify import new_key
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, Rows, SqliteRows, table_of
from tests.refresh.runs.test_faults_inside import run_context_of
from token_refresh.keys.inspection import Inspector
from token_refresh.keys.rotation import Rotator


class Journal:
    """A journal that something happens beside."""

    def __init__(self, happens: Any) -> None:
        self._happens = happens

    def rekey_entries(self, cells: Mapping[str, str]) -> None:
        self._happens()


def rotated(rows: Rows, happens: Any, *, is_wanted: bool = True) -> tuple[bool, Rotator]:
    """A rotation of all rows, and whether it came to its end."""
    with run_context_of(rows) as context:
        keys = [row.key for row in context.store.store.rows()]
        inspector = Inspector(context.store, context.job_factory, ())
        journal: Any = Journal(happens)
        rotator = Rotator(context.store, inspector, journal, lambda _: None, lambda: is_wanted, context.clock, "")
        return rotator.reseal(keys), rotator


@pytest.mark.parametrize("store", DATABASES)
def test_a_row_that_is_deleted_while_it_is_re_encrypted_is_nobody_s_worry(
    request: pytest.FixtureRequest, store: str
) -> None:
    rows = table_of(store, request)
    rows.add("acme", "stays")
    rows.add("acme", "goes")
    new_key(rows.world)
    there = ["goes"]
    is_at_end, rotator = rotated(rows, lambda: rows.remove(there.pop()) if there else None)
    assert (is_at_end, rotator.resealed, rotator.refused) == (True, 1, {})


def test_a_rotation_that_nobody_wants_any_more_ends_before_the_next_rows(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    new_key(world)
    is_at_end, rotator = rotated(rows, lambda: None, is_wanted=False)
    assert (is_at_end, rotator.resealed) == (False, 0)
