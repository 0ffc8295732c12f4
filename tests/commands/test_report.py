"""`report`: a private file of the table as it is, whole or not there."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from tests.conftest import World
from token_refresh.base.program import install_extra


@pytest.fixture
def filled(world: World) -> World:
    """Two clients that were refreshed."""
    lines = [world.csv_line("google", "bakery"), world.csv_line("gohighlevel", "gym")]
    assert world.program.onboard("--no-check", "--from-csv", world.program.csv(*lines)).code == 0
    assert world.program.run("--all").code == 0
    return world


def test_the_report_holds_every_client_and_what_the_runs_did_and_only_its_owner_reads_it(
    filled: World, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text("an older report")
    file.chmod(0o644)
    result = filled.program.run("report", "--output", str(file))
    assert (result.code, result.out) == (0, ""), result.err
    page = file.read_text()
    assert "bakery" in page
    assert "gym" in page
    assert "4 worked, 0 failed" in page  # each was onboarded, then refreshed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".report")]


def test_no_token_and_no_secret_is_in_the_report(filled: World, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert filled.program.run("report", "--output", str(file)).code == 0
    page = file.read_text()
    assert not [secret for secret in filled.program.planted() if secret in page]
    assert "sealed:v1" not in page


def test_with_json_the_file_and_the_number_of_rows_are_said(filled: World, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = filled.program.run("report", "--output", str(file), "--json")
    assert result.json() == {"file": str(file), "rows": 2}


def test_a_report_of_an_empty_table_is_whole(world: World, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert world.program.run("report", "--output", str(file)).code == 0
    assert file.read_text().rstrip().endswith("</html>")


def test_where_jinja2_is_missing_the_command_that_installs_it_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.startswith("token_refresh.service")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = world.program.run("report", "--output", str(tmp_path / "report.html"))
    assert result.code == 2
    assert "the report needs Jinja2" in result.err
    assert install_extra("service") in result.err
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_others_can_write_in_is_refused_and_the_old_file_stays(filled: World, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "report.html").write_text("old")
    result = filled.program.run("report", "--output", str(folder / "report.html"))
    assert result.code == 2
    assert (folder / "report.html").read_text() == "old"
