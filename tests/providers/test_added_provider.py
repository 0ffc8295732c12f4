"""Whoever adds a provider as its page says writes two files, and every test of a provider passes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import blocks
from tests.world.program import ROOT

SLUG = "example-crm"
OF_PROVIDERS = ("tests/providers", "tests/world_tests/test_oauth_answers.py", "tests/commands/test_providers.py")
LEFT_OUT = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "state")


@pytest.mark.long
def test_the_two_files_of_the_page_are_all_that_a_provider_needs(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    data, answers = blocks(ROOT / "docs/add-a-provider.md", "toml")
    (copy / f"providers/catalog/{SLUG}.toml").write_text(data)
    (copy / f"tests/providers/answers/{SLUG}.toml").write_text(answers)
    subprocess.run([sys.executable, "-m", "docs.generate"], cwd=copy, check=True)
    tests = [sys.executable, "-m", "pytest", "-q", *OF_PROVIDERS, "-k", SLUG]
    ended = subprocess.run(tests, cwd=copy, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "failed" not in ended.stdout.splitlines()[-1]
