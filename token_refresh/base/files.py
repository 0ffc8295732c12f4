"""Files: where nobody else can put another in their place, read without surprises, and replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import re
import shlex
import stat
import threading
from pathlib import Path
from typing import Any

from token_refresh.base.errors import ActionableError, Kind

_OTHERS_WRITE = 0o022
_MOST_LINKS = 40  # as Linux has it, see path_resolution(7)

# What the program puts into the state folder, next to each table's own folder; SQLite and `replace_file` add endings.
_IN_STATE = re.compile(r"(installation|last-run|news|security-log|tokens\.sqlite3|webhooks|host-id|\.probe)\b.*")

AGENCIES_FILE = "agencies.json"  # in the state folder of a table: which locations its agencies were seen with


class SharedPlaceError(ActionableError):
    """Somebody else could read, replace or redirect what is written there."""

    kind = Kind.USAGE


def require_own_place(path: Path) -> Path:
    """Where a file of this name really is, all links followed.

    Every folder and every link on the way belongs to this user or to root, and nobody else may write in any of these
    folders. /tmp and the like (sticky bit) may be on the way, but hold the file in a folder of its own.

    Raises:
        SharedPlaceError: somebody else could put another file, or a link, in its place.
        OSError: a folder on the way is not there or cannot be entered.
    """
    place, waiting, links = Path("/"), list(path.absolute().parts[1:]), 0
    while waiting:
        name = waiting.pop(0)
        _require_own_folder(place, may_be_sticky=bool(waiting))
        following = place.parent if name == ".." else place / name
        try:
            status = following.lstat()
        except FileNotFoundError:
            if waiting:
                raise
            return following
        _require_owner(following, status)
        if not stat.S_ISLNK(status.st_mode):
            place = following
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = following.readlink()
        waiting[:0] = target.parts[1:] if target.is_absolute() else target.parts
        place = Path("/") if target.is_absolute() else place
    return place


def read_plain_file(path: Path, most_bytes: int) -> tuple[bytes, os.stat_result]:
    """The content of a file, and what the system says of it. Never waits for a pipe, and reads no more than it may.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes >> 10} KiB")
    return content, status


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of ours; an empty one where there is none, or it cannot be read."""
    with contextlib.suppress(OSError):
        return parse_object(path.read_bytes())
    return {}


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is anything else: what is broken counts as nothing."""
    with contextlib.suppress(ValueError):
        if isinstance(found := json.loads(text), dict):
            return found
    return {}


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file in one step: whoever reads it meanwhile reads the old or the new one.

    Raises:
        OSError: it is as it was.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")  # several may write at once
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk's names no file


def is_store_folder(path: Path) -> bool:
    """Whether this is the folder of some store, in the state folder."""
    return re.fullmatch("[0-9a-f]{16}", path.name) is not None and path.is_dir()


def may_be_closed(folder: Path) -> bool:
    """Whether its permissions are ours to change: on those of /tmp (sticky bit), or of another's, others rely."""
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX


def is_all_ours(state: Path) -> bool:
    """The same of a state folder, or of a store's in it: nothing is in it but what the program puts there."""
    entries = () if is_store_folder(state) else state.iterdir()
    return may_be_closed(state) and all(is_store_folder(one) or _IN_STATE.fullmatch(one.name) for one in entries)


def user_name(uid: int) -> str:
    """The name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _require_own_folder(folder: Path, *, may_be_sticky: bool) -> None:
    status = folder.lstat()
    _require_owner(folder, status)
    if status.st_mode & _OTHERS_WRITE and not (may_be_sticky and status.st_mode & stat.S_ISVTX):
        or_close = f", or run: chmod go-w {shlex.quote(str(folder))}" if may_be_closed(folder) else "."
        what = f"other users can write in the folder {folder}"
        raise SharedPlaceError(what, f"Name a folder that only you can write in{or_close}")


def _require_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise SharedPlaceError(f"{path} belongs to {user_name(status.st_uid)}", "Name a folder of your own.")
