"""Rows of which only one may be: two that would send the same refresh token would spend it for each other."""

from __future__ import annotations

from collections.abc import Iterable

from token_refresh.base.duplicates import ACTION, IDENTITY, TOKEN, Duplicates, Member, sentence
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.stores.base import Row


def several_rows(rows: Iterable[Row], provider: str) -> ActionableError | None:
    """What is wrong where these rows of one identity are several; None where they are not."""
    members = [Member(row.key, row.location_id, provider) for row in rows]
    return ActionableError(sentence(IDENTITY, members), ACTION, Kind.ROW) if len(members) > 1 else None


def duplicates_among(jobs: Iterable[Job]) -> dict[str, UnusableRow]:
    """The rows that may not be sent, by key; each names those it shares its identity or its token with.

    Where a provider never replaces refresh tokens, two rows may share one; the same sealed cell may not.
    """
    by_key = {job.row.key: job for job in jobs}
    duplicates = Duplicates()
    for key, job in by_key.items():
        member = Member(key, job.row.location_id, job.provider.slug)
        duplicates.add_identity(member)
        shared = job.cell if job.provider.rotates == "never" or job.proves else job.token
        duplicates.add(member, TOKEN, job.endpoint.origin, shared[0])
    faults: dict[str, UnusableRow] = {}
    for kind, members in duplicates.groups():
        error = ActionableError(sentence(kind, members), ACTION, Kind.ROW)
        for one in members:
            faults.setdefault(one.key, UnusableRow(by_key[one.key].row, one.provider, error))
    return faults
