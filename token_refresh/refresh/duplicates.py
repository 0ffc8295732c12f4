"""Rows of which only one may be: two that would send the same refresh token would spend it for each other."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.stores.base import Row

IDENTITY, CELL, TOKEN = "location and provider", "encrypted_refresh", "refresh token"
ACTION = "Delete all but one."


class Member(NamedTuple):
    """A row among several; `key` is the store's own name for it."""

    key: str
    location_id: str
    provider: str


class Duplicates:
    """Rows by what must be theirs alone; of a cell or token only a digest is kept, so that a whole table fits."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, bytes], list[Member]] = defaultdict(list)

    def add(self, row: Member, kind: str, *parts: str) -> None:
        """Note what a row has; `parts` together are what no other may have, too."""
        digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self._members[kind, digest].append(row)

    def add_identity(self, row: Member) -> None:
        """Note the row's location and provider."""
        self.add(row, IDENTITY, row.location_id, row.provider)

    def groups(self) -> Iterator[tuple[str, list[Member]]]:
        """What several rows have, and those rows."""
        return ((kind, members) for (kind, _), members in self._members.items() if len(members) > 1)


def sentence(kind: str, members: Iterable[Member]) -> str:
    """What is wrong with these rows, each by its name."""
    names = sorted(f"{one.location_id!r} (row {one.key})" for one in members)
    return f"several rows have the same {kind}: {', '.join(names)}"


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
        shared = job.cell if job.provider.rotates == "never" else job.token
        duplicates.add(member, TOKEN, job.endpoint.origin, shared[0])
    faults: dict[str, UnusableRow] = {}
    for kind, members in duplicates.groups():
        error = ActionableError(sentence(kind, members), ACTION, Kind.ROW)
        for one in members:
            faults.setdefault(one.key, UnusableRow(by_key[one.key].row, one.provider, error))
    return faults
