"""Asking a person at a terminal. Secrets are not echoed, of any length, and a paste arrives as one piece.

The terminal's own line editing would cut a line at 4,095 characters and end it at the first line break of a
paste, so characters are read one by one and the terminal is asked to mark pastes (bracketed paste, xterm).
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import select
import signal
import sys
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import one_line, sentences
from token_refresh.terminal.console import to_stderr
from token_refresh.terminal.process import ended_by

_T = TypeVar("_T")

_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_PASTE_BEGINS, _PASTE_ENDS = "[200~", "[201~"
_ESCAPE, _INTERRUPT, _END, _KILL_LINE = "\x1b", "\x03", "\x04", "\x15"
_BACKSPACES = ("\x7f", "\b")
_ENTER = ("\r", "\n")
_FIRST_PRINTABLE = " "
_SIGNAL_SECONDS = 0.5  # after which a signal is seen at the latest

Show = Callable[[str], None]  # makes typed characters visible, or does not


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def require_yes(question: str, without_terminal: str) -> None:
    """Return where a person, asked at a terminal, agrees.

    Raises:
        ActionableError: the answer is no; or nobody can be asked, and `without_terminal` is what to do then.
    """
    if not can_ask():
        raise ActionableError("this is no terminal, so nobody can be asked", without_terminal, Kind.USAGE)
    with Terminal() as ask:
        if not ask.yes(question):
            raise ActionableError("nothing was changed", "", Kind.ROW)


class Terminal:
    """Asks questions; a context manager around all of them. They go to stderr, answers come from stdin.

    The terminal shows nothing by itself from the first question to the last, also between two of them: what is
    typed or pasted ahead may be the secret.

    Raises:
        ActionableError: stdin or stderr is no terminal.
        KeyboardInterrupt: on Ctrl-C, a hang-up, or Ctrl-D where nothing was typed.
    """

    def __init__(self) -> None:
        if not can_ask():
            raise ActionableError(
                "this is no terminal, so nobody can be asked for secrets",
                "Run it in a terminal, or give the clients with --from-csv FILE (- for standard input).",
                Kind.USAGE,
            )
        self._descriptor = sys.stdin.fileno()
        self._wait: Callable[[], None] = self._any_key
        self._characters = _without_doubled_ends(_characters(self._descriptor, lambda: self._wait()))
        self._before: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def finish(self, act: Callable[..., _T], *arguments: object) -> _T:
        """Do what must not be cut off: its answer would be lost. A signal that comes meanwhile ends it if it fails."""
        signals = list[str]()
        try:
            with ended_by(signals.append):
                return act(*arguments)
        except ActionableError as error:
            if not signals:
                raise
            self.say(sentences(str(error), error.action))
            raise KeyboardInterrupt from error

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._descriptor)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGHUP, signal.SIGTERM)}
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, _quiet(self._descriptor))
        to_stderr(_PASTE_ON)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        to_stderr(_PASTE_OFF + ("\r\n" if kind is KeyboardInterrupt else ""))
        with contextlib.suppress(termios.error):  # the terminal may be gone
            # What was typed or pasted beyond the last question must not reach the shell, and its history.
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def text(self, question: str, default: str = "") -> str:
        """A visible answer, trimmed; `default` for an empty one."""
        hint = f" [{default}]" if default else ""
        to_stderr(f"{one_line(question + hint)}: ")
        return read_line(self._characters, to_stderr).strip() or default

    def secret(self, question: str) -> str:
        """An answer that is not shown, without line breaks and paste marks."""
        to_stderr(f"{question} (not shown): ")
        return read_line(self._characters, _show_ends_only).strip()

    def say(self, text: str) -> None:
        """Show lines between two questions."""
        to_stderr(text.replace("\n", "\r\n") + "\r\n")

    def secret_until(self, question: str, wake: int, seconds: float) -> str | None:
        """An answer that is not shown; None once the descriptor `wake` can be read, or so many seconds are over."""
        ends = time.monotonic() + seconds

        def wait() -> None:
            if self._descriptor not in _ready([self._descriptor, wake], ends):
                raise _Woken

        self._wait = wait
        try:
            return self.secret(question)
        except _Woken:
            to_stderr("\r\n")
            self._characters = _without_doubled_ends(_characters(self._descriptor, lambda: self._wait()))
            return None
        finally:
            self._wait = self._any_key

    def _any_key(self) -> None:
        _ready([self._descriptor])

    def yes(self, question: str) -> bool:
        """Whether the answer is yes; anything else is no."""
        to_stderr(f"{one_line(question)} [y/N] ")
        return read_line(self._characters, to_stderr).strip().lower() in ("y", "yes")


def read_line(characters: Iterator[str], show: Show) -> str:
    """One line out of single characters: editing keys applied, escape codes dropped, pasted line breaks too.

    Raises:
        KeyboardInterrupt: Ctrl-C; Ctrl-D or the end of input where nothing was typed.
    """
    line: list[str] = []
    pasting = False
    character = next(characters, "")
    while character:
        following = ""
        if character == _ESCAPE:
            code, following = _escape_code(characters)
            pasting = (pasting or code == _PASTE_BEGINS) and code != _PASTE_ENDS
        elif character == _INTERRUPT or (character == _END and not line):
            break
        elif character in _ENTER and not pasting:
            show("\r\n")
            return "".join(line)
        elif character.isprintable():
            line.append(character)
            show(character)
        elif not pasting:
            _edit(line, character, show)
        character = following or next(characters, "")
    raise KeyboardInterrupt


def _edit(line: list[str], key: str, show: Show) -> None:
    count = {_KILL_LINE: len(line)}.get(key, 1 if key in _BACKSPACES and line else 0)
    for _ in range(count):
        show("\b \b" * _columns(line.pop()))


def _columns(character: str) -> int:
    """How wide a terminal draws it."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _escape_code(characters: Iterator[str]) -> tuple[str, str]:
    """What follows an escape, and the control character that cut it short, if one did.

    It is `[`, parameters and a final letter or `~` (ECMA-48 5.4), or `O` and a letter (arrows of some terminals),
    or one character; a lone Esc is followed by whatever key comes next.
    """
    code = next(characters, "")
    if code < _FIRST_PRINTABLE or code not in "[O":
        return ("", code) if code < _FIRST_PRINTABLE else (code, "")
    for character in characters:
        if character < _FIRST_PRINTABLE:
            return code, character
        code += character
        if "@" <= character <= "~":
            break
    return code, ""


class _Woken(Exception):  # noqa: N818 - no error
    """Something else came first."""


def _ready(descriptors: list[int], ends: float = math.inf) -> list[int]:
    """Which of these can be read, once one can; none at the end, which is of the monotonic clock.

    A signal that another thread gets, or that comes just before the system call, interrupts no wait: Python looks at
    it when the call returns.
    """
    ready: list[int] = []
    while not ready and (left := ends - time.monotonic()) > 0:
        ready, _, _ = select.select(descriptors, [], [], min(left, _SIGNAL_SECONDS))
    return ready


def _characters(descriptor: int, wait: Callable[[], None]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with contextlib.suppress(OSError):  # a terminal that was closed ends the input
        wait()
        while data := os.read(descriptor, 1):
            yield from decoder.decode(data)
            wait()


def _without_doubled_ends(characters: Iterator[str]) -> Iterator[str]:
    """A Windows line end (CR LF) is one Enter, not two."""
    before = ""
    for character in characters:
        if (before, character) != ("\r", "\n"):
            yield character
        before = character


def _quiet(descriptor: int) -> list[Any]:
    """The terminal's modes, without echo and line editing; Ctrl-C works, Ctrl-Z and Ctrl-\\ do not.

    Whoever suspended the program would come back to a terminal that echoes.
    """
    modes = termios.tcgetattr(descriptor)
    modes[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR)
    modes[3] &= ~(termios.ECHO | termios.ICANON)
    off = bytes([os.fpathconf(descriptor, "PC_VDISABLE")])
    modes[6][termios.VQUIT] = modes[6][termios.VSUSP] = off
    modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
    return modes


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_ends_only(text: str) -> None:
    if text == "\r\n":  # the person sees that Enter was taken
        to_stderr(text)
