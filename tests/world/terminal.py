"""A person at a terminal: a real process on a real pseudo-terminal, what was typed and all that was to be seen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.world.warm import WarmProcess

DEADLINE_SECONDS = 60.0  # a busy machine takes seconds to start a process
CTRL_C, CTRL_D, CTRL_U, CTRL_Z = "\x03", "\x04", "\x15", "\x1a"
BACKSPACE, ESCAPE, ENTER = "\x7f", "\x1b", "\r"


def paste(text: str) -> str:
    """What a terminal sends for a paste, marked as such; it turns line breaks into carriage returns itself."""
    return f"{ESCAPE}[200~{text}{ESCAPE}[201~"


class TerminalProcess:
    """The program on a terminal of its own, used as a context manager.

    Args:
        argv: its script and arguments.
        environment: all that it inherits.
        folder: where it runs.
        output: where its stdout goes instead of to the terminal.
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path | None = None
    ) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.modes_before = self.modes()
        with contextlib.ExitStack() as stack:
            file = None if output is None else stack.enter_context(output.open("wb")).fileno()
            self.process = WarmProcess(
                argv, {"TERM": "xterm", **environment}, folder, (None, file, None), os.ttyname(self._slave)
            )
        self._seen = b""
        self._expected = 0

    def __enter__(self) -> TerminalProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_SECONDS)
        for descriptor in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @property
    def transcript(self) -> str:
        """All that was to be seen so far."""
        return self._seen.decode(errors="replace")

    def modes(self) -> list[Any]:
        """The terminal's modes as they are now."""
        return termios.tcgetattr(self._slave)

    def type(self, keys: str) -> None:
        """Press keys, or paste."""
        data = keys.encode()
        while data:
            data = data[os.write(self._master, data[:512]) :]
            self._read(0)

    def expect(self, text: str) -> None:
        """Wait until this is to be seen, after what was waited for before. Raises `AssertionError`."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        wanted = text.encode()
        while (place := self._seen.find(wanted, self._expected)) < 0:
            alive = self._read(max(0.0, deadline - time.monotonic()))
            found = self._seen.find(wanted, self._expected) >= 0
            if not found and (not alive or time.monotonic() >= deadline):
                raise AssertionError(f"{text!r} never came; there was:\n{self.transcript}")
        self._expected = place + len(wanted)

    def answer(self, question: str, keys: str) -> None:
        """Wait for a question, then type."""
        self.expect(question)
        self.type(keys + ENTER)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        os.close(self._master)

    def end(self) -> int:
        """Wait for the process to end and return its exit code."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:
            with contextlib.suppress(OSError):
                self._read(0.01)
            if time.monotonic() > deadline:
                raise AssertionError(f"the process does not end; there was:\n{self.transcript}")
        with contextlib.suppress(OSError):
            while self._read(0):
                pass
        code = self.process.returncode
        assert code is not None
        return code

    def _read(self, seconds: float) -> bool:
        """Take in what is there, waiting at most so long; whether the process may say more."""
        ready, _, _ = select.select([self._master], [], [], min(seconds, 0.05) if seconds else 0)
        if not ready:
            return seconds > 0 and self.process.poll() is None
        data = os.read(self._master, 65_536)
        self._seen += data
        return bool(data)


def python(script: Path, *arguments: str) -> list[str]:
    """The command line of a script."""
    return [sys.executable, str(script), *arguments]
