"""The HTTP service as a program: `python -m token_refresh.service`, or `token-refresh-service`."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import crypto
from token_refresh import settings as configuration
from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import ActionableError, Kind, actionable_error, exit_code, internal_error
from token_refresh.base.program import install_extra
from token_refresh.settings import ServiceSettings, SettingsError
from token_refresh.terminal import process
from token_refresh.terminal.console import Console
from token_refresh.wiring import Installation, assemble

if TYPE_CHECKING:
    from token_refresh.service.context import Service
    from token_refresh.service.server import Server

SETTLE_SECONDS = 10.0  # at a start, for what the journal holds; then the service listens, and that goes on
_QUIET = ("uvicorn.error", "asyncio")  # whatever they say below an error, we say by ourselves


def command() -> NoReturn:
    """What `token-refresh-service` runs."""
    process.harden_process()
    logging.disable(logging.NOTSET)  # see `_log_to`
    sys.exit(main(configuration.strip_secrets(os.environ)))


def main(environ: Mapping[str, str], clock: Clock | None = None) -> int:
    """Serve until a signal comes; the exit code. Never raises."""
    console = Console()
    try:
        installation = _prepare(environ, clock or SystemClock(), console)
        return _serve(installation, console)
    except (Exception, KeyboardInterrupt) as error:
        problem = actionable_error(error)
        sentences = problem.problems if isinstance(problem, SettingsError) else (str(problem),)
        for sentence in sentences:
            console.error(sentence, problem.action, code=problem.kind)
        return exit_code([problem.kind])


def _prepare(environ: Mapping[str, str], clock: Clock, console: Console) -> Installation:
    """The settings, checked; nothing was called yet."""
    console.configure("INFO", configuration.log_format(environ))
    known = configuration.load(environ, crypto.parse_key)
    console.configure(known.log_level, known.log_format)
    console.hide(known.secrets())
    _log_to(console)
    for warning in known.warnings:
        console.warn(warning)
    require_safe(known.service)
    return assemble(known, clock, console.answer_not_saved, console.warn, "service")


def _serve(installation: Installation, console: Console) -> int:
    try:
        from token_refresh.service.app import create_app
        from token_refresh.service.context import make_service
        from token_refresh.service.server import Server, configure
    except ImportError:
        what = "the HTTP service needs packages that are not installed"
        raise ActionableError(what, install_extra("service"), Kind.CONFIGURATION) from None
    service = make_service(installation)
    server = Server(
        configure(create_app(service), installation.settings.service), service.manager.manager.end_refreshes
    )

    def stop(reason: str) -> None:
        console.info(f"{reason}: no new requests; open ones are answered, and refreshes finished")
        server.stop()

    with process.ended_by(stop):
        asyncio.run(_run(server, service, console))
    console.info("the service has ended")
    return 0


async def _run(server: Server, service: Service, console: Console) -> None:
    from token_refresh.service.server import listen

    await _settle(service, console)
    if server.should_exit:
        await service.close()
        return
    known = service.settings.service
    with listen(known.host, known.port) as entrance:
        host = f"[{known.host}]" if ":" in known.host else known.host
        console.info(f"the service listens at http{'s' if known.tls_cert_file else ''}://{host}:{known.port}")
        await server.serve([entrance])


async def _settle(service: Service, console: Console) -> None:
    """Store what earlier runs left in the journal. Where that is not possible the service starts all the same."""

    def store() -> None:
        try:
            service.manager.manager.store_leftovers()
        except ActionableError as error:
            console.warn(f"what the journal may hold could not be stored: {error}", error.action, code=error.kind)

    await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(store))], timeout=SETTLE_SECONDS)


class _ToConsole(logging.Handler):
    """Says what is logged in the console's form, with secrets masked, and of an exception the type and place alone."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        error = record.exc_info[1] if record.exc_info else None
        words = str(internal_error(error)) if error is not None else record.getMessage().strip()
        say = {logging.ERROR: self._console.error, logging.WARNING: self._console.warn}
        say.get(record.levelno, self._console.info)(words)


def _log_to(console: Console) -> None:
    """The library's log, and of others the errors alone: they would log requests, headers and bodies."""
    logging.getLogger().handlers = [logging.NullHandler()]
    for name in ("token_refresh", *_QUIET):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_ToConsole(console)], False
        logger.setLevel(logging.ERROR if name in _QUIET else logging.INFO)


def require_safe(settings: ServiceSettings) -> None:
    """Keys and tokens are not sent in clear to other machines, unless somebody says so.

    Raises:
        ActionableError: they would be.
    """
    is_encrypted = settings.tls_cert_file is not None or settings.trusted_proxies or settings.allow_plain_http
    if not is_encrypted and not _is_loopback(settings.host):
        raise ActionableError(
            f"at HOST={settings.host} other machines would reach the service without encryption",
            "Set TLS_CERT_FILE and TLS_KEY_FILE; or put a proxy with TLS in front of it and name it in TRUSTED_PROXIES;"
            " or, where nobody can listen in, set ALLOW_PLAIN_HTTP=yes.",
            Kind.CONFIGURATION,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    command()
