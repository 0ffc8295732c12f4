"""What libraries log, said by the console: for a program that runs for long, and whose users read one log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from token_refresh.base.errors import actionable_error
from token_refresh.terminal.console import Console


def log_to(console: Console, own: str, others: Iterable[str]) -> None:
    """Have the console say what `own` logs, and of `others` the errors alone.

    Nothing else is said: libraries log requests, headers and bodies.
    """
    logging.disable(logging.NOTSET)  # as `harden_process` left it
    logging.getLogger().handlers = [logging.NullHandler()]
    for name, level in [(own, logging.INFO), *((other, logging.ERROR) for other in others)]:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_ToConsole(console)], False
        logger.setLevel(level)


class _ToConsole(logging.Handler):
    """With secrets masked, and of an exception the type and place alone: its words may quote a request."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        error = record.exc_info[1] if record.exc_info else None
        known = actionable_error(error) if error is not None else None
        say = {logging.ERROR: self._console.error, logging.WARNING: self._console.warn}
        words = (str(known), known.action) if known is not None else (record.getMessage().strip(), "")
        say.get(record.levelno, self._console.info)(*words)
