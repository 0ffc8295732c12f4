"""What somebody hands in for one client, and what it makes together with its provider, its row and the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from providers.base import Answer, Credential, Endpoint, Provider, ProviderError, RawAnswer, Verdict
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Notice, RowFinished
from token_refresh.base.text import LONGEST_TEXT, paste_mistake
from token_refresh.refresh.jobs import JobFactory, read_params
from token_refresh.stores.base import Row

_COPY_AGAIN = "Copy it again as the provider shows it, with nothing around it."
LOGIN = 0  # where an answer in the journal has its HTTP status: what a login brought, which no refresh did


class AdmissionError(ActionableError):
    """This credential cannot be saved; the table is untouched."""

    kind = Kind.ROW

    @classmethod
    def of(cls, error: ActionableError) -> AdmissionError:
        """The same error, met by a credential on its way into the table."""
        return cls(str(error), error.action, error.kind)


def params_cell(params: Mapping[str, str] | None) -> str:
    """The cell of the `provider_params` that a program hands in. Raises `AdmissionError` where they are no texts."""
    if not params:
        return ""
    if isinstance(params, Mapping) and all(isinstance(text, str) for one in params.items() for text in one):
        return json.dumps(dict(params), ensure_ascii=False)
    action = 'Pass a dict such as {"tenant": "common"}.'
    raise AdmissionError("provider_params are no names with texts", action, Kind.USAGE)


def require_stored(end: RowFinished | Notice) -> RowFinished:
    """What became of a login that somebody waits for. Raises `AdmissionError` where it cannot be stored."""
    if isinstance(end, Notice):
        raise AdmissionError(end.message, end.action)
    return end


@dataclass(frozen=True)
class NewCredential:
    """What a person or a program hands in for one client; empty text where it leaves something to row or settings.

    Attributes:
        refresh_token: empty where a login brought only an access token.
        details: of the login, by column; times as ISO 8601.
    """

    location_id: str
    provider: str
    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    provider_params: str = ""
    details: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        """For the journal, which seals it. Entries outlive versions: the names of the fields stay."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> NewCredential:
        """What `to_json` wrote. Raises `TypeError` for what another version wrote."""
        return cls(**json.loads(text))

    def require_usable(self, access_token: str | None = None) -> None:
        """Raises `AdmissionError` where it cannot be said whose credential it is, or it was not copied as it is.

        With an `access_token` it may be that alone.
        """
        names = ("location_id", "provider") if access_token else ("location_id", "provider", "refresh_token")
        missing = [name for name in names if not (getattr(self, name) or "").strip()]
        if missing:
            raise AdmissionError(f"{' and '.join(missing)} must not be empty", "Nothing was stored.", Kind.USAGE)
        if not self.location_id.isprintable() or len(self.location_id) > LONGEST_TEXT:
            what = f"the location id holds a character that is not printed, or more than {LONGEST_TEXT} characters"
            raise AdmissionError(f"{what}; it was not sent", "Correct it.", Kind.USAGE)
        for name in ("client_id", "client_secret", "refresh_token"):
            if problem := paste_mistake(getattr(self, name) or ""):
                raise AdmissionError(f"the {name} {problem}; it was not sent", _COPY_AGAIN, Kind.USAGE)

    def with_params(self, more: Mapping[str, str]) -> NewCredential:
        """With these parameters beside its own, or in their place."""
        params = {**read_params(self.provider_params), **more}
        return replace(self, provider_params=json.dumps(params) if params else "")

    def completed(self, row: Row | None, default_client_id: str) -> NewCredential:
        """With what was not entered taken from the prepared row, and the client id else from the settings."""
        return replace(
            self,
            client_id=self.client_id or (row.client_id if row else "") or default_client_id,
            provider_params=self.provider_params or (row.provider_params if row else ""),
        )


@dataclass(frozen=True)
class Candidate:
    """A credential on its way into the table.

    Attributes:
        entered: what will be stored with it.
        endpoint: where it is sent.
        credential: what is sent; after `with_client` it may hold the settings' client secret.
        row: where it goes; None for a new one.
    """

    entered: NewCredential
    provider: Provider
    endpoint: Endpoint
    credential: Credential
    row: Row | None

    @property
    def is_replacing(self) -> bool:
        """Whether another credential is in its place."""
        return self.row is not None and bool(self.row.encrypted_refresh)

    @property
    def granted_scopes(self) -> str:
        """What the row's last login was granted, in the provider's words; empty where the settings name the scopes.

        Nobody who logs in again knows what was asked for then. Tables without the column keep it among the parameters.
        """
        if self.row is None or self.provider.login.more_scopes:
            return ""
        return self.row.scopes or self.credential.params.get("granted_scope", "")


def endpoint_of(provider: Provider, entered: NewCredential) -> Endpoint:
    """Where the credential would be sent.

    Raises:
        AdmissionError: its parameters cannot be used.
    """
    try:
        params = read_params(entered.provider_params)
        endpoint = provider.endpoint(params)
        provider.filled(provider.params, params)
    except ProviderError as error:
        raise AdmissionError.of(error) from None
    return endpoint


def candidate_of(entered: NewCredential, row: Row | None, job_factory: JobFactory) -> Candidate:
    """What would be sent where.

    Raises:
        AdmissionError: the provider or its parameters cannot be used.
    """
    try:
        provider = job_factory.find_provider(entered.provider)
    except ProviderError as error:
        raise AdmissionError.of(error) from None
    return Candidate(entered, provider, endpoint_of(provider, entered), _credential(entered), row)


def with_client(candidate: Candidate, job_factory: JobFactory) -> Candidate:
    """The same with the client that it is sent with, see `JobFactory.client`.

    Raises:
        AdmissionError: there is no client id, or the secret in the settings may not be sent to this host.
    """
    sent = candidate.credential
    try:
        client = job_factory.client(candidate.entered.provider, candidate.endpoint, sent.client_id, sent.client_secret)
    except ProviderError as error:
        raise AdmissionError(str(error), error.action, Kind.USAGE) from None
    sent = replace(sent, client_id=client.client_id, client_secret=client.client_secret)
    return replace(candidate, credential=sent)


def login_answer(login: Answer) -> RawAnswer:
    """What a login brought beside its refresh token, as the journal keeps answers; see `read_kept`."""
    assert login.received_at is not None
    end = iso(login.expires_at) if login.expires_at is not None else None
    refresh_end = iso(login.refresh_expires_at) if login.refresh_expires_at is not None else None
    content = {"access_token": login.access_token, "expires_at": end, "refresh_expires_at": refresh_end}
    return RawAnswer(LOGIN, {}, json.dumps(content).encode(), login.received_at, is_complete=True)


def read_kept(provider: Provider, raw: RawAnswer) -> Answer:
    """A kept answer to an onboarding, or what `login_answer` made."""
    if raw.status != LOGIN:
        return provider.read_answer(raw)
    content = json.loads(raw.body)
    return Answer(
        Verdict.GRANTED,
        access_token=content["access_token"],
        expires_at=parse_time(content["expires_at"]),
        refresh_expires_at=parse_time(content.get("refresh_expires_at")),  # entries of earlier builds lack it
        received_at=raw.received_at,
    )


def _credential(entered: NewCredential) -> Credential:
    params = read_params(entered.provider_params)
    return Credential(entered.client_id, entered.client_secret, entered.refresh_token, params)
