"""The spare folder: where a sealed answer goes that the journal's disk refused, until the store has its tokens.

Each answer is a file of its own. It is sealed, so the folder may be one that everybody writes in, as /var/tmp: nobody
else can read or forge an answer. What others put there is never opened.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from datetime import datetime
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024  # an answer of 1 MiB takes 1.8 MiB, sealed

_NAME = re.compile(r"token-refresh-\d{8}T\d{12}Z-([0-9a-f]{16})-[0-9a-f]{8}\.sealed")


class SpareFolder:
    """A folder on another disk than the journal's.

    Args:
        path: made, for this user alone, when the first answer is saved there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, uid: str, sealed: str, now: datetime) -> Path:
        """Put a sealed answer into a new private file and on the disk; returns the file.

        `uid` is that of the request's journal entry, 16 hexadecimal digits. Names sort by time.

        Raises:
            OSError: the disk refuses; nothing is left there then.
        """
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path / f"token-refresh-{now:%Y%m%dT%H%M%S%f}Z-{uid}-{secrets.token_hex(4)}.sealed"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{sealed}\n")
                file.flush()
                os.fsync(file.fileno())
            self._sync()
        except BaseException:
            remove(path)
            raise
        return path

    def files(self) -> list[tuple[str, Path]]:
        """The files with names as `save` gives them, newest first, each after its entry's uid."""
        try:
            names = sorted((path.name for path in self._path.iterdir()), reverse=True)
        except OSError:  # never needed so far
            return []
        return [(found[1], self._path / name) for name in names if (found := _NAME.fullmatch(name))]

    def _sync(self) -> None:
        """A new name outlives a power failure only when its folder is on the disk, too."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path: Path) -> str:
    """The sealed answer in a file; empty where it is not a plain file of this user's, or cannot be read.

    A link is not followed and a pipe not waited for: in a folder like /var/tmp anybody may have put them there.
    """

    def open_plainly(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with contextlib.suppress(OSError, UnicodeDecodeError), open(path, "rb", opener=open_plainly) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            return file.read(MAX_BYTES).decode("ascii").strip()
    return ""


def remove(path: Path) -> None:
    """Delete a file. One that stays is harmless: its answer is stored, and nobody reads it again."""
    with contextlib.suppress(OSError):
        path.unlink()
