"""Small documents that outlive a run and that one process at a time may change: a file, or a note in the database."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from token_refresh.base.files import replace_file
from token_refresh.stores.base import Store

HELD_SECONDS = 30.0  # a note of a process that died is free again after that


@contextmanager
def held_file(path: Path) -> Iterator[dict[str, Any] | None]:
    """The document in this file, to be changed inside, and written at the end; None while another process has it."""
    with os.fdopen(os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        before = ""
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            before = path.read_text(encoding="utf-8")
        document = _read(before)
        try:
            yield document
        finally:
            if (after := json.dumps(document)) != before:
                replace_file(path, after.encode())


@contextmanager
def held_note(open_store: Callable[[], AbstractContextManager[Store]], name: str) -> Iterator[dict[str, Any] | None]:
    """The same in the database, for all machines that work on it."""
    with open_store() as store:
        store.hurry()  # whoever waits for an outage here keeps the program from its end
        before = store.take_note(name, HELD_SECONDS)
        if before is None:
            yield None
            return
        document = _read(before)
        try:
            yield document
        finally:
            store.put_note(name, json.dumps(document))


def _read(text: str) -> dict[str, Any]:
    """What is broken counts as nothing."""
    with contextlib.suppress(ValueError):
        if isinstance(document := json.loads(text), dict):
            return document
    return {}
