"""A client is added by logging in: questions, login, and what is to be stored of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from providers.authorization import code_request, scope_of
from providers.base import Provider, RawAnswer
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import trimmed
from token_refresh.clients.admission import Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.clients.login.device import wait_for_device
from token_refresh.clients.login.redemption import NoGrantError, Redemption, completed, marks_of, other_account
from token_refresh.clients.login.redirects import check_redirect, loopback_redirect
from token_refresh.clients.login.session import Person, Wish, wait_for_callback
from token_refresh.clients.questions import Asker, Draft, Order, ask_for_client
from token_refresh.clients.row import find_row
from token_refresh.journal.entries import Step
from token_refresh.refresh.jobs import Job, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import StoreError


class Terminal(Asker, Person, Protocol):
    """Who is asked, and logs in."""


def log_in(context: RunContext, ask: Terminal, order: Order, default_provider: str, terms: Terms) -> int:
    """Ask what is needed, let the person log in, and exchange what they bring. No lock is held.

    Returns:
        the journal's entry that holds the answer; see `redemption.resume`.

    Raises:
        ActionableError: there is nothing to store; nothing was changed.
        JournalError: nothing was sent.
    """
    find = partial(find_row, context.store.store, context.job_factory)
    provider = context.job_factory.find_provider(order.provider or ask.text("Provider", default_provider))
    if provider.authorize_url is None:
        raise ActionableError(
            f"{provider.name} has no login that could be opened from here", f"See {provider.docs}.", Kind.USAGE
        )
    if order.by_device and provider.device_url is None:
        raise ActionableError(f"{provider.name} has no login by device", "Leave out --device.", Kind.USAGE)
    location_id = trimmed(order.location_id or _ask_location(ask, provider))
    draft = ask_for_client(ask, context.job_factory, provider, location_id, terms, find, is_login=True)
    draft = _with_own_secret(context, ask, draft)
    wish = Wish(
        scopes=_scopes(ask, provider, order.scopes, draft.entered),
        redirect_uri="" if order.by_device else _redirect_uri(ask, provider, order.redirect_uri, draft.entered),
        opens_browser=order.opens_browser,
    )
    draft = replace(draft, entered=_with_params(draft.entered, _kept(provider, wish)))
    entry_id, raw, entered = _exchanged(context, ask, draft, wish, by_device=order.by_device)
    _ask_for_agreement(context, ask, replace(draft, entered=entered), entry_id, raw)
    return entry_id


def _exchanged(
    context: RunContext, ask: Terminal, draft: Draft, wish: Wish, *, by_device: bool
) -> tuple[int, RawAnswer, NewCredential]:
    replaced = marks_of(context, draft.row)
    if by_device:
        redemption = Redemption(context, draft.entered, replaced)
        return *wait_for_device(
            redemption, scope_of(draft.provider, wish.scopes), ask.say, context.clock
        ), draft.entered
    params = read_params(draft.entered.provider_params)
    client = Redemption(context, draft.entered, replaced).credential
    attempt, callback = wait_for_callback(draft.provider, params, client, wish, ask, context.clock)
    said = dict(callback.params)
    if "redirect_uri" in draft.provider.placeholders:  # every refresh repeats it
        said["redirect_uri"] = attempt.redirect_uri
    entered = _with_params(draft.entered, said)
    redemption = Redemption(context, entered, replaced)
    request = code_request(
        redemption.provider, redemption.credential, callback.code, attempt.redirect_uri, attempt.verifier
    )
    return *redemption.redeem(request, callback.code, attempt.verifier or ""), redemption.draft


def _ask_for_agreement(context: RunContext, ask: Terminal, draft: Draft, entry_id: int, raw: RawAnswer) -> None:
    """A yes to what the login alone could tell: that it is another account's, or of a location with a credential."""
    journal = context.journal
    try:
        entered, _ = completed(draft.provider, draft.entered, raw)
        row = find_row(context.store.store, context.job_factory, entered.location_id, draft.provider.slug)
        if known := other_account(entered, row):
            _require(ask, f"{entered.location_id} holds the login of {known}; this is another account's. Replace it?")
        elif row is not None and row.encrypted_refresh and draft.row is None and not draft.terms.replace:
            _require(ask, f"{entered.location_id} already has a credential. Replace it?")
    except NoGrantError:
        journal.finish([entry_id])
        raise
    except StoreError:  # it waits in the journal for the next run
        raise
    except ActionableError:
        journal.mark(entry_id, Step.SUPERSEDED)
        raise
    [entry] = [one for one in journal.entries() if one.id == entry_id]
    journal.note_agreement(entry_id, entry.context, entered.to_json(), marks_of(context, row))


def _require(ask: Asker, question: str) -> None:
    if not ask.yes(question):
        raise ActionableError("nothing was changed", "", Kind.ROW)


def _ask_location(ask: Asker, provider: Provider) -> str:
    if provider.login.account_is_location:
        return ask.text("Location id (empty: the one that is chosen at the login)")
    location_id = ask.text("Location id")
    if not location_id:
        raise ActionableError("the location id is empty; nothing was changed", "Start again.", Kind.USAGE)
    return location_id


def _scopes(ask: Asker, provider: Provider, given: Sequence[str], entered: NewCredential) -> Sequence[str]:
    """Those of the row, and what the flags say; asked for where neither they nor the settings name any."""
    known = [*_listed(read_params(entered.provider_params).get("scope", "")), *given]
    if known or provider.login.more_scopes:
        return known
    return _listed(ask.text("Scopes beyond the usual (may be empty)"))


def _listed(scopes: str) -> list[str]:
    return scopes.replace(",", " ").split()


def _with_own_secret(context: RunContext, ask: Asker, draft: Draft) -> Draft:
    """With the client secret in the row, where the person entered none; asked for where the row does not open."""
    if draft.row is None or draft.entered.client_secret or not draft.row.encrypted_secret:
        return draft
    job = context.job_factory.job(draft.row)
    secret = job.credential.client_secret if isinstance(job, Job) else ask.secret("Client secret")
    return replace(draft, entered=replace(draft.entered, client_secret=secret))


def _redirect_uri(ask: Asker, provider: Provider, given: str, entered: NewCredential) -> str:
    """Where the person is sent back to: as given, as in the row, as usual on this machine, else asked for."""
    known = given or read_params(entered.provider_params).get("redirect_uri", "")
    if not known and loopback_redirect(provider, "") is None:
        known = ask.text("Redirect URI, as entered at the provider")
        if not known:
            raise ActionableError(
                "the redirect URI is empty; nothing was changed",
                f"Enter one in the app's settings at {provider.name}, then start again.",
                Kind.USAGE,
            )
    if known and provider.login.redirect != "name":
        check_redirect(known)
    return known


def _kept(provider: Provider, wish: Wish) -> dict[str, str]:
    """What of a wish stays in the row: the next login, and of some providers every refresh, needs it."""
    kept = {"redirect_uri": wish.redirect_uri} if wish.redirect_uri else {}
    if wish.scopes and "scope" in provider.placeholders:
        kept["scope"] = scope_of(provider, wish.scopes)
    return kept


def _with_params(entered: NewCredential, more: dict[str, str]) -> NewCredential:
    params = {**read_params(entered.provider_params), **more}
    return replace(entered, provider_params=json.dumps(params) if params else "")
