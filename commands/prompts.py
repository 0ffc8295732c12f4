"""Asking a person at a terminal. Secrets are not echoed, of any length, and a paste arrives as one piece.

The terminal's own line editing would cut a line at 4,095 characters and end it at the first line break of a
paste, so characters are read one by one and the terminal is asked to mark pastes (bracketed paste, xterm).
"""

from __future__ import annotations

import codecs
import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_PASTE_BEGINS, _PASTE_ENDS = "[200~", "[201~"
_ESCAPE, _INTERRUPT, _END, _KILL_LINE = "\x1b", "\x03", "\x04", "\x15"
_BACKSPACES = ("\x7f", "\b")
_ENTER = ("\r", "\n")


class NoTerminalError(Exception):
    """Nobody can be asked here.

    Attributes:
        action: the mend, as a sentence.
    """

    action = "Run it in a terminal, or give the clients with --from-csv FILE (- for standard input)."

    def __init__(self) -> None:
        super().__init__("this is no terminal, so nobody can be asked for secrets")


class Asker(Protocol):
    """Asks questions."""

    def text(self, question: str, default: str = "") -> str:
        """A visible answer, trimmed; `default` for an empty one."""
        ...

    def secret(self, question: str) -> str:
        """An answer that is not shown, without line breaks and paste marks."""
        ...

    def yes(self, question: str) -> bool:
        """Whether the answer is yes; anything else is no."""
        ...


class Terminal:
    """See `Asker`. Questions go to stderr, answers come from stdin.

    Raises:
        NoTerminalError: stdin or stderr is no terminal.
        KeyboardInterrupt: on Ctrl-C, or Ctrl-D where nothing was typed.
    """

    def __init__(self) -> None:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise NoTerminalError

    def text(self, question: str, default: str = "") -> str:
        """See `Asker.text`."""
        hint = f" [{default}]" if default else ""
        return self._ask(f"{question}{hint}: ", echo=True).strip() or default

    def secret(self, question: str) -> str:
        """See `Asker.secret`."""
        return self._ask(f"{question} (not shown): ", echo=False).strip()

    def yes(self, question: str) -> bool:
        """See `Asker.yes`."""
        return self._ask(f"{question} [y/N] ", echo=True).strip().lower() in ("y", "yes")

    def _ask(self, question: str, *, echo: bool) -> str:
        sys.stderr.write(question)
        sys.stderr.flush()
        with _raw(sys.stdin.fileno()):
            return read_line(_characters(sys.stdin.fileno()), _echo if echo else _ignore)


def read_line(characters: Iterator[str], show: Show) -> str:
    """One line out of single characters: editing keys applied, escape codes dropped, pasted line breaks too.

    Raises:
        KeyboardInterrupt: Ctrl-C; Ctrl-D or the end of input where nothing was typed.
    """
    line: list[str] = []
    pasting = False
    for character in characters:
        if character == _ESCAPE:
            code = _escape_code(characters)
            pasting = (pasting or code == _PASTE_BEGINS) and code != _PASTE_ENDS
        elif character in _ENTER:
            if not pasting:
                show("\r\n")
                return "".join(line)
        elif character == _INTERRUPT or (character == _END and not line):
            show("\r\n")
            raise KeyboardInterrupt
        else:
            _edit(line, character, show)
    raise KeyboardInterrupt


class Show(Protocol):
    """What makes typed characters visible, or does not."""

    def __call__(self, text: str) -> None: ...


def _edit(line: list[str], character: str, show: Show) -> None:
    if character in _BACKSPACES:
        if line:
            line.pop()
            show("\b \b")
    elif character == _KILL_LINE:
        show("\b \b" * len(line))
        line.clear()
    elif character.isprintable():
        line.append(character)
        show(character)


def _escape_code(characters: Iterator[str]) -> str:
    """What follows an escape: `[`, parameters and a final letter or `~` (ECMA-48 5.4), or one character."""
    code = next(characters, "")
    if code != "[":
        return code
    for character in characters:
        code += character
        if "@" <= character <= "~":
            break
    return code


def _characters(descriptor: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := os.read(descriptor, 1):
        yield from decoder.decode(data)


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """No echo and no line editing by the terminal; restored whatever happens."""
    before = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, raw)
        sys.stderr.write(_PASTE_ON)
        sys.stderr.flush()
        yield
    finally:
        sys.stderr.write(_PASTE_OFF)
        sys.stderr.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _echo(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _ignore(text: str) -> None:
    if text == "\r\n":  # the person sees that Enter was taken
        _echo(text)
