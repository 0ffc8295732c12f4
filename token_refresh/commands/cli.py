"""The command line: which verb, with which flags; settings, lock and state before anything heavy is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from token_refresh import settings
from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import Kind, actionable_error, exit_code
from token_refresh.settings import SettingsError
from token_refresh.terminal import process
from token_refresh.terminal.console import Talk
from token_refresh.terminal.flags import Parser, interval, seconds
from token_refresh.transfer.layouts import LAYOUTS

VERSION = "0.1.0"

_VERBS = {
    "refresh": "refresh what is due (what cron runs; the default)",
    "status": "show every row and when its access token ends",
    "get": "print one location's access token, refreshed where needed",
    "revoke": "end a client's grant at its provider, and take its secrets out of the table",
    "recover": "list what the journal holds, and store what can be stored",
    "verify": "open every sealed cell, and say which do not open",
    "export": "write all rows, sealed as they are, for a backup",
    "import": "put an export, or an earlier program's rows, into the table; shows first what it would do",
    "rebind": "seal a row's cells for its new host or location id",
    "rotate-key": "re-encrypt all rows with the new key, ENCRYPTION_KEY",
    "setup": "make the table, or the columns that it lacks",
    "doctor": "check the set-up and say how to fix it",
    "generate-key": "print a new encryption key",
}

_MODULES = {"import": "import_rows"}  # a word of the language cannot name a module


def main(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> int:
    """Run one command and return its exit code. Never raises for anything but a second interrupt.

    Args:
        argv: without the program's name.
        environ: the environment.
        clock: the time.
    """
    process.settle()
    arguments = _parse(argv)
    talk = Talk(as_json=arguments.json)
    given = settings.strip_secrets(os.environ) if environ is None else environ

    def act() -> Iterable[Kind]:
        name = _MODULES.get(arguments.verb, arguments.verb.replace("-", "_"))
        module = importlib.import_module(f"token_refresh.commands.{name}")
        kinds: Iterable[Kind] = module.run(arguments, given, clock or SystemClock(), talk)
        return kinds

    return guarded(talk, act)


def guarded(talk: Talk, act: Callable[[], Iterable[Kind]]) -> int:
    """Run `act` and return the exit code of the failures that it met."""
    return exit_code(reported(talk, act))


def reported(talk: Talk, act: Callable[[], Iterable[Kind]]) -> Iterable[Kind]:
    """Run `act` and return which failures it met; an error that ends it is reported, never raised as a traceback.

    A provider's answer that could not be saved is a failure of the journal's disk, whatever else went well.
    """
    kinds = _reported(talk, act)
    return {*kinds, Kind.CONFIGURATION} if talk.end_not_saved() else kinds


def _reported(talk: Talk, act: Callable[[], Iterable[Kind]]) -> Iterable[Kind]:
    try:
        return act()
    except BrokenPipeError:
        process.silence(sys.stdout)
        return (Kind.STOPPED,)
    except (Exception, KeyboardInterrupt) as error:
        problem = actionable_error(error)
        if isinstance(problem, SettingsError):
            for sentence in problem.problems:
                talk.error(sentence, code=problem.kind)
        else:
            talk.error(str(problem), problem.action, code=problem.kind)
        talk.error_object(problem)
        return (problem.kind,)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    words = list(argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "refresh")
    # Most of what a run costs that finds another one active would be the flags of the verbs that it was not given.
    return _parser([words[0]] if words[0] in _VERBS else list(_VERBS)).parse(words)


def _parser(names: Iterable[str]) -> Parser:
    parser = Parser(prog="token_manager.py", description="Keep every client's OAuth access token fresh.")
    parser.add_argument("--version", action="version", version=f"token-refresh {VERSION}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in names:
        verb = verbs.add_parser(name, help=_VERBS[name], description=_VERBS[name])
        verb.add_argument("--json", action="store_true", help="one JSON object on stdout")
        add_flags = _FLAGS.get(name)
        if add_flags is not None:
            add_flags(verb)
    return parser


def _add_recover_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replay", action="store_true", help="store what waits for the table, and refresh nothing")
    parser.add_argument("--cell", metavar="FILE", help="take a sealed answer that was printed; -: standard input")
    parser.add_argument("--forget", type=int, metavar="ENTRY", help="delete an entry that is kept aside")
    parser.add_argument("--yes", action="store_true", help="agree to --forget")


def _add_export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("csv", "json"), default="json", help="json, or csv for spreadsheets")
    parser.add_argument("--output", default="-", metavar="FILE", help="a new or an older export; - is standard output")


def _add_import_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="an export (- for standard input), or what --layout reads")
    parser.epilog = "Layouts: " + "; ".join(f"{name}: {what}" for name, what in LAYOUTS.items())
    parser.add_argument("--layout", choices=LAYOUTS, metavar="NAME", help="of what an earlier program kept; see below")
    parser.add_argument("--redirect-uri", default="", metavar="URI", help="of the logins, where the source lacks it")
    _add_allow_host(parser)
    parser.add_argument("--yes", action="store_true", help="do it, without asking")
    parser.add_argument("--replace", action="store_true", help="overwrite rows that differ, even newer ones")


def _add_rebind_flags(parser: argparse.ArgumentParser) -> None:
    _add_row(parser, "as the row has it now")
    parser.add_argument("--was-location", metavar="ID", help="the location id that the cells were sealed for")
    parser.add_argument("--was-origin", metavar="ORIGIN", help="the token host that they were sealed for: https://host")
    parser.add_argument("--yes", action="store_true", help="do it, without asking")
    _add_allow_host(parser)


def _add_allow_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a token host (host:port where the port is not 443) that a row may name itself",
    )


def _add_refresh_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also what is not due")
    parser.add_argument("--location", action="append", default=[], metavar="ID", help="only this one; may be repeated")
    parser.add_argument("--provider", metavar="P", help="only this provider's rows")
    parser.add_argument("--dry-run", action="store_true", help="show what would be refreshed; call and write nothing")
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="start nothing new after so many seconds")
    parser.add_argument("--jitter", type=seconds, default=0, metavar="S", help="first wait a random time up to this")
    parser.add_argument(
        "--every", type=interval, metavar="S", help="go on, round after round, one every S seconds (10 or more)"
    )
    parser.add_argument("--takeover", action="store_true", help="go on although another host refreshed this table")


def _add_status_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="exit 1 if a token is expired, failing or needs a login")


def _add_verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", metavar="FILE", help="look at an export (- for standard input) instead")


def _add_doctor_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--online", action="store_true", help="also ask providers about each token")


def _add_get_flags(parser: argparse.ArgumentParser) -> None:
    _add_row(parser)
    parser.add_argument(
        "--min-valid", type=seconds, default=300, metavar="S", help="seconds the token must still live (300)"
    )


def _add_revoke_flags(parser: argparse.ArgumentParser) -> None:
    _add_row(parser)
    parser.add_argument("--yes", action="store_true", help="do it, without asking")


def _add_row(parser: argparse.ArgumentParser, as_it_is: str | None = None) -> None:
    parser.add_argument("location", metavar="LOCATION", help=as_it_is)
    parser.add_argument("--provider", metavar="P", help="which, where a location has several")


_FLAGS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "refresh": _add_refresh_flags,
    "status": _add_status_flags,
    "get": _add_get_flags,
    "revoke": _add_revoke_flags,
    "recover": _add_recover_flags,
    "verify": _add_verify_flags,
    "export": _add_export_flags,
    "import": _add_import_flags,
    "rebind": _add_rebind_flags,
    "rotate-key": _add_allow_host,
    "doctor": _add_doctor_flags,
}
