"""The only place where records meet crypto: opens cells and seals new ones, each bound to row, field and host."""

from __future__ import annotations

from dataclasses import dataclass

from crypto import Context, Keyring, MalformedCellError, SealedCellError, TamperedError, UnknownKeyError, is_sealed
from token_refresh.base.errors import ActionableError, Kind, RunError
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER, flag
from token_refresh.stores.base import Row, Store, Value

_ONBOARD = f"Onboard the client again with `{ONBOARD_CLIENT}`."
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


class CellError(ActionableError):
    """A cell of one row does not open.

    Attributes:
        column: which.
        is_key_unknown: no configured key opens it; if that is so for every row, the key is wrong, not the rows.
    """

    kind = Kind.UNREADABLE_CELL

    def __init__(self, column: str, problem: str, action: str, *, is_key_unknown: bool = False) -> None:
        super().__init__(f"{column} {problem}", action)
        self.column = column
        self.is_key_unknown = is_key_unknown


class Seals:
    """The keys of a table's cells, and the rules by which they open and are sealed.

    Args:
        keyring: opens and seals; also what cells and tokens are recognised by.
        accept_legacy: whether cells of older forms open at all.
        seal_access_tokens: whether `last_access_token` is sealed too.
    """

    def __init__(self, keyring: Keyring, *, accept_legacy: bool, seal_access_tokens: bool) -> None:
        self.keyring = keyring
        self._accept_legacy = accept_legacy
        self._seal_access_tokens = seal_access_tokens

    def open(self, row: Row, binding: Binding) -> tuple[str, str]:
        """The row's client secret (empty where it has none) and refresh token.

        Raises:
            CellError: a cell does not open here.
        """
        refresh_token = self.open_text("encrypted_refresh", row.encrypted_refresh, row, binding)
        secret = self.open_text("encrypted_secret", row.encrypted_secret, row, binding) if row.encrypted_secret else ""
        return secret, refresh_token

    def access_token(self, row: Row, binding: Binding) -> str:
        """The row's access token, opened where it is sealed; empty where there is none.

        Raises:
            CellError: it does not open here.
        """
        if not is_sealed(row.last_access_token):
            return row.last_access_token
        return self.open_text("last_access_token", row.last_access_token, row, binding)

    def cells(self, location_id: str, binding: Binding, *, access: str = "", **texts: str) -> dict[str, Value]:
        """New cells by column, of those texts that are not empty: sealed, but for `access` where settings say so.

        `access` is a new access token; `texts` are named by their columns.
        """
        if access and self._seal_access_tokens:
            texts["last_access_token"], access = access, ""
        cells: dict[str, Value] = {
            column: self.keyring.seal(text, Context(column, location_id, binding.origin))
            for column, text in texts.items()
            if text
        }
        return cells | {"last_access_token": access} if access else cells

    def renewed_cells(
        self, row: Row, binding: Binding, access_token: str | None, refresh_token: str | None
    ) -> dict[str, Value]:
        """The cells to write after an answer: the new tokens, and whatever else needs re-encrypting.

        A row with a cell of an older form, another key or a former host is encrypted whole.
        """
        cells = {"encrypted_refresh": row.encrypted_refresh, "encrypted_secret": row.encrypted_secret}
        is_stale = any(self.is_stale(column, cell, row, binding) for column, cell in cells.items() if cell)
        secret, refresh = self.open(row, binding) if is_stale else ("", "")
        texts = {"encrypted_secret": secret, "encrypted_refresh": refresh_token or refresh}
        return self.cells(row.location_id, binding, access=access_token or "", **texts)

    def open_text(self, column: str, cell: str, row: Row, binding: Binding) -> str:
        """What one cell holds that belongs in this column of the row.

        Raises:
            CellError: it does not open here.
        """
        try:
            if is_sealed(cell):
                formers = binding.former_origins if binding.is_fixed else ()
                origin = next((one for one in formers if self._opens(column, cell, row, one)), binding.origin)
                return self.keyring.open(cell, Context(column, row.location_id, origin))
            text = self._open_unbound(column, cell, row, binding)
        except UnknownKeyError as error:
            raise CellError(column, str(error), _ADD_KEY, is_key_unknown=True) from None
        except TamperedError as error:
            # An older form names no key: that none opens it may mean that the key is missing.
            is_old = not is_sealed(cell)
            raise CellError(column, str(error), _ADD_KEY if is_old else _ONBOARD, is_key_unknown=is_old) from None
        except MalformedCellError as error:
            fix = f"If the column is rich text, make it plain long text. {_ONBOARD}"
            raise CellError(column, str(error), fix) from None
        if not text and column == "encrypted_refresh":  # only cells of older forms can hold nothing
            raise CellError(column, "holds an empty text", _ONBOARD)
        return text

    def is_stale(self, column: str, cell: str, row: Row, binding: Binding) -> bool:
        """Whether a cell that opens needs re-encrypting: it is of an older form, an older key or a former host."""
        if self.keyring.needs_reseal(cell):
            return True
        return bool(binding.former_origins) and not self._opens(column, cell, row, binding.origin)

    def _opens(self, column: str, cell: str, row: Row, origin: str) -> bool:
        try:
            self.keyring.open(cell, Context(column, row.location_id, origin))
        except SealedCellError:
            return False
        return True

    def _open_unbound(self, column: str, cell: str, row: Row, binding: Binding) -> str:
        plaintext = self.keyring.open_unbound(cell)
        if not self._accept_legacy:
            raise CellError(column, "is of an older form, which LEGACY_CIPHERTEXT=refuse rules out", _ONBOARD)
        if not binding.is_fixed:
            # Such a cell opens in any row: whoever can edit the table could pair it with a host of their own.
            pair = flag("--allow-host", f"{row.location_id}={binding.origin.partition('://')[2]}")
            fix = f"If that is right: {TOKEN_MANAGER} rotate-key {pair}. Otherwise: {_ONBOARD}"
            raise CellError(column, "is of an older form, and the row itself names the token host", fix)
        return plaintext


def wrong_key(rows: int) -> RunError:
    """Where so many rows were looked at, and no configured key opens any cell of them: it is wrong, not the rows."""
    return RunError(
        f"ENCRYPTION_KEY decrypts no value of the {rows} rows",
        "Set the key that encrypted them; older keys go into ENCRYPTION_KEY_FALLBACKS.",
    )


class SealedStore(Seals):
    """A store together with the keys of its cells.

    Args:
        store: the plain store; use it directly for whatever needs no secret.
        keyring, accept_legacy, seal_access_tokens: see `Seals`.
    """

    def __init__(self, store: Store, keyring: Keyring, *, accept_legacy: bool, seal_access_tokens: bool) -> None:
        super().__init__(keyring, accept_legacy=accept_legacy, seal_access_tokens=seal_access_tokens)
        self.store = store
