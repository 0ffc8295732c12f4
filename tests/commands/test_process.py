"""What a process of ours leaves to be seen: nothing of its memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTLED = "from commands import process; process.settle(); "
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process that may leave a core as large as it likes."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")
def test_nobody_but_root_may_look_at_the_memory(tmp_path: Path) -> None:
    """A limit of 0 alone still lets the kernel pipe the memory to a crash reporter (core(5))."""
    asked = "import ctypes, resource; print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))"
    assert run(asked, tmp_path).stdout.startswith("1 ")
    assert run(SETTLED + asked, tmp_path).stdout == "0 (0, 0)\n"


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    crash = "import os; os.abort()"
    if run(crash, tmp_path).returncode != -6 or not list(tmp_path.iterdir()):
        pytest.skip("this machine writes no core into the working folder")
    for core in tmp_path.iterdir():
        core.unlink()
    assert run(SETTLED + crash, tmp_path).returncode == -6
    assert list(tmp_path.iterdir()) == []


def test_where_the_platform_has_no_such_call_the_program_runs_all_the_same(tmp_path: Path) -> None:
    code = "import ctypes; ctypes.CDLL = lambda _: object(); " + SETTLED + "print('runs')"
    assert run(code, tmp_path).stdout == "runs\n"
