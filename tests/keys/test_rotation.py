"""Changing the key while rows come and go, and somebody wants the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import crypto
from crypto import Context
from tests.commands.test_rotate_key import unbound
from tests.commands.test_verify import new_key, older_form
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, Rows, SqliteRows, table_of
from tests.refresh.runs.test_faults_inside import run_context_of
from token_refresh.base.errors import ActionableError
from token_refresh.base.stop import Stop
from token_refresh.keys.inspection import Consent, Inspector, consent_to_rows, no_consent
from token_refresh.keys.rotation import KeyRotation, RotationResult

FOREIGN = crypto.Keyring(bytes(32)).seal("token", Context("encrypted_refresh", "scribble", "https://another.example"))


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
        rotation = KeyRotation(context._replace(journal=journal), inspector, rows.world.program.keyring.key_id)
        return rotation.run(rotation.stale_rows(), lambda _: None, stop or Stop())


def test_older_forms_beside_a_host_that_the_row_names_are_asked_about_row_by_row(world: World) -> None:
    """But not those that no consent opens."""
    rows = SqliteRows(world)
    host = unbound(rows, "a")
    unbound(rows, "b")
    unbound(rows, "scribble")
    rows.edit("scribble", encrypted_refresh=FOREIGN)
    rows.add("acme", "usual", encrypted_refresh=older_form(world, "token"))
    with run_context_of(rows) as context:
        listed = list(context.store.store.rows(complete=True))

        def asked_about(consent: Consent) -> list[tuple[str, str]]:
            return [one.consent for one in Inspector(context.store, context.job_factory, consent).unconfirmed(listed)]

        assert asked_about(no_consent) == [("a", host), ("b", host)]
        assert asked_about(consent_to_rows([("a", host)])) == [("b", host)]


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
    with pytest.raises(ActionableError, match=r"SIGTERM; re-encrypted: 0 of 1 row$"):
        rotated(rows, lambda: None, stop)
    assert rows.row("loc").encrypted_refresh == cell
