"""The folders in which version 0.1.0 kept what it knew of a store, by how the store was addressed then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from token_refresh.base.files import is_store_folder
from token_refresh.journal.file import read_only
from token_refresh.journal.state_folder import StateFolder

_VERSIONS = "SELECT user_version FROM pragma_user_version WHERE user_version BETWEEN 1 AND 3"
_KNOWN = "SELECT row_key, cell FROM entries WHERE row_key <> '' UNION SELECT row_key, cell FROM failures"

Marks = Callable[[Sequence[str]], Mapping[str, Iterable[str]]]
"""Gives the fingerprints of the refresh cells of those of these rows that the store has."""


def earlier_folders(state: StateFolder, identities: Iterable[str], own: Path, marks: Marks) -> list[Path]:
    """The folders of one store.

    Args:
        state: the state folder.
        identities: what that version called the store, as far as it can be known.
        own: the folder that this version keeps.
        marks: knows a folder whose address is unknown by the cells in it. Not asked where there is none.
    """
    others = [path for path in sorted(state.path.iterdir()) if is_store_folder(path) and path != own]
    earlier = [path for path in others if read_only(path, _VERSIONS)]
    if not earlier:
        return []
    named = state.kept_under(identities)
    return [path for path in earlier if path in named or _is_of_store(path, marks)]


def _is_of_store(folder: Path, marks: Marks) -> bool:
    known = read_only(folder, _KNOWN)
    if not known:
        return False
    found = marks([key for key, _ in known])
    return any(not set(cell.split()).isdisjoint(found.get(key, ())) for key, cell in known)
