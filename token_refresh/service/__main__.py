"""The HTTP service as a program: `python -m token_refresh.service`, or `token-refresh-service`."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import crypto
from token_refresh import settings as configuration
from token_refresh.base.clock import SystemClock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import SERVICE, VERSION, install_extra
from token_refresh.settings import Settings
from token_refresh.terminal import process
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import Parser
from token_refresh.terminal.guard import guarded
from token_refresh.terminal.log import log_to
from token_refresh.wiring import assemble

if TYPE_CHECKING:
    from token_refresh.service.context import Service
    from token_refresh.service.server import Server

SETTLE_SECONDS = 10.0  # at a start, for what the journal holds; then the service listens, and that goes on


def command() -> NoReturn:
    """Serve until a signal comes, and end with the exit code.

    Threads that still wait for a store are left alone: they hold no token, see `Service.close`.
    """
    process.harden_process()
    process.collect_seldom()
    console, environ = Console(), configuration.strip_secrets(os.environ)
    process.shut_out_plugins()
    os._exit(guarded(console, lambda: serve(sys.argv[1:], environ, console)))  # `console` flushes line by line


def serve(argv: Sequence[str], environ: Mapping[str, str], console: Console) -> Iterable[Kind]:
    """Serve until a signal comes; with `--help` or `--version` print that alone.

    Raises:
        UsageError: other words were given.
        ActionableError: it cannot start; nothing was called yet.
    """
    console.configure("INFO", configuration.log_format(environ))
    _parser().parse(argv)
    settings = _prepare(environ, console)
    try:
        from token_refresh.service.app import create_app
        from token_refresh.service.context import Service
        from token_refresh.service.server import Server, configure
    except ImportError:
        what = "the HTTP service needs packages that are not installed"
        raise ActionableError(what, install_extra("service"), Kind.CONFIGURATION) from None

    def say_outage(what: str, action: str) -> None:
        console.warn(what, action)
        server.note_outage()

    installation = assemble(settings, SystemClock(), console.answer_not_saved, say_outage, "service")
    service = Service(replace(installation, warn=console.warn))
    server = Server(configure(create_app(service), settings.service), service.manager.manager.end_refreshes)

    def stop(reason: str) -> None:
        console.info(f"{reason}: no new requests; open ones are answered, and refreshes finished")
        service.expect_end()
        server.stop()

    gc.collect()
    gc.freeze()  # what is there now stays: to look through all of it for garbage makes callers wait for 60 ms
    with process.ended_by(stop):
        asyncio.new_event_loop().run_until_complete(_run(server, service, console))  # `asyncio.run` waits for threads
    console.info("the service has ended")
    return ()


def _parser() -> Parser:
    """What reads the words: nothing is set by them."""
    settings = "Its settings (HOST, PORT and the others) come from the environment and from .env: see docs/service.md."
    what = "Serve valid access tokens over HTTP, and logins of customers, until a signal comes."
    parser = Parser(prog=SERVICE, description=what, epilog=settings)
    parser.add_argument("--version", action="version", version=f"token-refresh {VERSION}")
    return parser


def _prepare(environ: Mapping[str, str], console: Console) -> Settings:
    """The settings, checked."""
    settings = configuration.load(environ, crypto.parse_key)
    console.configure(settings.log_level, settings.log_format)
    console.hide(settings.secrets())
    log_to(console, "token_refresh", ["uvicorn.error", "asyncio"])
    for warning in settings.warnings:
        console.warn(warning)
    settings.service.require_safe()
    return settings


async def _run(server: Server, service: Service, console: Console) -> None:
    from token_refresh.service.server import listen

    settling = asyncio.ensure_future(asyncio.to_thread(_settle, service, console))
    await asyncio.wait([settling], timeout=SETTLE_SECONDS)
    if server.should_exit:
        await service.close()
    else:
        known = service.settings.service
        with listen(known.host, known.port) as entrance:
            console.info(f"the service listens at {known.address}")
            await server.serve([entrance])


def _settle(service: Service, console: Console) -> None:
    """Store what earlier runs left in the journal. Where that is not possible the service starts all the same."""
    try:
        service.manager.manager.store_leftovers()
    except ActionableError as error:
        console.warn(f"what the journal may hold could not be stored: {error}", error.action, code=error.kind)


if __name__ == "__main__":
    command()
