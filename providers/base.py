"""What a provider is: how to ask its token endpoint for new tokens, and what its answers mean.

A plain provider is a file in `catalog/`. A provider with a quirk that data cannot say subclasses `Provider` in a module
of its own and overrides the one step that differs.
"""

from __future__ import annotations

import base64
import enum
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode, urlsplit

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import VISIBLE_ASCII, squeezed

Rotation = Literal["always", "sometimes", "never"]
Replay = Literal["safe", "once", "last_minute"]

FALLBACK_LIFETIME_SECONDS = 3600
LONGEST_LIFETIME_SECONDS = 10 * 365 * 86_400
HTTP_OK, HTTP_REDIRECT = 200, 300
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
UNAUTHORIZED = 401

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PLACEHOLDER_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# Stricter than RFC 3986: two readers of an address must never see two hosts in it. Other alphabets go as punycode.
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(r"[!-~]+")
_NOT_IN_ADDRESS = re.compile(r"[?#\\{}]")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")
_PARSEABLE_INTEGER_DIGITS = 640  # up to here Python reads integers however it is set up
_SHORTEST_TOKEN = 8  # characters; shorter ones are samples, masks and flags
_JSON_BLANKS = " \t\r\n"


class Verdict(enum.Enum):
    """What an answer says happened at the provider. What follows from it is the rule of a run."""

    GRANTED = "granted"
    DEAD_GRANT = "dead grant"  # this refresh token will never work again
    CLIENT_REFUSED = "client refused"  # the client id and secret, not the row
    REQUEST_REFUSED = "request refused"  # something in this row's request
    NOT_ACTED = "not acted"  # the refresh token was certainly not used up
    UNCLEAR = "unclear"  # the refresh token may or may not have been used up


@dataclass(frozen=True)
class Credential:
    """What one refresh needs, in plain text; never printed."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    params: Mapping[str, str]


@dataclass(frozen=True)
class TokenRequest:
    """One POST to a token endpoint. `host_is_fixed`: the table had no say in where it goes."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    host_is_fixed: bool


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came: what the journal keeps before anything is read out of it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)
    received_at: datetime


@dataclass(frozen=True)
class Answer:
    """An answer, read.

    Attributes:
        verdict: what happened.
        access_token: set exactly where the verdict is `GRANTED`.
        refresh_token: a new refresh token, None where the old one stays. It is also set, without an access token,
            where the verdict is `UNCLEAR` and yet one came whole; an answer that refuses never brings one.
        expires_at: when the access token ends.
        refresh_expires_at: when the refresh token ends, where the answer says so.
        error: what the provider said, without control characters; it may quote what it was sent.
        action: what to do about it, where the provider's page says so.
        retry_after: seconds the provider asks to wait.
        status: the HTTP status; None where no answer came.
        received_at: when the answer came.
    """

    verdict: Verdict
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    error: str | None = None
    action: str | None = None
    retry_after: float | None = None
    status: int | None = None
    received_at: datetime | None = None

    @property
    def judgement(self) -> Judgement:
        """What it says, without its tokens."""
        return Judgement(self.verdict, self.status, self.retry_after, self.refresh_token is not None)


@dataclass(frozen=True)
class Judgement:
    """What an answer says, without the tokens in it; see `Answer`."""

    verdict: Verdict
    status: int | None = None
    retry_after: float | None = None
    brings_refresh_token: bool = False


class ProviderError(ActionableError):
    """A row or a catalogue entry cannot be used with its provider."""

    kind = Kind.ROW


@dataclass(frozen=True)
class ErrorCodes:
    """Values of the answer's `error` member that a provider uses beyond RFC 6749 section 5.2."""

    reauthorize: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    row: frozenset[str] = frozenset()
    maintenance: frozenset[str] = frozenset()  # the provider says that it did nothing


@dataclass(frozen=True)
class Endpoint:
    """A token endpoint for one row.

    Attributes:
        url: with all placeholders filled in.
        origin: `https://host`, lower case, `:port` where it is not the default; cells are bound to it.
        is_fixed: whether the host comes from catalogue or settings, and nothing in the table can move it.
    """

    url: str
    origin: str
    is_fixed: bool


@dataclass(frozen=True)
class ProviderSummary:
    """What is known of every provider of the catalogue before the first of their files is read."""

    slug: str
    name: str
    _: KW_ONLY
    aliases: tuple[str, ...] = ()
    rotates: Rotation = "always"
    lifetime: int | None = None  # seconds, when the answer names none
    earliest: int = 0  # seconds before expiry that a refresh is accepted; 0: any time
    unreliable_invalid_grant: bool = False  # `invalid_grant` is known to come for grants that live

    @property
    def default_lifetime(self) -> int:
        """Seconds an access token lives where nothing says otherwise."""
        return self.lifetime or FALLBACK_LIFETIME_SECONDS

    @property
    def spellings(self) -> tuple[str, ...]:
        """What a row's cell may call the provider, as exact texts: the slug first, then name and aliases."""
        return tuple(dict.fromkeys((self.slug, self.name, *self.aliases)))


@dataclass(frozen=True)
class Provider(ProviderSummary):
    """A provider as the catalogue describes it; see the table of keys in docs/providers.md."""

    token_url: str
    authorize_url: str | None = None
    revoke_url: str | None = None
    introspect_url: str | None = None
    auth: Literal["body", "basic", "basic_plain", "none"] = "body"
    encoding: Literal["form", "json"] = "form"
    params: Mapping[str, str] = field(default_factory=dict)
    placeholders: Mapping[str, str | None] = field(default_factory=dict)  # None: the row must name it; empty: it may
    replay: Replay = "once"
    former_origins: tuple[str, ...] = ()
    error_codes: ErrorCodes = ErrorCodes()
    docs: str = ""

    refusal_if_client_valid = Verdict.REQUEST_REFUSED
    """What a refused client means where another row of the same client is accepted."""

    def endpoint(self, params: Mapping[str, str]) -> Endpoint:
        """Where the refresh of a row with these parameters goes.

        Raises:
            ProviderError: a placeholder is missing, or the address that results may not be used.
        """
        url = _fill(self.token_url, self._values(params), self.name)
        return Endpoint(url=url, origin=origin_of(url), is_fixed=not self._is_supplied(self.token_url, params))

    def refresh_request(self, credential: Credential) -> TokenRequest:
        """The request of RFC 6749 section 6, in this provider's manner.

        Raises:
            ProviderError: see `endpoint`.
        """
        fields = {"grant_type": "refresh_token", "refresh_token": credential.refresh_token}
        fields |= self.refresh_params(credential)
        return self._request(self.endpoint(credential.params), fields, credential)

    def introspect_request(self, credential: Credential, token: str) -> TokenRequest | None:
        """The request of RFC 7662 section 2.1 for `token`; None where the provider has no such endpoint.

        It carries the client secret, so it only goes to the host that the secret is bound to.
        """
        if self.introspect_url is None:
            return None
        url = _fill(self.introspect_url, self._values(credential.params), self.name)
        endpoint = self.endpoint(credential.params)
        if origin_of(url) != endpoint.origin:
            return None
        return self._request(replace(endpoint, url=url), {"token": token}, credential)

    def revoke_request(self, credential: Credential) -> TokenRequest | None:
        """The request of RFC 7009 section 2.1 for the refresh token; None where the provider has no such endpoint.

        It carries the token and the client secret, so it goes to the host that they are bound to, or to another
        only where nothing in the table chose either.
        """
        if self.revoke_url is None:
            return None
        url = _fill(self.revoke_url, self._values(credential.params), self.name)
        endpoint = self.endpoint(credential.params)
        is_fixed = endpoint.is_fixed and not self._is_supplied(self.revoke_url, credential.params)
        if origin_of(url) != endpoint.origin and not is_fixed:
            return None
        fields = {"token": credential.refresh_token, "token_type_hint": "refresh_token"}
        return replace(self, encoding="form")._request(replace(endpoint, url=url), fields, credential)

    def read_revocation(self, raw: RawAnswer) -> Answer:
        """What an answer to `revoke_request` means: `DEAD_GRANT` is what was wanted.

        RFC 7009 section 2.2: any success, also for a token that was dead or unknown. `invalid_token` is how some say
        the latter. A server that is failing (503) has left the grant alive.
        """
        content, is_whole = _parse(raw.body)
        content = content if is_whole else {}
        verdict = self.judge(raw.status, content)
        if raw.status >= SERVER_ERROR:
            verdict = Verdict.NOT_ACTED
        elif HTTP_OK <= raw.status < HTTP_REDIRECT or error_code(content) == "invalid_token":
            verdict = Verdict.DEAD_GRANT
        error = squeezed(self.describe(raw.status, content))
        return Answer(verdict, error=error, retry_after=_retry_after(raw), status=raw.status)

    def _request(self, endpoint: Endpoint, fields: dict[str, str], credential: Credential) -> TokenRequest:
        """A POST with the client's authentication (RFC 6749 section 2.3.1)."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.auth in ("basic", "basic_plain"):
            headers["Authorization"] = _basic(credential, is_encoded=self.auth == "basic")
        else:
            fields["client_id"] = credential.client_id
            if self.auth == "body" and credential.client_secret:
                fields["client_secret"] = credential.client_secret
        if self.encoding == "json":
            headers["Content-Type"], body = "application/json", json.dumps(fields)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(fields, errors="surrogatepass")
        return TokenRequest(endpoint.url, headers, body.encode("ascii"), endpoint.is_fixed)

    def refresh_params(self, credential: Credential) -> dict[str, str]:
        """What the request carries beyond RFC 6749: the catalogue's `params`, placeholders filled in."""
        values = self._values(credential.params)
        filled = {name: _fill_text(text, values, self.name) for name, text in self.params.items()}
        return {name: text for name, text in filled.items() if text}  # an optional one that the row does not name

    def read_answer(self, raw: RawAnswer) -> Answer:
        """What an answer means. Never raises: an answer that cannot be read is `UNCLEAR`."""
        content, is_whole = _parse(raw.body)
        access_token, refresh_token, members = self._tokens(raw.status, content, is_whole=is_whole)
        if access_token is not None:
            return Answer(
                Verdict.GRANTED,
                access_token=access_token,
                refresh_token=refresh_token,
                expires_at=self.expiry(members, raw.received_at),
                refresh_expires_at=_refresh_expiry(members, raw.received_at),
                status=raw.status,
                received_at=raw.received_at,
            )
        content = content if is_whole else {}
        verdict = self.judge(raw.status, content)
        return Answer(
            verdict,
            refresh_token=refresh_token if verdict is Verdict.UNCLEAR else None,
            error=squeezed(self.describe(raw.status, content)),
            action=self.advise(verdict, content),
            retry_after=_retry_after(raw),
            status=raw.status,
            received_at=raw.received_at,
        )

    def _tokens(self, status: int, content: Mapping[str, Any], *, is_whole: bool) -> _Tokens:
        """Which tokens of an answer count; `content` is its JSON object, as far as it came.

        - 2xx, an object with an access token: that and the refresh token beside it.
        - 2xx, an object without one, or one that breaks off: a refresh token at its top level, where they rotate.
        - 5xx, an object with both at its top level: both, where they rotate.
        - Any other status or body, and beside an error: none.
        """
        is_success = HTTP_OK <= status < HTTP_REDIRECT
        found = _tokens_in(content)
        if found == _NO_TOKENS and is_success and is_whole:
            found = _tokens_one_level_down(content)
        access_token, refresh_token, members = found or _NO_TOKENS
        can_rotate = self.rotates != "never"
        if is_success:
            access_token = access_token if is_whole else None
            counts = access_token is not None or can_rotate
        else:
            is_pair = access_token is not None and refresh_token is not None
            counts = status >= SERVER_ERROR and can_rotate and is_whole and is_pair
        return (access_token, refresh_token, members) if counts else _NO_TOKENS

    def expiry(self, content: Mapping[str, Any], received_at: datetime) -> datetime:
        """When the access token ends: `expires_in` counted from the answer, else the catalogue's lifetime.

        `content` holds the members beside the access token, named in snake case.
        """
        return received_at + timedelta(seconds=seconds_of(content.get("expires_in")) or self.default_lifetime)

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict:
        """What an answer whose access token does not count says happened, by RFC 6749 section 5.2.

        The `error` member decides, never the words around it. From a server that is failing (5xx) it is no
        evidence: outages are known to answer `invalid_grant` for live grants.
        """
        code = error_code(content)
        if code in self.error_codes.maintenance or status == TOO_MANY_REQUESTS:
            return Verdict.NOT_ACTED
        if status >= SERVER_ERROR:
            return Verdict.UNCLEAR
        if code == "invalid_grant" or code in self.error_codes.reauthorize:
            return Verdict.DEAD_GRANT
        if code in ("invalid_client", "unauthorized_client") or code in self.error_codes.client:
            return Verdict.CLIENT_REFUSED
        if code in ("invalid_request", "invalid_scope", "unsupported_grant_type") or code in self.error_codes.row:
            return Verdict.REQUEST_REFUSED
        return Verdict.UNCLEAR

    def describe(self, status: int, content: Mapping[str, Any]) -> str:
        """What the provider said, in its own words, without anything secret."""
        words = [error_code(content), _text(content.get("error_description"))]
        said = ": ".join(word for word in words if word)
        return f"HTTP {status}" + (f", {said}" if said else "")

    def advise(self, verdict: Verdict, content: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - for quirks
        """What to do where the provider's page knows better than the general advice; None otherwise."""
        return None

    def _is_supplied(self, template: str, params: Mapping[str, str]) -> bool:
        """Whether the row's parameters move the host of an address."""
        return any(params.get(name) for name in placeholders_in(_authority(template)))

    def _values(self, params: Mapping[str, str]) -> dict[str, str | None]:
        return {name: params.get(name) or default for name, default in self.placeholders.items()}


def origin_of(url: str) -> str:
    """`https://host[:port]` of an address, lower case, without the scheme's default port.

    Raises:
        ProviderError: it is no https address (http on loopback) of a host alone: no user, query or fragment.
    """
    try:
        parts = urlsplit(url)
        host, port = _host_of(parts.hostname or ""), parts.port
    except ValueError:
        host, port = "", None
        parts = urlsplit("")
    plain = "@" not in parts.netloc and _ADDRESS.fullmatch(url) and not _NOT_IN_ADDRESS.search(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK_HOSTS)
    if not host or not plain or not secure:
        raise ProviderError(
            "the token endpoint is not a plain https address", "Correct the provider's address or the row's parameters."
        )
    shown = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, default) else "")


def placeholders_in(text: str) -> list[str]:
    """The names that stand in braces."""
    return _PLACEHOLDER.findall(text)


def error_code(content: Mapping[str, Any]) -> str:
    """The answer's `error` member (RFC 6749 section 5.2); empty where it is missing or no text."""
    return _text(content.get("error"))


def _host_of(name: str) -> str:
    """One spelling for each host: lower case, no final dot, the short form of IPv6. Raises `ValueError`."""
    if ":" in name and "%" not in name:
        return ipaddress.IPv6Address(name).compressed
    name = name.removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("no host name")
    return name


def _authority(template: str) -> str:
    """The part of an address between `//` and the path, placeholders unfilled."""
    return template.partition("://")[2].partition("/")[0] if "://" in template else template


def _fill(template: str, values: Mapping[str, str | None], name: str) -> str:
    values = {placeholder: value or None for placeholder, value in values.items()}  # nothing is optional here
    for placeholder in placeholders_in(template):
        value = values.get(placeholder)
        if value is not None and not _PLACEHOLDER_VALUE.fullmatch(value):
            raise ProviderError(
                f"the row's provider_params name a {placeholder} that cannot stand in an address",
                f"Write only the {placeholder} itself, such as a host name, without scheme or path.",
            )
    return _fill_text(template, values, name)


def _fill_text(template: str, values: Mapping[str, str | None], name: str) -> str:
    def value_of(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            raise ProviderError(
                f"{name} needs {match[1]}, which the row does not name",
                f'Put {{"{match[1]}": "…"}} into the row\'s provider_params.',
            )
        return value

    return _PLACEHOLDER.sub(value_of, template)


def _basic(credential: Credential, *, is_encoded: bool) -> str:
    """RFC 6749 section 2.3.1 form-encodes id and secret before they are joined; many servers expect them as they are
    (https://github.com/panva/openid-client/issues/134).
    """
    pair = [credential.client_id, credential.client_secret]
    if is_encoded:
        pair = [quote_plus(part, errors="surrogatepass") for part in pair]
    return "Basic " + base64.b64encode(":".join(pair).encode(errors="surrogatepass")).decode("ascii")


_Tokens = tuple[str | None, str | None, Mapping[str, Any]]
"""Access token, refresh token, and the other members of the object that holds them, named in snake case."""
_NO_TOKENS: _Tokens = (None, None, {})


def _parse(body: bytes) -> tuple[Mapping[str, Any], bool]:
    """The JSON object in a body, and whether the body as a whole is one; else what came before it breaks off.

    Bytes of another encoding are replaced; control characters inside strings are put up with. Of duplicate members the
    last one counts.
    """
    text = body.decode(json.detect_encoding(body), errors="replace")
    try:
        content = json.loads(text, parse_int=_bounded_int, strict=False)
    except (ValueError, RecursionError):
        return _members_before_break(text), False
    return (content, True) if isinstance(content, dict) else ({}, False)


def _members_before_break(text: str) -> Mapping[str, Any]:
    """The whole members at the top level of a JSON object, up to where it breaks off or is no JSON any more.

    Empty where the text does not begin as an object.
    """
    decoder = json.JSONDecoder(parse_int=_bounded_int, strict=False)
    content: dict[str, Any] = {}
    place, mark = _after_blanks(text, 0), "{"
    try:
        while text[place] == mark:
            name, place = decoder.raw_decode(text, _after_blanks(text, place + 1))
            place = _after_blanks(text, place)
            if not isinstance(name, str) or text[place] != ":":
                break
            value, place = decoder.raw_decode(text, _after_blanks(text, place + 1))
            if isinstance(value, str) or place < len(text):  # a number at the end may go on behind the break
                content[name] = value
            place, mark = _after_blanks(text, place), ","
    except (ValueError, IndexError, RecursionError):
        pass  # here it breaks off
    return content


def _after_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in _JSON_BLANKS:
        place += 1
    return place


def _bounded_int(digits: str) -> float:
    # Python refuses integers of thousands of digits; one absurd number must not cost the tokens beside it.
    return int(digits) if len(digits) <= _PARSEABLE_INTEGER_DIGITS else float(digits)


def _tokens_in(content: Mapping[str, Any]) -> _Tokens | None:
    """The tokens of one object; None beside an error, or where two spellings of one name differ."""
    found: dict[str, set[str]] = {"access_token": set(), "refresh_token": set()}
    others: dict[str, Any] = {}
    for name, value in content.items():
        spelled = _snake_case(name)
        if spelled not in found:
            others |= {spelled: value} if value is not None else {}
        elif (token := _usable_token(value)) is not None:
            found[spelled].add(token)
    if content.get("error") or content.get("ok") is False or any(len(tokens) > 1 for tokens in found.values()):
        return None
    if not any(found.values()):
        return _NO_TOKENS
    access, refresh = (next(iter(tokens), None) for tokens in found.values())
    return access, refresh, others


def _tokens_one_level_down(content: Mapping[str, Any]) -> _Tokens | None:
    """The tokens of the only member that holds any.

    With an access token alone: a lone refresh token further down may be a sample or an echo.
    """
    inner = [_tokens_in(member) for member in content.values() if isinstance(member, dict)]
    holding = [tokens for tokens in inner if tokens != _NO_TOKENS]
    [only] = holding if len(holding) == 1 else [None]
    return only if only is not None and only[0] is not None else None


def _snake_case(name: str) -> str:
    """`refresh_token` of `refreshToken`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _usable_token(value: object) -> str | None:
    """The token that a member holds; None where the value can be none: empty, a sample, a mask such as `********`.

    Only visible ASCII and blanks can be sent in a header (RFC 6749 appendix A).
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        value = str(value)  # a sloppy provider's number is a token all the same
    if not isinstance(value, str) or len(value) < _SHORTEST_TOKEN or len(set(value)) == 1:
        return None
    return value if VISIBLE_ASCII.fullmatch(value) else None


def seconds_of(value: object) -> float | None:
    """A number of seconds from 1 on, also as text; None for anything else (`true` is no number)."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        return None
    return min(value, LONGEST_LIFETIME_SECONDS)


def _refresh_expiry(content: Mapping[str, Any], received_at: datetime) -> datetime | None:
    # The names providers use; no standard has one yet (draft-ietf-oauth-refresh-token-expiration).
    for name in ("refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"):
        seconds = seconds_of(content.get(name))
        if seconds is not None:
            return received_at + timedelta(seconds=seconds)
    return None


def _retry_after(raw: RawAnswer) -> float | None:
    """RFC 9110 section 10.2.3: seconds or an HTTP date."""
    value = raw.headers.get("retry-after", "").strip()
    if _WHOLE_NUMBER.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - raw.received_at).total_seconds())


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
