"""Plain words: some that readers stumbled over stand on no page, in no message, docstring or comment,
and in no name of a test."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Instead: fix, again, keep, superseded, report, obey, expired, rejects writes, nothing is lost.
NEVER_USED = re.compile(
    r"\b(mend(s|ed|ing)?|anew|aside|told|heed(s|ed|ing)?|out since|takes nothing|made good)\b", re.IGNORECASE
)
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / ".env.example",
]
MODULES = [
    *sorted((ROOT / "token_refresh").rglob("*.py")),
    *sorted((ROOT / "providers").rglob("*.py")),
    *sorted(ROOT.glob("*.py")),
]
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__).resolve()]
# A number with a word that is wrong for one.
COUNT = re.compile(
    r"\{(?!counted)[^{}]*\} (?:[a-z]+ )?"
    r"(?:rows|lines|clients|values|entries|events|cells|others|faults|calls|seconds|need)\b"
)
COUNTED_OTHERWISE = {
    ("token_refresh/base/child.py", "{len(lines)} lines"),  # where there are more than one
    ("token_refresh/transfer/import_plan.py", "{count} rows"),  # the same
    ("token_refresh/library/clients.py", "{MOST_ROWS} rows"),
    ("token_refresh/service/limits.py", "{SLOWEST_SECONDS:.0f} seconds"),
    ("token_refresh/terminal/flags.py", "{SHORTEST_INTERVAL_SECONDS} seconds"),
    ("token_refresh/stores/sealed.py", "{rows} rows"),  # of the whole table; its room has no line to spare
}
# A value in journals that an older version wrote.
DATA = ("UPDATE entries SET step = 'superseded' WHERE step = 'aside'",)


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _found(text: str) -> list[str]:
    return [match[0] for match in NEVER_USED.finditer(text)]


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _texts(source: str) -> Iterator[str]:
    """Every text and comment of a module: messages, help, docstrings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in DATA:
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _in_module(path: Path) -> list[str]:
    return [word for text in _texts(path.read_text(encoding="utf-8")) for word in _found(text)]


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_a_page_uses_plain_words(page: Path) -> None:
    assert _found(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES, ids=_named)
def test_messages_docstrings_and_comments_use_plain_words(module: Path) -> None:
    assert _in_module(module) == []


@pytest.mark.parametrize("module", TESTS, ids=_named)
def test_names_of_tests_and_their_helpers_use_plain_words(module: Path) -> None:
    names = re.findall(r"def (\w+)", module.read_text(encoding="utf-8"))
    assert [name for name in names if _found(_spoken(name))] == []


def test_the_words_are_found_in_prose_messages_and_comments() -> None:
    assert _found("Mend it. It was made good, and kept aside anew.") == ["Mend", "made good", "aside", "anew"]
    assert _found("Recommend the amended, outside, beside") == []
    assert _found("| told | `test_what_is_told` |") == ["told"]
    assert _found(_spoken("test_what_is_told")) == ["told"]
    source = 'def act():\n    """Heeded."""\n    raise E(f"{one} takes nothing")  # nobody is told\n'
    assert [word for text in _texts(source) for word in _found(text)] == ["Heeded", "takes nothing", "told"]


def test_a_number_in_a_message_has_the_word_that_is_right_for_one() -> None:
    """`text.counted`, or the word before the number."""
    found = {(_named(path), match[0]) for path in MODULES for match in COUNT.finditer(path.read_text(encoding="utf-8"))}
    assert found - COUNTED_OTHERWISE == set()
