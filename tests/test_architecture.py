"""docs/architecture.md names every room and every decision, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "token_refresh"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
# `file.py`, `file.py:Name` and `file.py:Class.method`; a folder ends in a slash.
_SPANS = sorted(set(re.findall(r"`([\w/]+(?:\.py(?::[\w.]+)?|/))`", PAGE)))


def _found(path: str) -> Path | None:
    """The file or folder that is meant: below the package, or below the root of the project."""
    return next((place / path for place in (PACKAGE, ROOT) if (place / path).exists()), None)


def _is_defined(file: Path, name: str) -> bool:
    """Whether the module has this function, class or alias, or this method of a class."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        inner = _inner(body, part)
        if inner is None:
            return False
        body = inner
    return True


def _inner(body: list[ast.stmt], name: str) -> list[ast.stmt] | None:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node.body
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            return []
    return None


@pytest.mark.parametrize("span", _SPANS)
def test_what_the_page_names_exists(span: str) -> None:
    path, _, name = span.partition(":")
    file = _found(path)
    assert file is not None, f"there is no {path}"
    assert not name or _is_defined(file, name), f"{path} has no {name}"


def test_the_page_names_many_modules_and_functions() -> None:
    """Otherwise the test above reads the page wrongly."""
    assert len(_SPANS) > 50
    assert "refresh/exchange.py:exchange" in _SPANS


def test_every_room_is_in_the_table_and_in_the_drawing() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    scripts = {path.name for path in ROOT.glob("*.py")} | {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    table = set(re.findall(r"`([\w./]+)`", "".join(re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE))))
    [drawing] = re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert {f"{room}/" for room in rooms} | scripts | {"providers/"} <= table
    assert {room for room in rooms if not re.search(rf"\b{room}\b", drawing)} == set()


def test_every_decision_is_listed_and_has_a_number_of_its_own() -> None:
    decisions = {path.name for path in (ROOT / "docs/adr").glob("*.md")}
    assert set(re.findall(r"\]\(adr/([^)]+)\)", PAGE)) == decisions
    numbers = [name.partition("-")[0] for name in decisions]
    assert len(set(numbers)) == len(numbers)
