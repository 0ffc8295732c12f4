"""Flags as both scripts read them: exact names, and errors that quote nothing that may be secret."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from token_refresh.base.clock import SHORTEST_INTERVAL_SECONDS

_FLAG = re.compile(r"--?[a-z][a-z-]{0,30}")
_UNKNOWN = "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations.

    Somebody may try a secret as an argument: the name of an unknown flag is shown, what was given to it is not.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags in `argv`; exits with 2 where they cannot be used."""
        if any(not word.isascii() and _is_broken(word) for word in argv):
            self.error("an argument is not valid UTF-8 text")
        return self.parse_args(argv)

    def error(self, message: str) -> NoReturn:
        """Usage and what is wrong, on stderr; exit 2."""
        if message.startswith(_UNKNOWN):
            words = [word.partition("=")[0] for word in message.removeprefix(_UNKNOWN).split(" ")]
            names = ", ".join(dict.fromkeys(word for word in words if _FLAG.fullmatch(word)))
            message = f"there is no flag {names}" if names else "there are more arguments than expected"
            message += "; --help shows what there is, and secrets are never arguments"
        super().error(message)


def add_row(parser: argparse.ArgumentParser, as_it_is: str | None = None) -> None:
    """LOCATION, and which provider's row of it."""
    parser.add_argument("location", metavar="LOCATION", help=as_it_is)
    parser.add_argument("--provider", metavar="P", help="which, where a location has several")


def add_allow_host(parser: argparse.ArgumentParser) -> None:
    """Consent to a token host that a row names."""
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a token host (host:port where the port is not 443) that a row may name itself",
    )


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
