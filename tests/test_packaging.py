"""Installed like any package, and on the path of a program whose own modules are named like everybody's."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import crypto
from tests.world.program import ROOT

pytestmark = pytest.mark.long

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


@dataclass(frozen=True)
class Environment:
    """An environment of its own: this program alone, installed; the libraries are those of the tests."""

    folder: Path

    @property
    def python(self) -> str:
        """Its Python."""
        return str(self.folder / "bin/python")

    @property
    def packages(self) -> Path:
        """Where its modules are."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))

    def command(self, name: str) -> list[str]:
        """The command that pip made."""
        return [str(self.folder / "bin" / name)]

    def installed(self) -> set[tuple[str, str]]:
        """Each file of the program with its hash, but for those that say where it came from, or name this folder."""
        [record] = self.packages.glob("token_refresh-*.dist-info/RECORD")
        rows = list(csv.reader(record.read_text().splitlines()))
        here = ("/direct_url.json", "/RECORD", "/bin/token-refresh", "/bin/token-refresh-onboard", "-service")
        return {(name, digest) for name, digest, _ in rows if not name.endswith(here)}


def make_environment(folder: Path, package: Path) -> Environment:
    """A package in an environment that was empty; nothing is asked of an index."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    made = Environment(folder)
    (made.packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", made.python, "install", "--quiet", "--disable-pip-version-check"]
    ended = subprocess.run(
        [*pip, "--no-index", "--no-deps", "--no-build-isolation", str(package)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return made


@dataclass(frozen=True)
class Packages:
    """What `make package` writes to `dist/`."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Built in a clone; its isolation would ask an index."""
    clone = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    ended = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check"],
        cwd=clone, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    [wheel], [sdist] = (clone / "dist").glob("*.whl"), (clone / "dist").glob("*.tar.gz")
    return Packages(wheel, sdist)


@pytest.fixture(scope="module")
def installed(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With the wheel in it."""
    return make_environment(tmp_path_factory.mktemp("of the wheel"), packages.wheel)


def run(words: list[str], folder: Path, path: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process of a user who has nothing but these settings and this folder."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    return subprocess.run(
        words, cwd=folder, env=environ | settings, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_sdist_installs_what_the_wheel_installs(packages: Packages, installed: Environment, tmp_path: Path) -> None:
    assert make_environment(tmp_path / "of the sdist", packages.sdist).installed() == installed.installed()


def test_a_package_holds_the_program_and_its_data_and_nothing_that_only_its_makers_need(packages: Packages) -> None:
    with zipfile.ZipFile(packages.wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0].partition("-")[0] for name in names}
    assert tops == {"token_manager.py", "onboard_client.py", "crypto.py", "token_refresh", "providers"}
    kept = [path.relative_to(ROOT).as_posix() for room in ("token_refresh", "providers") for path in data_of(room)]
    assert len(kept) > 80
    assert set(kept) <= names


def data_of(room: str) -> list[Path]:
    """The catalogue, the pages of the service and the like."""
    files = [path for path in (ROOT / room).rglob("*") if path.is_file() and path.suffix not in (".pyc", ".py")]
    return [path for path in files if "__pycache__" not in path.parts]


def test_an_sdist_has_the_documentation_and_what_its_own_wheel_is_made_of(packages: Packages) -> None:
    with tarfile.open(packages.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", ".env.example", "docs/commands.md", "requirements/core.in", "deploy/alerts.yaml"} <= names
    assert "share/man/man1/token-refresh.1" in names
    assert not any(name.startswith("tests") for name in names)


def test_a_package_brings_manual_pages_and_completion(installed: Environment) -> None:
    share = installed.folder / "share"
    for name in ("token-refresh", "token-refresh-onboard"):
        assert f".TH {name.upper()} 1" in (share / f"man/man1/{name}.1").read_text()
        assert "complete -" in (share / f"bash-completion/completions/{name}").read_text()
        assert (share / f"zsh/site-functions/_{name}").read_text().startswith(f"#compdef {name}\n")


def test_an_installed_command_reads_the_settings_of_the_folder_it_is_run_in(
    installed: Environment, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"ENCRYPTION_KEY={crypto.generate_key()}\nSTATE_DIR={tmp_path / 'state'}\n")
    (tmp_path / ".env").chmod(0o600)
    result = run([*installed.command("token-refresh"), "status", "--json"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rows"] == []
    assert (tmp_path / "state/tokens.sqlite3").exists()


def test_an_installed_command_reads_the_settings_of_the_folder_that_is_named(
    installed: Environment, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / ".env").write_text(f"ENCRYPTION_KEY={crypto.generate_key()}\nSTATE_DIR=kept\n")
    (home / ".env").chmod(0o600)
    result = run([*installed.command("token-refresh"), "status"], elsewhere, TOKEN_REFRESH_HOME=str(home))
    assert result.returncode == 0, result.stderr
    assert (home / "kept/tokens.sqlite3").exists()
    assert list(elsewhere.iterdir()) == []


def test_an_installed_command_without_settings_names_the_folder_it_looked_in(
    installed: Environment, tmp_path: Path
) -> None:
    result = run(installed.command("token-refresh"), tmp_path)
    assert result.returncode == 2
    assert f"{tmp_path} has no .env" in result.stderr
    assert "TOKEN_REFRESH_HOME" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_installed_service_without_settings_names_what_is_missing(installed: Environment, tmp_path: Path) -> None:
    result = run(installed.command("token-refresh-service"), tmp_path)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert "ENCRYPTION_KEY is not set" in result.stderr


def test_both_installed_commands_explain_themselves(installed: Environment, tmp_path: Path) -> None:
    for name in ("token-refresh", "token-refresh-onboard"):
        result = run([*installed.command(name), "--help"], tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        completion = run([*installed.command(name), "--print-completion", "bash"], tmp_path)
        assert (completion.returncode, completion.stderr) == (0, "")
        assert completion.stdout == (installed.folder / f"share/bash-completion/completions/{name}").read_text()


def test_an_installed_program_knows_every_provider(installed: Environment, tmp_path: Path) -> None:
    names = "from providers import Catalog; all = Catalog(); print([all.get(slug).name for slug in all.summaries])"
    here = run([sys.executable, "-c", names], tmp_path, ROOT)
    there = run([installed.python, "-c", names], tmp_path)
    assert there.stdout == here.stdout
    assert "GoHighLevel" in there.stdout


@pytest.mark.parametrize("where", ["a clone", "an installation"])
def test_a_program_with_modules_of_common_names_uses_the_library(
    installed: Environment, tmp_path: Path, where: str
) -> None:
    """Its own `settings`, `commands`, `stores`, `service` and `tests` stay its own."""
    for name in ("commands", "service", "stores", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"NAME = {name!r}\n")
    (tmp_path / "settings.py").write_text("NAME = 'settings'\n")
    (tmp_path / "host.py").write_text(HOST_PROGRAM)
    path, python = (ROOT, sys.executable) if where == "a clone" else (installed.packages, installed.python)
    settings = {"ENCRYPTION_KEY": crypto.generate_key(), "STATE_DIR": str(tmp_path / "state")}
    result = run([python, "host.py"], tmp_path, path, **settings)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [str(path / "token_refresh/__init__.py"), "[]"]
