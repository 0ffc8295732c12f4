"""A child is bounded in time, in what it writes and in what it sees; real programs, for a pipe has rules of its own."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from token_refresh.base.child import LONGEST_SECONDS, MOST_BYTES, CommandError, line_in, run_child, split_words

SOON = 0.2  # seconds; what hangs here would hang for a minute
MINUTE = "60"


def script(tmp_path: Path, text: str) -> list[str]:
    """The words of a shell script."""
    file = tmp_path / "script"
    file.write_text(text)
    return ["/bin/sh", str(file)]


def is_alive(file: Path) -> bool:
    """Whether the process whose number is in `file` runs still."""
    status = Path(f"/proc/{file.read_text().strip()}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@contextmanager
def soon() -> Iterator[None]:
    """What is inside takes far less than the ten seconds that a child has."""
    begun = time.monotonic()
    try:
        yield
    finally:
        assert time.monotonic() - begun < LONGEST_SECONDS / 2


def wait_until_gone(file: Path) -> None:
    ending = time.monotonic() + 10
    while is_alive(file) and time.monotonic() < ending:
        os.sched_yield()
    assert not is_alive(file)


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=MOST_BYTES))
def test_a_child_says_back_what_it_is_given(text: bytes) -> None:
    assert run_child(["cat"], {}, text) == text


def test_what_a_child_is_given_may_be_larger_than_a_pipe() -> None:
    assert run_child(["wc", "-c"], {}, b"x" * 500_000) == b"500000\n"


def test_a_child_that_hangs_without_reading_its_input_is_killed_too() -> None:
    with pytest.raises(CommandError, match="did not end"), soon():
        run_child(["sleep", MINUTE], {}, b"x" * 500_000, seconds=SOON)


def test_a_child_that_does_not_read_its_input_is_no_failure() -> None:
    assert run_child(["echo", "done"], {}, b"x" * 200_000) == b"done\n"


def test_a_child_without_input_finds_it_closed() -> None:
    """Also where we have one ourselves."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    try:
        os.write(writing, b"typed")
        os.close(writing)
        assert run_child(["cat"], {}) == b""
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reading)


def test_a_child_sees_the_environment_that_it_is_given_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "secret")
    assert run_child(["env"], {"HOME": "/home/of/theirs"}) == b"HOME=/home/of/theirs\n"


def test_a_child_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    words = script(tmp_path, f"sleep {MINUTE} & echo $! > {tmp_path}/grandchild; echo $$ > {tmp_path}/child; wait")
    with pytest.raises(CommandError, match=r"did not end within 0\.2 s"):
        run_child(words, {}, seconds=SOON)
    wait_until_gone(tmp_path / "child")
    wait_until_gone(tmp_path / "grandchild")


def test_a_child_that_closes_its_output_and_goes_on_is_killed_too() -> None:
    with pytest.raises(CommandError, match="did not end"):
        run_child(["sh", "-c", f"exec >&-; sleep {MINUTE}"], {}, seconds=SOON)


def test_what_a_child_leaves_behind_is_not_waited_for_though_it_keeps_the_pipe_open(tmp_path: Path) -> None:
    """As the agents that a password manager starts."""
    with soon():
        output = run_child(script(tmp_path, f"sleep {MINUTE} & echo $! > {tmp_path}/agent; echo secret"), {})
    assert output == b"secret\n"
    assert is_alive(tmp_path / "agent")
    os.kill(int((tmp_path / "agent").read_text()), 9)


def test_a_child_that_writes_without_an_end_is_killed_at_its_limit(tmp_path: Path) -> None:
    words = script(tmp_path, f"echo $$ > {tmp_path}/child; exec yes")
    with pytest.raises(CommandError, match="more than 64 KiB"), soon():
        run_child(words, {})
    wait_until_gone(tmp_path / "child")


def test_a_child_is_killed_when_somebody_wants_the_end(tmp_path: Path) -> None:
    words, pid = script(tmp_path, f"echo $$ > {tmp_path}/child; sleep {MINUTE}"), tmp_path / "child"
    with pytest.raises(CommandError, match="it was stopped"), soon():
        run_child(words, {}, is_stopped=lambda: pid.exists() and pid.read_text() != "")
    wait_until_gone(pid)


@pytest.mark.parametrize(("how", "said"), [("exit 3", "exit code 3"), ("kill -9 $$", "signal 9")])
def test_a_failure_is_named_without_what_the_child_said(tmp_path: Path, how: str, said: str) -> None:
    with pytest.raises(CommandError) as raised:
        run_child(script(tmp_path, f"echo secret-1; echo secret-2 >&2; {how}"), {})
    assert str(raised.value) == f"it ended with {said}"
    assert "secret" not in raised.value.action


def test_what_a_child_says_to_its_standard_error_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_child(["sh", "-c", "echo secret >&2"], {}) == b""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("program", ["/nowhere/at-all", "/etc/passwd", "/"])
def test_a_program_that_cannot_be_started_is_an_error_that_does_not_name_it(program: str) -> None:
    with pytest.raises(CommandError, match=r"cannot be started \((No such file or directory|Permission denied)\)"):
        run_child([program], {})


def test_a_child_has_no_terminal_to_ask_at() -> None:
    ask = f"import os; print(os.getsid(0) == os.getpid(), os.getsid(0) != {os.getsid(0)})"
    assert run_child([sys.executable, "-I", "-c", ask], {}) == b"True True\n"


def test_words_are_split_as_by_a_shell_and_mean_nothing_else() -> None:
    assert split_words("vault read 'a b' $HOME | tee >x") == ["vault", "read", "a b", "$HOME", "|", "tee", ">x"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_words_that_are_quoted_arrive_as_they_are(words: list[str]) -> None:
    if words[0]:
        assert split_words(shlex.join(words)) == words


NO_COMMAND, NOT_CLOSED = "it is no command", "a quotation mark in it is not closed, or a backslash ends it"


@pytest.mark.parametrize("command", ["", "  ", "''", "'' x", "a 'b", 'a "b', "a \0 b", "a\\"])
def test_what_is_no_command_is_an_error_that_does_not_quote_it(command: str) -> None:
    with pytest.raises(CommandError) as raised:
        split_words(command)
    assert str(raised.value) in (NO_COMMAND, NOT_CLOSED)


_SIGNS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufeff")
ONE_LINE = st.text(_SIGNS, min_size=1).filter(str.strip)


@settings(max_examples=30, deadline=None)
@given(ONE_LINE, st.sampled_from(["", "\n", "\r\n"]), st.sampled_from(["", "\ufeff"]))
def test_one_line_is_taken_as_it_is_whatever_ends_it(line: str, end: str, mark: str) -> None:
    assert line_in(run_child(["cat"], {}, (mark + line + end).encode())) == line


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (b"", "nothing"),
        (b"\n", "nothing"),
        (b" \r\n", "nothing"),
        (b"\xef\xbb\xbf", "nothing"),
        (b"secret-1\nsecret-2\n", "2 lines"),
        (b"secret-1\n\n", "2 lines"),
        (b"\nsecret-1", "2 lines"),
        (b"secret-1\rsecret-2", "2 lines"),
        ("secret-1\u2028secret-2".encode(), "2 lines"),
        (b"secret-1\0", "no text"),
        (b"\xff\xfes\0", "no text"),
        ("secret".encode("utf-16"), "no text"),
        (b"secret-\xe9", "no text"),
    ],
)
def test_what_is_not_one_line_is_refused_and_not_quoted(output: bytes, said: str) -> None:
    with pytest.raises(CommandError) as raised:
        line_in(output)
    assert str(raised.value) == f"it wrote {said}, where one line of text is wanted"
    assert "secret" not in raised.value.action


@given(st.binary(max_size=40))
def test_whatever_is_written_becomes_a_line_or_is_refused(output: bytes) -> None:
    try:
        line = line_in(output)
    except CommandError:
        return
    assert line.strip()
    assert len(line.splitlines()) == 1
    assert "\0" not in line
    assert line.encode() in output


def test_the_longest_line_is_64_kib() -> None:
    longest = b"x" * MOST_BYTES
    assert run_child(["cat"], {}, longest) == longest
    with pytest.raises(CommandError, match="more than 64 KiB"):
        run_child(["cat"], {}, longest + b"x")
