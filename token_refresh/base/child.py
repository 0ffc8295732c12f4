"""A program of the user as a child: bounded in time and output, without a shell, killed with all that it started."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

from token_refresh.base.errors import ActionableError, Kind

LONGEST_SECONDS = 10.0
MOST_BYTES = 64 * 1024
_POLL_SECONDS = 0.01
_KILLED_SECONDS = 1.0  # what is waited for after a kill; a program of another user (sudo) cannot be killed
_BY_HAND = "Run it by hand, as the user of this program, and see what it writes."


class CommandError(ActionableError):
    """A command did not do what it is for. Neither its words nor its output are in the message: both may be secret.

    The message is without a full stop, and without the name of the setting that the command is in.
    """

    kind = Kind.CONFIGURATION


def split_words(command: str) -> list[str]:
    """A command's words, as a shell splits and quotes them; nothing else in it means anything. Raises `CommandError`.

    So `~`, `$NAME`, `|` and `>` reach the program as they are: who wants them names a shell, `sh -c '…'`.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        raise CommandError("a quotation mark in it is not closed, or a backslash ends it", "Correct it.") from None
    if not words or not words[0] or "\0" in command:
        raise CommandError("it is no command", "Write a program and its arguments.")
    return words


def line_in(output: bytes) -> str:
    """The one line that a command wrote, without its end. Raises `CommandError` where it wrote anything else."""
    try:
        lines = output.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = ["\0"]
    what = "nothing" if not any(map(str.strip, lines)) else f"{len(lines)} lines" if len(lines) > 1 else ""
    if what or "\0" in lines[0]:
        raise CommandError(f"it wrote {what or 'no text'}, where one line of text is wanted", _BY_HAND)
    return lines[0]


def run_child(
    words: Sequence[str],
    environ: Mapping[str, str],
    given: bytes = b"",
    *,
    cwd: Path | None = None,
    seconds: float = LONGEST_SECONDS,
    is_stopped: Callable[[], bool] = lambda: False,
) -> bytes:
    """Run a program to its end, and return what it wrote to its standard output; its standard error goes nowhere.

    It has no terminal. Its process group is killed where it does not end by itself: in time, before it has written more
    than `MOST_BYTES`, before somebody stops us. What it leaves behind on purpose when it ends well (an agent) lives on,
    and is not waited for.

    Args:
        words: the program and its arguments.
        environ: its whole environment, without our secrets: see `Settings.child_environment`.
        given: its standard input; closed where there is none.
        cwd: where it starts, and where a relative path to it does.
        seconds: how long it may take.
        is_stopped: asked again and again while it works.

    Raises:
        CommandError: it cannot be started, ended in another way than with exit code 0, or was killed.
    """
    ending, stdin = time.monotonic() + seconds, PIPE if given else DEVNULL
    try:
        process = Popen(words, stdin=stdin, stdout=PIPE, stderr=DEVNULL, cwd=cwd, env=environ, start_new_session=True)
    except OSError as error:
        raise CommandError(f"its program cannot be started ({error.strerror})", "Correct its path.") from None
    try:
        output = _exchange(process, given, ending, is_stopped)
    finally:
        _end(process)
    if output is None:
        limit = "it was stopped" if is_stopped() else f"it did not end within {seconds:g} s, and was killed"
        raise CommandError(limit, "Run it by hand: it must not ask anybody, nor wait for anything.")
    if len(output) > MOST_BYTES:
        raise CommandError(f"it wrote more than {MOST_BYTES >> 10} KiB", _BY_HAND)
    if process.returncode:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise CommandError(f"it ended with {how}", _BY_HAND)
    return output


def _exchange(process: Popen[bytes], given: bytes, ending: float, is_stopped: Callable[[], bool]) -> bytes | None:
    """What it writes, once it has read what it is given and has ended; or, where that is too long, the beginning of it.

    Returns:
        None where it did not end in time, or we are stopped.
    """
    output, rest = b"", given or None
    while time.monotonic() < ending and not is_stopped() and len(output) <= MOST_BYTES:
        has_ended = process.poll() is not None  # before the look: all that it wrote is in the pipe by then
        try:
            return process.communicate(rest, _POLL_SECONDS)[0]
        except TimeoutExpired as unfinished:
            output, rest = unfinished.output or b"", None  # it keeps both and goes on with them
        if has_ended:  # what it left behind has the pipe, too
            return output
    return output if len(output) > MOST_BYTES else None


def _end(process: Popen[bytes]) -> None:
    """Close its pipes; where it has not ended, kill it and all that it started."""
    for pipe in filter(None, (process.stdin, process.stdout)):
        pipe.close()
    if process.poll() is None:  # so its number is still its own, and that of its group
        with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_KILLED_SECONDS)
