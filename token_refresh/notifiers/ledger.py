"""Small documents that outlive a run and that one process at a time may change: a file, or a note in the database."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from token_refresh.base.files import parse_object, read_object, replace_file
from token_refresh.journal.lock import hold
from token_refresh.stores.base import Store

HELD_SECONDS = 30.0  # a note of a process that died is free again after that
_T = TypeVar("_T")


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[int]:
    """While inside, no other thread or process has this file; gives its descriptor.

    Raises:
        TimeoutError: another one had it for so many seconds.
    """
    file = _wait_for(lambda: hold(path), seconds, 0.001)  # most hold it for less than that
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def held_file(path: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """The document in this file, to be changed inside, and written at the end. Raises like `locked`."""
    with locked(path.with_suffix(".lock"), seconds):
        document = read_object(path)
        before = json.dumps(document)
        try:
            yield document
        finally:
            if (after := json.dumps(document)) != before:
                replace_file(path, after.encode())


@contextmanager
def held_note(
    open_store: Callable[[], AbstractContextManager[Store]], name: str, seconds: float
) -> Iterator[dict[str, Any]]:
    """The same in the database, for all machines that work on it."""
    with open_store() as store:
        store.hurry()  # whoever waits for an outage here keeps the program from its end
        document = parse_object(_wait_for(lambda: store.take_note(name, HELD_SECONDS), seconds, 0.05))
        try:
            yield document
        finally:
            store.put_note(name, json.dumps(document))


def _wait_for(take: Callable[[], _T | None], seconds: float, poll_seconds: float) -> _T:
    ending = time.monotonic() + seconds
    while (taken := take()) is None:
        if time.monotonic() >= ending:
            raise TimeoutError("another process keeps it")
        time.sleep(poll_seconds)
    return taken
