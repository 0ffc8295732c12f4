"""The breaks of `make mutants` still fit the code, so that none of them tests nothing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, Edit, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.step)
def test_a_break_applies_and_its_tests_exist(mutant: Mutant, tmp_path: Path) -> None:
    for edit in mutant.edits:
        broken = edit.applied(ROOT)
        ast.parse(broken)
        assert broken != (ROOT / edit.file).read_text()
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"(?m)^def {name}\b" if name else "(?m)^def test_", (ROOT / file).read_text()), test


@pytest.mark.parametrize("text", ["", "old", "old old"])
def test_a_break_that_does_not_fit_exactly_once_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    edit = Edit("file", "old", "new")
    if text == "old":
        assert edit.applied(tmp_path) == "new"
        return
    with pytest.raises(ValueError, match=r"file has [02] times"):
        edit.applied(tmp_path)
