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
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from token_refresh.base.checks import DOUBTFUL, GOOD, Check
from token_refresh.journal.state_folder import MOUNTS, loss_on

_PART = "spare folder"
_OTHERWISE = "where both the state folder's disk and the table fail, new tokens are only printed, encrypted"

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

    def check(self, state: Path, mounts: Path = MOUNTS) -> Iterator[Check]:
        """Whether an answer would survive here what befalls the disk of `state`, the state folder.

        `mounts` is where the system lists what is mounted.
        """
        problems = list(_problems(self._path, state, mounts))
        for problem, action in problems:
            yield Check(_PART, DOUBTFUL, f"{problem}: {_OTHERWISE}", action)
        if not problems:
            yield Check(_PART, GOOD, f"{self._path} can be written, and is on another disk than the state folder")

    def _sync(self) -> None:
        """A new name outlives a power failure only when its folder is on the disk, too."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _problems(path: Path, state: Path, mounts: Path) -> Iterator[tuple[str, str]]:
    """What is wrong with the folder, or, until it is made, with the one that it will be made in; and what to do."""
    there = next(one for one in (path, *path.parents) if os.path.lexists(one))
    try:
        with tempfile.TemporaryFile(dir=there):
            status = there.stat()
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror})"
        yield what, "Correct its permissions, or set STATE_DIR_SPARE to a folder that this user can write."
        return
    if status.st_dev == state.stat().st_dev:
        yield f"{path} is on the same disk as the state folder", "Set STATE_DIR_SPARE to a folder on another disk."
    loss = loss_on(there, mounts)
    if loss:
        yield f"{path} lies on {loss}", "Set STATE_DIR_SPARE to a folder on a local disk."
    is_shared = stat.S_IMODE(status.st_mode) & 0o022 and not status.st_mode & stat.S_ISVTX
    if there == path and (is_shared or status.st_uid not in (0, os.geteuid())):
        yield f"other users can delete files in {path}", "Set STATE_DIR_SPARE to a folder of this user's own."


def read(path: Path) -> str:
    """The sealed answer in a file; empty where it is not a plain file of this user's, or cannot be read.

    A link is not followed and a pipe not waited for: in a folder like /var/tmp anybody may have put them there.
    """

    def open_plainly(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with (
        contextlib.suppress(OSError, UnicodeDecodeError),
        open(path, "rb", opener=open_plainly) as file,
    ):
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            return file.read(MAX_BYTES).decode("ascii").strip()
    return ""


def remove(path: Path) -> None:
    """Delete a file. One that stays is harmless: its answer is stored, and nobody reads it again."""
    with contextlib.suppress(OSError):
        path.unlink()
