"""A CSV file as people write it, before anything is saved; the rest is in tests/commands/test_onboard_csv.py."""

from __future__ import annotations

from token_refresh.clients.csv_file import CSV_HEADER, read_lines


def test_line_numbers_are_those_of_an_editor() -> None:
    content = f'{",".join(CSV_HEADER)}\n\na,acme,c,"two\nlines",t\n,,,,\nb,acme,c,s,\nc\n'
    numbers = [(line.number, line.problem) for line in read_lines(content, "acme")]
    assert numbers == [(3, ""), (6, "has no refresh_token"), (7, "has 1 cells, not 5")]
