"""What a provider is: how to ask its token endpoint for new tokens, and what its answers mean.

A plain provider is a file in `catalog/`. A provider with a quirk that data cannot say subclasses `Provider` in a module
of its own and overrides the one step that differs.
"""

from __future__ import annotations

import base64
import enum
import json
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, quote_plus, urlencode

from providers.addresses import ProviderError as ProviderError
from providers.addresses import authority_of, fill, fill_text, origin_of, placeholders_in
from providers.answer_words import (
    address_advice,
    all_members,
    is_page,
    plain_words,
    sentences_in,
    shortened,
    snake_case,
    text_of,
    without_secrets,
    words_in,
)
from providers.login import NO_LOGIN, USUAL_REVOCATION, Login, Revocation
from providers.times import access_end, refresh_end
from token_refresh.base.clock import http_date, retry_after
from token_refresh.base.text import VISIBLE_ASCII

Rotation = Literal["always", "sometimes", "never"]
Replay = Literal["safe", "once", "last_minute"]

FALLBACK_LIFETIME_SECONDS = 3600
_DAY = 86_400
HTTP_OK, HTTP_REDIRECT = 200, 300
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
UNAUTHORIZED = 401

_PARSEABLE_INTEGER_DIGITS = 640  # up to here Python reads integers however it is set up
_SHORTEST_TOKEN = 8  # characters; shorter ones are samples, masks and flags
_JSON_BLANKS = " \t\r\n"
_NOT_PROCESSED = (408, 425, TOO_MANY_REQUESTS)  # RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4
_FIREWALL = (403, 406, 409)  # where a page for people comes from somebody between us and the provider
_CLIENT_CODES = frozenset({"invalid_client", "unauthorized_client"})
_REQUEST_CODES = frozenset({"invalid_request", "invalid_scope", "unsupported_grant_type"})
_LONGEST_CODE = 64  # characters; what is longer is no code
_FORM = re.compile(r"[^\s=&<>{}\"]+=[^\s&<>{}\"]*(?:&[^\s&<>{}\"]*)*")


class Verdict(enum.Enum):
    """What an answer says happened at the provider. What follows from it is the rule of a run."""

    GRANTED = "granted"
    DEAD_GRANT = "dead grant"  # this refresh token will never work again
    CLIENT_REFUSED = "client refused"  # the client id and secret, not the row
    REQUEST_REFUSED = "request refused"  # something in this row's request
    NOT_ACTED = "not acted"  # the refresh token was certainly not used up
    UNCLEAR = "unclear"  # the refresh token may or may not have been used up
    UNREAD = "unread"  # it was used up, and its successor is somewhere in an answer of an unknown form


@dataclass(frozen=True)
class Credential:
    """What one refresh needs, in plain text; never printed."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    params: Mapping[str, str]


@dataclass(frozen=True)
class TokenRequest:
    """One request to a token endpoint of this `provider`. `host_is_fixed`: the table had no say in where it goes.

    The body of a `GET` goes into the query of its address. `seconds`: its own limit, where that is shorter than any
    exchange's.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    host_is_fixed: bool
    method: Literal["POST", "GET", "DELETE"] = "POST"
    seconds: float | None = None
    provider: str = ""


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came: what the journal keeps before anything is read out of it.

    Attributes:
        headers: those that are read, names in lower case.
        is_complete: the body came to its announced length, or to its last chunk (RFC 9112 section 8).
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime
    is_complete: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer, read.

    Attributes:
        verdict: what happened.
        access_token: set exactly where the verdict is `GRANTED`.
        refresh_token: a new refresh token, None where the old one stays. It is also set, without an access token,
            where the verdict is `UNCLEAR` and yet one came whole; an answer that refuses never brings one.
        is_unproven: the new refresh token is not known to work: no access token came with it, or the provider never
            replaces refresh tokens.
        expires_at: when the access token ends.
        is_expiry_assumed: the answer does not say so, or says what cannot be: it is the catalogue's lifetime.
        expiry_claim: what it said then that cannot be, in short.
        refresh_expires_at: when the refresh token ends, where the answer says so.
        error: what the provider said, without control characters; it may quote what it was sent.
        action: what to do about it, where the provider's page says so.
        retry_after: seconds the provider asks to wait.
        status: the HTTP status; None where no answer came, or a success that broke off.
        received_at: when the answer came.
        server_time: what the provider's clock said then.
        location_id: the location whose tokens they are, where the provider's answers say so; else empty.
    """

    verdict: Verdict
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    is_unproven: bool = False
    expires_at: datetime | None = None
    is_expiry_assumed: bool = False
    expiry_claim: str | None = None
    refresh_expires_at: datetime | None = None
    error: str | None = None
    action: str | None = None
    retry_after: float | None = None
    status: int | None = None
    received_at: datetime | None = None
    server_time: datetime | None = None
    location_id: str = ""

    @property
    def brings_token(self) -> bool:
        """Whether there is a new token in it, of either kind."""
        return self.access_token is not None or self.refresh_token is not None

    @property
    def judgement(self) -> Judgement:
        """What it says, without its tokens."""
        return Judgement(self.verdict, self.status, self.retry_after, self.refresh_token is not None)


class Judgement(NamedTuple):
    """What an answer says, without the tokens in it; see `Answer`."""

    verdict: Verdict
    status: int | None = None
    retry_after: float | None = None
    brings_refresh_token: bool = False


@dataclass(frozen=True)
class ErrorCodes:
    """Codes that a provider uses beyond RFC 6749 section 5.2, wherever `error_codes` finds them.

    Attributes:
        maintenance: the provider says that it did nothing, whatever the status.
        outage: the provider failed and may have acted all the same, as with a 5xx.
        passing: no codes, but parts of what it says beside one: such a refusal passes, whatever its code.
    """

    reauthorize: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    row: frozenset[str] = frozenset()
    maintenance: frozenset[str] = frozenset()
    outage: frozenset[str] = frozenset()
    passing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Endpoint:
    """A token endpoint for one row, or another endpoint of its provider.

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
    grant: Literal["refresh_token", "exchange", "none"] = "refresh_token"
    earliest: int = 0  # seconds before expiry that a refresh is accepted; 0: any time
    unreliable_invalid_grant: bool = False  # `invalid_grant` is known to come for grants that live

    @property
    def default_lifetime(self) -> int:
        """Seconds an access token lives where nothing says otherwise."""
        return self.lifetime or FALLBACK_LIFETIME_SECONDS

    @property
    def longest_lifetime(self) -> int:
        """Seconds of life that are believed: ten times what the catalogue says, and never less than a day.

        Customers may set lifetimes at some providers. Where the catalogue says nothing: ten times sixty days.
        """
        return max(10 * (self.lifetime or 60 * _DAY), _DAY)

    @property
    def spellings(self) -> tuple[str, ...]:
        """What a row's cell may call the provider, as exact texts: the slug first, then name and aliases."""
        return tuple(dict.fromkeys((self.slug, self.name, *self.aliases)))


@dataclass(frozen=True)
class Provider(ProviderSummary):
    """A provider as the catalogue describes it; see the table of keys in docs/providers.md."""

    token_url: str
    refresh_url: str | None = None  # where it is not `token_url`
    authorize_url: str | None = None
    revoke_url: str | None = None
    introspect_url: str | None = None
    device_url: str | None = None
    login: Login = NO_LOGIN
    revocation: Revocation = USUAL_REVOCATION
    auth: Literal["body", "basic", "basic_plain", "basic_secret", "none"] = "body"
    encoding: Literal["form", "json"] = "form"
    client_id_param: str = "client_id"
    params: Mapping[str, str] = field(default_factory=dict)
    placeholders: Mapping[str, str | None] = field(default_factory=dict)  # None: the row must name it; empty: it may
    replay: Replay = "once"
    replay_window: int = 0  # seconds in which a used refresh token may be sent again; `replay` says what follows
    former_origins: tuple[str, ...] = ()
    error_codes: ErrorCodes = ErrorCodes()
    docs: str = ""

    agency_param = ""
    """The parameter of a row that names the agency which can have another pair minted for it; empty: there is none."""

    refusal_if_client_valid = Verdict.REQUEST_REFUSED
    """What a refused client means where another row of the same client is accepted."""

    def endpoint(self, params: Mapping[str, str]) -> Endpoint:
        """Where the refresh of a row with these parameters goes.

        Raises:
            ProviderError: a placeholder is missing, or the address that results may not be used.
        """
        return self.endpoint_at(self.refresh_url or self.token_url, params)

    def endpoint_at(self, template: str, params: Mapping[str, str]) -> Endpoint:
        """Where another of its addresses leads for such a row. Raises like `endpoint`."""
        url = fill(template, self.values(params), self.name)
        return Endpoint(url, origin_of(url), is_fixed=not self.is_supplied(template, params))

    def refresh_request(self, credential: Credential) -> TokenRequest:
        """The request of RFC 6749 section 6, in this provider's manner.

        Raises:
            ProviderError: see `endpoint`.
        """
        fields = {"grant_type": "refresh_token", "refresh_token": credential.refresh_token}
        fields |= self.filled(self.params, credential.params)
        return self.request(self.endpoint(credential.params), fields, credential)

    def request(self, endpoint: Endpoint, fields: dict[str, str], credential: Credential | None) -> TokenRequest:
        """A POST with the client's authentication (RFC 6749 section 2.3.1); without it where there is no credential."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if credential is not None and self.auth.startswith("basic"):
            headers["Authorization"] = _basic(credential, self.auth)
        elif credential is not None:
            fields[self.client_id_param] = credential.client_id
            if self.auth == "body" and credential.client_secret:
                fields["client_secret"] = credential.client_secret
        is_json = self.encoding == "json"
        headers["Content-Type"] = "application/json" if is_json else "application/x-www-form-urlencoded"
        body = json.dumps(fields) if is_json else urlencode(fields, errors="surrogatepass")
        return TokenRequest(endpoint.url, headers, body.encode("ascii"), endpoint.is_fixed, provider=self.slug)

    def filled(self, texts: Mapping[str, str], params: Mapping[str, str]) -> dict[str, str]:
        """Parameters of a request, placeholders filled in, without optional ones that the row does not name.

        Raises:
            ProviderError: the row lacks one.
        """
        values = self.values(params)
        filled = {name: fill_text(text, values, self.name) for name, text in texts.items()}
        return {name: text for name, text in filled.items() if text}

    def read_answer(self, raw: RawAnswer) -> Answer:
        """What an answer means. Never raises: an answer that cannot be read is `UNCLEAR`.

        Which tokens of a 2xx count:

        - of a whole object (JSON, or a form that is complete): those at its top level, else those of the only member
          that holds any, and none beside an error;
        - of one that breaks off: a refresh token that came whole;
        - without an access token a refresh token counts, unproven, where the provider replaces them at all.

        Of any other status none does, but see `pair_in`: where it revokes to send the old one again, that is tried.
        """
        if self.replay == "last_minute" and (pair := self.pair_in(raw)) is not None:
            return pair
        content, is_whole = parse_answer(raw)
        is_success = HTTP_OK <= raw.status < HTTP_REDIRECT
        access_token, refresh_token, members = (find_tokens(content) if is_success else None) or _NO_TOKENS
        can_rotate = self.rotates != "never"
        server_time = http_date(raw.headers.get("date", ""))
        answer = partial(Answer, status=raw.status, received_at=raw.received_at, server_time=server_time)
        if access_token is not None and is_whole:
            end = access_end(members, raw.received_at, self.longest_lifetime)
            return answer(
                Verdict.GRANTED,
                access_token=access_token,
                refresh_token=refresh_token,
                is_unproven=refresh_token is not None and not can_rotate,
                expires_at=end.at or raw.received_at + timedelta(seconds=self.default_lifetime),
                is_expiry_assumed=end.at is None,
                expiry_claim=end.claim,
                refresh_expires_at=refresh_end(members, raw.received_at),
            )
        content = content if is_whole else {}
        verdict = self._verdict(raw, content, is_whole=is_whole)
        brings_token = refresh_token is not None and can_rotate and verdict is Verdict.UNCLEAR
        if verdict is Verdict.UNCLEAR and is_success and is_whole and can_rotate and not brings_token:
            verdict = Verdict.UNREAD if _speaks_of_tokens(content) else verdict
        return answer(
            verdict,
            refresh_token=refresh_token if brings_token else None,
            is_unproven=brings_token,
            error=self.error_in(raw, content),
            action=self.advise(verdict, content) or address_advice(verdict.value, raw.status, raw.headers),
            retry_after=retry_after(raw.headers.get("retry-after", ""), raw.received_at),
            status=raw.status if raw.is_complete or not is_success else None,
        )

    def pair_in(self, raw: RawAnswer) -> Answer | None:
        """The tokens of a whole object in a 5xx, where it holds both: a server that failed behind the exchange.

        They count only once the token that was sent is refused, and then unproven; None where there are none.
        """
        content, is_whole = parse_answer(raw)
        if raw.status < SERVER_ERROR or not is_whole or self.rotates == "never":
            return None
        access_token, refresh_token, _ = find_tokens(content) or _NO_TOKENS
        if access_token is None or refresh_token is None:
            return None
        return Answer(
            Verdict.UNCLEAR,
            refresh_token=refresh_token,
            is_unproven=True,
            error=self.error_in(raw, content),
            status=raw.status,
            received_at=raw.received_at,
        )

    def _verdict(self, raw: RawAnswer, content: Mapping[str, Any], *, is_whole: bool) -> Verdict:
        """A complete answer that refuses is a refusal, whatever its form."""
        verdict = self.verdict_by_code(raw.status, content)
        if verdict is not None or not (raw.is_complete or is_whole):
            return verdict or Verdict.UNCLEAR
        if raw.status < HTTP_REDIRECT:
            return Verdict.REQUEST_REFUSED if is_refusal(content) else Verdict.UNCLEAR
        if raw.status in _FIREWALL and not is_whole and is_page(raw.body, raw.headers.get("content-type", "")):
            return Verdict.NOT_ACTED
        return Verdict.CLIENT_REFUSED if raw.status == UNAUTHORIZED else Verdict.REQUEST_REFUSED

    def verdict_by_code(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """What the status alone decides, else `judge`.

        From a server that is failing (5xx) codes are no evidence: outages are known to answer `invalid_grant` for
        live grants.
        """
        if status == TOO_MANY_REQUESTS or error_codes(content) & self.error_codes.maintenance:
            return Verdict.NOT_ACTED
        if not HTTP_OK <= status < SERVER_ERROR or status in _NOT_PROCESSED:
            return Verdict.UNCLEAR
        return self.judge(status, content)

    def error_in(self, raw: RawAnswer, content: Mapping[str, Any]) -> str:
        """Status and words, for people: one line, without what the answer's own members keep secret."""
        words = self.describe(content)
        if not words and raw.status >= HTTP_REDIRECT:
            page = raw.body, raw.headers.get("content-type", "")
            words = sentences_in(content) if content else plain_words(*page)
        words = without_secrets(words, content)
        return f"HTTP {raw.status}" + (f", {shortened(words)}" if words else "")

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:  # noqa: ARG002 - for quirks
        """What an answer without a usable access token says happened, by RFC 6749 section 5.2 and the catalogue.

        Codes decide, never the words around them, but for `ErrorCodes.passing`.

        Args:
            status: from 200 on and below 500, but not 408, 425 or 429: those say enough themselves.
            content: the answer's members; empty where it is no whole object.

        Returns:
            None where nothing in it is known.
        """
        codes, typed, own = _plain_codes(content), _typed_codes(content), self.error_codes
        words = self.describe(content).lower() if own.passing else ""
        if any(part.lower() in words for part in own.passing):
            return Verdict.NOT_ACTED
        known = codes | typed
        if "invalid_grant" in known or known & own.reauthorize:
            return Verdict.DEAD_GRANT
        if codes & _CLIENT_CODES or known & own.client:
            return Verdict.CLIENT_REFUSED
        if codes & _REQUEST_CODES or known & own.row:
            return Verdict.REQUEST_REFUSED
        return Verdict.UNCLEAR if known & own.outage else None

    def describe(self, content: Mapping[str, Any]) -> str:
        """What the provider said, in its own words, wherever they stand; it may quote a secret."""
        return ": ".join(dict.fromkeys([*_shown_codes(content), *words_in(content)]))

    def advise(self, verdict: Verdict, content: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - for quirks
        """What to do where the provider's page knows better than the general advice; None otherwise."""
        return None

    def is_supplied(self, template: str, params: Mapping[str, str]) -> bool:
        """Whether the row's parameters move the host of an address."""
        return any(params.get(name) for name in placeholders_in(authority_of(template)))

    def values(self, params: Mapping[str, str]) -> dict[str, str | None]:
        """What a row's parameters and the defaults put in the place of placeholders."""
        return {name: params.get(name) or default for name, default in self.placeholders.items()}


def error_code(content: Mapping[str, Any]) -> str:
    """The answer's `error` member (RFC 6749 section 5.2); empty where it is missing or no text."""
    return text_of(content.get("error"))


def error_codes(content: Mapping[str, Any]) -> frozenset[str]:
    """Every code of an answer: `error`, `error.code`, `code`, `errors[].code`, and those of `_typed_codes`."""
    return _plain_codes(content) | _typed_codes(content)


def _plain_codes(content: Mapping[str, Any]) -> frozenset[str]:
    places = [content.get("error"), content.get("code")]
    places += [one.get("code") for one in _error_objects(content)]
    return frozenset(filter(None, map(_code, places)))


def _typed_codes(content: Mapping[str, Any]) -> frozenset[str]:
    """`__type`, `errorType`, `errors[].errorType`, `errors[].type`: classes, which count only where they are known."""
    places = [content.get("__type"), content.get("errorType")]
    places += [one.get(name) for one in _error_objects(content) for name in ("errorType", "type")]
    return frozenset(filter(None, map(_code, places)))


def _shown_codes(content: Mapping[str, Any]) -> list[str]:
    """The codes that say something to a person: `error` first, numbers left out."""
    others = sorted(error_codes(content) - {error_code(content)})
    return [code for code in (error_code(content), *others) if code and not code.isdigit()]


def _error_objects(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = content.get("errors")
    members = [content.get("error"), *(listed if isinstance(listed, list) else [listed])]
    return [one for one in members if isinstance(one, Mapping)]


def _code(value: object) -> str:
    code = str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value)
    return code if len(code) <= _LONGEST_CODE else ""


def _basic(credential: Credential, auth: str) -> str:
    """RFC 6749 section 2.3.1 form-encodes id and secret before they are joined; many servers expect them as they are
    (https://github.com/panva/openid-client/issues/134).
    """
    pair = [credential.client_id, credential.client_secret]
    if auth == "basic_secret":  # Stripe's: the secret stands for the user, and there is no password
        pair = [credential.client_secret, ""]
    elif auth == "basic":
        pair = [quote_plus(part, errors="surrogatepass") for part in pair]
    return "Basic " + base64.b64encode(":".join(pair).encode(errors="surrogatepass")).decode("ascii")


_Tokens = tuple[str | None, str | None, Mapping[str, Any]]
"""Access token, refresh token, and the other members of the object that holds them, named in snake case."""
_NO_TOKENS: _Tokens = (None, None, {})


def parse_answer(raw: RawAnswer) -> tuple[Mapping[str, Any], bool]:
    """The object in a body, and whether it came whole; else what came of it before it breaks off.

    JSON is whole where it parses, a form (RFC 6749 appendix B) where the answer is complete; the body decides which it
    is, not the content type. Bytes of another encoding are replaced; control characters inside strings are put up
    with. Of duplicate members of JSON the last one counts. The last member of a form that breaks off may be cut.
    """
    text = raw.body.decode(json.detect_encoding(raw.body), errors="replace")
    try:
        content = json.loads(text, parse_int=_bounded_int, strict=False)
    except (ValueError, RecursionError):
        form = text.strip()
        if _FORM.fullmatch(form):
            return _form_members(form if raw.is_complete else form.rpartition("&")[0]), raw.is_complete
        return _members_before_break(text, 0), False
    return (content, True) if isinstance(content, dict) else ({}, False)


def _form_members(text: str) -> Mapping[str, Any]:
    """The members of a form; a tuple of all its values where one name has several that differ."""
    values: dict[str, dict[str, None]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        values.setdefault(name, {})[value] = None
    return {name: tuple(several) if len(several) > 1 else next(iter(several)) for name, several in values.items()}


def _members_before_break(text: str, place: int, depth: int = 1) -> Mapping[str, Any]:
    """The whole members of the JSON object at `place`, up to where it breaks off or is no JSON any more.

    Of a member that is cut itself, one level down, its own whole members. Empty where no object begins there.
    """
    decoder = json.JSONDecoder(parse_int=_bounded_int, strict=False)
    content: dict[str, Any] = {}
    place, mark = _after_blanks(text, place), "{"
    try:
        while text[place] == mark:
            name, place = decoder.raw_decode(text, _after_blanks(text, place + 1))
            place = _after_blanks(text, place)
            if not isinstance(name, str) or text[place] != ":":
                break
            begin = _after_blanks(text, place + 1)
            try:
                value, place = decoder.raw_decode(text, begin)
            except (ValueError, RecursionError):
                if depth:
                    content[name] = _members_before_break(text, begin, depth - 1)
                break
            if place < len(text) or not text[place - 1].isdigit():  # a number at the end may go on behind the break
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


def find_tokens(content: Mapping[str, Any]) -> _Tokens | None:
    """The tokens at the top level of an answer, else those of the only member that holds any; none beside an error.

    None where it cannot be said which count: two members hold some, or two spellings of one name differ.
    """
    found = _tokens_in(content)
    if found != _NO_TOKENS or is_refusal(content):
        return found
    inner = [_tokens_in(member) for member in content.values() if isinstance(member, Mapping)]
    holding = [tokens for tokens in inner if tokens != _NO_TOKENS]
    return holding[0] if len(holding) == 1 else None if holding else _NO_TOKENS


def _tokens_in(content: Mapping[str, Any]) -> _Tokens | None:
    """The tokens of one object, none beside an error; None where two spellings of one name differ."""
    found: dict[str, set[str]] = {"access_token": set(), "refresh_token": set()}
    others: dict[str, Any] = {}
    for name, value in content.items():
        spelled = snake_case(name)
        if spelled not in found:
            others |= {spelled: value} if value is not None else {}
        else:
            several = value if isinstance(value, tuple) else (value,)
            found[spelled].update(filter(None, map(_usable_token, several)))
    if not any(found.values()) or is_refusal(others):
        return _NO_TOKENS
    if any(len(tokens) > 1 for tokens in found.values()):
        return None
    access, refresh = (next(iter(tokens), None) for tokens in found.values())
    return access, refresh, others


def is_refusal(content: Mapping[str, Any]) -> bool:
    """Whether an object says of itself that it is an error."""
    return bool(content.get("error")) or bool(content.get("errors")) or content.get("ok") is False


def _speaks_of_tokens(content: Mapping[str, Any]) -> bool:
    """Whether some name in it contains "token", and it is no error, nor a member of it."""
    if any(isinstance(one, Mapping) and is_refusal(one) for one in (content, *content.values())):
        return False
    return any("token" in path.lower() for path, _ in all_members(content))


def _usable_token(value: object) -> str | None:
    """The token that a member holds; None where the value can be none: empty, a sample, a mask such as `********`.

    Only visible ASCII and blanks can be sent in a header (RFC 6749 appendix A).
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        value = str(value)  # a sloppy provider's number is a token all the same
    if not isinstance(value, str) or len(value) < _SHORTEST_TOKEN or len(set(value)) == 1:
        return None
    return value if VISIBLE_ASCII.fullmatch(value) else None
