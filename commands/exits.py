"""Exit codes, and the one place where an error becomes one. Where several apply, the first in this order wins."""

from __future__ import annotations

USAGE = 2  # usage or configuration
BUSY = 75  # another run is active (sysexits' EX_TEMPFAIL)
STORE = 3  # the store cannot be reached
STOPPED = 4  # stopped before the end
FAILED = 1  # a tried row ended badly
DONE = 0


class CommandError(Exception):
    """A command cannot go on.

    Attributes:
        action: the mend, as a sentence.
        exit_code: what the process ends with.
    """

    def __init__(self, message: str, action: str, exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.action = action
        self.exit_code = exit_code
