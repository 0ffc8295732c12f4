"""The page that promises names its proofs, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.refresh.nothing_lost.struck import Fate, Point
from tests.refresh.nothing_lost.test_matrix import REFRESH

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/nothing-lost.md").read_text()


def test_every_proof_that_the_page_names_is_a_test() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 30
    assert named - tests == set()


def test_every_point_and_every_fault_is_struck() -> None:
    assert {left.point for left in REFRESH} == set(Point) - {Point.REPLAY}
    assert {fate for left in REFRESH for fate in left.fates} == set(Fate)


def test_the_page_has_a_line_for_each_point_of_the_matrix() -> None:
    [table] = re.findall(r"^\| point .*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    points = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert len([point for point in points if point]) == len(set(Point)) - 1
