"""Flags as both scripts read them: exact names, and errors that quote nothing that may be secret."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from token_refresh.base.clock import SHORTEST_INTERVAL_SECONDS
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.base.text import trimmed

_OF_LOGIN = ("provider", "scope", "redirect_uri", "no_browser", "device")
_CONTRADICTIONS = (
    ("locations", "authorize"),
    ("locations", "from_csv"),
    ("locations", "replace"),
    ("locations", "no_check"),
    ("all", "location"),
    ("authorize", "from_csv"),
    ("authorize", "no_check"),
    ("device", "redirect_uri"),
    ("device", "no_browser"),
)
_FLAG = re.compile(r"--?[a-z][a-z-]{0,30}")
_JSON = "--json"
PRINT_COMPLETION = "--print-completion"
_UNKNOWN = "unrecognized arguments: "
_QUOTED = re.compile(r""":? (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")  # what was given, as argparse repeats it first


class UsageError(ActionableError):
    """Flags that cannot be used.

    Attributes:
        usage: how they can, for people.
    """

    kind = Kind.USAGE

    def __init__(self, message: str, action: str, usage: str) -> None:
        super().__init__(message, action)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations, whose errors are raised.

    Somebody may try a secret as an argument: the name of an unknown flag is shown, what was given to it is not.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags in `argv`.

        Raises:
            ActionableError: they cannot be used.
        """
        if any(not word.isascii() and _is_broken(word) for word in argv):
            self.error("an argument is not valid UTF-8 text")
        return self.parse_args(argv)

    def error(self, message: str) -> NoReturn:
        """Raises `UsageError`: what is wrong."""
        if message.startswith(_UNKNOWN):
            words = [word.partition("=")[0] for word in message.removeprefix(_UNKNOWN).split(" ")]
            names = ", ".join(dict.fromkeys(word for word in words if _FLAG.fullmatch(word)))
            message = f"there is no flag {names}" if names else "there are more arguments than expected"
            message += "; secrets are never arguments"
        raise UsageError(_QUOTED.sub("", message, count=1), f"See: {self.prog} --help", self.format_usage())


def wants_json(argv: Sequence[str]) -> bool:
    """Whether `--json` is among the words: known before the flags are parsed, for theirs may be the first error."""
    return _JSON in itertools.takewhile(lambda word: word != "--", argv)


def add_completion(parser: argparse.ArgumentParser, whole_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """The flag that prints what a shell sources to complete the command, made of `whole_parser`."""

    class Print(argparse.Action):
        """Prints it and ends, as `--version` does."""

        def __call__(self, *given: Any) -> None:
            from token_refresh.terminal.completion import script
            from token_refresh.terminal.console import to_stdout

            to_stdout(script(whole_parser(), given[2]))
            parser.exit()

    words = "print what this shell, bash or zsh, sources to complete the installed command"
    parser.add_argument(PRINT_COMPLETION, action=Print, choices=("bash", "zsh"), metavar="SHELL", help=words)


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag that `wants_json` looks for."""
    parser.add_argument(_JSON, action="store_true", help="one JSON object on stdout")


def location(text: str) -> str:
    """A location id, without what nobody sees around it."""
    location_id = trimmed(text)
    if not location_id:
        raise argparse.ArgumentTypeError("must not be empty")
    return location_id


def add_row(parser: argparse.ArgumentParser, which: str | None = None) -> None:
    """LOCATION, `which` is meant, and which provider's row of it."""
    parser.add_argument("location", metavar="LOCATION", type=location, help=which)
    parser.add_argument("--provider", metavar="P", help="which, where a location has several")


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Consent to what would be asked at a terminal."""
    parser.add_argument("--yes", action="store_true", help="do it, without asking")


def add_allow_host(parser: argparse.ArgumentParser, whose: str = "a row") -> None:
    """Consent to a token host that a row, or a line of a file, names."""
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help=f"a token host (host:port where the port is not 443) that {whose} may name itself",
    )


def add_allow_row_host(parser: argparse.ArgumentParser) -> None:
    """Consent to the token host that one row names."""
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        type=_row_and_host,
        metavar="LOCATION=HOST",
        help="the token host (host:port where the port is not 443) that the row of this location id may name itself",
    )


def _row_and_host(text: str) -> tuple[str, str]:
    location_id, _, host = text.rpartition("=")
    if not trimmed(location_id) or not host.strip():
        raise argparse.ArgumentTypeError("must be LOCATION=HOST: consent is for one row and its host")
    return trimmed(location_id), host.strip()


def seconds(text: str) -> float:
    """A number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 10_000_000:
        raise argparse.ArgumentTypeError("must be a number of seconds, not negative")
    return number


def interval(text: str) -> float:
    """A number of seconds between rounds."""
    number = seconds(text)
    if number < SHORTEST_INTERVAL_SECONDS:
        raise argparse.ArgumentTypeError(f"must be {SHORTEST_INTERVAL_SECONDS} seconds or more")
    return number


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def onboarding_flags(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """The flags in `argv`, as `onboarding_parser` reads them. Secrets are never among them.

    Raises:
        ActionableError: they cannot be used.
    """
    arguments = parser.parse(argv)
    _refuse_without_login(parser, arguments)
    return arguments


def onboarding_parser(header: Sequence[str], prog: str = ONBOARD_CLIENT) -> Parser:
    """What reads the flags of `onboard_client.py`, whose CSV files have this header."""
    parser = Parser(prog=prog, description="Add a client, or replace its credential.")
    _add_login(parser)
    file_help = f"one client a line, - for standard input; header: {','.join(header)}"
    parser.add_argument("--from-csv", metavar="FILE", help=file_help)
    parser.add_argument("--replace", action="store_true", help="replace existing credentials without asking")
    parser.add_argument("--no-check", action="store_true", help="save without proving by a refresh")
    add_allow_host(parser, "a line")
    add_json(parser)
    return parser


def _add_login(parser: argparse.ArgumentParser) -> None:
    """The flags of a login, and of what an agency's login opens."""
    parser.add_argument("--authorize", action="store_true", help="by logging in at the provider, without a token")
    parser.add_argument("--provider", default="", metavar="P", help="with --authorize: where")
    parser.add_argument(
        "--location",
        action="append",
        default=[],
        type=location,
        metavar="ID",
        help="with --authorize: whose row it is; with --locations: add this one",
    )
    parser.add_argument("--scope", action="append", default=[], metavar="S", help="with --authorize: also ask for this")
    parser.add_argument("--redirect-uri", default="", metavar="URI", help="with --authorize: as the provider has it")
    parser.add_argument("--no-browser", action="store_true", help="with --authorize: only print the address")
    parser.add_argument("--device", action="store_true", help="with --authorize: on another device, by a code")
    parser.add_argument(
        "--locations", type=location, metavar="COMPANY_ID", help="list the locations of this HighLevel agency"
    )
    parser.add_argument("--all", action="store_true", help="with --locations: add all that have no row")


def _refuse_without_login(parser: Parser, arguments: argparse.Namespace) -> None:
    """Raises `UsageError` where flags were given that contradict each other, or that only a login has."""
    for one, other in _CONTRADICTIONS:
        if getattr(arguments, one) and getattr(arguments, other):
            parser.error(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} do not go together")
    if arguments.all and not arguments.locations:
        parser.error("--all is for --locations")
    if arguments.location and not (arguments.authorize or arguments.locations):
        parser.error("--location is for --authorize or --locations")
    if len(arguments.location) > 1 and arguments.authorize:
        parser.error("--authorize is for one --location")
    if not arguments.authorize and (given := [name for name in _OF_LOGIN if getattr(arguments, name)]):
        parser.error(f"--{given[0].replace('_', '-')} is for --authorize")
