"""From listed rows to jobs: what one refresh needs, or the sentence that says why this row cannot have one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from providers.base import Answer, Credential, Endpoint, Provider, ProviderError, Verdict
from providers.index import ProviderIndex
from token_refresh.base.errors import ActionableError
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.journal.entries import Entry
from token_refresh.stores.base import Row
from token_refresh.stores.sealed import Binding, CellError, Seals


@dataclass(frozen=True)
class ClientKey:
    """What makes two rows share a client; the secret is only ever compared."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Client:
    """A client id and its secret, as an app is registered at a provider; the secret is empty where it has none."""

    client_id: str = ""
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Job:
    """One row, ready to be refreshed.

    Attributes:
        cell, token: the fingerprints of its refresh cell and of the refresh token in it, one a key.
        lost_entry: the journal entry of an earlier run that sent this row's token and never saw a usable answer.
        lost: the same, which may also be of another store's journal.
        proves: the journal entry whose unproven token this is, and those whose unproven tokens led to it; the token
            before it, sealed there as the row's `previous_refresh`, is back where this one is refused.
    """

    row: Row
    provider: Provider
    endpoint: Endpoint
    binding: Binding
    credential: Credential
    cell: tuple[str, ...]
    token: tuple[str, ...]
    lost_entry: int | None = None
    lost: Entry | None = None
    proves: tuple[Entry, ...] = ()

    @cached_property
    def client(self) -> ClientKey:
        """Whose refusal this row would share."""
        return ClientKey(self.endpoint.url, self.credential.client_id, self.credential.client_secret)

    @property
    def agency(self) -> str:
        """The agency that can have another pair minted for it; empty where there is none."""
        return self.credential.params.get(self.provider.agency_param, "")

    def has_successor_in(self, answer: Answer) -> bool:
        """Whether the answer has a refresh token that takes the place of the one that was sent."""
        return answer.refresh_token not in (None, self.credential.refresh_token)


Held = tuple[Job, Answer, Verdict, int | None, datetime | None]
"""The end of a row that was sent, as `WriteBack.add` takes it, while its agency may have another pair for it."""


@dataclass(frozen=True)
class UnusableRow:
    """A row that cannot be refreshed until somebody fixes it, and why.

    Not an exception of its own: one would carry the row's cells, and one row never stops the others.

    Attributes:
        provider: the slug of its provider, or the name that it gives.
    """

    row: Row
    provider: str
    error: ActionableError

    @property
    def is_key_unknown(self) -> bool:
        """Whether no configured key opens its cells."""
        return isinstance(self.error, CellError) and self.error.is_key_unknown


class JobFactory:
    """Turns rows into jobs.

    Args:
        seals: opens the cells.
        providers: the catalogue.
        default_provider: for rows that name none.
        default_client: a provider's client from the settings, by its name.
    """

    def __init__(
        self, seals: Seals, providers: ProviderIndex, default_provider: str, default_client: Callable[[str], Client]
    ) -> None:
        self._seals = seals
        self._providers = providers
        self._default_provider = default_provider
        self._default_client = default_client

    def find_provider(self, name: str) -> Provider:
        """The provider of that name, in whatever spelling.

        Raises:
            ProviderError: there is none, or its entry in the catalogue cannot be used.
        """
        return self._providers.get(name)

    def slug_of(self, name: str) -> str:
        """The slug that a name means; the name itself where no provider has it."""
        return self._providers.slug_of(name) or name

    def provider_name(self, row: Row) -> str:
        """The slug of the row's provider, or of the default; a name that nobody has as it stands."""
        return self.slug_of(row.provider or self._default_provider)

    def endpoint(self, row: Row) -> Endpoint:
        """Where the row's credential is sent.

        Raises:
            ProviderError: the row's provider or its parameters, or any other cell of it, cannot be used.
        """
        return self._place_of(row)[2]

    def binding(self, row: Row) -> Binding:
        """What the row's cells are bound to.

        Raises:
            ProviderError: see `endpoint`.
        """
        provider, _, endpoint = self._place_of(row)
        return binding_of(provider, endpoint)

    def _place_of(self, row: Row) -> tuple[Provider, dict[str, str], Endpoint]:
        """Whose the row's credential is, the row's parameters, and where it is sent. Raises like `endpoint`."""
        if row.error is not None:
            raise ProviderError(str(row.error), row.error.action)
        provider, params = self.find_provider(self.provider_name(row)), read_params(row.provider_params)
        return provider, params, provider.endpoint(params)

    def default_client_id(self, provider: str) -> str:
        """The client id that the settings have for a provider; empty where they have none."""
        return self._default_client(provider).client_id

    def client(self, provider: str, endpoint: Endpoint, client_id: str, client_secret: str) -> Client:
        """The client that a credential is sent with: its own, and what it leaves empty from the settings.

        The secret in the settings belongs to the client id in the settings, and goes only where settings or catalogue
        fix the host: whoever can edit the table could name a host of theirs, and empty the cell of the row's secret.

        Args:
            provider: its name.
            endpoint: where the credential would be sent.
            client_id, client_secret: the credential's own.

        Raises:
            ProviderError: there is no client id, or the secret in the settings may not be sent to this host.
        """
        default = self._default_client(provider)
        client_id = client_id or default.client_id
        setting = provider.upper().replace("-", "_")
        if not client_id:
            raise ProviderError(
                "client_id is empty",
                f"Write the app's client id into the row, or set {setting}_CLIENT_ID and {setting}_CLIENT_SECRET.",
            )
        if client_secret or client_id != default.client_id or not default.client_secret:
            return Client(client_id, client_secret)
        if not endpoint.is_fixed:
            raise ProviderError(
                f"it has no client secret of its own, and {setting}_CLIENT_SECRET is not sent to {endpoint.origin}, "
                "which its provider_params name",
                f"Enter the client's own secret: {ONBOARD_CLIENT}. "
                f"Or fix the host: set {setting}_TOKEN_URL, or describe a provider of that host in PROVIDERS_FILE.",
            )
        return default

    def job(self, row: Row) -> Job | UnusableRow:
        """What the row's refresh needs, or its fault."""
        name = self.provider_name(row)
        try:
            provider, params, endpoint = self._place_of(row)
            binding = binding_of(provider, endpoint)
            secret, token = self._seals.open(row, binding)
            client = self.client(name, endpoint, row.client_id, secret)
            credential = Credential(client.client_id, client.client_secret, token, params)
            provider.filled(provider.params, credential.params)
        except (ProviderError, CellError) as error:
            return UnusableRow(row, name, error.with_traceback(None))  # whose frames hold what was opened
        cell, marks = map(self._seals.keyring.fingerprints, (row.encrypted_refresh, token))
        return Job(row, provider, endpoint, binding, credential, cell, marks)


def binding_of(provider: Provider, endpoint: Endpoint) -> Binding:
    """What the cells of a row at this endpoint are bound to."""
    return Binding(endpoint.origin, provider.former_origins, endpoint.is_fixed)


def read_params(text: str) -> dict[str, str]:
    """The `provider_params` cell: a JSON object of texts; an empty cell is an empty object.

    Raises:
        ProviderError: it is something else.
    """
    if not text:
        return {}
    try:
        params = json.loads(text)
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict) or not all(isinstance(value, str) for value in params.values()):
        raise ProviderError(
            "provider_params is not a JSON object of texts", 'Write it like {"tenant": "common"}, or empty the cell.'
        )
    return params
