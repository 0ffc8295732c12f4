"""The only place where records meet crypto: opens cells and seals new ones, each bound to row, field and host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crypto import Context, Keyring, MalformedCellError, SealedCellError, TamperedError, UnknownKeyError, is_sealed
from stores.base import Change, Row, Store, Value, WriteResult

_ONBOARD = "Onboard the client again with `python onboard_client.py`."
_ADD_KEY = f"Add that key to ENCRYPTION_KEY_FALLBACKS if you still have it. Otherwise: {_ONBOARD}"


@dataclass(frozen=True)
class Binding:
    """Which token host a row's cells belong to.

    Attributes:
        origin: what cells are sealed for.
        former_origins: earlier hosts of the same provider whose cells still open, where the host is fixed.
        is_fixed: nothing in the table chose the host; only then do unbound older cells and those of former
            hosts open: they would open in a row that names any other host as well.
    """

    origin: str
    former_origins: tuple[str, ...] = ()
    is_fixed: bool = False


@dataclass(frozen=True)
class Opened:
    """A row's secrets in plain text; `is_stale` says that its cells want to be sealed anew."""

    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    is_stale: bool = False


class CellError(Exception):
    """A cell of one row does not open.

    Attributes:
        column: which.
        action: what to do, as a sentence.
        is_key_unknown: no configured key opens it; if that is so for every row, the key is wrong, not the rows.
    """

    def __init__(self, column: str, problem: str, action: str, *, is_key_unknown: bool = False) -> None:
        super().__init__(f"{column} {problem}")
        self.column = column
        self.action = action
        self.is_key_unknown = is_key_unknown


class SealedStore:
    """A store together with the keys of its cells.

    Args:
        store: the plain store; use it directly for whatever needs no secret.
        keyring: opens and seals.
        accept_legacy: whether cells of older forms open at all.
        seal_access_tokens: whether `last_access_token` is sealed too.
    """

    def __init__(self, store: Store, keyring: Keyring, *, accept_legacy: bool, seal_access_tokens: bool) -> None:
        self.store = store
        self._keyring = keyring
        self._accept_legacy = accept_legacy
        self._seal_access_tokens = seal_access_tokens

    def open(self, row: Row, binding: Binding) -> Opened:
        """The row's client secret (empty where it has none) and refresh token.

        Raises:
            CellError: a cell does not open here.
        """
        refresh_token = self._open("encrypted_refresh", row.encrypted_refresh, row, binding)
        if not refresh_token:  # only cells of older forms can hold nothing
            raise CellError("encrypted_refresh", "holds an empty text", _ONBOARD)
        secret = self._open("encrypted_secret", row.encrypted_secret, row, binding) if row.encrypted_secret else ""
        return Opened(secret, refresh_token, is_stale=self._is_stale(row, binding))

    def access_token(self, row: Row, binding: Binding) -> str:
        """The row's access token, opened where it is sealed; empty where there is none.

        Raises:
            CellError: it does not open here.
        """
        if not is_sealed(row.last_access_token):
            return row.last_access_token
        return self._open("last_access_token", row.last_access_token, row, binding)

    def cells(
        self, location_id: str, binding: Binding, *, secret: str = "", refresh: str = "", access: str = ""
    ) -> dict[str, Value]:
        """New cells by column, for those of the three that are given."""
        plain = {"encrypted_secret": secret, "encrypted_refresh": refresh}
        if self._seal_access_tokens:
            plain["last_access_token"] = access
        sealed: dict[str, Value] = {
            column: self._keyring.seal(text, Context(column, location_id, binding.origin))
            for column, text in plain.items()
            if text
        }
        if access and not self._seal_access_tokens:
            sealed["last_access_token"] = access
        return sealed

    def renewed_cells(
        self, row: Row, binding: Binding, opened: Opened, access_token: str | None, refresh_token: str | None
    ) -> dict[str, Value]:
        """The cells to write after an answer: the new tokens, and whatever else wants to be sealed anew.

        A row with a cell of an older form, another key or a former host is sealed whole.
        """
        refresh = refresh_token or (opened.refresh_token if opened.is_stale else "")
        secret = opened.client_secret if opened.is_stale else ""
        return self.cells(row.location_id, binding, secret=secret, refresh=refresh, access=access_token or "")

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        """See `Store.write`."""
        return self.store.write(changes)

    def _is_stale(self, row: Row, binding: Binding) -> bool:
        cells = {"encrypted_refresh": row.encrypted_refresh, "encrypted_secret": row.encrypted_secret}
        if any(self._keyring.needs_reseal(cell) for cell in cells.values()):
            return True
        if not binding.former_origins:
            return False
        return not all(self._opens(column, cell, row, binding.origin) for column, cell in cells.items() if cell)

    def _opens(self, column: str, cell: str, row: Row, origin: str) -> bool:
        try:
            self._keyring.open(cell, Context(column, row.location_id, origin))
        except SealedCellError:
            return False
        return True

    def _open(self, column: str, cell: str, row: Row, binding: Binding) -> str:
        try:
            if not is_sealed(cell):
                return self._open_unbound(column, cell, binding)
            return self._open_bound(column, cell, row, binding)
        except UnknownKeyError as error:
            raise CellError(column, f"is {error}", _ADD_KEY, is_key_unknown=True) from None
        except TamperedError as error:
            # An older form names no key: that none opens it may mean that the key is missing.
            is_old = not is_sealed(cell)
            raise CellError(column, str(error), _ADD_KEY if is_old else _ONBOARD, is_key_unknown=is_old) from None
        except MalformedCellError as error:
            mend = f"If the column is rich text, make it plain long text. {_ONBOARD}"
            raise CellError(column, str(error), mend) from None

    def _open_bound(self, column: str, cell: str, row: Row, binding: Binding) -> str:
        for origin in binding.former_origins if binding.is_fixed else ():
            if self._opens(column, cell, row, origin):
                return self._keyring.open(cell, Context(column, row.location_id, origin))
        return self._keyring.open(cell, Context(column, row.location_id, binding.origin))

    def _open_unbound(self, column: str, cell: str, binding: Binding) -> str:
        plaintext = self._keyring.open_unbound(cell)
        if not self._accept_legacy:
            raise CellError(column, "is of an older form, which LEGACY_CIPHERTEXT=refuse rules out", _ONBOARD)
        if not binding.is_fixed:
            # Such a cell opens in any row: whoever can edit the table could pair it with a host of their own.
            raise CellError(column, "is of an older form, and the row itself names the token host", _ONBOARD)
        return plaintext
