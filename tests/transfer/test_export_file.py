"""The two forms of an export: what is written is read as it was, and no spreadsheet finds a formula in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_refresh.base.columns import COLUMN_NAMES, REQUIRED_COLUMNS
from token_refresh.base.errors import ActionableError
from token_refresh.stores.base import make_row
from token_refresh.transfer import export_file as backup

HEAD = ",".join(REQUIRED_COLUMNS)
LINE = ",".join("loc" if name == "locationId" else "" for name in REQUIRED_COLUMNS)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'", "''", "\uff1d"])
def test_no_cell_starts_like_a_formula_and_reading_undoes_it_exactly(start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    written = backup.guarded(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert backup.unguarded(written) == text


TEXT = st.text(st.characters(exclude_characters="\x00"), max_size=12).map(str.strip)


@given(cells=st.fixed_dictionaries(dict.fromkeys(("locationId", "client_id", "provider_params", "last_error"), TEXT)))
@pytest.mark.parametrize("form", ["csv", "json"])
def test_any_text_comes_back_as_it_was(form: str, cells: dict[str, str], tmp_path_factory: Any) -> None:
    cells["locationId"] = cells["locationId"] or "x"
    row = make_row("key", cells.get)
    path = tmp_path_factory.getbasetemp() / f"any-{form}"
    with path.open("w", encoding="utf-8", errors=backup.SURROGATES, newline="") as file:
        write = backup.write_csv if form == "csv" else backup.write_json
        write([backup.cells_of(row, COLUMN_NAMES)], COLUMN_NAMES, file.write)
    [line] = backup.read_export(str(path))
    assert line.row is not None
    assert backup.cells_of(line.row, COLUMN_NAMES) == backup.cells_of(row, COLUMN_NAMES)


def read(text: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    """What each line of an export is, that comes by standard input: its name, whose it is, what is wrong with it."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    return [(one.name, one.row.location_id if one.row else None, one.problem) for one in backup.read_export("-")]


def test_empty_lines_of_an_export_are_none_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(f"{HEAD}\n\n{LINE}\n\n", monkeypatch) == [("line 3", "loc", "")]


def test_a_quote_that_is_not_closed_costs_what_follows_it_and_nothing_before(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = read(f'{HEAD}\n{LINE}\n"{LINE}\n{LINE}\n', monkeypatch)
    assert first == ("line 2", "loc", "")
    assert (second[:2], "a quote that is not closed?" in second[2]) == (("line 3", None), True)


def test_an_export_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ActionableError, match=r"gone\.csv cannot be read \(No such file or directory\)"):
        list(backup.read_export(str(tmp_path / "gone.csv")))


def test_an_export_of_a_large_table_takes_little_memory() -> None:
    import tracemalloc

    wide = [backup.cells_of(make_row("k", {"locationId": "x", "last_error": "e" * 1000}.get), COLUMN_NAMES)]

    def peak(count: int) -> int:
        tracemalloc.start()
        backup.write_json((wide[0] for _ in range(count)), COLUMN_NAMES, len)
        backup.write_csv((wide[0] for _ in range(count)), COLUMN_NAMES, len)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2000) < 2 * peak(20)
