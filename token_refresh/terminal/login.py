"""A login at a terminal: what is asked before it, the wait for its callback, and the yes to what it brought."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from providers.authorization import scope_of
from providers.base import Provider
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import sentences, trimmed
from token_refresh.clients.admission import Terms
from token_refresh.clients.credential import AdmissionError, Candidate, candidate_of, with_client
from token_refresh.clients.login.attempt import (
    Attempt,
    Callback,
    CallbackError,
    NoGrantError,
    Refusal,
    begin,
    query_in,
    require_redirect,
)
from token_refresh.clients.login.device import log_in_by_device
from token_refresh.clients.login.loopback import Loopback
from token_refresh.clients.login.redemption import brought, conflict, exchange_code, note_agreement, settling
from token_refresh.clients.row import find_row
from token_refresh.refresh.run_context import RunContext
from token_refresh.terminal.prompts import Terminal
from token_refresh.terminal.questions import ask_for_client, required

_IN_TERMINALS = ("lynx", "links", "links2", "elinks", "w3m", "www-browser")


def log_in(context: RunContext, ask: Terminal, arguments: argparse.Namespace, terms: Terms) -> int:
    """Ask what is needed, let the person log in, and exchange what they bring. No lock is held.

    Args:
        arguments: see `flags.onboarding_flags`; what they leave out is asked for.
        terms: what the person agreed to by flags.

    Returns:
        the journal's entry that holds the answer; see `redemption.resume`.

    Raises:
        ActionableError: there is nothing to store; nothing was changed.
        JournalError: nothing was sent.
    """
    factory = context.job_factory
    provider = factory.find_provider(arguments.provider or ask.text("Provider", context.default_provider))
    _require_login(provider, by_device=arguments.device)
    location_id = next(iter(arguments.location), "") or _ask_location(ask, provider)
    find = partial(find_row, context.store.store, factory)
    candidate, _ = ask_for_client(ask, factory, provider, location_id, terms, find, is_login=True)
    scopes = _scopes(ask, candidate, arguments.scope)
    scope = scope_of(provider, scopes)
    given = "" if arguments.device else _redirect_uri(ask, candidate, arguments.redirect_uri)
    # What stays in the row: the next login, and of some providers every refresh, needs it.
    kept = {"redirect_uri": given, "scope": scope if scopes and "scope" in provider.placeholders else ""}
    entered = candidate.entered.with_params({name: text for name, text in kept.items() if text})
    candidate = with_client(candidate_of(entered, candidate.row, factory), factory)
    if arguments.device:
        entry_id = log_in_by_device(context, candidate, scope, ask.say, ask.finish)
    else:
        uri, opens_browser = given or provider.login.loopback, not arguments.no_browser
        found = _waited(ask, candidate, uri, scope, context.clock, opens=opens_browser)
        entry_id = ask.finish(exchange_code, context, *found)
    _ask_for_agreement(context, ask, entry_id, terms)
    return entry_id


def _require_login(provider: Provider, *, by_device: bool) -> None:
    if by_device and provider.device_url is None:
        raise ActionableError(f"{provider.name} has no login by device", "Leave out --device.", Kind.USAGE)
    if not by_device and provider.authorize_url is None:
        what = f"{provider.name} has no login that could be opened from here"
        raise ActionableError(what, f"See {provider.docs}.", Kind.USAGE)


def _ask_location(ask: Terminal, provider: Provider) -> str:
    if provider.login.account_is_location:
        return trimmed(ask.text("Location id (empty: the one that is chosen at the login)"))
    return required(trimmed(ask.text("Location id")), "location id")


def _scopes(ask: Terminal, candidate: Candidate, given: Sequence[str]) -> list[str]:
    """Those of the row, and what the flags say; asked for where neither they nor the settings name any."""
    known = candidate.credential.params.get("scope", "")
    if not (known or given or candidate.provider.login.more_scopes):
        known = ask.text("Scopes beyond the usual (may be empty)", candidate.granted_scopes)
    return [*known.replace(",", " ").split(), *given]


def _redirect_uri(ask: Terminal, candidate: Candidate, given: str) -> str:
    """Where the person is sent back to: as given, as in the row, else asked for; empty: the usual on this machine."""
    uri = given or candidate.credential.params.get("redirect_uri", "")
    if not uri and not candidate.provider.login.loopback:
        uri = required(ask.text("Redirect URI, as entered at the provider"), "redirect URI")
    if uri and candidate.provider.login.redirect != "name":
        require_redirect(uri)
    return uri


def _waited(
    ask: Terminal, candidate: Candidate, uri: str, scope: str, clock: Clock, *, opens: bool
) -> tuple[Attempt, Callback]:
    """Show the address, and wait for its callback: at this machine, and in the terminal, whichever comes first.

    Raises:
        NoGrantError: there is none.
        ProviderError: the row lacks what the address needs.
        ActionableError: the port is in use.
    """
    with Loopback(uri) as loopback:
        attempt, address = begin(candidate, loopback.redirect_uri, scope, clock.now())
        loopback.accept = lambda query: attempt.accept(query, clock.now())
        is_open = opens and loopback.is_served and open_browser(address)
        unless = ", only if its last page does not load" if loopback.is_served else ""
        ask.say(f"{'A browser was opened at' if is_open else 'Open this address and agree'}:\n{address}")
        while (seconds := (attempt.ends_at - clock.now()).total_seconds()) > 0:
            line = ask.secret_until(f"Paste the address that the browser shows last{unless}", loopback.wake, seconds)
            if isinstance(loopback.ended, NoGrantError):
                raise loopback.ended
            if loopback.ended is not None:
                return attempt, loopback.ended
            if line:
                try:
                    return attempt, _pasted(ask, attempt, line, clock)
                except CallbackError as error:
                    ask.say(sentences(str(error), error.action))
    raise NoGrantError("nobody logged in within ten minutes; nothing was stored", "Start again.")


def _pasted(ask: Terminal, attempt: Attempt, line: str, clock: Clock) -> Callback:
    query = query_in(line, attempt.redirect_uri, attempt.candidate.provider.login.code_param)
    try:
        return attempt.accept(query, clock.now())
    except CallbackError as error:
        question = f"{error.refusal.value}. Is it the answer to this login?"
        if error.refusal is not Refusal.NO_STATE or not attempt.takes_no_state or not ask.yes(question):
            raise
    return attempt.accept(query, clock.now(), without_state=True)


def open_browser(address: str) -> bool:
    """Start a browser, never one in the terminal; whether one was started."""
    try:
        browser = webbrowser.get()
        return Path(str(getattr(browser, "name", ""))).name not in _IN_TERMINALS and browser.open(address)
    except (webbrowser.Error, OSError):
        return False


def _ask_for_agreement(context: RunContext, ask: Terminal, entry_id: int, terms: Terms) -> None:
    """A yes to what the login alone could tell: that it is another account's, or of a location with a credential."""
    entry = next(one for one in context.journal.entries() if one.id == entry_id)
    with settling(context.journal, entry_id):
        entered, _, row = brought(context, entry)
        problem = conflict(context, entry, entered, row, may_replace=terms.replace)
        if problem and not ask.yes(f"{problem}. Replace it?"):
            raise AdmissionError("nothing was changed", "")
    note_agreement(context, entry, entered, row)
