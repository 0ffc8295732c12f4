"""One login between its address and its callback, without a terminal or a socket: `begin`, then `Attempt.accept`."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import secrets
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from providers.addresses import fill, is_loopback
from providers.authorization import authorization_url
from providers.base import ProviderError
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import squeezed
from token_refresh.clients.credential import AdmissionError, Candidate

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


class NoGrantError(AdmissionError):
    """The login is over and brought nothing that can be stored: somebody said no, or nobody said anything.

    Attributes:
        code: the provider's (RFC 6749 section 5.2, RFC 8628 section 3.5); empty where it says none.
        is_passing: no whole answer came, and another request may get one.
    """

    code = ""
    is_passing = False


@dataclass(frozen=True)
class Callback:
    """A callback that is this login's.

    Attributes:
        code: to be exchanged, once.
        params: what it alone says, as parameters of the row.
    """

    code: str = field(repr=False)
    params: Mapping[str, str]


@dataclass(frozen=True)
class Attempt:
    """A login that waits for its callback, and takes one.

    Whoever cannot wait in this process keeps the fields, sealed, and makes it again from them.

    Attributes:
        candidate: whose login it is, without a refresh token.
        redirect_uri: where the provider sends the person back to.
        state_hash: `s256` of the state, which is nowhere but in the address and its callback.
        verifier: RFC 7636; None where the provider knows no PKCE.
        ends_at: no callback is taken later.
    """

    candidate: Candidate
    redirect_uri: str
    state_hash: str
    verifier: str | None = field(repr=False)
    ends_at: datetime
    _answered: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def takes_no_state(self) -> bool:
        """Whether a callback without a state can be agreed to by a person.

        PKCE binds the code to this login. Without it only HighLevel's callbacks can be: an install that was begun in
        its marketplace has none.
        """
        login = self.candidate.provider.login
        return login.pkce in ("required", "supported") or login.account_is_location

    def accept(self, query: str, now: datetime, *, without_state: bool = False) -> Callback:
        """The callback in the query of an address.

        Args:
            query: as it came, without the question mark.
            without_state: a person has agreed that it has none.

        Raises:
            CallbackError: it is not this login's, which goes on waiting.
            NoGrantError: it says that there will be none.
        """
        login, client = self.candidate.provider.login, self.candidate.credential
        pairs = parse_qsl(query, keep_blank_values=True)
        members = dict(pairs)
        is_doubled, is_error = len(members) < len(pairs), "error" in members  # RFC 6749 sections 3.1 and 4.1.2.1
        refusal = Refusal.DOUBLED if is_doubled else self._refusal(members, now, without_state=without_state)
        if refusal is not None:
            raise CallbackError(refusal)
        try:
            params = {} if is_error else login.params_in_callback(members, client.client_secret)
        except ProviderError as error:
            raise CallbackError(Refusal.FORGED, str(error)) from None
        if not self._answered.acquire(blocking=False):  # a callback may come by loopback while another one is pasted
            raise CallbackError(Refusal.USED_STATE)
        if is_error:
            words = squeezed(": ".join(filter(None, (members["error"], members.get("error_description")))))
            said = f"the provider refused the login: {words[:_LONGEST_WORDS]}"
            raise NoGrantError(said, "Correct that, then log in again.")
        return Callback(members[login.code_param], params)

    def _refusal(self, members: Mapping[str, str], now: datetime, *, without_state: bool) -> Refusal | None:
        """The first reason against a callback; None where there is none."""
        provider, params = self.candidate.provider, self.candidate.credential.params
        login, state, issuer = provider.login, members.get("state"), members.get("iss")
        hosts = {*login.callback_hosts}
        own_issuer = login.issuer and fill(login.issuer, provider.values(params), provider.name)
        named = {_host_in(text) for text in members.values() if "://" in text}  # a token may be sent there later
        reasons = {
            Refusal.NO_STATE: state is None and not without_state,
            Refusal.FOREIGN_STATE: state is not None and not hmac.compare_digest(s256(state), self.state_hash),
            Refusal.LATE: now > self.ends_at,
            Refusal.NO_ISSUER: issuer is None and login.iss_required,  # RFC 9207 section 2.4
            Refusal.FOREIGN_ISSUER: None not in (issuer, own_issuer) and issuer != own_issuer,
            Refusal.FOREIGN_HOST: bool(hosts) and not named <= hosts,
            Refusal.NO_CODE: "error" not in members and not members.get(login.code_param),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


def begin(candidate: Candidate, redirect_uri: str, scope: str, now: datetime) -> tuple[Attempt, str]:
    """A login of ten minutes, and the address that the person opens.

    Args:
        candidate: whose, with the client that it is sent with; see `credential.with_client`.
        redirect_uri: see `Attempt`.
        scope: see `providers.authorization.scope_of`.
        now: when it begins.

    Raises:
        ProviderError: the row lacks a parameter of the address, or the provider has none.
    """
    provider, client = candidate.provider, candidate.credential
    state = secrets.token_urlsafe(_ENTROPY_BYTES)
    verifier = secrets.token_urlsafe(_ENTROPY_BYTES) if provider.login.pkce != "none" else None
    address = authorization_url(
        provider,
        client.params,
        client.client_id,
        redirect_uri=redirect_uri,
        scope=scope,
        state=state,
        challenge=s256(verifier) if verifier is not None else None,
    )
    return Attempt(candidate, redirect_uri, s256(state), verifier, now + LIFETIME), address


def s256(text: str) -> str:
    """What RFC 7636 section 4.2 makes of a verifier; the hash of a state, too."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def query_in(line: str, redirect_uri: str, code_param: str) -> str:
    """The query of a pasted address; of a bare code, one that holds it alone, as `code_param`.

    Raises:
        CallbackError: it is an address, and not of this redirect URI. Where that is only the name of an address, any
            with https will do.
    """
    line = line.strip().strip("<>\"'")
    if "://" not in line and "=" not in line:
        return urlencode({code_param: line}) if line else ""
    if "://" not in redirect_uri and line.startswith("https://"):
        return urlsplit(line).query
    mark = "&" if urlsplit(redirect_uri).query else "?"
    for start in (f"{redirect_uri}{mark}", f"{_as_shown(redirect_uri)}{mark}"):
        if line.startswith(start):
            return line.removeprefix(start).partition("#")[0]
    raise CallbackError(Refusal.FOREIGN_ADDRESS)


def require_redirect(uri: str, origins: Collection[str] = ()) -> None:
    """Return where it can be a redirect URI (RFC 6749 section 3.1.2, RFC 8252 section 7.3), also at one of `origins`.

    Raises:
        ActionableError: it cannot.
    """
    try:
        parts = urlsplit(uri)
        is_host = bool(parts.hostname) and parts.port != 0 and not parts.fragment and "@" not in parts.netloc
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        is_safe = is_safe or f"{parts.scheme}://{parts.netloc}" in origins
    except ValueError:
        is_host = is_safe = False
    if not (is_host and is_safe and uri.isascii() and uri.isprintable() and " " not in uri):
        raise ActionableError(
            "this can be no redirect URI: it is neither https nor on this machine, or holds a user name or a fragment",
            "Write it as it is entered at the provider, such as https://HOST/PATH.",
            Kind.USAGE,
        )


def _host_in(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # such as an IPv6 address that is none
        return None


def _as_shown(address: str) -> str:
    """As a browser writes it (URL standard of the WHATWG): the host in lower case, no usual port, a path."""
    parts = urlsplit(address)
    host = parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, ""))
    return urlunsplit(parts._replace(netloc=host, path=parts.path or "/"))
