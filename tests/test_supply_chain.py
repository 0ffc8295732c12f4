"""What is installed is what was locked, byte for byte, under licences that anybody may use."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest

from tests.licences import is_usable, licence_of, unusable

ROOT = Path(__file__).resolve().parents[1]
LOCKS = [
    ROOT / name
    for name in (
        "requirements.txt",
        *(f"requirements/{one}.txt" for one in ("dev", "node", "completion", "postgres", "notify", "service", "bench")),
    )
]
MAKEFILE = (ROOT / "Makefile").read_text()


def wheel(folder: Path, code: str) -> Path:
    """A package of one module, made without any tool; the same code gives the same bytes."""
    files = {
        "little.py": code,
        "little-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n",
        "little-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for name, text in files.items()}
    lines = [f"{name},sha256={digest.decode().rstrip('=')},{len(files[name])}" for name, digest in digests.items()]
    files["little-1.0.dist-info/RECORD"] = "\n".join([*lines, "little-1.0.dist-info/RECORD,,", ""])
    path = folder / "little-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def pip_flags() -> list[str]:
    """How the Makefile installs: the flags between `install` and `--requirement`, the same on every line."""
    [flags] = set(re.findall(r"-m pip install (.*?) --requirement", MAKEFILE))
    return str(flags).split()


def install(lock: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", *pip_flags(), "--requirement", str(lock), "--no-index",
         "--no-cache-dir", "--find-links", str(folder), "--target", str(folder / "installed")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("changed", ["nothing", "the package", "the hash", "no hash"])
def test_only_the_locked_bytes_are_installed(tmp_path: Path, changed: str) -> None:
    """Whoever takes over an index, or the way to it, can serve another file; it is refused before it runs."""
    digest = hashlib.sha256(wheel(tmp_path, "GOOD = True\n").read_bytes()).hexdigest()
    lock = tmp_path / "lock.txt"
    if changed == "the hash":
        digest = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    lock.write_text("little==1.0\n" if changed == "no hash" else f"little==1.0 \\\n    --hash=sha256:{digest}\n")
    if changed == "the package":
        wheel(tmp_path, "GOOD = False\n")
    done = install(lock, tmp_path)
    is_installed = (tmp_path / "installed" / "little.py").exists()
    assert (done.returncode == 0, is_installed) == (changed == "nothing", changed == "nothing"), done.stderr
    if changed != "nothing":
        assert "hash" in done.stderr.lower()


def test_every_way_to_install_is_a_locked_one() -> None:
    lines = [line for path in ("Makefile", "README.md") for line in (ROOT / path).read_text().splitlines()]
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) >= 4
    assert all("--require-hashes" in line for line in installs)
    assert "npm ci" in MAKEFILE


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_file_names_versions_and_hashes_and_no_place(lock: Path) -> None:
    """An index in a lock file would be asked by everybody who installs, whatever they configured."""
    text = lock.read_text()
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text)
    entries = re.findall(r"^\S.*(?:\n[ ]+\S.*)*", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), re.MULTILINE)
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==[^ ]+ \\\n +--hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_locks_agree_on_what_they_share() -> None:
    """What is tested is what runs, and an extra installed beside the core changes nothing of it."""
    core, dev, _, completion, postgres, notify, service, bench = (
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE)) for lock in LOCKS
    )
    assert core
    extras = core | completion | postgres | notify | service
    assert {name: dev.get(name) for name in extras} == extras
    assert {name: version for name, version in bench.items() if dev.get(name, version) != version} == {}


def test_a_package_asks_for_what_is_locked_for_a_clone() -> None:
    """The core alone for the cron job; each extra is a lock of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"core": project["dependencies"], **project["optional-dependencies"]}
    for name, wanted in parts.items():
        lines = (ROOT / f"requirements/{name}.in").read_text().splitlines()
        asked = [line for line in lines if line[0] not in "#-"]
        assert {name_of(one) for one in wanted} == {name_of(one) for one in asked}, name
        assert name == "core" or (ROOT / f"requirements/{name}.txt") in LOCKS
    core = {"cryptography", "pyairtable", "python-dotenv", "requests", "rich", "sqlalchemy"}
    assert {name_of(one) for one in parts["core"]} == core


def name_of(requirement: str) -> str:
    """The package that a line asks for."""
    return re.split(r"[<>=]", requirement)[0].lower()


def test_every_installed_package_has_a_licence_that_can_be_used() -> None:
    assert unusable(distributions()) == []


@pytest.mark.parametrize(
    ("licence", "usable"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("LGPL-3.0-only", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-3.0-only OR MIT", True),
        ("AGPL-3.0-or-later", False),
        ("GNU Affero General Public License v3", False),
        ("GPL-3.0-only", False),
        ("GNU General Public License v2 (GPLv2)", False),
        ("SSPL-1.0", False),
        ("BUSL-1.1", False),
        ("Other/Proprietary License", False),
        ("CC-BY-NC-4.0", False),
        ("", False),
    ],
)
def test_a_licence_is_judged(licence: str, usable: bool) -> None:
    assert is_usable(licence) is usable


def test_a_package_is_asked_for_its_expression_first() -> None:
    class Package(Distribution):
        @property
        def metadata(self) -> Any:
            message = Message()
            message["License-Expression"] = "AGPL-3.0-only"
            message["License"] = "MIT"
            message["Classifier"] = "License :: OSI Approved :: MIT License"
            return message

        def read_text(self, filename: str) -> str | None:
            return None

        def locate_file(self, path: Any) -> Any:
            return path

    assert licence_of(Package()) == "AGPL-3.0-only"


def test_npm_that_fails_is_reported_with_its_reason(tmp_path: Path) -> None:
    oidc = tmp_path / "tests/world/oidc"
    for folder in (oidc, tmp_path / ".venv/bin", tmp_path / "bin"):
        folder.mkdir(parents=True)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (oidc / "package-lock.json").touch()
    (tmp_path / ".venv/bin/python").touch()
    npm = tmp_path / "bin/npm"
    npm.write_text('#!/bin/sh\ncase "$*" in *silent*) ;; *) echo "npm error 404 Not Found" >&2 ;; esac\nexit 1\n')
    npm.chmod(0o755)
    environ = {"PATH": f"{npm.parent}:/usr/bin:/bin"}
    made = subprocess.run(["make", "node"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert "npm error 404 Not Found\nnpm ci failed: " in made.stderr
    assert not (oidc / "node_modules/.package-lock.json").exists()
