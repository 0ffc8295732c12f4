"""What the system refuses to any user but root, who may do everything: shown also where root runs the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

NOBODY = 65534
FIRST_USER, USERS = 70_000, 1_000_000


def unprivileged(act: Callable[[Path], None]) -> None:
    """Do `act` in a child process that is not root's, in an empty folder of that user's.

    What it needs must have been imported: the child may not be able to read the program.

    Raises:
        AssertionError: `act` raised something; with the child's traceback.
    """
    home = Path(tempfile.mkdtemp(prefix="unprivileged-"))  # pytest's own folders are closed to all others
    read, write = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: those of servers, which it never asks
            child = os.fork()
        if not child:
            _live(act, home, write)
        os.close(write)
        with open(read) as told:  # noqa: PTH123 - a descriptor
            raised = told.read()
        _, status = os.waitpid(child, 0)
    finally:
        shutil.rmtree(home)
    assert (status, raised) == (0, ""), raised


def _live(act: Callable[[Path], None], home: Path, write: int) -> NoReturn:
    try:
        if os.geteuid() == 0:
            user = FIRST_USER + os.getpid() % USERS  # nobody else's: what others run does not count against its limits
            os.chown(home, user, user)
            os.setgroups([])
            os.setresgid(user, user, 0)
            os.setresuid(user, user, 0)  # root in reserve, for the end
        act(home)
    except BaseException:  # pytest's own failures are no `Exception`
        os.write(write, traceback.format_exc().encode())
    os.seteuid(os.getresuid()[2])  # what the child ran is counted where only root may write
    os._exit(0)
