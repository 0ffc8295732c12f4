"""A login into a row that is there already, in two steps that may be in two processes: begun, and ended by a callback.

Who logs in may be a customer: the row says which app and account it is for, and nothing is asked of anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from crypto import Context, SealedCellError
from providers.authorization import scope_of
from providers.base import Provider
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import ActionableError, Kind, LoginAgainError
from token_refresh.base.events import CredentialUsed
from token_refresh.base.program import TOKEN_MANAGER, whose
from token_refresh.clients.credential import AdmissionError, Candidate, NewCredential, candidate_of, with_client
from token_refresh.clients.login.attempt import Attempt, begin
from token_refresh.clients.login.redemption import brought, conflict, exchange_code, note_agreement, settling
from token_refresh.journal.entries import Entry
from token_refresh.refresh.jobs import JobFactory, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import STATUS_DISABLED, Row
from token_refresh.stores.sealed import Seals

_SEALED_FOR = Context("login", "", "")
_KEPT = ("redirect_uri", "workspace_email", "workspace_name", "username", "email")  # of the client, not of one login


@dataclass(frozen=True)
class LoginBegun:
    """A login that waits for its callback.

    Attributes:
        address: what the person opens; it holds the state, which is nowhere else.
        state_hash: base64url of the SHA-256 of the state, unpadded: finds the login when its callback comes.
        ends_at: no callback is taken later.
        content: what ends it, encrypted.
    """

    address: str = field(repr=False)
    state_hash: str
    ends_at: datetime
    content: str = field(repr=False)


def begin_row_login(row: Row, factory: JobFactory, seals: Seals, redirect_uri: str, now: datetime) -> LoginBegun:
    """Begin one.

    Args:
        row: complete.
        factory, seals: of its table.
        redirect_uri: where the callback will come to.
        now: when it begins.

    Raises:
        AdmissionError: its provider has no login, its redirect URI is another one (`Kind.CONFLICT`), or it is disabled.
        ProviderError, CellError: the row cannot be used.
    """
    candidate = _candidate_of(row, factory, seals)
    provider, params = candidate.provider, candidate.credential.params
    if provider.authorize_url is None:
        what = f"{provider.name} has no login that could be opened from here"
        raise AdmissionError(what, f"See {provider.docs}.", Kind.CONFLICT)
    uri = _redirect_uri(row, provider, redirect_uri)
    scope = _scope_of(provider, params.get("scope") or candidate.granted_scopes)
    attempt, address = begin(candidate, uri, scope, now)
    content = {
        "row_id": row.key,
        "client": _client_of(candidate),
        "redirect_uri": attempt.redirect_uri,
        "state_hash": attempt.state_hash,
        "verifier": attempt.verifier,
        "ends_at": iso(attempt.ends_at),
    }
    sealed = seals.keyring.seal(json.dumps(content), _SEALED_FOR)
    return LoginBegun(address, attempt.state_hash, attempt.ends_at, sealed)


@dataclass(frozen=True)
class BegunLogin:
    """What `LoginBegun.content` holds."""

    row_id: str
    client: list[str]
    redirect_uri: str
    state_hash: str
    verifier: str | None = field(repr=False)
    ends_at: datetime

    @classmethod
    def opened(cls, content: str, seals: Seals) -> BegunLogin:
        """From the encrypted content. Raises `LoginAgainError` where no key opens it."""
        try:
            known = json.loads(seals.keyring.open(content, _SEALED_FOR))
        except SealedCellError:
            what = "the login was begun under a key that is not set here"
            raise LoginAgainError(what, "Log in again.") from None
        return cls(**{**known, "ends_at": parse_time(known["ends_at"])})

    def attempt(self, row: Row, factory: JobFactory, seals: Seals) -> Attempt:
        """The login again, for its row as it is now.

        Raises:
            AdmissionError: the row has another client by now, or is disabled.
            ProviderError, CellError: the row cannot be used.
        """
        candidate = _candidate_of(row, factory, seals)
        if _client_of(candidate) != self.client:  # or another row has its id by now
            raise AdmissionError("the client was changed since this login was begun", "Log in again.", Kind.CONFLICT)
        login = candidate.provider.login
        # Callbacks of all providers come to one address: each that names itself has to (RFC 9207 section 2.4).
        login = replace(login, iss_required=login.issuer is not None)
        candidate = replace(candidate, provider=replace(candidate.provider, login=login))
        return Attempt(candidate, self.redirect_uri, self.state_hash, self.verifier, self.ends_at)


def exchange_row_login(context: RunContext, attempt: Attempt, query: str) -> Entry:
    """Exchange the code of a callback; returns the journal's entry that holds the answer, for `redemption.resume`.

    No lock is needed. From here on a run that comes first stores it.

    Args:
        context: what it works with.
        attempt: the login.
        query: of the callback, as it came.

    Raises:
        CallbackError: it is not this login's; nothing was sent.
        NoGrantError: the provider granted nothing.
        AdmissionError: what it granted cannot be stored; it is kept, encrypted. Of another account: `Kind.CONFLICT`.
        ProviderError, JournalError: nothing was sent.
    """
    with _failure_noted(context, attempt):
        return _exchanged(context, attempt, query)


@contextmanager
def _failure_noted(context: RunContext, attempt: Attempt) -> Iterator[None]:
    """For the security log. What is stored is noted by whoever stores it."""
    try:
        yield
    except ActionableError as error:
        entered = attempt.candidate.entered
        context.audit(CredentialUsed("login", entered.location_id, entered.client_id, error.kind))
        raise


def _exchanged(context: RunContext, attempt: Attempt, query: str) -> Entry:
    """Raises like `exchange_row_login`."""
    entry_id = exchange_code(context, attempt, attempt.accept(query, context.clock.now()))
    entry = _entry(context, entry_id)
    with settling(context.journal, entry_id):
        entered, _, row = brought(context, entry)
        asked = attempt.candidate.row
        if row is None or asked is None or row.key != asked.key:
            raise AdmissionError("the client was deleted meanwhile", "Register it, then log in again.", Kind.CONFLICT)
        if conflict(context, entry, entered, row, may_replace=True):
            what = "the login was of another account than the one that is connected; nothing was changed"
            raise AdmissionError(what, "Log out at the provider, then log in with that account.", Kind.CONFLICT)
    note_agreement(context, entry, entered, row)
    return _entry(context, entry_id)


def _client_of(candidate: Candidate) -> list[str]:
    return [candidate.entered.location_id, candidate.provider.slug, candidate.credential.client_id]


def _entry(context: RunContext, entry_id: int) -> Entry:
    return next(one for one in context.journal.entries() if one.id == entry_id)


def _candidate_of(row: Row, factory: JobFactory, seals: Seals) -> Candidate:
    """Whose login it is, with the client that it is sent with."""
    if row.status == STATUS_DISABLED and (row.encrypted_refresh or row.has_only_access_token):
        action = f"To use it again: {TOKEN_MANAGER} enable {whose(row.location_id, factory.provider_name(row))}"
        raise AdmissionError("this client is disabled", action, Kind.DISABLED)
    name, binding, cell = factory.provider_name(row), factory.binding(row), row.encrypted_secret
    secret = seals.open_text("encrypted_secret", cell, row, binding) if cell else ""
    kept = {column: text for column in _KEPT if (text := getattr(row, column))}
    entered = NewCredential(row.location_id, name, row.client_id, secret, "", row.provider_params, kept)
    entered = entered.completed(row, factory.default_client_id(name))
    provider, params = factory.find_provider(name), read_params(row.provider_params)
    if "scope" in provider.placeholders and params.get("scope"):  # every refresh repeats what was asked for
        entered = entered.with_params({"scope": _scope_of(provider, params["scope"])})
    return with_client(candidate_of(entered, row, factory), factory)


def _scope_of(provider: Provider, known: str) -> str:
    return scope_of(provider, known.replace(",", " ").split())


def _redirect_uri(row: Row, provider: Provider, callback: str) -> str:
    """What the provider is given: the address of the callback, or the name that it gave to it, see `Login`."""
    own = row.redirect_uri or read_params(row.provider_params).get("redirect_uri", "")
    if own and own != callback and provider.login.redirect != "name":
        what = f"the redirect URI of this client is {own}, and logins come back to {callback}"
        raise AdmissionError(what, "Change one of the two, here and in the app at the provider.", Kind.CONFLICT)
    return own or callback
