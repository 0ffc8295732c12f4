"""The fakes made of canned answers: each endpoint takes a request as its provider asks for it, and no other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import requests

from tests.providers.answers import ANSWERS, Answers, Revocation
from tests.world.oauth import OAuthServer, faults
from tests.world.oauth.answered import FAKES
from tests.world.oauth.device import GRANT_TYPE, INTERVAL_SECONDS, LIFETIME_SECONDS
from tests.world.oauth.dialects import QUIRKS, Dialect, Login
from tests.world.oauth.templates import WRITTEN_AT, filled

CLIENT, SECRET = "client-1", "s3cret:+/%25&="
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
TOKEN = re.compile(r"(access|refresh)-[12]$")  # of a canned answer
ISSUED = re.compile(r"(access|refresh)-f\d+-")  # by the fake

pytestmark = pytest.mark.by_turns("slug")  # a few slugs by chance, all of them in the long run


def of(*conditions: str) -> pytest.MarkDecorator:
    """The providers whose answers have all of this."""
    slugs = [slug for slug, answers in ANSWERS.items() if all(getattr(answers, name) for name in conditions)]
    return pytest.mark.parametrize("slug", slugs)


REFRESHED = pytest.mark.parametrize("slug", [slug for slug, answers in ANSWERS.items() if answers.grant != "none"])


@dataclass
class Asked:
    """A request, before it is sent."""

    url: str
    params: dict[str, str]
    method: str = "POST"
    auth: str = "body"
    encoding: str = "form"
    client_id_param: str = "client_id"
    headers: dict[str, str] = field(default_factory=dict)
    secret: str = SECRET
    bearer: str = ""

    def send(self, http: requests.Session) -> requests.Response:
        """As it is described."""
        params, auth = dict(self.params), None
        if self.auth == "basic":
            auth = (quote(CLIENT, safe=""), quote(self.secret, safe=""))
        elif self.auth == "basic_plain":
            auth = (CLIENT, self.secret)
        elif self.auth == "basic_secret":
            auth = (self.secret, "")
        elif self.auth == "body":
            params |= {self.client_id_param: CLIENT, "client_secret": self.secret}
        elif self.auth in ("none", "secret"):
            params |= {self.client_id_param: CLIENT}
        headers = {"Accept": "application/json", **self.headers}
        if self.auth == "secret":
            headers["Authorization"] = f"Client {self.secret}"
        if self.auth == "bearer":
            headers["Authorization"] = f"Bearer {self.bearer}"
        if self.method == "GET":
            body: dict[str, Any] = {"params": params}
        else:
            body = {"json": params} if self.encoding == "json" and params else {"data": params}
        return http.request(
            self.method, self.url, auth=auth, headers=headers, timeout=10, allow_redirects=False, **body
        )


@dataclass
class Provider:
    """One provider's answers, its fake, and a clock that stands still unless it is moved."""

    slug: str
    answers: Answers
    server: OAuthServer
    http: requests.Session
    clock: list[float]

    @property
    def dialect(self) -> Dialect:
        """Its fake."""
        return FAKES[self.slug]

    def granted(self) -> str:
        """A refresh token that may be used now."""
        token = self.server.grant(self.slug, CLIENT, **self.answers.row)
        if self.answers.earliest:
            self.clock[0] += self.dialect.lifetime - self.answers.earliest
        return token

    def refresh(self, token: str) -> Asked:
        """The request that the answers describe."""
        answers = self.answers
        params = {answers.token_param: token, **answers.sends}
        if answers.grant == "refresh_token":
            params = {"grant_type": "refresh_token", **params}
        asked = self._asked(self.server.token_url(self.slug), params, method=answers.method)
        return replace(asked, auth="anonymous") if self.slug in ("instagram", "threads") else asked

    def authorization(self) -> dict[str, str]:
        """The query of the authorization request."""
        login = self.answers.login
        assert login is not None
        params = {
            "response_type": "code",
            login.client_id_param or self.answers.client_id_param: CLIENT,
            "redirect_uri": login.redirect_uri,
            "scope": login.scope,
            "state": "st&te",
            **login.asks,
        }
        if login.pkce != "none":
            params |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        return params

    def authorize(self, **changed: str | None) -> requests.Response:
        """The answer to the authorization request, changed so: None leaves a parameter out."""
        params = {name: value for name, value in (self.authorization() | changed).items() if value is not None}
        url = self.server.endpoint(self.slug, "authorize")
        return self.http.get(url, params=params, allow_redirects=False, timeout=10)

    def code(self, **changed: str | None) -> str:
        """A fresh authorization code."""
        return callback(self.authorize(**changed))[self.dialect.login.code_param if self.dialect.login else "code"]

    def exchange(self, code: str) -> Asked:
        """The request that exchanges a code."""
        login = self.answers.login
        assert login is not None
        params = {"grant_type": "authorization_code", login.code_param: code, "redirect_uri": login.redirect_uri}
        params |= login.sends
        if login.pkce != "none":
            params["code_verifier"] = VERIFIER
        return self._asked(self.server.endpoint(self.slug, "code"), params)

    def device(self) -> Asked:
        """The request that begins a login on another device."""
        return self._asked(self.server.endpoint(self.slug, "device"), {"scope": "one"})

    def poll(self, device_code: str) -> Asked:
        """The request that asks whether the person has agreed."""
        params = {"grant_type": GRANT_TYPE, "device_code": device_code}
        return self._asked(self.server.endpoint(self.slug, "code"), params)

    def revocation(self, refresh: str, access: str) -> Asked:
        """The request that ends a grant."""
        told = self.answers.revocation
        assert told is not None
        tokens = {"refresh-1": refresh, "access-1": access}
        return Asked(
            self.server.endpoint(self.slug, "revoke"),
            {name: tokens.get(value, value) for name, value in told.sends.items()},
            method=told.method,
            auth=told.auth,
            encoding=told.encoding,
            client_id_param=self.answers.client_id_param,
            bearer=access,
        )

    def send(self, asked: Asked, **changed: Any) -> requests.Response:
        """Send a request, changed so; parameters of None are left out."""
        if "params" in changed:
            merged = asked.params | changed["params"]
            changed["params"] = {name: value for name, value in merged.items() if value is not None}
        return replace(asked, **changed).send(self.http)

    def _asked(self, url: str, params: dict[str, str], method: str = "POST") -> Asked:
        answers = self.answers
        return Asked(
            url, params, method, auth=answers.auth, encoding=answers.encoding, client_id_param=answers.client_id_param
        )


def callback(answer: requests.Response) -> dict[str, str]:
    """What the browser was sent back with."""
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


def refusal(provider: Provider, end: str) -> tuple[int, str]:
    """The first canned one."""
    one = next(one for one in provider.answers.refused if one.end == end and one.status != 429)
    return one.status, one.body


def has_own_words(provider: Provider) -> bool:
    """It says more than its canned answers: test_oauth.py reads that."""
    return "errors" in QUIRKS.get(provider.slug, {})


def texts_in(value: Any) -> list[str]:
    """Every text in an answer."""
    if isinstance(value, str):
        return [value]
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in within for text in texts_in(one)]


@pytest.fixture
def clock() -> list[float]:
    return [WRITTEN_AT.timestamp()]


@pytest.fixture
def provider(slug: str, clock: list[float]) -> Iterator[Provider]:
    answers = ANSWERS[slug]
    with OAuthServer([FAKES[slug]], clock=lambda: clock[0]) as server, requests.Session() as http:
        http.trust_env = False
        redirect_uris = [answers.login.redirect_uri] if answers.login else []
        server.add_client(slug, CLIENT, SECRET, redirect_uris)
        yield Provider(slug, answers, server, http, clock)


# Refreshing.


@REFRESHED
def test_a_refresh_as_its_provider_asks_for_it_is_answered_in_its_words(provider: Provider) -> None:
    token = provider.granted()
    answer = provider.send(provider.refresh(token))
    assert (answer.status_code, provider.server.violations) == (200, [])
    content, newest = answer.json(), provider.server.current(token)
    assert provider.server.current_access(token) in texts_in(content)
    assert any(set(content) >= set(json.loads(one.body)) for one in provider.answers.granted)
    assert (newest != token) == (provider.dialect.rotation not in ("never", "where_set", "family_where_set", "aged"))
    assert (newest in texts_in(content)) == (newest != token or provider.dialect.repeats_refresh_token)
    assert not any(TOKEN.search(text) for text in texts_in(content))


@pytest.mark.parametrize("slug", ["linkedin"])
def test_an_answer_that_repeats_a_refresh_token_says_how_long_that_one_still_lives(provider: Provider) -> None:
    token, day = provider.granted(), 86_400
    provider.clock[0] += 100 * day
    content = provider.send(provider.refresh(token)).json()
    assert content["refresh_token"] == token
    assert content["refresh_token_expires_in"] == provider.dialect.refresh_lifetime - 100 * day


@REFRESHED
def test_three_refreshes_in_a_row_each_end_when_the_answer_says(provider: Provider) -> None:
    token = provider.granted()
    for _ in range(3):
        assert provider.send(provider.refresh(token)).status_code == 200
        token = provider.server.current(token)
        access = provider.server.access_tokens[provider.server.current_access(token)]
        assert access.expires_at == provider.clock[0] + provider.dialect.lifetime
        provider.clock[0] += provider.dialect.lifetime - max(provider.answers.earliest, 1)
    assert provider.server.violations == []


@REFRESHED
def test_a_dead_grant_and_a_wrong_client_are_refused_as_the_provider_does(provider: Provider) -> None:
    token = provider.granted()
    if provider.dialect.manner.auth not in ("none", "anonymous"):
        wrong = provider.send(provider.refresh(token), secret="wrong")
        assert has_own_words(provider) or (wrong.status_code, wrong.text) == refusal(provider, "client")
    provider.server.revoke(token)
    dead = provider.send(provider.refresh(token))
    assert has_own_words(provider) or (dead.status_code, dead.text) == refusal(provider, "reauthorize")
    assert not ISSUED.search(dead.text)
    assert provider.server.violations == []


@REFRESHED
def test_who_is_throttled_reads_the_providers_own_words(provider: Provider) -> None:
    provider.server.fail(faults.throttled(7))
    answer = provider.send(provider.refresh(provider.granted()))
    canned = next((one.body for one in provider.answers.refused if one.status == 429), None)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert answer.text == (canned or '{"error": "temporarily_unavailable", "error_description": "Too many requests."}')


Change = Callable[[Provider], Mapping[str, Any] | None]  # None: nothing to change at this provider
SWAPPED = {"POST": "GET", "GET": "POST", "DELETE": "POST", "form": "json", "json": "form"}
ELSEWHERE = {"body": "basic", "bearer": "none", **dict.fromkeys(("basic", "basic_secret", "secret", "none"), "body")}


def _without(name: str) -> dict[str, Any]:
    return {"params": {name: None}}


def _without_one(names: Iterable[str]) -> dict[str, Any] | None:
    return next((_without(name) for name in names), None)


def _with_another_value(names: Iterable[str]) -> dict[str, Any] | None:
    return next(({"params": {name: "another"}} for name in names), None)


def _swapped_encoding(encoding: str, method: str = "POST") -> dict[str, Any] | None:
    return {"encoding": SWAPPED[encoding]} if method == "POST" else None


WRONG_REFRESHES: dict[str, Change] = {
    "another method": lambda it: {"method": SWAPPED[it.answers.method]},
    "another encoding": lambda it: _swapped_encoding(it.answers.encoding, it.answers.method),
    "the client elsewhere": lambda it: {"auth": ELSEWHERE.get(it.dialect.manner.auth, "body")},
    "the client by another name": lambda it: (
        {"client_id_param": "app"} if it.dialect.manner.auth in ("body", "none") else None
    ),
    "no token": lambda it: _without(it.answers.token_param),
    "a parameter missing": lambda it: _without_one(it.dialect.required),
    "a parameter wrong": lambda it: _with_another_value(name for name, ok in it.dialect.required.items() if ok),
    "no grant type": lambda it: _without("grant_type") if it.answers.grant == "refresh_token" else None,
    "another grant type": lambda it: {"params": {"grant_type": "password"}},
}


@REFRESHED
@pytest.mark.parametrize("wrong", WRONG_REFRESHES)
def test_a_wrong_refresh_is_noted_and_costs_nothing(provider: Provider, wrong: str) -> None:
    if (change := WRONG_REFRESHES[wrong](provider)) is None:
        return
    token = provider.granted()
    answer = provider.send(provider.refresh(token), **change)
    assert not ISSUED.search(answer.text)
    assert len(provider.server.violations) == 1
    assert (provider.server.current(token), provider.server.tokens[token].spent_at) == (token, None)
    assert provider.send(provider.refresh(token)).status_code == 200


@pytest.mark.parametrize("slug", [slug for slug, answers in ANSWERS.items() if answers.grant == "none"])
def test_what_cannot_be_refreshed_is_not(provider: Provider) -> None:
    access = provider.granted()
    assert provider.server.is_live(access)
    answer = provider.send(provider.refresh(access), params={"grant_type": "refresh_token"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    assert len(provider.server.violations) == 1


# Logging in.


@of("login")
def test_a_login_as_its_provider_asks_for_it_brings_tokens(provider: Provider) -> None:
    provider.server.consent(provider.slug, location_id="loc")
    back = callback(provider.authorize())
    login, dialect = provider.answers.login, provider.dialect.login
    assert login is not None
    assert dialect is not None
    assert back["state"] == "st&te"
    assert back.get("iss") == dialect.issuer
    assert back.items() >= login.callback.items()
    content = provider.send(provider.exchange(back[dialect.code_param])).json()
    assert provider.server.violations == []
    texts = texts_in(content)
    assert provider.server.current_access("loc") in texts
    if provider.answers.grant != "none":
        assert provider.server.current("loc") in texts
    if login.account and login.account not in back.values():
        assert login.account in json.dumps(content)


@of("login")
def test_without_what_brings_a_refresh_token_none_is_given(provider: Provider) -> None:
    login, dialect = provider.answers.login, provider.dialect.login
    assert login is not None
    assert dialect is not None
    missing: list[dict[str, str | None]] = [{name: None} for name in login.asks]
    missing += [{"scope": dialect.separator.join(sorted(dialect.scopes - {one}))} for one in dialect.scopes]
    for number, changed in enumerate(missing, start=1):
        provider.server.consent(provider.slug, location_id=f"loc {number}")
        answer = provider.send(provider.exchange(provider.code(**changed)))
        assert answer.status_code == 200
        assert len(provider.server.violations) == number
        assert provider.server.family(f"loc {number}").refresh_tokens == []
        assert provider.server.current_access(f"loc {number}") in texts_in(answer.json())
        assert not any(text.startswith("refresh-") for text in texts_in(answer.json()))


Query = dict[str, str | None]
OTHER_SIGN = {" ": ",", ",": " "}
WRONG_AUTHORIZATIONS: dict[str, Callable[[Provider], Query | None]] = {
    "no state": lambda _: {"state": None},
    "another response type": lambda _: {"response_type": "token"},
    "the secret": lambda _: {"client_secret": SECRET},
    "scopes put together otherwise": lambda it: {
        "scope": "one" + OTHER_SIGN.get(it.dialect.login.separator, " ") + "two" if it.dialect.login else None
    },
    "no challenge": lambda it: {"code_challenge": None} if _pkce(it) == "required" else None,
    "a plain challenge": lambda it: {"code_challenge_method": "plain"} if _pkce(it) != "none" else None,
    "a padded challenge": lambda it: {"code_challenge": CHALLENGE + "="} if _pkce(it) != "none" else None,
}


def _pkce(provider: Provider) -> str:
    assert provider.answers.login is not None
    return provider.answers.login.pkce


@of("login")
@pytest.mark.parametrize("wrong", WRONG_AUTHORIZATIONS)
def test_a_wrong_authorization_request_brings_no_code(provider: Provider, wrong: str) -> None:
    if (changed := WRONG_AUTHORIZATIONS[wrong](provider)) is None:
        return
    back = callback(provider.authorize(**changed))
    assert "error" in back
    assert "st&te" in back.values() or wrong == "no state"
    assert len(provider.server.violations) == 1


@of("login")
@pytest.mark.parametrize(
    "changed",
    [{"redirect_uri": "https://evil.example/callback"}, {"redirect_uri": None}, {"client_id": "", "client_key": ""}],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(provider: Provider, changed: Query) -> None:
    answer = provider.authorize(**changed)
    assert (answer.status_code, "Location" in answer.headers) == (400, False)


WRONG_EXCHANGES: dict[str, Change] = {
    "no code": lambda it: _without(it.answers.login.code_param if it.answers.login else "code"),
    "no redirect URI": lambda _: _without("redirect_uri"),
    "another redirect URI": lambda _: {"params": {"redirect_uri": "https://other.example/callback"}},
    "another method": lambda _: {"method": "GET"},
    "another encoding": lambda it: _swapped_encoding(it.answers.encoding),
    "the client elsewhere": lambda it: {"auth": ELSEWHERE[it.answers.auth]},
    "another verifier": lambda it: {"params": {"code_verifier": "w" * 43}} if _pkce(it) != "none" else None,
    "no verifier": lambda it: _without("code_verifier") if _pkce(it) != "none" else None,
    "a parameter missing": lambda it: _without_one(it.answers.login.sends if it.answers.login else ()),
}


@of("login")
@pytest.mark.parametrize("wrong", WRONG_EXCHANGES)
def test_a_wrong_exchange_is_noted_and_the_right_one_still_works(provider: Provider, wrong: str) -> None:
    if (change := WRONG_EXCHANGES[wrong](provider)) is None:
        return
    code = provider.code()
    answer = provider.send(provider.exchange(code), **change)
    assert not ISSUED.search(answer.text)
    assert len(provider.server.violations) == 1
    assert provider.send(provider.exchange(code)).status_code == 200


@of("login")
def test_where_pkce_is_not_known_a_verifier_is_ignored_and_elsewhere_the_rule_holds(provider: Provider) -> None:
    if _pkce(provider) == "required":
        return
    without: Query = {"code_challenge": None, "code_challenge_method": None}
    answer = provider.send(provider.exchange(provider.code(**without)), params={"code_verifier": "short"})
    assert (answer.status_code, provider.server.violations) == (200, [])


@pytest.mark.parametrize("slug", ["instagram", "threads"])
def test_a_token_of_an_hour_is_exchanged_for_a_long_lived_one(provider: Provider) -> None:
    provider.server.consent(provider.slug, location_id="loc")
    provider.send(provider.exchange(provider.code()))
    short = provider.server.current("loc")
    grant_type = {"instagram": "ig_exchange_token", "threads": "th_exchange_token"}[provider.slug]
    asked = Asked(
        f"{provider.server.url}/{provider.slug}/access_token",
        {"grant_type": grant_type, "client_secret": SECRET, "access_token": short},
        method="GET",
        auth="anonymous",
    )
    assert provider.send(asked, params={"client_secret": None}).status_code == 400
    content = provider.send(asked).json()
    assert content["access_token"] == provider.server.current("loc") != short
    ends = [provider.server.access_tokens[token].expires_at for token in (short, content["access_token"])]
    assert ends == [provider.clock[0] + 3600, provider.clock[0] + provider.dialect.lifetime]
    assert len(provider.server.violations) == 1


def test_shopify_signs_its_callback_with_the_secret_of_the_app(clock: list[float]) -> None:
    login = Login(pkce="none", callback={"shop": "acme.myshopify.com", "timestamp": "1772366400"})
    with OAuthServer([Dialect("shop", login=login, signs_callback=True)], clock=lambda: clock[0]) as server:
        server.add_client("shop", CLIENT, SECRET, ["https://app.example/callback"])
        params = {"response_type": "code", "client_id": CLIENT, "redirect_uri": "https://app.example/callback"}
        url = server.endpoint("shop", "authorize")
        back = callback(requests.get(url, params={**params, "state": "s&1"}, allow_redirects=False, timeout=10))
    signature = back.pop("hmac")
    text = "&".join(f"{name}={quote(back[name], safe='')}" for name in sorted(back))
    assert signature == hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()


# Logging in on another device (RFC 8628).


@of("device_url")
def test_a_login_on_another_device_waits_for_the_person(provider: Provider) -> None:
    provider.server.consent(provider.slug, location_id="loc")
    begun = provider.send(provider.device()).json()
    poll = provider.poll(begun["device_code"])
    assert provider.send(poll).json()["error"] == "authorization_pending"
    provider.clock[0] += INTERVAL_SECONDS
    provider.server.approve(provider.slug, begun["user_code"])
    content = provider.send(poll).json()
    assert provider.server.current_access("loc") in texts_in(content)
    assert len(provider.server.family("loc").refresh_tokens) == (provider.answers.grant != "none")
    assert not ISSUED.search(provider.send(poll).text)
    assert provider.server.violations == []


@of("device_url")
def test_who_polls_too_fast_is_asked_to_slow_down_each_time_more(provider: Provider) -> None:
    poll = provider.poll(provider.send(provider.device()).json()["device_code"])
    said = []
    for seconds in (0, INTERVAL_SECONDS - 1, INTERVAL_SECONDS, 2 * INTERVAL_SECONDS, 4 * INTERVAL_SECONDS):
        provider.clock[0] += seconds
        said.append(provider.send(poll).json()["error"])
    assert said == ["authorization_pending", "slow_down", "slow_down", "slow_down", "authorization_pending"]


@of("device_url")
def test_a_person_may_refuse_and_a_code_ends(provider: Provider) -> None:
    refused, late = (provider.send(provider.device()).json() for _ in range(2))
    page = provider.http.get(refused["verification_uri_complete"] + "&answer=no", timeout=10)
    assert "You have refused" in page.text
    assert provider.send(provider.poll(refused["device_code"])).json()["error"] == "access_denied"
    provider.clock[0] += LIFETIME_SECONDS
    provider.server.approve(provider.slug)
    assert provider.send(provider.poll(late["device_code"])).json()["error"] == "expired_token"
    with pytest.raises(LookupError):
        provider.server.deny(provider.slug)


@of("device_url")
@pytest.mark.parametrize("wrong", ["another method", "another encoding", "the client elsewhere"])
def test_a_wrong_device_request_is_noted(provider: Provider, wrong: str) -> None:
    change = WRONG_EXCHANGES[wrong](provider)
    assert change is not None
    assert "device_code" not in provider.send(provider.device(), **change).text
    assert len(provider.server.violations) == 1


# Revoking.


@of("revocation")
def test_a_revocation_as_its_provider_asks_for_it_ends_the_grant_where_it_says_so(provider: Provider) -> None:
    told = provider.answers.revocation
    assert told is not None
    token = provider.server.grant(provider.slug, CLIENT, **provider.answers.row)
    access = provider.server.current_access(token)
    answer = provider.send(provider.revocation(token, access))
    assert (answer.status_code, answer.text, provider.server.violations) == (200, told.body, [])
    assert not provider.server.is_live(access)
    if told.says == "revoked" and provider.answers.grant != "none":
        with pytest.raises(LookupError):
            provider.server.current(token)


WRONG_REVOCATIONS: dict[str, Change] = {
    "another method": lambda it: {"method": SWAPPED[_revocation_of(it).method]},
    "another encoding": lambda it: _swapped_encoding(_revocation_of(it).encoding) if _revocation_of(it).sends else None,
    "the client elsewhere": lambda it: {"auth": ELSEWHERE[_revocation_of(it).auth]},
    "a parameter missing": lambda it: _without_one(_revocation_of(it).sends),
    "a parameter more": lambda _: {"params": {"more": "1"}},
    "another hint": lambda it: _with_another_value(
        name for name in _revocation_of(it).sends if name == "token_type_hint"
    ),
}


def _revocation_of(provider: Provider) -> Revocation:
    assert provider.answers.revocation is not None
    return provider.answers.revocation


@of("revocation")
@pytest.mark.parametrize("wrong", WRONG_REVOCATIONS)
def test_a_wrong_revocation_is_noted_and_ends_nothing(provider: Provider, wrong: str) -> None:
    if (change := WRONG_REVOCATIONS[wrong](provider)) is None:
        return
    token = provider.server.grant(provider.slug, CLIENT, **provider.answers.row)
    access = provider.server.current_access(token)
    provider.send(provider.revocation(token, access), **change)
    assert len(provider.server.violations) == 1
    assert provider.server.is_live(access)


@of("revocation")
def test_the_other_token_is_not_the_one_that_is_revoked(provider: Provider) -> None:
    if provider.answers.grant != "refresh_token" or not {"refresh-1", "access-1"} & set(
        _revocation_of(provider).sends.values()
    ):
        return
    token = provider.server.grant(provider.slug, CLIENT, **provider.answers.row)
    access = provider.server.current_access(token)
    request = provider.revocation(access, token)  # the wrong way round
    provider.send(request, bearer=access)
    assert len(provider.server.violations) == 1
    assert provider.server.is_live(access)


# What is the same everywhere.


def test_no_two_endpoints_of_a_provider_have_one_address() -> None:
    for slug, dialect in FAKES.items():
        paths = [dialect.path] + ([dialect.code_path] if dialect.code_path != dialect.path else [])
        paths += [dialect.login.path] if dialect.login else []
        paths += [dialect.device_path] if dialect.device_path else []
        if dialect.revocation and dialect.revocation.manner and dialect.revocation.manner.method == "POST":
            paths.append(dialect.revocation.path)
        assert len(set(paths)) == len(paths), slug


def test_tokens_and_times_are_put_in_their_place_and_nothing_else_changes() -> None:
    body = {
        "access_token": "ghu_access-2",
        "authed": {"refresh_token": "refresh-2", "id": 17, "expires_in": 3600},
        "expires_at": 1772370000,
        "issued_at": "1772366400000",
        "until": None,
        "accessTokenExpiresAt": "2026-03-01T13:00:00Z",
    }
    later = WRITTEN_AT.timestamp() + 60
    assert filled(json.dumps(body), "a", "r", later) == {
        "access_token": "a",
        "authed": {"refresh_token": "r", "id": 17, "expires_in": 3600},
        "expires_at": 1772370060,
        "issued_at": "1772366460000",
        "until": None,
        "accessTokenExpiresAt": "2026-03-01T13:01:00Z",
    }
    assert filled(json.dumps(body), "a", None, later)["authed"] == {"id": 17, "expires_in": 3600}
    assert filled('{"access_token": "access-2"}', "a", "r", later) == {"access_token": "a", "refresh_token": "r"}
    assert filled("access_token=access-2&n=1", "a", None, later) == {"access_token": "a", "n": "1"}
