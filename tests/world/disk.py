"""A disk of a test's own, to be filled."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest


def small_disk(place: Path, size: str, end: ExitStack) -> Path:
    """An empty disk of this size at `place`, until `end`; without the right to mount one the test is skipped."""
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    end.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
    return place


def fill(disk: Path) -> None:
    """Leave no room on it."""
    with (disk / "log").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
