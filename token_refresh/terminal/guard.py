"""How a program ends: every error is reported and becomes an exit code, none a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from token_refresh.base.errors import Kind, actionable_error, exit_code
from token_refresh.settings import SettingsError
from token_refresh.terminal import process
from token_refresh.terminal.console import Console, to_stderr
from token_refresh.terminal.flags import UsageError


def guarded(console: Console, act: Callable[[], Iterable[Kind]]) -> int:
    """Run `act` and return the exit code of the failures that it met."""
    return exit_code(reported(console, act))


def reported(console: Console, act: Callable[[], Iterable[Kind]]) -> Iterable[Kind]:
    """Run `act` and return which failures it met; an error that ends it is reported, never raised as a traceback.

    A provider's answer that could not be saved is a failure of the journal's disk, whatever else went well.
    """
    kinds = _reported(console, act)
    return {*kinds, Kind.CONFIGURATION} if console.end_not_saved() else kinds


def _reported(console: Console, act: Callable[[], Iterable[Kind]]) -> Iterable[Kind]:
    try:
        return act()
    except BrokenPipeError:
        process.silence(sys.stdout)
        return (Kind.STOPPED,)
    except (Exception, KeyboardInterrupt) as error:
        problem = actionable_error(error)
        if isinstance(problem, UsageError) and not console.is_for_machines:
            to_stderr(problem.usage)
        if isinstance(problem, SettingsError):
            for sentence in problem.problems:
                console.error(sentence, code=problem.kind)
        else:
            console.error(str(problem), problem.action, code=problem.kind)
        console.error_object(problem)
        return (problem.kind,)
