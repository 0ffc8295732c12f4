"""What the library tells the log of the program that it is part of."""

from __future__ import annotations

import contextlib
import logging
import sys

from token_refresh.base.events import FAILURES, AnswerNotSaved, Event, Notice, RowFinished, RowWaiting
from token_refresh.base.text import one_line, sentences

LOG = logging.getLogger("token_refresh")


def log_event(event: Event) -> None:
    """The subscriber that is the library's log."""
    if isinstance(event, RowFinished):
        level = logging.WARNING if event.outcome in FAILURES and event.is_news else logging.INFO
        words = [word for word in (event.error, event.action) if word]
        LOG.log(level, "%s %s: %s", event.location_id, event.provider, ". ".join([str(event.outcome), *words]))
    elif isinstance(event, RowWaiting):
        level = logging.INFO if event.is_brief else logging.WARNING
        LOG.log(level, "%s %s: not tried, %s", event.location_id, event.provider, event.reason)
    elif isinstance(event, Notice):
        LOG.warning("%s", sentences(str(event), event.action))


def log_warning(what: str, action: str) -> None:
    LOG.warning("%s", sentences(what, action))


def log_outage(what: str, what_follows: str) -> None:
    """The store is being waited for."""
    LOG.warning("%s. %s", what, what_follows)


def log_not_saved(answer: AnswerNotSaved) -> None:
    """An answer that neither journal nor store took, in the log; where no file holds it, on stderr, too.

    A log can be switched off, and either may be on a full disk. Stdout is the program's own.
    """
    line = one_line(sentences(str(answer), answer.action))
    with contextlib.suppress(Exception):
        LOG.critical("%s", line)
    with contextlib.suppress(Exception):
        if answer.file is None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
