"""What the process owes its surroundings: private files, a closed memory, streams that exist, an orderly end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import io
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from token_refresh.base.errors import Kind, exit_code

_PR_SET_DUMPABLE = 4  # prctl(2)
_ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def harden_process() -> None:
    """Before anything else: what is created is private, memory and libraries keep to themselves, 0 to 2 are open."""
    os.umask(0o077)
    _close_memory()
    # Libraries log requests, headers and bodies. Our own words do not go through `logging`, so no setting, level or
    # handler of anybody brings those out.
    logging.disable(logging.CRITICAL)
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a test's buffer, which takes any text
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def shut_out_plugins() -> None:
    """No plugin of Pydantic's is loaded: it would be shown what is checked, and to look for any takes time.

    To be called when the environment was copied: what this process starts loads its own.
    """
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"


def collect_seldom() -> None:
    """Look for garbage less often: nearly all that imports, rows and requests leave is freed without.

    By Python's own threshold those looks take a twentieth of a run with nothing to do; by this one it has none.
    """
    gc.set_threshold(100_000)


@contextmanager
def ended_by(stop: Callable[[str], None]) -> Iterator[None]:
    """While inside, SIGTERM, SIGINT and SIGHUP call `stop` with a reason instead of ending the process.

    A kill in the middle of a request would cost its answer. What the caller ignores (`nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def act(number: int, _: FrameType | None) -> None:
        stop(f"{signal.Signals(number).name} was received")

    before = {number: signal.getsignal(number) for number in _ENDINGS}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, act)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


@contextmanager
def on_one_core() -> Iterator[None]:
    """While inside, this thread and those that it starts stay on the processor core where it is now.

    Threads of one interpreter work one at a time: on several cores they pass its lock, and their caches, to and fro,
    and a refresh costs up to twice as much. Linux alone can do it; elsewhere, and without that lock, nothing changes.
    """
    before = _cores()
    has_lock: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    if before and has_lock():
        with contextlib.suppress(AttributeError):  # a C library that cannot tell
            _stay({ctypes.CDLL(None).sched_getcpu()})
    try:
        yield
    finally:
        _stay(before)


def end(code: int) -> NoReturn:
    """Leave with this exit code.

    A run that was kept out has nothing open, and taking the interpreter apart would be a fifth of what it costs: cron
    may start many of them.
    """
    if code == exit_code([Kind.BUSY]):
        os._exit(code)  # what was said is flushed: `console` does that line by line
    sys.exit(code)


def silence(stream: object) -> None:
    """Nobody reads this stream any more: what is still written goes nowhere, also when the process ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = stream.fileno()  # type: ignore[attr-defined]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


class _Closed(io.TextIOBase):
    """Stdout that the caller closed: words may go nowhere, but a command's answer that does is no success."""

    def write(self, _: str) -> NoReturn:
        raise OSError(errno.EBADF, "it is closed")


def _close_memory() -> None:
    """Keys and tokens are in memory while we run, and Python cannot wipe them.

    The limit keeps core files off the disk, but not from a crash reporter that the kernel pipes them to: that, and a
    look at our memory or first environment (/proc, ptrace) by another process of the same user, ends with "not
    dumpable". Linux alone has it; elsewhere the limit has to do.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _cores() -> set[int]:
    """The cores that this thread may use; none where the system does not say."""
    try:
        return os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return set()


def _stay(cores: set[int]) -> None:
    if cores:
        with contextlib.suppress(OSError, ValueError):  # a container may forbid it
            os.sched_setaffinity(0, cores)


def _open_missing_streams() -> None:
    """Where the caller closed 0, 1 or 2, the next file opened would take that number: a database as stderr."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number: this one
    for name, mode_name in (("stdin", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode_name))  # noqa: PTH123, SIM115 - stays open to the end
    if sys.stdout is None:
        sys.stdout = _Closed()
