"""The keys of a line, one by one, and a wait for them; the rest of a terminal is tests/commands'."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.world.terminal import BACKSPACE, CTRL_C, CTRL_D, CTRL_U, ESCAPE, paste
from token_refresh.terminal.prompts import Terminal, read_line


def typed(keys: str) -> tuple[str, str]:
    """The line that these keys make, and what was shown of it."""
    shown: list[str] = []
    return read_line(characters(keys), shown.append), "".join(shown)


def characters(keys: str) -> Iterator[str]:
    return iter(keys)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("abc\r", "abc"),
        ("abc\n", "abc"),
        ("\r", ""),
        (f"ab{BACKSPACE}c\r", "ac"),
        (f"{BACKSPACE}{BACKSPACE}a\b\b\bb\r", "b"),
        (f"wrong{CTRL_U}right\r", "right"),
        (f"a{ESCAPE}[Ab{ESCAPE}[1;5Dc{ESCAPE}[3~d\r", "abcd"),
        (f"a{ESCAPE}OAb{ESCAPE}OHc\r", "abc"),
        (f"a{ESCAPE}\r", "a"),
        (f"a{ESCAPE}[\r", "a"),
        (f"{ESCAPE}{paste('token')}\r", "token"),
        (f"{paste('to')}{paste('ken')}\r", "token"),
        (paste("to\rk\ne\r\nn\n") + "\r", "token"),
        (paste(f"to\tk{BACKSPACE}en{CTRL_U}") + "\r", "token"),
        ("a\tb\x00c\x07d\x1ae\r", "abcde"),
        ("\ufeffa\u200bb\u202ec\xa0d\r", "abcd"),
        ("Zürich 東京 😀\r", "Zürich 東京 😀"),
        ("ab\x04c\r", "abc"),
    ],
)
def test_keys_make_the_line_that_was_meant(keys: str, line: str) -> None:
    assert typed(keys)[0] == line


@pytest.mark.parametrize("keys", [CTRL_C, f"abc{CTRL_C}", CTRL_D, "", "abc", ESCAPE, f"{ESCAPE}[200~abc"])
def test_end_of_input_or_interrupt_gives_no_line(keys: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        read_line(characters(keys), lambda _: None)


@pytest.mark.parametrize(("keys", "columns"), [("a", 1), ("東", 2), ("e\u0301", 1), ("ü", 1)])
def test_backspace_takes_back_as_many_columns_as_were_drawn(keys: str, columns: int) -> None:
    shown = typed(f"{keys}{CTRL_U}x\r")[1]
    assert shown == keys + "\b \b" * columns + "x\r\n"


@contextmanager
def keyboard() -> Iterator[int]:
    """Where a person types, of a terminal that is this process's meanwhile."""
    typed_here, read_there = pty.openpty()
    with (
        os.fdopen(read_there, "r+b", buffering=0) as device,
        open(read_there, "w", closefd=False) as shown,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", device)
        patch.setattr(sys, "stderr", shown)
        yield typed_here
    os.close(typed_here)


@pytest.mark.parametrize(
    "ask",
    [lambda terminal, _: terminal.text("Location id"), lambda terminal, pipe: terminal.secret_until("Paste", pipe, 60)],
    ids=["a question", "a wait for something else, too"],
)
def test_ctrl_c_that_another_thread_gets_ends_the_wait(ask: Callable[[Terminal, int], str]) -> None:
    never, writer = os.pipe()
    ctrl_c = threading.Timer(0.02, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
    with keyboard() as keys, Terminal() as terminal:
        otherwise = threading.Timer(5, os.write, (keys, b"\r"))  # upon which Python looks at the signal
        for timer in (ctrl_c, otherwise):
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            ask(terminal, never)
        assert not otherwise.finished.is_set()
        otherwise.cancel()
    os.close(never)
    os.close(writer)
