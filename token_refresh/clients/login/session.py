"""From a person to a callback: the address is shown, and the callback comes to this machine or is pasted."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from providers.authorization import scope_of
from providers.base import Credential, Provider
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.clients.login.attempt import Attempt, Callback, CallbackError, LoginRefusedError, Refusal
from token_refresh.clients.login.loopback import Loopback
from token_refresh.clients.login.paste import query_in
from token_refresh.clients.login.redirects import loopback_redirect

_IN_TERMINALS = ("lynx", "links", "links2", "elinks", "w3m", "www-browser")
_PASTE = "Paste the address that the browser shows after the login"


class LoginTimeoutError(ActionableError):
    """Nobody answered in ten minutes."""

    kind = Kind.ROW

    def __init__(self) -> None:
        super().__init__("nobody logged in within ten minutes; nothing was stored", "Start again.")


class Person(Protocol):
    """Who logs in, at a terminal."""

    def say(self, text: str) -> None:
        """Show a line."""
        ...

    def yes(self, question: str) -> bool:
        """Whether the answer is yes; anything else is no."""
        ...

    def secret_until(self, question: str, wake: int | None, seconds: float) -> str | None:
        """An answer that is not shown; None once `wake` can be read, or so many seconds are over."""
        ...


@dataclass(frozen=True)
class Wish:
    """How a person wants to log in.

    Attributes:
        scopes: beyond the catalogue's.
        redirect_uri: empty for the provider's usual loopback address.
        opens_browser: one is started where there is a display.
    """

    scopes: Sequence[str] = ()
    redirect_uri: str = ""
    opens_browser: bool = True


def wait_for_callback(
    provider: Provider, params: Mapping[str, str], client: Credential, wish: Wish, person: Person, clock: Clock
) -> tuple[Attempt, Callback]:
    """Show the address, and wait for its callback: at this machine, and in the terminal, whichever comes first.

    Raises:
        LoginTimeoutError, LoginRefusedError: there is none.
        ProviderError: the row lacks what the address needs.
        ActionableError: the port is in use.
    """
    with ExitStack() as stack:
        served = loopback_redirect(provider, wish.redirect_uri)
        loopback = stack.enter_context(Loopback(served)) if served is not None else None
        attempt = Attempt(
            provider,
            params,
            client.client_id,
            client.client_secret,
            redirect_uri=loopback.redirect_uri if loopback is not None else wish.redirect_uri,
            scope=scope_of(provider, wish.scopes),
            begun_at=clock.now(),
        )
        if loopback is not None:
            loopback.begin(attempt, clock.now)
        is_open = wish.opens_browser and loopback is not None and open_browser(attempt.address)
        person.say(f"{'A browser was opened at' if is_open else 'Open this address and agree'}:\n{attempt.address}")
        while (seconds := (attempt.ends_at - clock.now()).total_seconds()) > 0:
            line = person.secret_until(_PASTE, loopback.wake if loopback is not None else None, seconds)
            if loopback is not None and not loopback.ended.empty():
                ended = loopback.ended.get()
                if isinstance(ended, LoginRefusedError):
                    raise ended
                return attempt, ended
            if line:
                try:
                    return attempt, _pasted(attempt, line, provider, person, clock)
                except CallbackError as error:
                    person.say(f"{error}. {error.action}")
        raise LoginTimeoutError


def _pasted(attempt: Attempt, line: str, provider: Provider, person: Person, clock: Clock) -> Callback:
    query = query_in(line, attempt.redirect_uri, provider.login.code_param)
    try:
        return attempt.accept(query, clock.now())
    except CallbackError as error:
        question = f"{error.refusal.value}. Is it the answer to this login?"
        if error.refusal is not Refusal.NO_STATE or not attempt.takes_no_state or not person.yes(question):
            raise
    return attempt.accept(query, clock.now(), without_state=True)


def open_browser(address: str) -> bool:
    """Start a browser, never one in the terminal; whether one was started."""
    try:
        browser = webbrowser.get()
        if Path(str(getattr(browser, "name", ""))).name in _IN_TERMINALS:
            return False
        return browser.open(address)
    except (webbrowser.Error, OSError):
        return False
