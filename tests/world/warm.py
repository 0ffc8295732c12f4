"""The program as a process of its own, without the half second that its imports take: a fork of one that has them.

All that the program can see of how it was started is as `exec` would have made it: arguments, environment, folder,
streams, umask, session and terminal.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REQUEST_BYTES = 100_000


class WarmProcess:
    """What tests use of `subprocess.Popen`, for a fork of the program's warm process.

    Args:
        argv: the script, which lies beside the program's packages, and its arguments.
        environment: all that it inherits.
        folder: where it runs.
        streams: its descriptors 0, 1 and 2.
        terminal: the terminal's name that it opens as the leader of a session of its own, so that it is the
            controlling one; its descriptors are then this one, but for those that `streams` names.

    Attributes:
        pid: of the program itself.
        returncode: as `subprocess.Popen` has it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        streams: Sequence[int | None],
        terminal: str = "",
    ) -> None:
        self.returncode: int | None = None
        self._report, report = os.pipe()
        umask = os.umask(0o077)
        os.umask(umask)
        request = {
            "argv": list(argv),
            "environment": dict(environment),
            "folder": str(folder),
            "umask": umask,
            "terminal": terminal,
            "streams": [number for number, stream in enumerate(streams) if stream is not None],
        }
        given = [report, *(stream for stream in streams if stream is not None)]
        socket.send_fds(_origin(Path(argv[0]).parent), [json.dumps(request).encode()], given)
        os.close(report)
        self.pid = int(self._line())

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.returncode = int(self._line())
            os.close(self._report)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended. Raises `subprocess.TimeoutExpired` after so many seconds."""
        if self.returncode is None and not select.select([self._report], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("the program", timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """See `subprocess.Popen`."""
        self.send_signal(signal.SIGKILL)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self._report, 1)
            assert part, "the warm process ended"
            line += part
        return line


@functools.cache
def _origin(folder: Path) -> socket.socket:
    """The way to the process that has imported this program; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        # Without the folder of this file in the module path: a module of the tests is named as one of the library.
        [sys.executable, "-P", __file__, str(folder)],
        stdin=theirs.fileno(),
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    theirs.close()
    atexit.register(_end, ours, process)
    return ours


def _end(requests: socket.socket, process: subprocess.Popen[bytes]) -> None:
    requests.close()
    process.wait()


def _import_program(folder: str) -> None:
    sys.path.insert(0, folder)
    importlib.import_module("token_manager")
    importlib.import_module("onboard_client")
    for room in ("providers", "token_refresh"):
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            if ".migrations." not in module.name:  # scripts of Alembic's
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # or every collection of a fork would copy what it shares


def _next_child(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request; returns what was asked for, in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 4)
        if not data:
            os._exit(0)
        if not os.fork():
            requests.close()
            report, *streams = descriptors
            _become_child(report)
            request: dict[str, Any] = json.loads(data)
            return request | {"descriptors": streams}
        for descriptor in descriptors:
            os.close(descriptor)


def _become_child(report: int) -> None:
    """Fork once more: the parent, the keeper, tells how the child, in which this returns, ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        os.close(report)
        return
    os.write(report, b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _take_on(request: dict[str, Any]) -> None:
    """Be what was asked for."""
    if request["terminal"]:
        os.setsid()
        terminal = os.open(request["terminal"], os.O_RDWR)
        for number in range(3):
            os.dup2(terminal, number)
        os.close(terminal)
    for number, descriptor in zip(request["streams"], request["descriptors"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = request["argv"]
    _open_streams()


def _open_streams() -> None:
    """As the interpreter does when it starts."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = io.TextIOWrapper(
            open(number, "wb" if number else "rb", closefd=False),  # noqa: SIM115 - a descriptor
            encoding=before.encoding,
            errors=before.errors,
            newline="\n",
            line_buffering=number == 2 or os.isatty(number),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _main() -> None:
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _import_program(sys.argv[1])
    _take_on(_next_child(requests))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
