"""A credential asked for, question by question; nothing is locked or changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from providers.addresses import placeholders_in
from providers.base import Endpoint, Provider
from token_refresh.base.clock import parse_day
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import trimmed
from token_refresh.clients.admission import Terms
from token_refresh.clients.credential import Candidate, NewCredential, candidate_of, endpoint_of
from token_refresh.net.hosts import agreement_question, host_of, is_agreed
from token_refresh.refresh.jobs import Job, JobFactory, read_params
from token_refresh.stores.base import Row
from token_refresh.terminal.prompts import Terminal

FindRow = Callable[[str, str], Row | None]  # by location and provider


def ask_whose(ask: Terminal, job_factory: JobFactory, default_provider: str) -> tuple[str, Provider]:
    """The location, and the provider; `default_provider` for an empty answer.

    Raises:
        ActionableError: there is no location, or no such provider.
    """
    location_id = required(trimmed(ask.text("Location id")), "location id")
    return location_id, job_factory.find_provider(ask.text("Provider", default_provider))


def offer_login(ask: Terminal, provider: Provider) -> bool:
    """Whether the person would rather log in at the provider than enter a token; asked where that is possible."""
    if provider.authorize_url is None:
        return False
    return ask.yes(f"Log in at {provider.name} in a browser, instead of entering a refresh token?")


def ask_for_credential(
    ask: Terminal, job_factory: JobFactory, provider: Provider, location_id: str, terms: Terms, find_row: FindRow
) -> tuple[NewCredential, Terms]:
    """The credential, and what the person agreed to beyond `terms`.

    Args:
        find_row: the row of a location and provider, if any.

    Raises:
        ActionableError: an answer that is needed is empty, or a no.
    """
    candidate, terms = ask_for_client(ask, job_factory, provider, location_id, terms, find_row)
    token = required(ask.secret("Refresh token"), "refresh token")
    entered = replace(candidate.entered, refresh_token=token)
    entered.require_usable()
    return entered, terms


def ask_for_client(
    ask: Terminal,
    job_factory: JobFactory,
    provider: Provider,
    location_id: str,
    terms: Terms,
    find_row: FindRow,
    *,
    is_login: bool = False,
) -> tuple[Candidate, Terms]:
    """Parameters, consent to the host, and the app's id and secret; what row or settings hold is not asked for.

    Returns whose credential it is, without a refresh token, and what the person agreed to beyond `terms`.

    `is_login`: the row's client secret is used again, where it has one, and what only a login needs is asked for.
    """
    name = provider.slug
    row = find_row(location_id, name) if location_id else None
    terms = replace(terms, replace=_may_replace(ask, terms, row))
    params = _ask_params(provider, ask, row.provider_params if row else "", is_login=is_login)
    draft = NewCredential(location_id, name, "", "", "", params)
    endpoint = endpoint_of(provider, draft)
    terms = _agreed_host(ask, endpoint, terms)
    client_id = _ask_client_id(ask, provider, endpoint, row, job_factory.default_client_id(name))
    secret = own = _secret_in(row, job_factory) if is_login else ""
    if provider.auth != "none" and not own:
        has_default = endpoint.is_fixed and bool(job_factory.client(name, endpoint, client_id, "").client_secret)
        secret = ask.secret("Client secret" + (" (empty: the one from the settings)" if has_default else ""))
    if secret != own and provider.login.secret_lifetime:
        params = _ask_secret_end(ask, params)
    entered = replace(draft, client_id=client_id, client_secret=secret, provider_params=params)
    return candidate_of(entered, row, job_factory), terms


def _secret_in(row: Row | None, job_factory: JobFactory) -> str:
    """The row's client secret; empty where it has none, or does not open."""
    job = job_factory.job(row) if row is not None and row.encrypted_secret else None
    return job.credential.client_secret if isinstance(job, Job) else ""


def _may_replace(ask: Terminal, terms: Terms, row: Row | None) -> bool:
    """Only what was shown is replaced: a credential that comes while the person types is somebody else's."""
    if terms.replace or row is None or not row.encrypted_refresh:
        return terms.replace
    if ask.yes(f"{row.location_id} already has a credential. Replace it?"):
        return True
    raise ActionableError("nothing was changed", "", Kind.ROW)


def _ask_params(provider: Provider, ask: Terminal, known: str, *, is_login: bool) -> str:
    """The row's `provider_params`, with what the provider takes beyond them; a default is stored nowhere."""
    params = read_params(known)
    entered = dict(params)
    skipped = _of_login_alone(provider)
    if is_login:  # what is optional may stay so, and two are asked for in words of their own
        skipped = {name for name in skipped if provider.placeholders[name] == ""} | {"scope", "redirect_uri"}
    for name, default in provider.placeholders.items():
        if not params.get(name) and name not in skipped:
            answer = ask.text(_words(name) + ("" if default != "" else " (may be empty)"), default or "")
            entered |= {name: answer} if answer != (default or "") else {}
            if default is None:
                required(answer, _words(name).lower())
    return json.dumps(entered) if entered != params else known


def _ask_secret_end(ask: Terminal, params: str) -> str:
    """The parameters with the last day of the client secret: when it is over, every client of the app stops."""
    answer = ask.text("Last day of the client secret, such as 2027-05-31 (may be empty)")
    if not answer:
        return params
    if parse_day(answer) is None:
        raise ActionableError("that is no day; nothing was changed", "Write it as 2027-05-31.", Kind.USAGE)
    return json.dumps({**read_params(params), "secret_ends": answer.strip()})


def _of_login_alone(provider: Provider) -> set[str]:
    """The parameters that no refresh needs."""
    login = provider.login
    others = (provider.token_url, provider.refresh_url, provider.revoke_url, *provider.params.values())
    asked = (provider.authorize_url, provider.device_url, *login.authorize_params.values(), *login.code_params.values())
    return {name for text in asked for name in placeholders_in(text or "")} - {
        name for text in others for name in placeholders_in(text or "")
    }


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _ask_client_id(ask: Terminal, provider: Provider, endpoint: Endpoint, row: Row | None, default: str) -> str:
    """The row's, or the settings'. A host that the row names may have an app of its own: theirs is only proposed."""
    known = (row.client_id if row else "") or (default if endpoint.is_fixed else "")
    client_id = known or required(ask.text("Client id", default), "client id")
    if not known and provider.login.is_strange(client_id):
        _agree(ask, f"{provider.name}'s client ids look different. Is it the client id?", "Copy it, then start again.")
    return client_id


def _agree(ask: Terminal, question: str, action: str) -> None:
    if not ask.yes(question):
        raise ActionableError("nothing was sent or changed", action, Kind.ROW)


def _agreed_host(ask: Terminal, endpoint: Endpoint, terms: Terms) -> Terms:
    if is_agreed(endpoint, terms.hosts):
        return terms
    if not ask.yes(agreement_question(endpoint)):
        raise ActionableError("nothing was sent or changed", "Correct the host, then start again.", Kind.ROW)
    return replace(terms, hosts=[*terms.hosts, host_of(endpoint.origin)])


def required(answer: str, name: str) -> str:
    """The answer. Raises `ActionableError` where it is empty."""
    if not answer:
        raise ActionableError(f"the {name} is empty; nothing was changed", "Start again.", Kind.USAGE)
    return answer
