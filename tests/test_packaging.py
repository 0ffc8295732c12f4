"""Installed like any package, and on the path of a program whose own modules are named like everybody's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import crypto
from tests.world.program import ROOT

pytestmark = pytest.mark.long

SOURCES = ("token_manager.py", "onboard_client.py", "crypto.py", "pyproject.toml", "README.md", "LICENSE")
HOST_PROGRAM = """
import commands, service, settings, stores, tests
from token_manager import TokenManager
from token_refresh import library
import token_refresh

own = [commands.NAME, service.NAME, settings.NAME, stores.NAME, tests.NAME]
assert own == ["commands", "service", "settings", "stores", "tests"]
assert TokenManager is library.TokenManager
with_settings = TokenManager.from_settings()
print(token_refresh.__file__)
print([view.location_id for view in with_settings.list_tokens()])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` puts into an environment, from a clone; its libraries are those of this environment."""
    clone, target = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        shutil.copy2(ROOT / name, clone / name)
    for name in ("token_refresh", "providers"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    made = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(target), str(clone)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return target


def run(words: list[str], folder: Path, path: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process of a user who has nothing but these settings and this folder."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    return subprocess.run(
        words, cwd=folder, env=environ | settings, capture_output=True, text=True, timeout=60, check=False
    )


def command(installed: Path, name: str) -> list[str]:
    """The command that pip made; run by this interpreter, which has the libraries."""
    return [sys.executable, str(installed / "bin" / name)]


def test_an_installed_command_reads_the_settings_of_the_folder_it_is_run_in(installed: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ENCRYPTION_KEY={crypto.generate_key()}\nSTATE_DIR={tmp_path / 'state'}\n")
    (tmp_path / ".env").chmod(0o600)
    result = run([*command(installed, "token-refresh"), "status", "--json"], tmp_path, installed)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rows"] == []
    assert (tmp_path / "state/tokens.sqlite3").exists()


def test_an_installed_command_reads_the_settings_of_the_folder_that_is_named(installed: Path, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / ".env").write_text(f"ENCRYPTION_KEY={crypto.generate_key()}\nSTATE_DIR=kept\n")
    (home / ".env").chmod(0o600)
    words = [*command(installed, "token-refresh"), "status"]
    result = run(words, elsewhere, installed, TOKEN_REFRESH_HOME=str(home))
    assert result.returncode == 0, result.stderr
    assert (home / "kept/tokens.sqlite3").exists()
    assert list(elsewhere.iterdir()) == []


def test_an_installed_command_without_settings_names_the_folder_it_looked_in(installed: Path, tmp_path: Path) -> None:
    result = run(command(installed, "token-refresh"), tmp_path, installed)
    assert result.returncode == 2
    assert f"{tmp_path} has no .env" in result.stderr
    assert "TOKEN_REFRESH_HOME" in result.stderr
    assert "Traceback" not in result.stderr


def test_both_installed_commands_explain_themselves(installed: Path, tmp_path: Path) -> None:
    for name in ("token-refresh", "token-refresh-onboard"):
        result = run([*command(installed, name), "--help"], tmp_path, installed)
        assert (result.returncode, result.stderr) == (0, "")


def test_an_installed_program_knows_every_provider(installed: Path, tmp_path: Path) -> None:
    names = "from providers import Catalog; all = Catalog(); print([all.get(slug).name for slug in all.summaries])"
    here = run([sys.executable, "-c", names], tmp_path, ROOT)
    there = run([sys.executable, "-c", names], tmp_path, installed)
    assert there.stdout == here.stdout
    assert "GoHighLevel" in there.stdout


@pytest.mark.parametrize("where", ["a clone", "an installation"])
def test_a_program_with_modules_of_common_names_uses_the_library(installed: Path, tmp_path: Path, where: str) -> None:
    """Its own `settings`, `commands`, `stores`, `service` and `tests` stay its own."""
    for name in ("commands", "service", "stores", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"NAME = {name!r}\n")
    (tmp_path / "settings.py").write_text("NAME = 'settings'\n")
    (tmp_path / "host.py").write_text(HOST_PROGRAM)
    path = ROOT if where == "a clone" else installed
    settings = {"ENCRYPTION_KEY": crypto.generate_key(), "STATE_DIR": str(tmp_path / "state")}
    result = run([sys.executable, "host.py"], tmp_path, path, **settings)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [str(path / "token_refresh/__init__.py"), "[]"]
