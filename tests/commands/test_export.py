"""`export`: what is in a backup, what never is, and that the file is whole or not there."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_verify import LATER, rows, verified
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows
from tests.world.airtable import AirtableServer, faults
from tests.world.clock import START
from tests.world.program import Result
from token_refresh.base.clock import iso
from token_refresh.base.columns import ALL_COLUMN_NAMES, COLUMN_NAMES, REQUIRED_COLUMNS
from token_refresh.transfer.export_file import read_export

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture
ALL = list(COLUMN_NAMES)


def exported(world: World, form: str, path: Path) -> list[dict[str, Any]]:
    """The rows of an export, as a stranger's program reads them."""
    result = world.program.run("export", "--format", form, "--output", str(path))
    assert (result.code, result.out) == (0, ""), result.err
    if form == "json":
        content = json.loads(path.read_text())
        assert (content["format"], content["version"]) == ("token-refresh export", 1)
        return [dict(row) for row in content["rows"]]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def full_row(rows: Rows, location: str) -> None:
    """A row with something in every column."""
    rows.add(
        "acme", location, LATER, status="active", last_error="none to speak of", failure_count=3, refreshed_by="host",
        last_refreshed=START,
        refresh_token_expiry=LATER,
        provider_params='{"scope": "all"}',
        last_access_token=rows.world.seal(location, "last_access_token", "access"),
    )  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "json"])
def test_every_row_and_column_is_exported_with_its_cells_as_they_are(rows: Rows, form: str, tmp_path: Path) -> None:
    full_row(rows, "a")
    rows.add("google", "b", LATER)
    found = {row["locationId"]: row for row in exported(rows.world, form, tmp_path / "export")}
    assert list(found["a"]) == (ALL if isinstance(rows, AirtableRows) else list(ALL_COLUMN_NAMES))
    assert sorted(found) == ["a", "b"]
    stored = rows.row("a")
    for column in ("encrypted_secret", "encrypted_refresh", "last_access_token", "provider_params", "last_error"):
        assert found["a"][column] == getattr(stored, column)
        assert found["a"][column]
    assert str(found["a"]["failure_count"]) == "3"
    assert (found["a"]["last_refreshed"], found["a"]["refresh_token_expiry"]) == (iso(START), iso(LATER))
    assert verified(rows.world, "--file", str(tmp_path / "export"))[0].code == 0


@pytest.mark.parametrize("form", ["csv", "json"])
def test_what_can_be_read_without_a_key_is_left_out(rows: Rows, form: str, tmp_path: Path) -> None:
    rows.add("acme", "a", LATER, last_access_token="an access token in the clear")
    [row] = exported(rows.world, form, tmp_path / "export")
    assert not row["last_access_token"]
    assert "in the clear" not in (tmp_path / "export").read_text()


@pytest.mark.parametrize("column", ["encrypted_secret", "encrypted_refresh"])
def test_a_secret_pasted_unsealed_is_left_out_and_reported(rows: Rows, column: str, tmp_path: Path) -> None:
    rows.add("acme", "a", LATER)
    rows.edit("a", **{column: "pasted-in-the-clear"})
    result = rows.world.program.run("export", "--output", str(tmp_path / "export"))
    assert result.code == 1
    assert column in result.err
    assert "pasted-in-the-clear" not in result.said + (tmp_path / "export").read_text()


@pytest.mark.parametrize("form", ["csv", "json"])
def test_standard_output_carries_the_export_and_nothing_else(world: World, form: str, tmp_path: Path) -> None:
    SqliteRows(world).add("acme", "a", LATER)
    result = world.program.run("export", "--format", form)
    assert world.program.run("export", "--format", form, "--output", str(tmp_path / "x")).code == 0
    assert (result.code, result.out) == (0, (tmp_path / "x").read_text())


def test_json_on_standard_output_is_one_object(world: World, tmp_path: Path) -> None:
    SqliteRows(world).add("acme", "a", LATER)
    assert world.program.run("export", "--json").json()["format"] == "token-refresh export"
    said = world.program.run("export", "--json", "--format", "csv", "--output", str(tmp_path / "x")).json()
    assert (said["rows"], said["file"]) == (1, str(tmp_path / "x"))
    assert world.program.run("export", "--json", "--format", "csv").code == 2


def test_an_empty_table_gives_an_empty_export(world: World, tmp_path: Path) -> None:
    for form in ("csv", "json"):
        assert exported(world, form, tmp_path / "x") == []
        assert verified(world, "--file", str(tmp_path / "x"))[0].code == 0


def test_a_six_column_table_gives_six_columns(airtable_world: World, airtable: AirtableServer, tmp_path: Path) -> None:
    airtable_world.table = airtable.six_column_table("Six")
    airtable_world.program.settings["AIRTABLE_TABLE_NAME"] = "Six"
    cells = airtable_world.cells("gohighlevel", "a")
    del cells["provider"]
    airtable_world.table.add(cells)
    [row] = exported(airtable_world, "csv", tmp_path / "x")
    assert list(row) == list(REQUIRED_COLUMNS)
    assert verified(airtable_world, "--file", str(tmp_path / "x"))[0].code == 0


# The file


def test_the_file_is_for_its_user_alone(world: World, tmp_path: Path) -> None:
    exported(world, "json", tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_an_older_export_stays_whole_where_the_new_one_fails(
    airtable_world: World, airtable: AirtableServer, tmp_path: Path
) -> None:
    AirtableRows(airtable_world).add("acme", "a", LATER)
    (tmp_path / "backups").mkdir()
    path = tmp_path / "backups" / "x"
    exported(airtable_world, "json", path)
    before = path.read_text()
    airtable.inject(faults.status(503), times=None)
    assert airtable_world.program.run("export", "--output", str(path)).code == 3
    assert path.read_text() == before
    assert [one.name for one in path.parent.iterdir()] == ["x"]


def test_a_link_stays_and_what_is_no_file_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    exported(world, "json", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").is_file()
    for name in (os.devnull, str(tmp_path), str(tmp_path / "nowhere" / "x")):
        assert world.program.run("export", "--output", name).code == 2
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_link_in_a_shared_folder_is_not_followed(world: World, tmp_path: Path) -> None:
    """Whoever made it would choose which of our files is overwritten, or read the backup."""
    (tmp_path / "ours").write_text("as it was")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "export.json").symlink_to(tmp_path / "ours")
    for name in ("export.json", "new.json"):
        result = world.program.run("export", "--output", str(shared / name))
        assert (result.code, f"other users can write in the folder {shared}" in result.err) == (2, True)
        assert "Name a folder that only you can write in." in result.err
    assert (tmp_path / "ours").read_text() == "as it was"
    assert [one.name for one in shared.iterdir()] == ["export.json"]


def test_the_file_is_on_the_disk_before_it_takes_its_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def syncing(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renaming(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", renaming)
    exported(world, "json", tmp_path / "x")
    assert steps[-3:] == ["file", "rename", "folder"]


# Formulas


def test_a_row_that_wants_to_be_a_formula_survives_the_round_trip(rows: Rows, tmp_path: Path) -> None:
    evil = '=cmd|"/c calc"!A1;+1,\n@x'
    rows.add("acme", evil, LATER, last_error="-1+1", refreshed_by="'quoted'")
    before = rows.row(evil)
    raw = rows.world.program.run("export", "--format", "csv").out
    for cells in csv.reader(io.StringIO(raw, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert rows.world.program.run("export", "--format", "csv", "--output", str(tmp_path / "x")).code == 0
    [line] = read_export(str(tmp_path / "x"))
    assert line.row is not None
    assert (line.row.location_id, line.row.last_error) == (before.location_id, "-1+1")
    assert line.row.refreshed_by == "'quoted'"


# What is no export


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello\n", b"{", b'{"rows": []}', b'{"format": "token-refresh export", "version": 2, "rows": []}',
        b"locationId;client_id\n", b"\xff\xfe", b'{"a":' * 10**5, b"hush-secret,1,2\n",
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused_without_being_quoted(world: World, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    result = world.program.run("verify", "--file", str(tmp_path / "x"))
    assert result.code == 2
    assert "Name a file that `export` wrote" in result.err
    assert "hush" not in result.said


def test_a_file_that_was_cut_or_edited_is_a_fault(world: World, tmp_path: Path) -> None:
    for location in ("a", "b"):
        SqliteRows(world).add("acme", location, LATER)
    exported(world, "csv", tmp_path / "x")
    whole = (tmp_path / "x").read_text()
    for broken in (whole[:-40], whole.replace('"a"', '"c"', 1), whole + "1,2\n"):
        (tmp_path / "y").write_text(broken)
        assert verified(world, "--file", str(tmp_path / "y"))[0].code == 1, broken


def test_a_file_is_verified_without_any_network(
    airtable_world: World, airtable: AirtableServer, tmp_path: Path
) -> None:
    AirtableRows(airtable_world).add("acme", "a", LATER)
    exported(airtable_world, "csv", tmp_path / "x")
    asked = len(airtable.requests)
    assert verified(airtable_world, "--file", str(tmp_path / "x"))[0].code == 0
    assert len(airtable.requests) == asked


def test_an_export_can_be_verified_from_standard_input(world: World) -> None:
    SqliteRows(world).add("acme", "a", LATER)
    for form in ("csv", "json"):
        text = world.program.run("export", "--format", form).out
        piped: Result = world.program.spawn("verify", "--file", "-", stdin=text)
        assert piped.code == 0, piped.err
