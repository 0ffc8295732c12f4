"""What a shell sources to complete a command: verbs, flags, their choices, providers, and where a file is named."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from providers.registry import Catalog
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import install_extra

_PROVIDER, _FILE = ("P", "PROVIDER"), "FILE"  # how flags call what is given to them


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for this shell, `bash` or `zsh`, under the parser's name. It changes the parser, which is used up.

    Raises:
        ActionableError: shtab is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError:
        raise ActionableError("completion needs shtab", install_extra("completion"), Kind.CONFIGURATION) from None
    providers = list(Catalog().summaries)
    for action in _actions(parser):
        if action.metavar in _PROVIDER:
            action.choices = providers
        elif action.metavar == _FILE:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every flag and argument of the parser and of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)
