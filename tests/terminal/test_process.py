"""What a process of ours leaves to be seen, nothing of its memory; and what it takes: one processor core."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import World
from tests.world.oauth import faults
from token_refresh.terminal.process import on_one_core

ROOT = Path(__file__).resolve().parents[2]
SETTLED = "from token_refresh.terminal import process; process.harden_process(); "
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


A_COMMAND = (
    "from token_refresh.commands import started; "
    "started([], None, lambda given, _: print('DISABLE_PLUGINS' in str(given)) or ()); "
)
THE_SERVICE = (
    "import os; from token_refresh.service import __main__ as service; os._exit = lambda _: None; "
    "service.serve = lambda _, given, console: print('DISABLE_PLUGINS' in str(given)) or (); service.command(); "
)


@pytest.mark.by_turns("begins", "said")
@pytest.mark.parametrize(
    ("begins", "said"),
    [
        pytest.param("", "loaded\n", id="a program of somebody's"),
        pytest.param(A_COMMAND, "False\n", id="a command"),
        pytest.param(THE_SERVICE, "False\n", id="the service"),
    ],
)
def test_no_plugin_is_shown_what_pydantic_checks_and_no_child_hears_of_that(
    begins: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)  # commands that tests ran in this process set it
    (tmp_path / "spy.py").write_text("print('loaded')")
    (tmp_path / "spy-1.0.dist-info").mkdir()
    (tmp_path / "spy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 1.0\n")
    (tmp_path / "spy-1.0.dist-info" / "entry_points.txt").write_text("[pydantic]\nspy = spy\n")
    ended = run(f"sys.path.append({str(tmp_path)!r}); {begins}import pyairtable", tmp_path)
    assert ended.stdout == said, ended.stderr


def test_garbage_is_looked_for_less_often_than_python_does_by_itself(tmp_path: Path) -> None:
    code = "import gc; from token_refresh.terminal import process; process.collect_seldom(); print(gc.get_threshold())"
    assert run(code, tmp_path).stdout.startswith("(100000, ")


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


# To keep threads on a core is a call of Linux and FreeBSD alone; elsewhere there is none to look at. That a run does
# without it is shown everywhere, by `test_nor_a_system_that_knows_of_it`.
ONLY_CORES = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no other system keeps threads on a core")


@ONLY_CORES
@pytest.mark.usefixtures("all_cores")
def test_a_run_keeps_its_threads_on_one_core_and_gives_the_others_back(world: World) -> None:
    for location in ("one", "two"):
        line = world.csv_line("acme", location)
        assert world.program.onboard("--no-check", "--from-csv", world.program.csv(line)).code == 0
    seen: list[set[int]] = []
    others = set(threading.enumerate())

    def look(_: object) -> bool:
        new = set(threading.enumerate()) - others
        ours = [thread.native_id for thread in new if thread.name.endswith("(_serve)")]
        seen.extend(os.sched_getaffinity(number) for number in ours if number is not None)
        return False

    world.oauth.fail(faults.status(500), when=look)
    before = os.sched_getaffinity(0)
    assert world.program.run("refresh").code == 0
    assert seen
    assert all(cores == seen[0] for cores in seen)
    assert len(seen[0]) == 1
    assert os.sched_getaffinity(0) == before


@ONLY_CORES
@pytest.mark.parametrize(
    ("name", "error"),
    [("sched_getaffinity", OSError), ("sched_setaffinity", OSError), ("sched_setaffinity", ValueError)],
)
def test_a_run_needs_no_leave_for_that(
    name: str, error: type[Exception], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, name, refuse)
    assert world.program.run("refresh").code == 0


def test_nor_a_system_that_knows_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert world.program.run("refresh").code == 0


def test_nor_a_c_library_that_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_refresh.terminal.process.ctypes.CDLL", lambda _: object())
    assert world.program.run("refresh").code == 0


@ONLY_CORES
@pytest.mark.usefixtures("all_cores")
def test_without_the_interpreter_lock_threads_may_use_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    before = os.sched_getaffinity(0)
    with on_one_core():
        assert os.sched_getaffinity(0) == before
