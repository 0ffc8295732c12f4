"""Whether the folders of this machine keep what they are for."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from token_refresh.base.checks import BAD, DOUBTFUL, GOOD, Check
from token_refresh.journal.state_folder import MOUNTS, file_system, loss_on

_SPARE = "spare folder"
_OTHERWISE = "where both the state folder's disk and the table fail, new tokens are only printed, encrypted"


def check_folders(state: Path, room: int, spare: Path, security_log: Path | str | None) -> Iterator[Check]:
    """All of them; `room`, in bytes, is what an answer needs. A log that is no path is in the state folder, or none."""
    yield check_state_folder(state, room)
    yield from check_spare_folder(spare, state)
    if isinstance(security_log, Path):
        yield check_security_log(security_log)


def check_state_folder(path: Path, room: int) -> Check:
    """Where it lies, and whether so many bytes may be written; one that is not ours has ended the command by now."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(room))
    except OSError as error:
        return Check("state folder", BAD, f"{path} cannot be written ({error.strerror})", "Free disk space there.")
    kind = file_system(path)
    return Check("state folder", GOOD, f"{path} can be written" + (f" ({kind})" if kind else ""))


def check_security_log(path: Path) -> Check:
    """Whether uses of credentials can be noted in this file."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # its lock and its older files are beside it
            if os.path.lexists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror}): no use of a credential is noted"
        return Check("security log", DOUBTFUL, what, "Correct SECURITY_LOG or its permissions.")
    return Check("security log", GOOD, f"{path} can be written")


def check_spare_folder(path: Path, state: Path, mounts: Path = MOUNTS) -> Iterator[Check]:
    """Whether an answer would survive there what befalls the disk of `state`, the state folder.

    `mounts` is where the system lists what is mounted.
    """
    problems = list(_problems(path, state, mounts))
    for problem, action in problems:
        yield Check(_SPARE, DOUBTFUL, f"{problem}: {_OTHERWISE}", action)
    if not problems:
        yield Check(_SPARE, GOOD, f"{path} can be written, and is on another disk than the state folder")


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
