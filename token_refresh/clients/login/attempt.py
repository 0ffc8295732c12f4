"""One login that waits for a person: the address they open, and which callback is its own."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

from providers.addresses import fill
from providers.authorization import authorization_url
from providers.base import Provider, ProviderError
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import squeezed

LIFETIME = timedelta(minutes=10)
_ENTROPY_BYTES = 32  # 256 bits; RFC 7636 section 4.1: 43 characters of a verifier
_LONGEST_WORDS = 200


class Refusal(enum.Enum):
    """Why a callback is not this login's. Each has a sentence of its own; no token is asked for."""

    NO_STATE = "the address has no state, so it cannot be said which login it answers"
    FOREIGN_STATE = "the address answers another login"
    USED_STATE = "this login was answered before; the second answer was not used"
    LATE = "the login was begun more than ten minutes ago"
    NO_ISSUER = "the provider has to name itself in the address (iss), and did not"
    FOREIGN_ISSUER = "the address is another provider's answer (iss)"
    FOREIGN_HOST = "the address names a host that is not this provider's"
    DOUBLED = "the address names something twice"
    NO_CODE = "the address holds neither a code nor an error"
    FOREIGN_ADDRESS = "the line is not an address that begins with the redirect URI"
    FORGED = "the address is not what this provider sends"


class CallbackError(ActionableError):
    """A callback that this login does not take; it goes on waiting."""

    kind = Kind.USAGE

    def __init__(self, refusal: Refusal, words: str = "") -> None:
        super().__init__(words or refusal.value, "Open the address of this login and agree there.")
        self.refusal = refusal


class LoginRefusedError(ActionableError):
    """The person, or the provider, said no: the login is over."""

    kind = Kind.ROW


@dataclass(frozen=True)
class Callback:
    """A callback that is this login's.

    Attributes:
        code: to be exchanged, once.
        params: what it alone says, as parameters of the row.
    """

    code: str = field(repr=False)
    params: Mapping[str, str]


class Attempt:
    """A login from the address to its callback. State, verifier and code stand nowhere else.

    Args:
        provider: where.
        params: of the row.
        client_id, client_secret: of the app; Shopify signs its callbacks with the secret.
        redirect_uri: where the provider sends the person back to.
        scope: see `providers.authorization.scope_of`.
        begun_at: it lives ten minutes from then.

    Attributes:
        address: what the person opens.
        verifier: RFC 7636; None where the provider knows no PKCE.

    Raises:
        ProviderError: the row lacks a parameter of the address.
    """

    def __init__(
        self,
        provider: Provider,
        params: Mapping[str, str],
        client_id: str,
        client_secret: str,
        *,
        redirect_uri: str,
        scope: str,
        begun_at: datetime,
    ) -> None:
        self._provider = provider
        self._params = params
        self._client_secret = client_secret
        self._lock = threading.Lock()  # a callback may come by loopback while another one is pasted
        self._state = secrets.token_urlsafe(_ENTROPY_BYTES)
        self._is_answered = False
        self.redirect_uri = redirect_uri
        self.ends_at = begun_at + LIFETIME
        self.verifier = None if provider.login.pkce == "none" else secrets.token_urlsafe(_ENTROPY_BYTES)
        self.address = authorization_url(
            provider,
            params,
            client_id,
            redirect_uri=redirect_uri,
            scope=scope,
            state=self._state,
            challenge=challenge_of(self.verifier) if self.verifier is not None else None,
        )

    @property
    def takes_no_state(self) -> bool:
        """Whether a callback without a state can be agreed to by a person.

        PKCE binds the code to this login. Without it only HighLevel's callbacks can be: an install that was begun in
        its marketplace has none.
        """
        login = self._provider.login
        return login.pkce in ("required", "supported") or login.account_is_location

    def accept(self, query: str, now: datetime, *, without_state: bool = False) -> Callback:
        """The callback in the query of an address.

        Args:
            query: as it came, without the question mark.
            without_state: a person has agreed that it has none.

        Raises:
            CallbackError: it is not this login's, which goes on waiting.
            LoginRefusedError: it says that there will be none.
        """
        members = _members(query)
        with self._lock:
            self._check_state(members.get("state"), now, without_state=without_state)
            self._check_issuer(members.get("iss"))
            self._check_hosts(members)
            if "error" in members:
                self._is_answered = True
                raise _refused(members)
            code = members.get(self._provider.login.code_param, "")
            if not code:
                raise CallbackError(Refusal.NO_CODE)
            params = self._params_in(members)
            self._is_answered = True
            return Callback(code, params)

    def _check_state(self, state: str | None, now: datetime, *, without_state: bool) -> None:
        if state is None and not without_state:
            raise CallbackError(Refusal.NO_STATE)
        if state is not None and not hmac.compare_digest(state.encode(), self._state.encode()):
            raise CallbackError(Refusal.FOREIGN_STATE)
        if self._is_answered:
            raise CallbackError(Refusal.USED_STATE)
        if now > self.ends_at:
            raise CallbackError(Refusal.LATE)

    def _check_issuer(self, issuer: str | None) -> None:
        """RFC 9207 section 2.4."""
        login = self._provider.login
        if issuer is None and login.iss_required:
            raise CallbackError(Refusal.NO_ISSUER)
        if issuer is not None and login.issuer is not None:
            known = fill(login.issuer, self._provider.values(self._params), self._provider.name)
            if issuer != known:
                raise CallbackError(Refusal.FOREIGN_ISSUER)

    def _check_hosts(self, members: Mapping[str, str]) -> None:
        """Whatever looks like an address in a callback must be the provider's: a token may be sent there later."""
        allowed = self._provider.login.callback_hosts
        if allowed and any(_host_in(text) not in allowed for text in members.values() if "://" in text):
            raise CallbackError(Refusal.FOREIGN_HOST)

    def _params_in(self, members: Mapping[str, str]) -> Mapping[str, str]:
        try:
            return self._provider.login.params_in_callback(members, self._client_secret)
        except ProviderError as error:
            raise CallbackError(Refusal.FORGED, str(error)) from None


def challenge_of(verifier: str) -> str:
    """RFC 7636 section 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode("ascii").rstrip("=")


def _host_in(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # such as an IPv6 address that is none
        return None


def _members(query: str) -> dict[str, str]:
    """Raises `CallbackError` where one comes twice (RFC 6749 section 3.1)."""
    pairs = parse_qsl(query, keep_blank_values=True)
    members = dict(pairs)
    if len(members) < len(pairs):
        raise CallbackError(Refusal.DOUBLED)
    return members


def _refused(members: Mapping[str, str]) -> LoginRefusedError:
    """In the provider's words (RFC 6749 section 4.1.2.1)."""
    words = ": ".join(filter(None, (members.get("error"), members.get("error_description"))))
    return LoginRefusedError(
        f"the provider refused the login: {squeezed(words)[:_LONGEST_WORDS]}", "Correct that, then log in again."
    )
