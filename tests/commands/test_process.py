"""What a process of ours leaves to be seen: nothing of its memory."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTLED = "from commands import process; process.settle(); "
ASKED = "import ctypes, resource; print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))"
# prctl(2) and its "dumpable" are Linux's own: elsewhere there is nothing to ask, and
# `test_a_crash_leaves_no_core`, which runs everywhere, has to do.
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's own")


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


@ONLY_LINUX
def test_nobody_but_root_may_look_at_the_memory(tmp_path: Path) -> None:
    """A limit of 0 alone still lets the kernel pipe the memory to a crash reporter (core(5))."""
    assert run(ASKED, tmp_path).stdout.startswith("1 ")
    assert run(SETTLED + ASKED, tmp_path).stdout == "0 (0, 0)\n"


@ONLY_LINUX
@pytest.mark.parametrize("script", ["token_manager.py", "onboard_client.py"])
def test_nobody_but_root_may_look_at_the_memory_of_the_programs(script: str, tmp_path: Path) -> None:
    at_its_end = f"import atexit, runpy; atexit.register(exec, {ASKED!r}, {{}}); sys.argv[1:] = ['--help']; "
    ended = run(f"{at_its_end}runpy.run_path({str(ROOT / script)!r}, run_name='__main__')", tmp_path)
    assert ended.stdout.endswith("\n0 (0, 0)\n"), ended.stderr


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    """Where this machine writes none into the working folder, the tests above have to do."""
    crash = "import os; os.abort()"
    run(crash, tmp_path)
    for core in tmp_path.iterdir():
        core.unlink()
    assert run(SETTLED + crash, tmp_path).returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []


def test_where_the_platform_has_no_such_call_the_program_runs_all_the_same(tmp_path: Path) -> None:
    code = "import ctypes; ctypes.CDLL = lambda _: object(); " + SETTLED + "print('runs')"
    assert run(code, tmp_path).stdout == "runs\n"
