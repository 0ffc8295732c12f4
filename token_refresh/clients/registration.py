"""A client before its login: its app and workspace, in a row that waits for somebody to log in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from providers.base import Provider
from token_refresh.base.columns import split_details
from token_refresh.base.errors import Kind
from token_refresh.base.events import audited
from token_refresh.clients.client_fields import (
    Allowed,
    Mistakes,
    check_agreement,
    check_client,
    check_client_id,
    check_name,
    check_place,
    check_secret,
    check_texts,
)
from token_refresh.clients.credential import AdmissionError, NewCredential, candidate_of
from token_refresh.clients.row import find_row, write_row
from token_refresh.refresh.jobs import JobFactory, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row, lacking_columns


def register(context: RunContext, entered: NewCredential, allowed: Allowed) -> Row:
    """Make the row of a client that nobody has logged in for yet. The caller holds the run lock.

    Args:
        context: what it works with.
        entered: without a refresh token; redirect URI and workspace are among its details.
        allowed: see there.

    Raises:
        AdmissionError: what was handed in cannot be used, see `fields`; or the row exists, `Kind.CONFLICT`.
        StoreError: the store does not take it.
    """
    with audited(context.audit, "register", entered.location_id) as used:
        used.client_id = entered.client_id
        return _registered(context, _checked(context.job_factory, entered, allowed))


def _registered(context: RunContext, entered: NewCredential) -> Row:
    """Raises like `register`."""
    factory, store = context.job_factory, context.store.store
    _, in_params = split_details(entered.details, store.columns)
    params = entered.provider_params or " ".join(in_params)
    error = lacking_columns(store.columns, entered.provider, params, context.default_provider)
    if error is not None:
        raise AdmissionError.of(error)
    find = partial(find_row, store, factory, entered.location_id, entered.provider)
    candidate = candidate_of(replace(entered, details={"connected_at": "", **entered.details}), None, factory)
    if find() is None and write_row(context, candidate, None, find, attempts=1) and (row := find()) is not None:
        return row
    what = f"there is a row of {entered.location_id} {entered.provider} already"
    raise AdmissionError(what, "Change that one instead.", Kind.CONFLICT)


def _checked(factory: JobFactory, entered: NewCredential, allowed: Allowed) -> NewCredential:
    """With what the settings add to it. Raises like `register`."""
    mistakes, provider = Mistakes(), None
    check_name(mistakes, "location_id", entered.location_id)
    with mistakes.of("provider"):
        provider = factory.find_provider(entered.provider)
        entered = replace(entered, provider=provider.slug)
        entered = entered.completed(None, factory.default_client_id(provider.slug))
        _check_app(mistakes, factory, entered, provider, allowed)
    check_texts(mistakes, entered.details, provider, allowed)
    mistakes.raise_any()
    return entered


def _check_app(
    mistakes: Mistakes, factory: JobFactory, entered: NewCredential, provider: Provider, allowed: Allowed
) -> None:
    check_client_id(mistakes, entered.client_id, provider)
    check_secret(mistakes, entered.client_secret)
    endpoint = check_place(mistakes, entered, provider)
    if endpoint is not None:
        check_agreement(mistakes, endpoint, allowed)
        check_client(mistakes, factory, entered, provider, endpoint)
        check_texts(mistakes, read_params(entered.provider_params), provider, allowed)
