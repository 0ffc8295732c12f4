"""What several rows have that only one may have, found in a table of any size."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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
