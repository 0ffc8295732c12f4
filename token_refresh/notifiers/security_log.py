"""Who used which credential when, and how that ended: JSON lines for whoever has to find out later. Never a secret.

Locations and clients stand there as hashes under a random key in the state folder, so that a copy of the log names
nobody, and rotating the encryption key leaves lines comparable. Not synced to the disk: what a power failure undoes is
the last seconds. A log that cannot be written is one warning, and changes nothing about what is done.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import CredentialUsed, RowFinished
from token_refresh.base.files import user_name
from token_refresh.notifiers.ledger import locked

FILE, KEY_FILE = "security.log", "security-log.key"
MOST_BYTES, OLDER_FILES = 10_000_000, 5
_COUNTED = ("get", "key used", "access refused")  # what a program, or whoever guesses keys, does all day
_KEY_BYTES, _HASH_DIGITS = 32, 16
_HASHES = 1_000  # that are remembered
_AN_HOUR = 3600
# In the lock file: who, when the last line was written (seconds since 1970), how often since.
_RECORD = struct.Struct(f"={_HASH_DIGITS}sdq")
_BUCKETS, _BUCKET_BYTES = 4096, 8 * _RECORD.size
_LOCK_SECONDS = 5.0  # others hold the lock for less than a millisecond
_PAUSE_SECONDS = 60.0  # after a failure nothing is tried for so long


@dataclass(eq=False)
class SecurityLog:
    """One table's log; used by any number of threads and processes.

    Args:
        path: the file; None: `FILE` in the table's own folder; `none`: there is to be no log.
        state: the state folder.
        caller: who uses credentials: the verb, or `library`.
        clock: the time.
        say: warns, with what happened and what to do.
    """

    path: Path | str | None
    state: Path
    caller: str
    clock: Clock
    say: Callable[[str, str], None]
    _retry_at: float | None = field(default=None, init=False)

    def note(self, events: Iterable[CredentialUsed | RowFinished], find_folder: Callable[[], Path]) -> None:
        """Write a line for each, at once; nothing of a dry run. Never raises."""
        uses = [use for use in map(_use_of, events) if use.outcome]
        is_pause = self._retry_at is not None and self.clock.monotonic() < self._retry_at
        if self.path == "none" or is_pause or not uses:
            return
        try:
            if not isinstance(self.path, Path):
                self.path = Path(self.path or find_folder() / FILE)
            with locked(self._lock, _LOCK_SECONDS) as file:
                counts: dict[int, bytes] = {}
                lines = [line for used in uses if (line := self._line(used, file, counts))]
                if lines:
                    _append(self.path, b"\n".join(lines))
                for place, record in counts.items():
                    os.pwrite(file, record, place)
            self._retry_at = None
        except Exception as error:  # whatever it is, it must not keep tokens from the store
            if self._retry_at is None:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                what = f"the security log {self.path or ''}".rstrip()
                with suppress(Exception):  # of a program's own logging
                    self.say(f"{what} cannot be written ({reason})", "Correct SECURITY_LOG, or free the disk.")
            self._retry_at = self.clock.monotonic() + _PAUSE_SECONDS

    def lines_of(self, location_id: str) -> Iterator[dict[str, Any]]:
        """What the log has of a location, oldest first; and what was done with all of them at once.

        Raises:
            ActionableError: there is no log, which is not the same as one without such lines.
            OSError: it cannot be read.
        """
        mine = (None, self._hash("location", location_id))
        logs = [self.path] if isinstance(self.path, Path) else sorted(self.state.glob(f"*/{FILE}"))
        files = [_numbered(log, number) for log in logs for number in range(OLDER_FILES, -1, -1)]
        if not any(map(os.path.lexists, files)):
            where = self.path if isinstance(self.path, Path) else self.state / "*" / FILE
            raise ActionableError(
                f"there is no security log at {where}, so nothing is known of what was done",
                "Put it back, or correct SECURITY_LOG; the next use of a credential begins a new one.",
                Kind.CONFIGURATION,
            )
        for path in files:
            with suppress(FileNotFoundError), path.open("rb") as lines:
                for line in lines:
                    with suppress(ValueError, KeyError, TypeError):  # it was cut off, or is no line of ours
                        if (known := json.loads(line))["location"] in mine:
                            yield known

    def _line(self, used: CredentialUsed, lock_file: int, counts: dict[int, bytes]) -> bytes:
        """What is to be written of a use; empty where it only counts. How often goes to `counts`, by its place."""
        actor = f"{self._actor} {used.key}".rstrip()
        location = self._hash("location", used.location_id) if used.location_id is not None else None
        counted: dict[str, int] = {}
        if used.use in _COUNTED:
            use = "" if used.use == "get" else f"{used.use} "
            count = self._count(lock_file, f"{use}{actor} {used.outcome} {location}", counts)
            if not count:
                return b""
            counted = {"count": count}
        line = {
            "time": iso(self.clock.now()),
            "event": used.use,
            "actor": actor,
            "outcome": used.outcome,
            "location": location,
            "client": self._hash("client", used.client_id) if used.client_id else None,
            **counted,
        }
        return json.dumps(line).encode()

    def _count(self, file: int, who: str, counts: dict[int, bytes]) -> int:
        """How often since the last line, with this time; 0 where that line is not an hour old.

        Each has its place in one of the lock file's buckets; in a full one the oldest gives way.
        """
        now, own = self.clock.now().timestamp(), self._hash("get", who)
        start = int(own, 16) % _BUCKETS * _BUCKET_BYTES
        kept = os.pread(file, _BUCKET_BYTES, start).ljust(_BUCKET_BYTES, b"\0")
        places = range(start, start + _BUCKET_BYTES, _RECORD.size)
        records = [_RECORD.unpack(counts.get(at, kept[at - start :][: _RECORD.size])) for at in places]
        names, times = [record[0] for record in records], [record[1] for record in records]
        is_known = own.encode() in names
        place = names.index(own.encode()) if is_known else times.index(min(times))
        _, at, count = records[place] if is_known else ("", 0.0, 0)
        is_time = not 0 <= now - at < _AN_HOUR
        counts[places[place]] = _RECORD.pack(own.encode(), *((now, 0) if is_time else (at, count + 1)))
        return count + 1 if is_time else 0

    @cached_property
    def _actor(self) -> str:
        return f"{user_name(os.geteuid())} {self.caller}"

    @cached_property
    def _lock(self) -> Path:
        path = Path(self.path or "")
        return path.with_name(f"{path.name}.lock")

    @cached_property
    def _hash(self) -> Callable[[str, str], str]:
        @lru_cache(_HASHES)  # a program asks for the same tokens all day
        def hash_of(what: str, text: str) -> str:
            named = f"{what} {text}".encode(errors="backslashreplace")
            return hmac.digest(self._key, named, "sha256").hex()[:_HASH_DIGITS]

        return hash_of

    @cached_property
    def _key(self) -> bytes:
        with locked(self.state / KEY_FILE, _LOCK_SECONDS) as file:
            key = os.pread(file, _KEY_BYTES, 0)
            if len(key) < _KEY_BYTES:
                key = os.urandom(_KEY_BYTES)
                os.pwrite(file, key, 0)
                os.fsync(file)
            return key


def _use_of(event: CredentialUsed | RowFinished) -> CredentialUsed:
    if isinstance(event, CredentialUsed):
        return event
    return CredentialUsed("refresh", event.location_id, event.client_id, event.outcome or "")


def _append(path: Path, lines: bytes) -> None:
    """Add lines; one that a kill or a full disk cut off before them stays as it is, and these begin on their own."""
    with suppress(FileNotFoundError):
        if path.stat().st_size + len(lines) >= MOST_BYTES:
            for number in range(OLDER_FILES, 0, -1):
                with suppress(FileNotFoundError):
                    _numbered(path, number - 1).replace(_numbered(path, number))
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab+", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            lines = lines if file.read(1) == b"\n" else b"\n" + lines
        if file.write(lines + b"\n") <= len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path
