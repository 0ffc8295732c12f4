"""Cells open only where they belong: whoever can edit the table cannot make us send a secret elsewhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import crypto
from crypto import Context, Keyring
from tests.stores.places import DatabasePlace
from tests.stores.test_airtable import everything_in
from tests.world.clock import FakeClock
from token_refresh.base.columns import SEALED_COLUMNS
from token_refresh.keys.cells import check_cells
from token_refresh.stores.base import Row
from token_refresh.stores.sealed import Binding, CellError, SealedStore

KEY, OLD_KEY, FOREIGN_KEY = (bytes([number]) * 32 for number in (1, 2, 3))
HERE, THERE, FORMER = "https://token.example", "https://evil.example", "https://old.example"
FIXED = Binding(HERE, is_fixed=True)
OPEN = Binding(HERE)
MOVED = Binding(HERE, (FORMER, "https://older.example"), is_fixed=True)
SECRET, TOKEN = "hush client secret", "hush refresh token"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DatabasePlace]:
    """Any store will do."""
    made = DatabasePlace(tmp_path / "db" / "tokens.sqlite3", FakeClock())
    yield made
    made.store.close()
    made.shell.close()


@pytest.fixture
def sealed(place: DatabasePlace) -> SealedStore:
    """A store with one key in use and one older."""
    return store(place)


def store(place: DatabasePlace, **changed: Any) -> SealedStore:
    """A sealed store, by default one that takes older forms and seals access tokens."""
    usual: dict[str, Any] = {"accept_legacy": True, "seal_access_tokens": True}
    keyring = changed.pop("keyring", Keyring(KEY, [OLD_KEY]))
    return SealedStore(place.store, keyring, **(usual | changed))


def seal(column: str, text: str, location_id: str = "loc-1", origin: str = HERE, key: bytes = KEY) -> str:
    """A cell of format v1."""
    return Keyring(key).seal(text, Context(column, location_id, origin))


def row(location_id: str = "loc-1", **changed: Any) -> Row:
    """A row whose cells belong to it."""
    made = Row(
        "key",
        location_id,
        "app",
        encrypted_secret=seal("encrypted_secret", SECRET, location_id),
        encrypted_refresh=seal("encrypted_refresh", TOKEN, location_id),
    )
    return replace(made, **changed)


def with_cells(old: Row, cells: Mapping[str, Any]) -> Row:
    """The row once these cells are written."""
    return replace(old, **cells)


def bare(text: str, key: bytes = KEY) -> str:
    """An older form: base64 of AES-256-GCM."""
    nonce = os.urandom(12)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text.encode(), None)).decode()


def fernet(text: str, key: bytes = KEY) -> str:
    """An older form: Fernet."""
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(text.encode()).decode()


def encoded_fernet(text: str, key: bytes = KEY) -> str:
    """An older form: Fernet, encoded once more."""
    return base64.b64encode(fernet(text, key).encode()).decode()


OLDER_FORMS = [bare, fernet, encoded_fernet]


def refused(sealed: SealedStore, wrong: Row, binding: Binding = FIXED) -> CellError:
    """The error of a row that does not open."""
    with pytest.raises(CellError) as raised:
        sealed.open(wrong, binding)
    shown = "\n".join(everything_in(raised.value))
    for cell in (wrong.encrypted_refresh, wrong.encrypted_secret, wrong.last_access_token):
        assert len(cell) < 12 or cell[-12:] not in shown
    assert "hush" not in shown
    assert raised.value.action.endswith(".")
    assert str(raised.value).startswith(raised.value.column)
    return raised.value


# Where a cell belongs


def test_a_row_opens_with_its_own_cells(sealed: SealedStore) -> None:
    assert sealed.open(row(), FIXED) == (SECRET, TOKEN)
    assert sealed.open(row(), OPEN) == (SECRET, TOKEN)
    assert sealed.open(row(encrypted_secret=""), OPEN) == ("", TOKEN)


@pytest.mark.parametrize(
    ("changed", "column"),
    [
        ({"encrypted_refresh": seal("encrypted_refresh", TOKEN, "loc-2")}, "encrypted_refresh"),
        ({"encrypted_secret": seal("encrypted_secret", SECRET, "loc-2")}, "encrypted_secret"),
        ({"encrypted_refresh": seal("encrypted_secret", SECRET)}, "encrypted_refresh"),
        ({"encrypted_secret": seal("encrypted_refresh", TOKEN)}, "encrypted_secret"),
        ({"encrypted_refresh": seal("last_access_token", TOKEN)}, "encrypted_refresh"),
        ({"encrypted_refresh": seal("encrypted_refresh", TOKEN, origin=THERE)}, "encrypted_refresh"),
        ({"encrypted_refresh": seal("encrypted_refresh", TOKEN, "LOC-1")}, "encrypted_refresh"),
    ],
    ids=["row", "row's secret", "field", "field's secret", "access token", "origin", "letter case"],
)
@pytest.mark.parametrize("binding", [FIXED, OPEN, MOVED])
def test_a_cell_copied_elsewhere_does_not_open(
    sealed: SealedStore, changed: dict[str, str], column: str, binding: Binding
) -> None:
    error = refused(sealed, row(**changed), binding)
    assert error.column == column
    assert not error.is_key_unknown
    assert "onboard_client.py" in error.action


def test_a_row_pointed_at_another_host_does_not_open(sealed: SealedStore) -> None:
    refused(sealed, row(), Binding(THERE))
    refused(sealed, row(), Binding(THERE, is_fixed=True))


def test_white_space_around_the_location_does_not_count(sealed: SealedStore) -> None:
    assert sealed.open(row(location_id=" loc-1\n"), FIXED)[1] == TOKEN


def test_of_sixty_cells_none_opens_in_the_place_of_another(place: DatabasePlace) -> None:
    """Six locations at two hosts: all 3,540 swaps are refused, and each cell opens where it belongs."""
    rows = [
        (
            row(
                location,
                **{column: seal(column, f"{column} of {location}", location, origin) for column in SEALED_COLUMNS},
            ),
            Binding(origin, is_fixed=True),
        )
        for location in [f"loc-{number}" for number in range(6)]
        for origin in (HERE, THERE)
    ]
    sealed = store(place)
    places = [(one, binding, column) for one, binding in rows for column in SEALED_COLUMNS]
    swaps = 0
    for one, binding, column in places:
        assert check_cells(sealed, one, binding).opened[column] == f"{column} of {one.location_id}"
        for other, _, its_column in places:
            if (other, its_column) != (one, column):
                swapped = replace(one, **{column: getattr(other, its_column)})
                swaps += 1
                assert [error.column for error in check_cells(sealed, swapped, binding).errors] == [column]
    assert swaps == 3540


# Former hosts


@pytest.mark.parametrize("origin", MOVED.former_origins)
def test_cells_of_a_former_host_open_and_are_re_encrypted(sealed: SealedStore, origin: str) -> None:
    old = row(
        encrypted_refresh=seal("encrypted_refresh", TOKEN, origin=origin),
        encrypted_secret=seal("encrypted_secret", SECRET, origin=origin),
    )
    assert sealed.open(old, MOVED) == (SECRET, TOKEN)
    cells = sealed.renewed_cells(old, MOVED, "access", None)
    assert set(cells) == {"encrypted_refresh", "encrypted_secret", "last_access_token"}
    assert sealed.open(with_cells(old, cells), FIXED) == (SECRET, TOKEN)


@pytest.mark.parametrize("column", ["encrypted_refresh", "encrypted_secret"])
def test_one_cell_of_a_former_host_is_enough_to_re_encrypt_the_row(sealed: SealedStore, column: str) -> None:
    """Else the secret alone stays behind, and stops opening on the day the former host leaves the catalogue."""
    text = {"encrypted_refresh": TOKEN, "encrypted_secret": SECRET}[column]
    mixed = row(**{column: seal(column, text, origin=FORMER)})
    cells = sealed.renewed_cells(mixed, MOVED, "access", "new token")
    assert sealed.open(with_cells(mixed, cells), FIXED) == (SECRET, "new token")


def test_a_row_of_the_present_host_is_not_stale_for_having_had_former_ones(sealed: SealedStore) -> None:
    for fresh in (row(), row(encrypted_secret="")):
        assert sealed.renewed_cells(fresh, MOVED, None, None) == {}


def test_a_former_host_opens_nothing_in_a_row_that_names_the_host(sealed: SealedStore) -> None:
    """Otherwise every cell that was never re-encrypted could be sent to whatever host the row names."""
    old = row(encrypted_refresh=seal("encrypted_refresh", TOKEN, origin=FORMER), encrypted_secret="")
    assert sealed.open(old, replace(MOVED, origin=HERE))[1] == TOKEN
    refused(sealed, old, Binding(THERE, (FORMER,), is_fixed=False))


# Older forms


@pytest.mark.parametrize("form", OLDER_FORMS)
@pytest.mark.parametrize("key", [KEY, OLD_KEY])
def test_an_older_form_opens_where_the_host_is_fixed_and_is_sealed_whole(
    sealed: SealedStore, form: Any, key: bytes
) -> None:
    old = row(encrypted_refresh=form(TOKEN, key), encrypted_secret=form(SECRET, key))
    assert sealed.open(old, FIXED) == (SECRET, TOKEN)
    cells = sealed.renewed_cells(old, FIXED, "access", "new token")
    assert all(str(cell).startswith(f"sealed:v1:{Keyring(KEY).key_id}:") for cell in cells.values())
    renewed = with_cells(old, cells)
    assert sealed.open(renewed, FIXED) == (SECRET, "new token")
    assert sealed.access_token(renewed, FIXED) == "access"


@pytest.mark.parametrize("form", OLDER_FORMS)
@pytest.mark.parametrize("column", ["encrypted_refresh", "encrypted_secret"])
def test_an_older_form_never_opens_where_the_row_names_the_host(sealed: SealedStore, form: Any, column: str) -> None:
    error = refused(sealed, row(**{column: form(TOKEN)}), OPEN)
    assert (error.column, error.is_key_unknown) == (column, False)
    assert "the row itself names the token host" in str(error)


@pytest.mark.parametrize("form", OLDER_FORMS)
@pytest.mark.parametrize("binding", [FIXED, OPEN, MOVED])
def test_an_older_form_never_opens_where_settings_rule_it_out(
    place: DatabasePlace, form: Any, binding: Binding
) -> None:
    error = refused(store(place, accept_legacy=False), row(encrypted_refresh=form(TOKEN)), binding)
    assert "LEGACY_CIPHERTEXT=refuse" in str(error)
    assert store(place, accept_legacy=False).open(row(), binding)[1] == TOKEN


@pytest.mark.parametrize("form", OLDER_FORMS)
def test_an_older_form_of_an_unknown_key_says_that_a_key_may_be_missing(sealed: SealedStore, form: Any) -> None:
    error = refused(sealed, row(encrypted_refresh=form(TOKEN, FOREIGN_KEY)))
    assert error.is_key_unknown
    assert "ENCRYPTION_KEY_FALLBACKS" in error.action


@pytest.mark.parametrize(
    "junk",
    ["", "x", "sealed:", "sealed:v2:abc", "sealed:v1:0123456789abcdef:", "hush refresh token", "gAAAA", "=" * 80],
)
def test_what_is_no_cell_is_reported_by_column(sealed: SealedStore, junk: str) -> None:
    error = refused(sealed, row(encrypted_refresh=junk, encrypted_secret=""))
    assert (error.column, error.is_key_unknown) == ("encrypted_refresh", False)


def test_a_rich_text_column_is_what_a_spoilt_cell_suggests(sealed: SealedStore) -> None:
    """Rich text escapes the underscores of a cell."""
    spoilt = next(cell for cell in iter(lambda: seal("encrypted_refresh", TOKEN), "") if "_" in cell[28:])
    error = refused(sealed, row(encrypted_refresh=spoilt.replace("_", "\\_")))
    assert "plain long text" in error.action


# Keys


def test_a_cell_of_an_older_key_opens_and_is_re_encrypted(sealed: SealedStore) -> None:
    for column, text in (("encrypted_refresh", TOKEN), ("encrypted_secret", SECRET)):
        old = row(**{column: seal(column, text, key=OLD_KEY)})
        assert sealed.open(old, OPEN) == (SECRET, TOKEN)
        cells = sealed.renewed_cells(old, OPEN, None, None)
        assert set(cells) == {"encrypted_refresh", "encrypted_secret"}
        assert sealed.renewed_cells(with_cells(old, cells), OPEN, None, None) == {}


def test_an_unknown_key_in_one_row_leaves_the_others_alone(sealed: SealedStore) -> None:
    rows = [row("a"), row("b", encrypted_refresh=seal("encrypted_refresh", TOKEN, "b", key=FOREIGN_KEY)), row("c")]
    assert sealed.open(rows[0], FIXED)[1] == TOKEN
    error = refused(sealed, rows[1])
    assert error.is_key_unknown
    assert Keyring(FOREIGN_KEY).key_id in str(error)
    assert "ENCRYPTION_KEY_FALLBACKS" in error.action
    assert sealed.open(rows[2], FIXED)[1] == TOKEN


# What is written


def test_a_fresh_row_is_renewed_with_the_new_tokens_only(sealed: SealedStore) -> None:
    def renewed(access: str | None, refresh: str | None) -> set[str]:
        return set(sealed.renewed_cells(row(), FIXED, access, refresh))

    assert renewed("access", "new") == {"encrypted_refresh", "last_access_token"}
    assert renewed("access", None) == {"last_access_token"}
    assert renewed(None, "new") == {"encrypted_refresh"}
    assert renewed(None, None) == set()


def test_a_row_without_a_secret_gets_none(sealed: SealedStore) -> None:
    old = row(encrypted_refresh=bare(TOKEN), encrypted_secret="")
    cells = sealed.renewed_cells(old, FIXED, "access", "new")
    assert set(cells) == {"encrypted_refresh", "last_access_token"}


@pytest.mark.parametrize("is_on", [True, False])
def test_access_tokens_are_sealed_where_settings_ask_for_it(place: DatabasePlace, is_on: bool) -> None:
    sealed = store(place, seal_access_tokens=is_on)
    cell = sealed.cells("loc-1", FIXED, access="access")["last_access_token"]
    assert isinstance(cell, str)
    assert crypto.is_sealed(cell) is is_on
    held = row(last_access_token=cell)
    # Whoever turns the setting round can still read what is there.
    for reader in (sealed, store(place, seal_access_tokens=not is_on)):
        assert reader.access_token(held, FIXED) == "access"
    assert sealed.access_token(row(), FIXED) == ""


def test_a_sealed_access_token_is_bound_like_the_others(sealed: SealedStore) -> None:
    cell = str(sealed.cells("loc-1", FIXED, access="hush access token")["last_access_token"])
    with pytest.raises(CellError) as raised:
        sealed.access_token(row("loc-2", last_access_token=cell), FIXED)
    assert raised.value.column == "last_access_token"
    with pytest.raises(CellError):
        sealed.access_token(row(last_access_token=cell), Binding(THERE))


def test_no_plain_text_reaches_the_store(place: DatabasePlace, sealed: SealedStore) -> None:
    cells = sealed.cells("loc-1", FIXED, encrypted_secret=SECRET, encrypted_refresh=TOKEN, access="hush access token")
    place.store.create({"locationId": "loc-1", **cells})
    place.shell.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = b"".join(part.read_bytes() for part in place.file.parent.iterdir())
    assert b"sealed:v1:" in content
    assert b"hush" not in content
