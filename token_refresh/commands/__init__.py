"""The command line: which verb, and how it ends. Each verb is a module of this room, imported when it is used.

A new verb is a module with `run`, and `add_flags` where it takes any, and a line in the table below.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import crypto
from token_refresh import settings
from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import TOKEN_MANAGER, VERSION
from token_refresh.base.text import counted
from token_refresh.settings import SettingsError
from token_refresh.terminal import process
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import PRINT_COMPLETION, Parser, UsageError, add_completion, add_json, wants_json
from token_refresh.terminal.guard import guarded
from token_refresh.wiring import (
    DATABASE_FILE,
    LOCK_WAIT_SECONDS,
    Installation,
    assemble,
    left_in_embedded,
    make_job_factory,
    open_run_context,
    open_sealed,
)

if TYPE_CHECKING:
    from providers.base import Provider
    from token_refresh.base.events import RowFinished
    from token_refresh.refresh.run_context import RunContext

VERBS = {
    "refresh": "refresh what is due (what cron runs; the default)",
    "status": "show every row and when its access token ends",
    "report": "write every client, the next 48 hours and the last 30 days into one HTML file",
    "get": "print one location's access token, refreshed where needed",
    "revoke": "revoke a client's tokens at its provider, and take its secrets out of the table",
    "disable": "stop refreshing a client; its tokens stay",
    "enable": "refresh a client that was disabled",
    "delete": "delete a client's secrets and its row, without asking its provider",
    "recover": "list new tokens that are not yet in the table, and store what can be stored",
    "verify": "decrypt every value, and say which cannot be decrypted",
    "export": "write all rows, encrypted as they are, for a backup",
    "import": "put an export, or an earlier program's rows, into the table; shows first what it would do",
    "rebind": "re-encrypt a row after its provider's host or its location id changed",
    "rotate-key": "re-encrypt all rows with the new key, ENCRYPTION_KEY",
    "setup": "make the table, or the columns that it lacks",
    "providers": "list the providers that are known, or show one and how to make its app",
    "api-key": "make, list or revoke a key of the HTTP service",
    "onboard-link": "make a one-time link with which a customer logs in, without a key",
    "audit": "print what the security log has of a location",
    "notify": "send a test message to each place that hears of runs",
    "doctor": "check the set-up and say how to fix it",
    "generate-key": "print a new encryption key",
}

_MODULES = {"import": "import_rows"}  # a word of the language cannot name a module
_WITHOUT_VERB = ("-h", "--help", "--version", PRINT_COMPLETION)


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

    def act(given: Mapping[str, str], console: Console) -> Iterable[Kind]:
        verb, words = _verb_in(argv)
        console.verb = verb
        module = _module_of(verb) if verb in VERBS else None
        arguments = _parser({verb: module} if module is not None else dict.fromkeys(VERBS)).parse(words)
        assert module is not None  # the parser has refused it otherwise
        kinds: Iterable[Kind] = module.run(arguments, given, clock or SystemClock(), console)
        return kinds

    return started(argv, environ, act)


def started(
    argv: Sequence[str], environ: Mapping[str, str] | None, act: Callable[[Mapping[str, str], Console], Iterable[Kind]]
) -> int:
    """What both scripts begin with: a hardened process, then `act` with the environment and a console, guarded."""
    process.harden_process()
    console = Console(as_json=wants_json(argv))
    given = settings.strip_secrets(os.environ) if environ is None else environ
    process.shut_out_plugins()

    def begun() -> Iterable[Kind]:
        try:
            return act(given, console)
        except (UsageError, SettingsError):  # nothing is configured yet, and the same program reads the line
            console.configure("INFO", settings.log_format(given))
            raise

    return guarded(console, begun)


def prepare(environ: Mapping[str, str], clock: Clock, console: Console) -> Installation:
    """Read and check the configuration; what should be known of it is said.

    Raises:
        SettingsError, StateError: each with its fix; nothing was called yet.
    """
    known = settings.load(environ, crypto.parse_key)
    console.configure(known.log_level, known.log_format)
    console.hide(known.secrets())
    for warning in known.warnings:
        console.warn(warning)
    installation = assemble(known, clock, console.answer_not_saved, console.warn, console.verb)
    if left := left_in_embedded(installation):
        file = known.state_dir / DATABASE_FILE
        what = counted(left, "client is", "clients are")
        console.warn(
            f"{what} in {file}; the settings do not use this file any more, and nobody refreshes what is in it",
            f"Export them with TOKEN_STORE=database DATABASE_URL=sqlite:///{quote(str(file))} set for that one "
            "command, import them here, then move the file away.",
        )
    return installation


def prepare_with_catalog(environ: Mapping[str, str], clock: Clock, console: Console) -> Installation:
    """The same; a setting of a provider that nobody has is named. Raises `CatalogError`, too."""
    installation = prepare(environ, clock, console)
    for warning in installation.misspelt_settings():
        console.warn(warning)
    return installation


def patient_lock(installation: Installation, console: Console) -> AbstractContextManager[object]:
    """The run lock for what a person started: cron's run is waited for, and that is said."""
    return installation.lock(LOCK_WAIT_SECONDS, lambda: console.info("another run is active; waiting for it to end"))


@contextmanager
def onboarding_context(installation: Installation, console: Console) -> Iterator[RunContext]:
    """A run's, under the lock; in a database, where no run keeps others out, onboardings keep out each other.

    Two of one refresh token would both send it.
    """
    from token_refresh.journal.lock import run_lock

    say = partial(console.info, "another onboarding is active; waiting for it to end")
    with patient_lock(installation, console), open_run_context(installation) as context:
        is_free = not context.store.store.claims
        with nullcontext() if is_free else run_lock(context.folder, installation.clock, LOCK_WAIT_SECONDS, say):
            yield context


def store_login(context: RunContext, entry_id: int, installation: Installation, console: Console) -> RowFinished:
    """The journal stays open until then: a run that starts meanwhile does not take its entry over."""
    from token_refresh.clients.credential import require_stored
    from token_refresh.journal.lock import LockedError
    from token_refresh.wiring import resume_admission

    try:
        with patient_lock(installation, console):
            entry = next(one for one in context.journal.entries() if one.id == entry_id)
            return require_stored(resume_admission(context, entry))
    except LockedError as error:
        what = f"the login is kept, encrypted, and not stored yet: {error}"
        raise ActionableError(what, "Nothing is lost: the next run stores it.", error.kind) from None


def change_client(
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    clock: Clock,
    console: Console,
    question: str,
    step: Literal["revoke", "delete", "disable", "enable"],
) -> Provider:
    """Ask about the one client that LOCATION and `--provider` mean, then take a step of `Removal`.

    Args:
        arguments: with `location`, `provider` and `yes`.
        environ, clock, console: of the verb.
        question: with `{whom}` for the client.
        step: a method of `Removal`.

    Returns:
        The client's provider.
    """
    from token_refresh.clients.removal import Removal
    from token_refresh.clients.rows import find_one
    from token_refresh.library.tokens import WAIT_SECONDS
    from token_refresh.terminal.prompts import require_yes
    from token_refresh.terminal.report import LineReport

    installation = prepare(environ, clock, console)
    location, provider = arguments.location.strip(), arguments.provider
    if not arguments.yes:
        with open_sealed(installation) as store:
            _, provider = find_one(store.store, make_job_factory(installation, store), location, provider)
        whom = f"{location} at {installation.catalog.get(provider).name}"
        require_yes(question.format(whom=whom), "Repeat with --yes.")
    with patient_lock(installation, console), open_run_context(installation) as context:
        done: str = getattr(Removal(context, LineReport(console), WAIT_SECONDS), step)(location, provider)
    return installation.catalog.get(done)


def _verb_in(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The verb, and the words as the parser wants them: the verb first, which is `refresh` where none is named."""
    words = ["--version" if word == "-V" else word for word in argv[:1]] + list(argv[1:])
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if words[:1] == ["--json"] and words[1:2] and words[1] in VERBS:
        words[:2] = [words[1], "--json"]
    if not words or (words[0].startswith("-") and words[0].partition("=")[0] not in _WITHOUT_VERB):
        words.insert(0, "refresh")
    return words[0], words


def _module_of(verb: str) -> ModuleType:
    name = _MODULES.get(verb, verb.replace("-", "_"))
    return importlib.import_module(f"token_refresh.commands.{name}")


def whole_parser(prog: str = "token-refresh") -> Parser:
    """Every verb with all its flags: what completion and the manual page are made of."""
    return _parser({verb: _module_of(verb) for verb in VERBS}, prog)


def _parser(modules: Mapping[str, ModuleType | None], prog: str = TOKEN_MANAGER) -> Parser:
    """With the flags of these verbs alone: those of all would be most of what an idle start costs."""
    parser = Parser(prog=prog, description="Keep every client's OAuth access token fresh.")
    parser.add_argument("--version", action="version", version=f"token-refresh {VERSION}")
    add_completion(parser, whole_parser)
    verbs = parser.add_subparsers(prog=prog, dest="verb", required=True, metavar="VERB")
    for name, module in modules.items():
        verb = verbs.add_parser(name, help=VERBS[name], description=VERBS[name])
        add_json(verb)
        add_flags: Callable[[Parser], None] | None = getattr(module, "add_flags", None)
        if add_flags is not None:
            add_flags(verb)
    return parser
