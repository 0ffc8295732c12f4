"""How the program is called here, and what each Python says that cannot run it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import crypto
from tests.world.program import ROOT, copy_program
from token_refresh.base.errors import Kind, actionable_error
from token_refresh.base.program import Starting

SCRIPTS = ("token_manager.py", "onboard_client.py")
READ_BY_ALL = (*SCRIPTS, *(f"token_refresh/{name}.py" for name in ("__init__", "base/__init__", "base/program")))
PYTHONS = [Path("/usr/bin"), *Path.home().glob(".pyenv/versions/*/bin")]
EARLIER = [python for folder in PYTHONS for minor in range(6, 11) if (python := folder / f"python3.{minor}").exists()]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the program in a folder whose name a shell would divide."""
    copy_program(tmp_path / "a clone")
    return tmp_path / "a clone"


def own_python(clone: Path) -> None:
    """What README.md makes in a clone: a Python with all packages."""
    (clone / ".venv").symlink_to(sys.prefix)


def run(words: list[str], folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return subprocess.run(
        words, cwd=folder, env=environ | settings, capture_output=True, text=True, timeout=60, check=False
    )


def earlier(words: list[str], folder: Path, version: str = "(3, 10, 13)") -> subprocess.CompletedProcess[str]:
    """The script as this Python runs it when it takes itself for that version."""
    code = f"import sys, runpy; sys.version_info = {version}; sys.argv = sys.argv[1:]; sys.path.insert(0, '')"
    return run([sys.executable, "-c", f"{code}; runpy.run_path(sys.argv[0], run_name='__main__')", *words], folder)


def sentence(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that it said."""
    assert ended.returncode == 2, ended.stderr
    assert re.fullmatch(r"error: [^\n]+\n", ended.stderr), ended.stderr
    return ended.stderr


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ctrl_c_while_the_program_is_still_imported_ends_it_as_later(
    clone: Path, script: str, flags: list[str]
) -> None:
    file = clone / "token_refresh/terminal/guard.py"
    file.write_text("raise KeyboardInterrupt\n")
    ended = run([sys.executable, script, *flags], clone)
    assert (ended.returncode, ended.stderr) == (4, f"error: {actionable_error(KeyboardInterrupt())}\n")
    code = {"code": Kind.STOPPED, "message": str(actionable_error(KeyboardInterrupt())), "action": ""}
    assert not flags or json.loads(ended.stdout) == {"error": code}


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_before_errors_are_caught_ends_the_program_as_later(clone: Path, script: str) -> None:
    process = clone / "token_refresh/terminal/process.py"
    process.write_text(process.read_text().replace("    os.umask(0o077)\n", "    raise KeyboardInterrupt\n"))
    ended = run([sys.executable, script], clone)
    assert (ended.returncode, ended.stderr) == (4, f"error: {actionable_error(KeyboardInterrupt())}\n")


def test_a_program_that_imports_the_library_gets_the_interrupt_itself(clone: Path) -> None:
    (clone / "token_refresh/library/__init__.py").write_text("raise KeyboardInterrupt\n")
    ended = run([sys.executable, "-c", "import token_manager"], clone)
    assert ended.stderr.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("name", READ_BY_ALL)
def test_what_explains_a_wrong_python_can_be_read_by_it(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(), feature_version=(3, 6))
    futures = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert futures == []


@pytest.mark.by_turns("script")
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("python", EARLIER, ids=lambda python: python.name)
def test_each_python_that_is_too_old_says_so_in_a_sentence(clone: Path, python: Path, script: str) -> None:
    said = sentence(run([str(python), script, "status"], clone))
    assert said.startswith(f"error: Python 3.11 or newer is needed, and {python} is 3.")
    assert "Install Python 3.11 or newer, then: python3.11 -m venv --clear .venv && .venv/bin/python -m pip " in said
    own_python(clone)
    assert sentence(run([str(python), script, "status"], clone)).endswith(". Use .venv/bin/python instead.\n")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_that_is_too_old_is_no_traceback(clone: Path, script: str) -> None:
    assert f"{sys.executable} is 3.10.13. Install Python 3.11 or newer, then: " in sentence(earlier([script], clone))
    own_python(clone)
    assert sentence(earlier([script], clone)).endswith(". Use .venv/bin/python instead.\n")


def test_with_json_the_wrong_python_is_an_object_too(clone: Path) -> None:
    ended = earlier(["token_manager.py", "status", "--json"], clone)
    sentence(ended)
    error = json.loads(ended.stdout)["error"]
    assert (error["code"], error.keys()) == ("configuration", {"code", "message", "action"})


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_without_the_packages_names_the_one_that_has_them(clone: Path, script: str) -> None:
    own_python(clone)
    settings = {"ENCRYPTION_KEY": crypto.generate_key(), "STATE_DIR": str(clone.parent / "state")}
    ended = run([str(Path(sys.executable).resolve()), "-S", script], clone, **settings)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert re.search(r"python\S* lacks the package \w+\. Use \.venv/bin/python instead\.$", ended.stderr)


def test_a_program_that_imports_it_gets_the_sentence_as_an_import_error(clone: Path) -> None:
    caught = "try: import token_manager\nexcept ImportError as error: print(error)"
    code = f"import sys; sys.version_info = (3, 10, 13)\n{caught}"
    assert "Python 3.11 or newer is needed" in run([sys.executable, "-c", code], clone).stdout


def test_a_program_that_imports_it_without_a_package_gets_the_sentence_too() -> None:
    with pytest.raises(ImportError, match="lacks the package no_such_package"), Starting(is_script=False):
        importlib.import_module("no_such_package.part")


def test_where_pip_installed_it_for_a_python_that_is_too_old_it_is_to_be_installed_again(tmp_path: Path) -> None:
    packages = tmp_path / "lib/site-packages"
    packages.parent.mkdir()
    copy_program(packages)
    code = "import sys; sys.version_info = (3, 10, 13); import token_manager"
    ended = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(packages))
    assert ended.stderr.endswith("is 3.10.13. Install token-refresh again, by a Python that is new enough.\n")


def test_where_pip_installed_it_an_optional_part_is_added_by_its_name(tmp_path: Path) -> None:
    packages = tmp_path / "lib/site-packages"
    packages.parent.mkdir()
    copy_program(packages)
    code = "from token_refresh.base.program import install_extra; print(install_extra('notify'))"
    ended = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(packages))
    assert ended.stdout == f"Run: {sys.executable} -m pip install 'token-refresh[notify]'\n"


def test_where_there_is_no_pip_an_optional_part_is_added_by_uv_which_installed_it(tmp_path: Path) -> None:
    packages = tmp_path / "lib/site-packages"
    packages.parent.mkdir()
    copy_program(packages)
    without = "import importlib.util; importlib.util.find_spec = {}.get; "
    code = f"{without}from token_refresh.base.program import install_extra; print(install_extra('notify'))"
    ended = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(packages))
    assert ended.stdout == f"Run: uv pip install --python {sys.executable} 'token-refresh[notify]'\n"


def test_a_package_that_is_missing_later_is_no_internal_error() -> None:
    error = actionable_error(ModuleNotFoundError("No module named 'requests.auth'", name="requests.auth"))
    assert (error.kind, str(error)) == (Kind.CONFIGURATION, f"{sys.executable} lacks the package requests")
    error = actionable_error(ImportError("cannot import name 'select' from 'sqlalchemy'", name="sqlalchemy"))
    assert str(error) == f"{sys.executable} has an unfit version of the package sqlalchemy"


@pytest.mark.long
@pytest.mark.by_turns("folder")
@pytest.mark.parametrize("folder", ["a clone", ".", "elsewhere"])
def test_the_command_that_a_message_names_works_in_the_folder_it_was_said_in(clone: Path, folder: str) -> None:
    own_python(clone)
    place = clone.parent / folder
    place.mkdir(exist_ok=True)
    ended = run([str(clone / ".venv/bin/python"), str(clone / "token_manager.py"), "status"], place)
    [command] = re.findall(r"make one with `(.+?)`", ended.stderr)
    assert (command == ".venv/bin/python token_manager.py generate-key") is (folder == "a clone")
    made = run(["/bin/sh", "-c", command], place)
    assert (made.returncode, len(made.stdout.strip())) == (0, 44)


def test_what_pip_installed_is_called_by_its_own_name(tmp_path: Path) -> None:
    packages, commands = tmp_path / "lib/site-packages", tmp_path / "bin"
    packages.parent.mkdir()
    copy_program(packages)
    commands.mkdir()
    script = commands / "token-refresh"
    script.write_text("from token_manager import command\ncommand()\n")
    said = [
        run([sys.executable, str(script)], tmp_path, PYTHONPATH=str(packages), PATH=path).stderr
        for path in ("/usr/bin", f"{commands}:/usr/bin")
    ]
    assert "make one with `bin/token-refresh generate-key`" in said[0]
    assert "make one with `token-refresh generate-key`" in said[1]


def test_no_message_names_a_command_that_is_right_only_elsewhere() -> None:
    literal = re.compile(r"python3? (token_manager|onboard_client)")
    files = [path for folder in ("token_refresh", "providers") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if literal.search(path.read_text())] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_the_docs_call_it_as_the_readme_installs_it(page: Path) -> None:
    assert re.findall(r"(?<!bin/)python3? (?:token_manager|onboard_client)\.py.*", page.read_text()) == []
