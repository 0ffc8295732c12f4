"""A client's row is changed: another secret, another workspace, another address; its tokens stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from providers.base import Endpoint, Provider, ProviderError
from token_refresh.base.columns import split_details
from token_refresh.base.errors import Kind
from token_refresh.base.program import TOKEN_MANAGER, whose
from token_refresh.clients.client_fields import (
    TEXTS,
    Allowed,
    Mistakes,
    check_agreement,
    check_client,
    check_client_id,
    check_place,
    check_secret,
    check_texts,
)
from token_refresh.clients.credential import AdmissionError, NewCredential
from token_refresh.clients.settled import SettledRows
from token_refresh.refresh.jobs import Job, JobFactory, binding_of, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import STATUS_ACTIVE, STATUS_DISABLED, Row, Value, lacking_columns


@dataclass(frozen=True)
class Amendment:
    """What is to be changed in a row; None leaves it as it is, and an empty text takes it away.

    Attributes:
        provider_params: those that are named are changed, the others stay.
    """

    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    redirect_uri: str | None = None
    workspace_email: str | None = None
    workspace_name: str | None = None
    provider_params: Mapping[str, str] | None = None
    is_active: bool | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The details among them."""
        named = {name: getattr(self, name) for name in TEXTS}
        return {name: text.strip() for name, text in named.items() if text is not None}


def amend(
    context: RunContext, rows: SettledRows, row: Row, provider: Provider, change: Amendment, allowed: Allowed
) -> None:
    """Change a settled row.

    Raises:
        AdmissionError: what was handed in cannot be used, see `fields`; or does not fit the row, `Kind.CONFLICT`.
        TokenError, StoreError: the row is as it was.
    """
    columns, factory = context.store.store.columns, context.job_factory
    details, in_params = split_details(change.texts, columns)
    entered = _amended(row, provider, change, in_params)
    endpoint = _checked(factory, row, provider, entered, change, allowed)
    error = lacking_columns(columns, provider.slug, entered.provider_params, context.default_provider)
    if error is not None:
        raise AdmissionError.of(error)
    values: dict[str, Value] = {"client_id": entered.client_id, "provider_params": entered.provider_params, **details}
    if change.client_secret is not None:
        binding = binding_of(provider, endpoint)
        sealed = context.store.cells(row.location_id, binding, encrypted_secret=change.client_secret)
        values |= {"encrypted_secret": "", **sealed}
    is_other = change.is_active is not None and change.is_active == (row.status == STATUS_DISABLED)
    if is_other:
        rows.require_status()
        status = STATUS_ACTIVE if change.is_active else STATUS_DISABLED
        values |= {"status": status, "last_error": "", "failure_count": 0}
    rows.write(row, provider.slug, values, is_well=is_other)


def _amended(row: Row, provider: Provider, change: Amendment, in_params: Mapping[str, str]) -> NewCredential:
    """What the row says then; `in_params` are the details for which the table has no columns."""
    before = _params_of(row)
    params = {**before, **(change.provider_params or {}), **in_params}
    if "redirect_uri" in before and change.redirect_uri is not None:  # where every refresh repeats it
        params["redirect_uri"] = change.redirect_uri.strip()
    params = {name: text for name, text in params.items() if text != ""}
    cell = row.provider_params if params == before else json.dumps(params, ensure_ascii=False) if params else ""
    client_id = row.client_id if change.client_id is None else change.client_id
    return NewCredential(row.location_id, provider.slug, client_id, change.client_secret or "", "", cell)


def _params_of(row: Row) -> dict[str, str]:
    """Those of the row; where nobody can read them, they are replaced."""
    try:
        return read_params(row.provider_params)
    except ProviderError:
        return {}


def _checked(
    factory: JobFactory, row: Row, provider: Provider, entered: NewCredential, change: Amendment, allowed: Allowed
) -> Endpoint:
    """Where the row's credential is sent then. What stays as it is is not judged again. Raises like `amend`."""
    mistakes = Mistakes()
    if change.client_id is not None:
        check_client_id(mistakes, entered.client_id, provider)
    check_secret(mistakes, entered.client_secret)
    endpoint = check_place(mistakes, entered, provider)
    named = change.provider_params or {}
    check_texts(mistakes, {**{name: named[name] for name in TEXTS if name in named}, **change.texts}, provider, allowed)
    if endpoint is None:
        mistakes.raise_any()
        raise AssertionError("unreachable")
    is_moved = endpoint.origin != _origin_of(provider, row)
    if is_moved and not _is_return(factory, row, entered):
        _check_move(mistakes, row, provider, change)
    if is_moved or change.client_secret is not None:  # anybody may have edited what the row says of its host
        check_agreement(mistakes, endpoint, allowed)
    if change.client_secret is not None or not row.encrypted_secret:
        check_client(mistakes, factory, entered, provider, endpoint)
    mistakes.raise_any()
    return endpoint


def _origin_of(provider: Provider, row: Row) -> str:
    """The host that the row names for its cells; empty where it names none."""
    try:
        return provider.endpoint(_params_of(row)).origin
    except ProviderError:
        return ""


def _is_return(factory: JobFactory, row: Row, entered: NewCredential) -> bool:
    """Whether what is in the row was encrypted for that host: somebody had edited, or emptied, what it says of it."""
    return isinstance(factory.job(replace(row, provider_params=entered.provider_params)), Job)


def _check_move(mistakes: Mistakes, row: Row, provider: Provider, change: Amendment) -> None:
    """What was encrypted for one host is never sent to another."""
    if row.encrypted_refresh or row.has_only_access_token:
        what = f"the tokens of {row.location_id} {provider.slug} are for another host"
        action = f"Revoke them first: {TOKEN_MANAGER} revoke {whose(row.location_id, provider.slug)}"
        raise AdmissionError(what, action, Kind.CONFLICT)
    if row.encrypted_secret and change.client_secret is None:
        mistakes.add("client_secret", "has to be given again: the one in the row is encrypted for another host")
