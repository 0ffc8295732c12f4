"""A CSV file as people write it, before anything is saved; the rest is in tests/commands/test_onboard_csv.py."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.clients.csv_file import CSV_HEADER, MAX_CSV_BYTES, read_lines, read_text


def test_line_numbers_are_those_of_an_editor() -> None:
    content = f'{",".join(CSV_HEADER)}\n\na,acme,c,"two\nlines",t\n,,,,\nb,acme,c,s,\nc\n'
    numbers = [(line.number, line.problem) for line in read_lines(content, "acme")]
    assert numbers == [(3, ""), (6, "has no refresh_token"), (7, "has 1 cell, not 5")]


def test_a_terminal_is_not_read_for_it_would_show_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "wb"), os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with pytest.raises(ActionableError, match="would show the secrets") as error:
            read_text("-", print)
    assert error.value.kind is Kind.USAGE


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "clients.csv"
    file.touch(mode=0o600)
    os.truncate(file, MAX_CSV_BYTES + 1)
    with pytest.raises(ActionableError, match=r"is larger than \d+ MiB"):
        read_text(str(file), print)
    os.truncate(file, MAX_CSV_BYTES)
    assert len(read_text(str(file), print)) == MAX_CSV_BYTES
