"""Every sealed cell of a table, opened with its own context: what does not open, and what wants to be sealed anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from providers.base import ProviderError
from token_refresh.base.columns import SEALED_COLUMNS
from token_refresh.net.hosts import is_agreed
from token_refresh.refresh.duplicates import ACTION, CELL, IDENTITY, Duplicates, Member, sentence
from token_refresh.refresh.jobs import Bench
from token_refresh.stores.base import Row
from token_refresh.stores.sealed import Binding, Look, Seals


@dataclass(frozen=True)
class Finding:
    """What is wrong with a row, and what to do.

    Attributes:
        row: the store's own name for the row.
        is_key_unknown: no configured key opens the cell.
    """

    row: str
    location_id: str
    provider: str
    error: str
    action: str
    is_key_unknown: bool = False


@dataclass(frozen=True)
class Stale:
    """A row of which these cells open and want to be sealed anew."""

    row: str
    location_id: str
    provider: str
    columns: tuple[str, ...]


@dataclass
class Survey:
    """What a look at every row found.

    Attributes:
        rows: how many there are.
        opened: how many cells opened.
        findings: cells that do not open.
        duplicates: rows of one identity, or with one refresh cell.
        stale: rows with cells of an older form, an older key or a former host.
    """

    rows: int = 0
    opened: int = 0
    findings: list[Finding] = field(default_factory=list)
    duplicates: list[Finding] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)

    @property
    def is_key_wrong(self) -> bool:
        """Whether no configured key opens anything: then the key is wrong, not the rows."""
        return not self.opened and bool(self.findings) and all(one.is_key_unknown for one in self.findings)


class Inspector:
    """Looks at the cells of rows.

    Args:
        seals: opens them.
        bench: knows what each row is bound to.
        allowed_hosts: token hosts that rows may name themselves even beside cells of older forms: whoever runs the
            program has looked at them.
    """

    def __init__(self, seals: Seals, bench: Bench, allowed_hosts: Collection[str] = ()) -> None:
        self._seals = seals
        self._bench = bench
        self._allowed_hosts = allowed_hosts

    def binding(self, row: Row) -> Binding:
        """What the row's cells are bound to.

        Raises:
            ProviderError: the row's provider or its parameters cannot be used.
        """
        binding = self._bench.binding(row)
        if binding.is_fixed or not is_agreed(binding, self._allowed_hosts):
            return binding
        # Former hosts of the provider say nothing about a host that the row names.
        return replace(binding, former_origins=(), is_fixed=True)

    def look(self, row: Row) -> Look | Finding:
        """How the row's cells stand; a finding where it cannot be said what they are bound to."""
        try:
            return self._seals.look(row, self.binding(row))
        except ProviderError as error:
            return self._finding(row, str(error), error.action)

    def survey(self, rows: Iterable[Row]) -> Survey:
        """Look at all rows. Of a row nothing is kept but what was found."""
        survey = Survey()
        duplicates = Duplicates()
        for row in rows:
            survey.rows += 1
            provider = self._bench.provider_name(row)
            member = Member(row.key, row.location_id, provider)
            duplicates.add_identity(member)
            if row.encrypted_refresh:
                duplicates.add(member, CELL, row.encrypted_refresh)
            if not any(getattr(row, column) for column in SEALED_COLUMNS):
                continue
            look = self.look(row)
            if isinstance(look, Finding):
                survey.findings.append(look)
                continue
            survey.opened += len(look.opened)
            survey.findings += self.findings(row, look)
            if look.stale:
                survey.stale.append(Stale(row.key, row.location_id, provider, look.stale))
        survey.duplicates = [
            Finding(*members[0], sentence(kind, members), ACTION)
            for kind, members in duplicates.groups()
            if kind == IDENTITY or len({one[1:] for one in members}) > 1  # rows of one identity are named once
        ]
        return survey

    def findings(self, row: Row, look: Look) -> list[Finding]:
        """One for each cell that does not open."""
        return [self._finding(row, str(error), error.action, error.is_key_unknown) for error in look.errors]

    def _finding(self, row: Row, error: str, action: str, is_key_unknown: bool = False) -> Finding:
        return Finding(row.key, row.location_id, self._bench.provider_name(row), error, action, is_key_unknown)
