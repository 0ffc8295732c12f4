"""The exit codes that the docs promise, as tests name them; written out here, so that the program cannot move them."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
STORE = 3
STOPPED = 4
BUSY = 75
