"""From what a layout found to rows as a table has them: each secret sealed for its row, column and token host."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import crypto
from providers.base import ProviderError
from token_refresh.base.clock import parse_time
from token_refresh.base.columns import ATTRIBUTES, DETAILS, ColumnType, split_details
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import counted
from token_refresh.keys.inspection import Inspector
from token_refresh.net.hosts import HostNotAllowedError, require_agreement
from token_refresh.refresh.jobs import JobFactory
from token_refresh.stores.base import STATUS_DISABLED, Row
from token_refresh.stores.sealed import Binding, CellError, Seals
from token_refresh.transfer.export_file import SourceRow
from token_refresh.transfer.layouts.base import Found, Source, some

_COLUMNS = {
    "client_secret": "encrypted_secret",
    "refresh_token": "encrypted_refresh",
    "access_token": "last_access_token",
}
_TIMES = [column.name for column in DETAILS if column.type is ColumnType.DATETIME]
_SET_KEY = "Set IMPORT_KEY to the key of the earlier program."


def read_layout(
    layout: str,
    source: Source,
    seals: Seals,
    job_factory: JobFactory,
    inspector: Inspector,
    columns: Collection[str],
) -> list[SourceRow]:
    """The records of the source, as rows that are ready for the table, or why they are not taken.

    Args:
        layout: one of `LAYOUTS`.
        source: where it reads.
        seals: open what the earlier program sealed, and seal.
        job_factory: knows the provider and the client of a row.
        inspector: knows what a row's cells are bound to, and which hosts records may name themselves.
        columns: of the table.

    Raises:
        ActionableError: the source cannot be used, or no key opens anything in it.
    """
    module = importlib.import_module(f"token_refresh.transfer.layouts.{layout.replace('-', '_')}")
    sealer = _Sealer(seals, job_factory, inspector, columns)
    lines = [sealer.line(found) for found in module.read(source)]
    if sealer.locked and not any(line.row for line in lines):
        what = f"no configured key opens any refresh token ({counted(sealer.locked, 'row')})"
        raise ActionableError(what, _SET_KEY, Kind.CONFIGURATION)
    return lines


class _NotTakenError(ActionableError):
    """Why a record is not taken.

    Attributes:
        is_wrong: see `SourceRow`.
    """

    kind = Kind.ROW

    def __init__(self, reason: str, action: str, *, is_wrong: bool = True) -> None:
        super().__init__(reason, action)
        self.is_wrong = is_wrong


class _Sealer:
    """Seals what was found. `locked` counts the records that no key opens."""

    def __init__(self, seals: Seals, job_factory: JobFactory, inspector: Inspector, columns: Collection[str]) -> None:
        self._columns = columns
        self._seals = seals
        self._job_factory = job_factory
        self._inspector = inspector
        self.locked = 0

    def line(self, found: Found) -> SourceRow:
        """The record as a row."""
        row = found.row or Row(found.name, found.location_id, "", provider=self._job_factory.slug_of(found.provider))
        try:
            if found.row is None:
                row = self._with_details(found, row)
            return SourceRow(found.name, self._sealed(found, row))
        except _NotTakenError as error:
            reason, action, is_wrong = str(error), error.action, error.is_wrong
        except (ProviderError, HostNotAllowedError) as error:
            reason, action, is_wrong = str(error), error.action, True
        provider = self._job_factory.provider_name(row)
        return SourceRow(found.name, None, reason, action, is_wrong, found.location_id, provider)

    def _sealed(self, found: Found, row: Row) -> Row:
        """Raises `_NotTakenError`, `HostNotAllowedError` or `ProviderError`."""
        if found.reason:
            raise _NotTakenError(found.reason, found.action, is_wrong=found.is_wrong)
        if not found.location_id:
            raise _NotTakenError("it has nothing that could be its location id", "Give it one in the source.")
        if not found.refresh_token:
            return self._access_token_only(found, row)
        # First, because no consent to the host would let the settings' secret go there.
        endpoint = self._job_factory.endpoint(row)
        client = self._job_factory.client(
            self._job_factory.provider_name(row), endpoint, found.client_id, found.client_secret
        )
        binding = self._binding(row)
        refresh = self._opened(found, "refresh_token", row, binding)
        secret = self._secret(found, row, binding, client.client_id)
        access = self._access_token(found, row, binding)
        texts = {"encrypted_secret": secret, "encrypted_refresh": refresh}
        cells = self._seals.cells(row.location_id, binding, access=access, **texts)
        return replace(
            row,
            client_id=client.client_id,
            encrypted_secret=str(cells.get("encrypted_secret", "")),
            encrypted_refresh=str(cells["encrypted_refresh"]),
            last_access_token=str(cells.get("last_access_token", "")),
            access_token_expiry=found.expiry,
            last_refreshed=found.last_refreshed if access else row.last_refreshed,
        )

    def _access_token_only(self, found: Found, row: Row) -> Row:
        """A record without a refresh token: its access token is served to its end, or without end. See `_sealed`."""
        again = "Log in again so that there is one, then onboard it."
        if not found.access_token or not (found.has_no_end or found.expiry):
            raise _NotTakenError("it has no refresh token", again, is_wrong=False)
        binding = self._binding(row)
        access = self._opened(found, "access_token", row, binding)
        cells = self._seals.cells(row.location_id, binding, last_access_token=access)
        client = found.client_id or self._job_factory.default_client_id(self._job_factory.provider_name(row))
        return replace(
            row, client_id=client, last_access_token=str(cells["last_access_token"]), access_token_expiry=found.expiry
        )

    def _with_details(self, found: Found, row: Row) -> Row:
        """The row with what is known beside its tokens.

        What was granted is never sent: Microsoft names no `offline_access` among it; asked for just that, it would send
        no new refresh token any more.
        """
        details = {**some(redirect_uri=found.params.get("redirect_uri", "")), **found.details}
        known, more = split_details(details, self._columns)
        params = {**more, **found.params}
        own: dict[str, Any] = {
            ATTRIBUTES[name]: parse_time(text) if name in _TIMES else text for name, text in known.items()
        }
        status = "" if found.is_active else STATUS_DISABLED
        provider_params = json.dumps(params, ensure_ascii=False) if params else ""
        return replace(row, status=status, provider_params=provider_params, **own)

    def _binding(self, row: Row) -> Binding:
        """What the cells will be bound to: a host that the settings or whoever runs this has chosen."""
        binding = self._inspector.binding(row)
        require_agreement(binding, ())
        return binding

    def _secret(self, found: Found, row: Row, binding: Binding, client_id: str) -> str:
        """The client's own secret; empty where the settings hold the same one."""
        if not found.client_secret:
            return ""
        secret = self._opened(found, "client_secret", row, binding)
        endpoint = self._job_factory.endpoint(row)
        if not endpoint.is_fixed:
            return secret
        default = self._job_factory.client(self._job_factory.provider_name(row), endpoint, client_id, "")
        return "" if secret == default.client_secret else secret

    def _access_token(self, found: Found, row: Row, binding: Binding) -> str:
        """Empty where there is none that opens: the next run fetches one."""
        try:
            return self._opened(found, "access_token", row, binding) if found.access_token else ""
        except _NotTakenError:
            return ""

    def _opened(self, found: Found, name: str, row: Row, binding: Binding) -> str:
        held: str = getattr(found, name)
        if name not in found.cells and not crypto.is_sealed(held):
            return held
        try:
            return self._seals.open_text(_COLUMNS[name], held, row, binding)
        except CellError as error:
            self.locked += error.is_key_unknown and name == ("refresh_token" if found.refresh_token else "access_token")
            raise _NotTakenError(
                f"its {name.replace('_', ' ')} {str(error).partition(' ')[2]}",
                _SET_KEY if error.is_key_unknown else "Log in again, then onboard it.",
            ) from None
