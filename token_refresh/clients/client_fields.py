"""What is wrong with what somebody hands in of a client, of every field at once. No value is repeated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from providers.authorization import scope_of
from providers.base import Endpoint, Provider, ProviderError
from token_refresh.base.clock import parse_day
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import LONGEST_TEXT, paste_mistake
from token_refresh.clients.credential import AdmissionError, NewCredential, endpoint_of
from token_refresh.clients.login.attempt import require_redirect
from token_refresh.net.hosts import require_agreement
from token_refresh.refresh.jobs import JobFactory, read_params

TEXTS = ("redirect_uri", "workspace_email", "workspace_name")


@dataclass(frozen=True)
class Allowed:
    """What whoever runs the program has agreed to.

    Attributes:
        hosts: token hosts that `provider_params` may name; see `net.hosts.is_agreed`.
        origins: where a redirect URI may be, beside https and this machine, as `http://host:port`.
    """

    hosts: Collection[str] = ()
    origins: Collection[str] = ()


class Mistakes:
    """What is wrong, by field: of each the first thing that was found."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def add(self, name: str, problem: str) -> None:
        """Note a problem of a field; an empty one is none."""
        if problem:
            self.found.setdefault(name, problem)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """What is refused inside is wrong with this field."""
        try:
            yield
        except ActionableError as error:
            self.add(name, str(error))

    def raise_any(self) -> None:
        """Raise `AdmissionError` with all of them in its `fields`, where there are any."""
        if self.found:
            what = "; ".join(f"{name}: {problem}" for name, problem in self.found.items())
            error = AdmissionError(what, "Correct that; nothing was stored.", Kind.USAGE)
            error.fields = self.found
            raise error


def check_name(mistakes: Mistakes, name: str, text: str) -> None:
    """Whether people and stores can do with this name."""
    if not text:
        mistakes.add(name, "is empty")
    if not text.isprintable():
        mistakes.add(name, "holds a character that is not printed, such as a line break")
    if len(text) > LONGEST_TEXT:
        mistakes.add(name, f"is longer than {LONGEST_TEXT} characters")


def check_client_id(mistakes: Mistakes, client_id: str, provider: Provider) -> None:
    """Whether it was copied as it is, and can be one of this provider's."""
    mistakes.add("client_id", paste_mistake(client_id))
    check_name(mistakes, "client_id", client_id)
    if client_id and provider.login.is_strange(client_id):
        mistakes.add("client_id", f"is not of the form that client ids of {provider.name} have")


def check_secret(mistakes: Mistakes, client_secret: str) -> None:
    """Whether it was copied as it is."""
    mistakes.add("client_secret", paste_mistake(client_secret))


def check_place(mistakes: Mistakes, entered: NewCredential, provider: Provider) -> Endpoint | None:
    """Where the credential would be sent; None where its parameters cannot be used."""
    endpoint = None
    with mistakes.of("provider_params"):
        params = read_params(entered.provider_params)
        endpoint = endpoint_of(provider, entered)
        scope_of(provider, params.get("scope", "").replace(",", " ").split())
        if params.get("secret_ends") and parse_day(params["secret_ends"]) is None:
            mistakes.add("provider_params", "secret_ends is no day such as 2027-05-31")
    return endpoint


def check_agreement(mistakes: Mistakes, endpoint: Endpoint, allowed: Allowed) -> None:
    """Whether secrets may be sent there."""
    with mistakes.of("provider_params"):
        require_agreement(endpoint, allowed.hosts)


def check_texts(mistakes: Mistakes, texts: Mapping[str, str], provider: Provider | None, allowed: Allowed) -> None:
    """Judge the redirect URI and the workspace; of some providers the redirect URI is no address, see `Login`."""
    for name in filter(texts.get, TEXTS):
        check_name(mistakes, name, texts[name])
    uri = texts.get("redirect_uri")
    if uri and (provider is None or provider.login.redirect != "name"):
        with mistakes.of("redirect_uri"):
            require_redirect(uri, allowed.origins)


def check_client(
    mistakes: Mistakes, factory: JobFactory, entered: NewCredential, provider: Provider, endpoint: Endpoint
) -> None:
    """Whether there is a client id, and a secret where the provider wants one; either may be in the settings."""
    try:
        client = factory.client(provider.slug, endpoint, entered.client_id, entered.client_secret)
    except ProviderError as error:
        mistakes.add("client_secret" if entered.client_id else "client_id", str(error))
        return
    if provider.auth != "none" and not client.client_secret:
        mistakes.add("client_secret", "is empty")
