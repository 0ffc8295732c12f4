"""`make manual`: completion and manual pages of both commands, made of the parser, as packages carry them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from token_refresh.base.program import VERSION
from token_refresh.commands import onboard, whole_parser
from token_refresh.terminal.completion import script

_ROOT = Path(__file__).resolve().parents[1]
_EXIT_CODE = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
_LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")
_SETTING = re.compile(r"((?:^# .*\n)+)((?:^[A-Z_]+=.*\n)+)", re.MULTILINE)
_PAGES = {
    "token-refresh": (whole_parser, "keep every client's OAuth access token fresh"),
    "token-refresh-onboard": (onboard.parser_as, "add a client to token-refresh, or replace its credential"),
}
_EVERYWHERE = ("help", "json")
_FILES = (
    (".env", "the settings, one NAME=value a line, readable by its user alone; the environment wins over it"),
    ("state/", "lock, journal, history and, where no other store is set, the SQLite file with all clients"),
)
_HOME = (
    "Settings are read from the folder that the environment variable TOKEN_REFRESH_HOME names, else from the current "
    "one. Secrets are never arguments. Everywhere, --help shows what may be given, and --json prints one JSON object."
)


def write(folder: Path) -> None:
    """Write `man/man1`, `bash-completion/completions` and `zsh/site-functions` below `folder`."""
    for name, (parser, purpose) in _PAGES.items():
        files = {
            f"man/man1/{name}.1": page(parser(), purpose),
            f"bash-completion/completions/{name}": script(parser(), "bash"),
            f"zsh/site-functions/_{name}": script(parser(), "zsh"),
        }
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")


def page(parser: argparse.ArgumentParser, purpose: str) -> str:
    """The manual page of a command, in the macros of man(7)."""
    verbs = list(_verbs(parser))
    others = [name for name in _PAGES if name != parser.prog]
    lines = [
        f'.TH {parser.prog.upper()} 1 "" "token-refresh {VERSION}" "User Commands"',
        *(".nh", ".ad l"),  # names are not to be divided
        *(".SH NAME", rf"{_text(parser.prog)} \- {_text(purpose)}"),
        *(".SH SYNOPSIS", f".B {_text(parser.prog)}", _text("[VERB] [FLAGS]" if verbs else "[FLAGS]")),
        *(".SH DESCRIPTION", _text(_HOME)),
        *(".SH OPTIONS", *_options(parser._actions)),
        *([".SH VERBS"] if verbs else []),
        *(line for name, verb in verbs for line in _verb(name, verb)),
        *(".SH EXIT STATUS", *_terms(_exit_codes())),
        *(".SH ENVIRONMENT", "Each may stand in .env as well.", *_terms(_settings())),
        *(".SH FILES", *_terms(_FILES)),
        *(".SH SEE ALSO", ", ".join(f".BR {_text(name)} (1)" for name in others)),
    ]
    return "\n".join(lines) + "\n"


def _verbs(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each verb, and each verb of a verb (`api-key create`)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                verb.description = verb.description or next(
                    one.help for one in action._choices_actions if one.dest == name
                )
                yield before + name, verb
                yield from _verbs(verb, f"{before}{name} ")


def _verb(name: str, parser: argparse.ArgumentParser) -> list[str]:
    positional = "".join(f" {one.metavar}" for one in parser._actions if not one.option_strings)
    epilog = [".PP", _text(parser.epilog)] if parser.epilog else []
    head = [f'.SS "{_text(name + positional)}"', _text(_sentence(parser.description or ""))]
    return [*head, *_options(parser._actions), *epilog]


def _options(actions: Iterable[argparse.Action]) -> list[str]:
    """What each verb takes is said once, at the top; of an argument there may be nothing to say."""
    actions = [one for one in actions if one.dest not in _EVERYWHERE and (one.help or one.option_strings)]
    return list(_terms((_flag(one), one.help % vars(one) if one.help else "") for one in actions))


def _flag(action: argparse.Action) -> str:
    given = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    return ", ".join(f"{name} {given}".strip() for name in action.option_strings) or given


def _terms(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A list of terms, in bold, each with what is said of it."""
    for term, text in pairs:
        yield from (".TP", rf"\fB{_text(term)}\fR", _text(_sentence(text)) or r"\&")


def _exit_codes() -> list[tuple[str, str]]:
    codes = (_ROOT / "docs/commands.md").read_text(encoding="utf-8").partition("## Exit codes")[2]
    return [(code, _LINK.sub(r"\1", text).replace("`", "")) for code, text in _EXIT_CODE.findall(codes)]


def _settings() -> Iterator[tuple[str, str]]:
    """Each setting of `.env.example` with the comment above it; several below one comment go together."""
    for comment, lines in _SETTING.findall((_ROOT / ".env.example").read_text(encoding="utf-8")):
        names = ", ".join(line.partition("=")[0] for line in lines.splitlines())
        text = " ".join(line.removeprefix("# ") for line in comment.splitlines() if not line.startswith("# ---"))
        yield names, text.replace("`", "")


def _sentence(text: str) -> str:
    """With a capital letter and a full stop, as the pages of other programs have it."""
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _text(text: str) -> str:
    """As roff reads it literally: no escapes, no hyphen where a minus is meant, no line that begins like a request."""
    text = " ".join(text.replace("\\", r"\e").replace("-", r"\-").split())
    text = re.sub(r",(?=\S)", r",\\:", text)  # a long list may be divided there
    return r"\&" + text if text.startswith((".", "'")) else text


if __name__ == "__main__":
    write(Path(sys.argv[1]))
