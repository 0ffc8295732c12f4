"""Every sealed cell of a table, opened with its own context: what does not open, and what needs re-encrypting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from providers.base import ProviderError
from token_refresh.base.checks import BAD, GOOD, Check
from token_refresh.base.columns import SEALED_COLUMNS
from token_refresh.base.duplicates import ACTION, CELL, IDENTITY, Duplicates, Member, sentence
from token_refresh.base.text import counted
from token_refresh.keys.cells import CellCheck, check_cells, resealing
from token_refresh.net.hosts import host_of, is_agreed
from token_refresh.refresh.jobs import Job, JobFactory, UnusableRow
from token_refresh.stores.base import Change, Row
from token_refresh.stores.sealed import Binding, Seals, wrong_key


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

    def as_json(self) -> dict[str, str]:
        """The finding in the answers of `verify` and `rotate-key`."""
        return {name: getattr(self, name) for name in ("row", "location_id", "provider", "error", "action")}


@dataclass(frozen=True)
class Stale:
    """A row of which these cells open and need re-encrypting."""

    row: str
    location_id: str
    provider: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        need = "needs" if len(self.columns) == 1 else "need"
        return f"{', '.join(self.columns)} {need} re-encrypting: of an older form, an older key or a former host"


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
    def faults(self) -> list[Finding]:
        """All that somebody has to correct."""
        return [*self.findings, *self.duplicates]

    def require_key(self) -> None:
        """Where no configured key opens anything, the key is wrong, not the rows.

        Raises:
            RunError: that is so.
        """
        if not self.opened and self.findings and all(one.is_key_unknown for one in self.findings):
            raise wrong_key(self.rows)


Consent = Callable[[Row, Binding], bool]
"""Whether a person agreed that cells of older forms in this row belong to the token host that the row itself names."""


def no_consent(_row: Row, _binding: Binding) -> bool:
    """Nobody agreed to anything."""
    return False


def consent_to_hosts(hosts: Collection[str]) -> Consent:
    """To these hosts, whichever row of a source names them; see `is_agreed` for how they are written."""
    return lambda _, binding: is_agreed(binding, hosts)


def consent_to_rows(agreed: Collection[tuple[str, str]]) -> Consent:
    """To pairs of a location id and the one host that its row may name."""
    hosts: dict[str, list[str]] = {}
    for location_id, host in agreed:
        hosts.setdefault(location_id, []).append(host)
    return lambda row, binding: is_agreed(binding, hosts.get(row.location_id, ()))


@dataclass(frozen=True)
class UnconfirmedRow:
    """A row with cells of an older form that names its token host itself, and nobody agreed to that yet."""

    location_id: str
    provider: str
    binding: Binding

    @property
    def consent(self) -> tuple[str, str]:
        """What to agree to: see `consent_to_rows`."""
        return self.location_id, host_of(self.binding.origin)


class Inspector:
    """Looks at the cells of rows.

    Args:
        seals: opens them.
        job_factory: knows what each row is bound to.
        is_agreed_to: token hosts that rows may name themselves even beside cells of older forms: whoever runs the
            program has looked at them.
    """

    def __init__(self, seals: Seals, job_factory: JobFactory, is_agreed_to: Consent = no_consent) -> None:
        self._seals = seals
        self._job_factory = job_factory
        self._is_agreed_to = is_agreed_to

    def provider_name(self, row: Row) -> str:
        """The row's provider, or the default."""
        return self._job_factory.provider_name(row)

    def binding(self, row: Row) -> Binding:
        """What the row's cells are bound to.

        Raises:
            ProviderError: the row's provider or its parameters cannot be used.
        """
        binding = self._job_factory.binding(row)
        if binding.is_fixed or not self._is_agreed_to(row, binding):
            return binding
        # Former hosts of the provider say nothing about a host that the row names.
        return replace(binding, former_origins=(), is_fixed=True)

    def check(self, row: Row) -> CellCheck | Finding:
        """How the row's cells stand; a finding where it cannot be said what they are bound to."""
        try:
            return check_cells(self._seals, row, self.binding(row))
        except ProviderError as error:
            return self._finding(row, str(error), error.action)

    def unconfirmed(self, rows: Iterable[Row]) -> Iterator[UnconfirmedRow]:
        """The rows that need a person's consent to their host before their cells of older forms open."""
        for row in rows:
            check = self.check(row) if row.error is None else None
            if not isinstance(check, CellCheck) or not check.errors:
                continue
            binding = self.binding(row)
            agreed = check_cells(self._seals, row, replace(binding, former_origins=(), is_fixed=True))
            if agreed.opened.keys() - check.opened.keys():
                yield UnconfirmedRow(row.location_id, self.provider_name(row), binding)

    def survey(self, rows: Iterable[Row]) -> Survey:
        """Look at all rows. Of a row nothing is kept but what was found."""
        survey = Survey()
        duplicates = Duplicates()
        for row in rows:
            survey.rows += 1
            provider = self.provider_name(row)
            member = Member(row.key, row.location_id, provider)
            duplicates.add_identity(member)
            if row.encrypted_refresh:
                duplicates.add(member, CELL, row.encrypted_refresh)
            if row.error is None and not any(getattr(row, column) for column in SEALED_COLUMNS):
                continue
            check = self.check(row)
            if isinstance(check, Finding):
                survey.findings.append(check)
                continue
            survey.opened += len(check.opened)
            survey.findings += self.findings(row, check)
            if check.stale:
                survey.stale.append(Stale(row.key, row.location_id, provider, check.stale))
        survey.duplicates = [
            Finding(*members[0], sentence(kind, members), ACTION)
            for kind, members in duplicates.groups()
            if kind == IDENTITY or len({one[1:] for one in members}) > 1  # rows of one identity are named once
        ]
        return survey

    def resealing(self, row: Row, free_for: str) -> Change | None:
        """What re-encrypts the row's stale cells; None where it has none. `free_for`: see `Change`."""
        check = self.check(row)
        if isinstance(check, Finding) or not check.stale:
            return None
        return resealing(self._seals, row, self.binding(row), check, free_for)

    def findings(self, row: Row, check: CellCheck) -> list[Finding]:
        """One for each cell that does not open."""
        return [self._finding(row, str(error), error.action, error.is_key_unknown) for error in check.errors]

    def _finding(self, row: Row, error: str, action: str, is_key_unknown: bool = False) -> Finding:
        return Finding(row.key, row.location_id, self.provider_name(row), error, action, is_key_unknown)


def check_key(key_id: str, made: Sequence[Job | UnusableRow]) -> Check:
    """Which key is in use, and whether it is the one that the rows were sealed with; `made`: see `check_jobs`."""
    if made and all(isinstance(one, UnusableRow) and one.is_key_unknown for one in made):
        error = wrong_key(len(made))
        return Check("key", BAD, str(error), error.action)
    return Check("key", GOOD, f"new values are encrypted with key {key_id}")


def check_jobs(made: Sequence[Job | UnusableRow]) -> Iterator[Check]:
    """Whether each row could be refreshed, and none has another's identity; `made` has one for each row."""
    errors = [one for one in made if isinstance(one, UnusableRow)]
    yield Check("cells", GOOD, f"{len(made) - len(errors)} of {counted(len(made), 'row')} can be decrypted")
    for one in errors:
        yield Check("cells", BAD, f"{one.row.location_id}: {one.error}", one.error.action)
    duplicates = Duplicates()
    for job in made:
        provider = job.provider if isinstance(job, UnusableRow) else job.provider.slug
        duplicates.add_identity(Member(job.row.key, job.row.location_id, provider))
    for kind, members in duplicates.groups():
        yield Check("rows", BAD, sentence(kind, members), ACTION)
