"""The state folder: journals, locks, caches and the embedded database, for the program's user alone.

It must be on a disk that survives a restart: a journal on tmpfs would lose exactly what it is for.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.files import is_all_ours, user_name
from token_refresh.base.program import TOKEN_MANAGER

_OPEN_TO_OTHERS = 0o077
_VOLATILE = frozenset({"tmpfs", "ramfs", "overlay", "overlayfs", "aufs"})
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"})
MOUNTS = Path("/proc/self/mounts")


class StateError(ActionableError):
    """The state folder cannot be used."""

    kind = Kind.CONFIGURATION


_PROBING = threading.Lock()  # threads of one process have one probe


class StateFolder:
    """The checked state folder.

    Args:
        path: created with mode 0700 where it does not exist.
        is_explicit: the user named it; then any file system is accepted.
        mounts: where the system lists what is mounted.

    Raises:
        StateError: it cannot be written, belongs to somebody else, is readable by others or lies on a disk
            that is not kept.
    """

    def __init__(self, path: Path, *, is_explicit: bool, mounts: Path = MOUNTS) -> None:
        self.path = path
        _prepare(path)
        if not is_explicit:
            _check_file_system(path, mounts)

    def of_store(self, identity: str) -> Path:
        """The folder of one store, by a short hash of its identity; created where needed."""
        folder = self.path / _folder_name(identity)
        _prepare(folder)
        return folder

    def kept_under(self, identities: Iterable[str]) -> list[Path]:
        """Those of these stores' folders that are there."""
        folders = [self.path / name for name in sorted(set(map(_folder_name, identities)))]
        return [folder for folder in folders if folder.is_dir()]


def _folder_name(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _prepare(path: Path) -> None:
    """Make a folder where there is none, and see that it is this user's alone and can be written."""
    probe = path / f".probe-{os.getpid()}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(path, path.stat())
        with _PROBING:
            probe.unlink(missing_ok=True)  # of a process that was killed right here: in containers numbers come again
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            probe.unlink()
    except OSError as error:
        raise StateError(
            f"the state folder {path} cannot be written ({error.strerror or 'unknown reason'})",
            "Correct its permissions, or set STATE_DIR to a folder that this user can write.",
        ) from None


def _require_own(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        name = user_name(status.st_uid)
        action = f"Run the program as that user: sudo -u {shlex.quote(name)} {TOKEN_MANAGER}"
        raise StateError(f"the state folder {path} belongs to {name}", action)
    if stat.S_IMODE(status.st_mode) & _OPEN_TO_OTHERS:
        # One command for all that is in it: a volume's group (fsGroup) is given to every file at once.
        fix = f"Run: chmod -R go= {shlex.quote(str(path))}" if is_all_ours(path) else "Set STATE_DIR to a new folder."
        raise StateError(f"other users can read the state folder {path}", fix)


def _check_file_system(path: Path, mounts: Path) -> None:
    kind = file_system(path, mounts)
    why = loss_on(path, mounts) or (f"{kind}, which has no reliable locks" if kind in _NETWORK else "")
    if why:
        raise StateError(
            f"the state folder {path} lies on {why}",
            "Set STATE_DIR to a folder on a local disk (or to this one, if you are sure).",
        )


def loss_on(path: Path, mounts: Path = MOUNTS) -> str:
    """The file system of `path` and what it loses, where it does not keep files over a restart; empty elsewhere."""
    kind = file_system(path, mounts)
    return f"{kind}, which is not kept over a restart" if kind in _VOLATILE else ""


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that holds `path`; empty where the system does not tell."""
    try:
        listed = [line.split(" ")[:3] for line in mounts.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return ""
    # Of two mounts at one point the later one is seen: an automounter's own lies below the disk it brought.
    kinds = {_unescape(point): kind for _, point, kind in listed}
    resolved = path.resolve()
    return next((kinds[place] for place in map(str, (resolved, *resolved.parents)) if place in kinds), "")


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
