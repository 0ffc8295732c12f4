"""A credential asked for, question by question; nothing is locked or changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from providers.base import Endpoint, Provider
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import trimmed
from token_refresh.clients.admission import Terms
from token_refresh.clients.credential import NewCredential, endpoint_of
from token_refresh.net.hosts import agreement_question, host_of, is_agreed
from token_refresh.refresh.jobs import JobFactory, read_params
from token_refresh.stores.base import Row


class Asker(Protocol):
    """Asks a person."""

    def text(self, question: str, default: str = "") -> str:
        """A visible answer, trimmed; `default` for an empty one."""
        ...

    def secret(self, question: str) -> str:
        """An answer that is not shown, without line breaks and paste marks."""
        ...

    def yes(self, question: str) -> bool:
        """Whether the answer is yes; anything else is no."""
        ...


def ask_for_credential(
    ask: Asker, job_factory: JobFactory, default_provider: str, terms: Terms, find_row: Callable[[str, str], Row | None]
) -> tuple[NewCredential, Terms]:
    """The credential, and what the person agreed to beyond `terms`.

    Args:
        default_provider: for an empty answer.
        find_row: the row of a location and provider, if any.

    Raises:
        ActionableError: an answer that is needed is empty, or a no.
    """
    location_id = _required(trimmed(ask.text("Location id")), "location id")
    provider = job_factory.find_provider(ask.text("Provider", default_provider))
    name = provider.slug
    row = find_row(location_id, name)
    terms = replace(terms, replace=_may_replace(ask, terms, row))
    params = _ask_params(provider, ask, row.provider_params if row else "")
    draft = NewCredential(location_id, name, "", "", "", params)
    endpoint = endpoint_of(provider, draft)
    terms = _agreed_host(ask, endpoint, terms)
    client_id = _ask_client_id(ask, endpoint, row, job_factory.default_client_id(name))
    has_secret = endpoint.is_fixed and bool(job_factory.client(name, endpoint, client_id, "").client_secret)
    secret = ask.secret("Client secret" + (" (empty: the one from the settings)" if has_secret else ""))
    token = _required(ask.secret("Refresh token"), "refresh token")
    entered = replace(draft, client_id=client_id, client_secret=secret, refresh_token=token)
    entered.require_usable()
    return entered, terms


def _may_replace(ask: Asker, terms: Terms, row: Row | None) -> bool:
    """Only what was shown is replaced: a credential that comes while the person types is somebody else's."""
    if terms.replace or row is None or not row.encrypted_refresh:
        return terms.replace
    if ask.yes(f"{row.location_id} already has a credential. Replace it?"):
        return True
    raise ActionableError("nothing was changed", "", Kind.ROW)


def _ask_params(provider: Provider, ask: Asker, known: str) -> str:
    """The row's `provider_params`, with what the provider takes beyond them; a default is stored nowhere."""
    params = read_params(known)
    entered = dict(params)
    for name, default in provider.placeholders.items():
        if not params.get(name):
            answer = ask.text(_words(name) + ("" if default != "" else " (may be empty)"), default or "")
            entered |= {name: answer} if answer != (default or "") else {}
            if default is None:
                _required(answer, _words(name).lower())
    return json.dumps(entered) if entered != params else known


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _ask_client_id(ask: Asker, endpoint: Endpoint, row: Row | None, default: str) -> str:
    """The row's, or the settings'. A host that the row names may have an app of its own: theirs is only proposed."""
    known = (row.client_id if row else "") or (default if endpoint.is_fixed else "")
    return known or _required(ask.text("Client id", default), "client id")


def _agreed_host(ask: Asker, endpoint: Endpoint, terms: Terms) -> Terms:
    if is_agreed(endpoint, terms.hosts):
        return terms
    if not ask.yes(agreement_question(endpoint)):
        raise ActionableError("nothing was sent or changed", "Correct the host, then start again.", Kind.ROW)
    return replace(terms, hosts=[*terms.hosts, host_of(endpoint.origin)])


def _required(answer: str, name: str) -> str:
    if not answer:
        raise ActionableError(f"the {name} is empty; nothing was changed", "Start again.", Kind.USAGE)
    return answer
