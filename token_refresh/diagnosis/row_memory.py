"""What is remembered of rows between two runs, where asking for them costs calls: no secret, in the state folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from providers.base import ProviderError
from token_refresh.base.clock import iso, parse_day, parse_time
from token_refresh.base.columns import COLUMNS
from token_refresh.base.events import KINDS, Outcome, RowFinished, RunFinished
from token_refresh.base.files import read_object, replace_file
from token_refresh.journal.failures import A_DAY, read_failures
from token_refresh.refresh.jobs import read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import STATUS_ACTIVE, STATUS_REAUTHORIZE, DueQuery, Row, make_row

FILE = "rows.json"
_THERE = "-"  # what stands for a text that is there and is not kept: anybody may have pasted a secret there
_NAMED_KEY = re.compile("sealed:v1:[0-9a-f]{16}")
_COLUMNS = (  # kept as they are
    *("locationId", "status", "last_error", "failure_count"),
    *("access_token_expiry", "refresh_token_expiry", "last_refreshed"),
)


class RowMemory:
    """Rows of the store of a run: all of them, or only those that the runs saw fail.

    Attributes:
        rows: by location and provider's slug.
        listed_at: when all of them were listed; None where they were not.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._file = context.folder / FILE
        self._before = read_object(self._file)
        self.listed_at: datetime | None = None
        self.rows: dict[tuple[str, str], Row] = {}
        self._known_to_fail: set[tuple[str, str]] = set()
        with suppress(AttributeError, KeyError, TypeError):  # damaged: what was in it is found out again
            self._fill(make_row(kept["key"], kept.get) for kept in self._before["rows"])
            self._known_to_fail = {(location, provider) for location, provider in self._before["failing"]}
            self.listed_at = parse_time(self._before["listed_at"])

    def is_old(self, now: datetime) -> bool:
        """Whether to list them again."""
        return self.listed_at is None or not timedelta(0) <= now - self.listed_at < A_DAY

    def list_again(self, rows: Iterable[Row], now: datetime) -> None:
        """Take these for all there are."""
        self._fill(rows)
        self.listed_at = now

    def follow(self, run: RunFinished, *, is_whole: bool) -> None:
        """Take in what a run did to them, and who logged in meanwhile; `is_whole`: it saw all rows that are due."""
        # The journal forgets whoever is onboarded.
        for name in self._known_to_fail & self.rows.keys() - self._failing():
            well = replace(self.rows[name], status=STATUS_ACTIVE, last_error="", failure_count=0)
            self.rows[name] = replace(well, access_token_expiry=None)
        for result in run.results:
            name = result.location_id, result.provider
            known = self.rows.get(name) or Row("", result.location_id, "", provider=result.provider)
            self.rows[name] = after(known, result)
        if self.listed_at is None:  # only who fails, or needs a login, is remembered
            due = {(one.location_id, one.provider) for one in run.results}
            due |= {(one.location_id, one.provider) for one in run.waiting}
            for name, row in list(self.rows.items()):
                is_gone = not row.is_failing or (name not in due and is_whole)
                if is_gone and row.status != STATUS_REAUTHORIZE:
                    del self.rows[name]

    def confirm(self, listed: Iterable[Row], query: DueQuery) -> None:
        """Forget whom the answer to `query` should have held and does not: the row was deleted, or changed by hand."""
        there = {(row.location_id, self._context.job_factory.provider_name(row)) for row in listed}
        self.rows = {name: row for name, row in self.rows.items() if name in there or not query.admits(row)}
        self.write()

    def write(self) -> None:
        """Keep them, where they have changed.

        Raises:
            OSError: the state folder rejects writes.
        """
        kept = {
            "listed_at": iso(self.listed_at) if self.listed_at else None,
            "rows": [self._kept(row) for row in self.rows.values()],
            "failing": sorted([*name] for name in self._failing() & self.rows.keys()),
        }
        if kept != self._before and (self._before or any(kept.values())):
            replace_file(self._file, json.dumps(kept).encode())

    def _fill(self, rows: Iterable[Row]) -> None:
        self.rows = {(row.location_id, self._context.job_factory.provider_name(row)): row for row in rows}

    def _failing(self) -> set[tuple[str, str]]:
        """Who fails, by what the journal remembers."""
        slug_of, default = self._context.job_factory.slug_of, self._context.default_provider
        failures = read_failures(self._context.folder).values()
        return {(one.location_id, slug_of(one.provider or default)) for one in failures}

    def _kept(self, row: Row) -> dict[str, Any]:
        """Of a cell only which key it names, of a provider its name in the catalogue, of parameters only an end."""
        provider = self._context.job_factory.provider_name(row)
        kept: dict[str, Any] = {"key": row.key, "provider": provider if provider in self._context.providers else _THERE}
        for column in COLUMNS:
            value = getattr(row, column.attribute)
            if column.is_sealed and value:
                head = _NAMED_KEY.match(value)
                kept[column.name] = head[0] if head is not None else _THERE
            elif column.name in _COLUMNS and value:
                kept[column.name] = iso(value) if isinstance(value, datetime) else value
        with suppress(ProviderError):
            if parse_day(end := read_params(row.provider_params).get("secret_ends", "")) is not None:
                kept["provider_params"] = json.dumps({"secret_ends": end})
        return kept


def after(row: Row, result: RowFinished) -> Row:
    """The row as it is after its refresh, as far as the run said."""
    row = replace(row, encrypted_refresh=row.encrypted_refresh or _THERE, access_token_expiry=result.expires_at)
    if result.outcome not in KINDS:
        return replace(row, status=STATUS_ACTIVE, last_error="", failure_count=0)
    status = STATUS_REAUTHORIZE if result.outcome is Outcome.REAUTHORIZE else row.status
    return replace(row, status=status, last_error=result.error or _THERE, failure_count=row.failure_count + 1)
