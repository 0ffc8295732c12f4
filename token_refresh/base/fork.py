"""Files that this process locks, and that a child that it forks does not keep locked for the whole of its own life."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path


class _Descriptor(int):
    """One opening of a file: the same number may be another one's later."""

    inode: int


_OPEN: dict[int, _Descriptor] = {}  # by identity
_LOCK = threading.RLock()  # no fork between opening a file and knowing of it


def open_unshared(path: Path) -> int:
    """Open a file, made where there is none, to be closed by `let_go` and in every child that is forked meanwhile."""
    with _LOCK:
        descriptor = _Descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        descriptor.inode = os.fstat(descriptor).st_ino
        _OPEN[id(descriptor)] = descriptor
    return descriptor


def let_go(descriptor: int | None, *, empty: bool = False) -> None:
    """Close it; with `empty` nothing stays in the file. Nothing happens in a child that was forked meanwhile."""
    with _LOCK:
        if (opened := _OPEN.pop(id(descriptor), None)) is not None:
            if empty:
                os.ftruncate(opened, 0)
            os.close(opened)


def _close_in_child() -> None:
    for descriptor in _OPEN.values():
        with suppress(OSError):  # closed by another hand; its number may be another file's by now
            if os.fstat(descriptor).st_ino == descriptor.inode:
                os.close(descriptor)
    _OPEN.clear()
    _LOCK.release()


os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_close_in_child)
