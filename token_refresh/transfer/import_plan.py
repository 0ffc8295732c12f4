"""What an import would do to each row: a source is compared with the table, and nothing is written.

A source is an export, or what an earlier program kept; it is read into rows whose cells are sealed. What becomes of
them is the same for all.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from providers.base import ProviderError
from token_refresh.base.columns import ALL_COLUMNS
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import counted
from token_refresh.journal.entries import Entry
from token_refresh.keys.cells import CellCheck
from token_refresh.keys.inspection import Finding, Inspector
from token_refresh.refresh.duplicates import several_rows
from token_refresh.refresh.jobs import read_params
from token_refresh.stores.base import STATUS_DISABLED, STATUS_REAUTHORIZE, Change, Row, Store, lacking_columns
from token_refresh.stores.sealed import wrong_key
from token_refresh.transfer.export_file import SourceRow

_CHANGED_SINCE = "the row was changed after the plan was shown"
_CREDENTIAL = ("client_id", "provider_params", "encrypted_secret", "encrypted_refresh")


class ImportStep(enum.StrEnum):
    """What becomes of one row of the source."""

    CREATE = "created"
    REPLACE = "replaced"
    UNCHANGED = "unchanged"
    KEEP = "kept"  # the table's row stays as it is
    SKIP = "skipped"  # there is nothing to import in it
    REFUSE = "refused"


@dataclass(frozen=True)
class PlannedRow:
    """One row of the source, what is to be done with it, and why not more.

    Attributes:
        row: as the source has it.
        there: the table's row of the same identity.
        change: what is written over it, where that is not what the source says.
    """

    name: str
    location_id: str
    provider: str
    step: ImportStep
    reason: str = ""
    action: str = ""
    row: Row | None = field(default=None, repr=False)
    there: Row | None = field(default=None, repr=False)
    change: Change | None = field(default=None, repr=False, compare=False)

    def as_json(self) -> dict[str, str | None]:
        """The row in the answer of `import`."""
        return {
            "row": self.name,
            "location_id": self.location_id,
            "provider": self.provider,
            "outcome": self.step.value,
            "error": self.reason or None,
            "action": self.action or None,
        }


class ImportPlanner:
    """Compares a source with the table; writes nothing.

    Args:
        store: the table.
        inspector: of the source's cells.
        table_inspector: of the table's, which may still hold what an earlier program sealed.
        default_provider: for rows that name none.
        is_replacing: whether rows of the table that differ are overwritten, even newer ones.
        is_resealing: whether stale cells of the table's rows are re-encrypted.
        seals_access_tokens: whether the table's access tokens are encrypted; else a source's are decrypted for it.
    """

    def __init__(
        self,
        store: Store,
        inspector: Inspector,
        table_inspector: Inspector,
        default_provider: str,
        *,
        is_replacing: bool,
        is_resealing: bool,
        seals_access_tokens: bool,
    ) -> None:
        self.store = store
        self._inspector = inspector
        self._table_inspector = table_inspector
        self._default = default_provider
        self._is_replacing = is_replacing
        self._is_resealing = is_resealing
        self._seals_access_tokens = seals_access_tokens

    def plan(self, source_rows: Iterable[SourceRow], waiting: Iterable[Entry] = ()) -> list[PlannedRow]:
        """One for each row of the source, in order.

        Args:
            source_rows: the source.
            waiting: onboardings in the journal: their credentials are newer than what a source has of their rows.

        Raises:
            ActionableError: no configured key opens anything in the export.
        """
        there: dict[tuple[str, str], list[Row]] = defaultdict(list)
        owners: dict[str, tuple[str, str]] = {}
        for row in self.store.rows(complete=self._is_resealing):
            there[self._identity(row)].append(row)
            owners.setdefault(row.encrypted_refresh, self._identity(row))
        source_rows, newer = list(source_rows), {(entry.location_id, entry.provider) for entry in waiting}
        counts = Counter(self._identity(one.row) for one in source_rows if one.row is not None)
        planned: list[PlannedRow] = []
        unknown = 0
        for one in source_rows:
            if one.row is None:
                step = ImportStep.REFUSE if one.is_wrong else ImportStep.SKIP
                planned.append(PlannedRow(one.name, one.location_id, one.provider, step, one.problem, one.action))
                continue
            identity = self._identity(one.row)
            fault = self._fault(one.row, there[identity], counts[identity], owners, is_behind=identity in newer)
            unknown += fault is not None and fault.is_key_unknown
            planned.append(self._planned(one.name, one.row, there[identity], fault))
        if unknown and unknown == len(source_rows):
            raise wrong_key(len(source_rows))
        return planned

    def left_behind(self, planned: Iterable[PlannedRow]) -> str:
        """What rows that are stored say, and the table has no column for, in words; empty where there is nothing."""
        stored = (ImportStep.CREATE, ImportStep.REPLACE)
        rows = [one.row for one in planned if one.row is not None and one.step in stored]
        missing = [column for column in ALL_COLUMNS if column.name not in self.store.columns]
        counts = {one.name: sum(bool(getattr(row, one.attribute)) for row in rows) for one in missing}
        return ", ".join(f"{name} ({counted(count, 'row')})" for name, count in counts.items() if count)

    def _identity(self, row: Row) -> tuple[str, str]:
        return row.location_id, self._inspector.provider_name(row)

    def _planned(self, name: str, row: Row, there: Sequence[Row], fault: Finding | None) -> PlannedRow:
        provider = self._inspector.provider_name(row)
        if fault is not None:
            return PlannedRow(name, row.location_id, provider, ImportStep.REFUSE, fault.error, fault.action)
        row = row if self._seals_access_tokens else self._with_plain_token(row)
        one = PlannedRow(name, row.location_id, provider, ImportStep.CREATE, row=row, there=there[0] if there else None)
        if not there:
            return one
        ours, theirs = _contents(row, self._inspector), _contents(there[0], self._table_inspector)
        of_row = (*_CREDENTIAL, "last_access_token") if row.has_only_access_token else _CREDENTIAL
        differing = [column for column in of_row if ours[column] != theirs[column]]
        if not differing:
            # The row's other columns may be newer than the source's.
            change = self._table_inspector.resealing(there[0], free_for="") if self._is_resealing else None
            if change is None:
                return replace(one, step=ImportStep.UNCHANGED)
            return replace(one, step=ImportStep.REPLACE, reason="re-encrypted", change=change)
        is_dead = there[0].status == STATUS_REAUTHORIZE
        is_empty = not (there[0].encrypted_refresh or (there[0].has_only_access_token and not is_dead))
        if is_empty and there[0].status != STATUS_DISABLED:  # nobody took its credential out
            return replace(one, step=ImportStep.REPLACE, reason="the table's row waits for its credential")
        reason = "the table's row is disabled" if is_empty else f"the table has another {' and '.join(differing)}"
        if self._is_replacing:
            return replace(one, step=ImportStep.REPLACE, reason=reason)
        reason += "" if is_empty else ", which may be newer"
        return replace(one, step=ImportStep.KEEP, reason=reason, action="To have the source's: --replace")

    def _with_plain_token(self, row: Row) -> Row:
        """As automations read it, where the table has access tokens for them."""
        check = self._inspector.check(row)
        opened = check.opened if isinstance(check, CellCheck) else {}
        return replace(row, last_access_token=opened.get("last_access_token", row.last_access_token))

    def _fault(
        self,
        row: Row,
        there: Sequence[Row],
        count: int,
        owners: Mapping[str, tuple[str, str]],
        *,
        is_behind: bool,
    ) -> Finding | None:
        """Why this row is not imported at all."""

        def fault(error: str, action: str) -> Finding:
            return Finding("", row.location_id, self._inspector.provider_name(row), error, action)

        provider = self._inspector.provider_name(row)
        wrong = lacking_columns(self.store.columns, provider, row.provider_params, self._default)
        wrong = wrong or several_rows(there, provider)
        if wrong is not None:
            return fault(str(wrong), wrong.action)
        if row.status == STATUS_DISABLED and "status" not in self.store.columns:  # it would come to life
            return fault("it is disabled, and the table has no column status", f"Run: {TOKEN_MANAGER} setup")
        if is_behind:
            return fault("a newer credential of it waits in the journal", f"See: {TOKEN_MANAGER} recover")
        if count > 1:
            return fault(f"{count} rows of the source have this location and provider", "Leave all but one out.")
        owner = owners.get(row.encrypted_refresh) if row.encrypted_refresh else None
        if owner not in (None, self._identity(row)):
            return fault(f"the table has the same encrypted_refresh in the row of {owner[0]!r}", "Delete one of them.")
        check = self._inspector.check(row)
        if isinstance(check, Finding):
            return check
        return next(iter(self._inspector.findings(row, check)), None)


def _contents(row: Row, inspector: Inspector) -> dict[str, object]:
    """What a row says, however its cells are sealed; a cell that does not open stands for itself."""
    check = inspector.check(row)
    contents: dict[str, object] = {column: getattr(row, column) for column in (*_CREDENTIAL, "last_access_token")}
    if isinstance(check, CellCheck):
        contents |= {column: text for column, text in check.opened.items() if column in contents}
    with suppress(ProviderError):
        contents["provider_params"] = read_params(row.provider_params)
    return contents


def as_shown(planned: Sequence[PlannedRow], shown: Sequence[PlannedRow] | None) -> list[PlannedRow]:
    """Where the table changed after the plan was shown, the row is left: nobody agreed to what would be done now."""
    if shown is None:
        return list(planned)
    agreed = {one.name: (one.step, one.there) for one in shown}
    return [
        one
        if (one.step, one.there) == agreed[one.name] or one.step in (ImportStep.UNCHANGED, ImportStep.REFUSE)
        else replace(one, step=ImportStep.KEEP, reason=_CHANGED_SINCE, action="Repeat it.")
        for one in planned
    ]


def counts_of(planned: Iterable[PlannedRow]) -> dict[str, int]:
    """How many rows each step has, in the order of the steps, without those that have none."""
    counts = Counter(one.step for one in planned)
    return {step.value: counts[step] for step in ImportStep if counts[step]}
