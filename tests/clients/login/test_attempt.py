"""Callbacks that are forged, replayed, or another login's: none is used, each is answered with a sentence of its own,
and the login goes on waiting for the right one."""

from __future__ import annotations

import hashlib
import hmac
import html
import http.client
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from providers.base import Provider
from providers.registry import read_catalog
from tests.clients.login.person import LoggedIn, browse, candidate_of, logged_in, sent_back, set_up
from tests.world.clock import FakeClock
from token_refresh.clients.login.attempt import (
    Attempt,
    Callback,
    CallbackError,
    NoGrantError,
    Refusal,
    begin,
    query_in,
    s256,
)
from token_refresh.clients.login.loopback import Loopback

__all__ = ["logged_in"]

CATALOG = {provider.slug: provider for provider in read_catalog()}
CODE, SECRET = "code-CANARY-0123456789abcdef", "client secret CANARY"
PASTED, ANY_PORT = "https://app.example/callback", "http://127.0.0.1/callback"
_PARAMS = {"shop": "our-shop", "host": "keys.example", "realm": "acme"}


def provider_of(slug: str) -> Provider:
    if slug == "strict":  # of one that always names itself
        google = CATALOG["google"]
        return replace(google, login=replace(google.login, iss_required=True))
    return CATALOG[slug]


class Waiting:
    """A login that waits, and what it was sent.

    Attributes:
        address: what the person opens.
        state: its own.
    """

    def __init__(self, slug: str, loopback: Loopback | None, clock: FakeClock) -> None:
        self.provider, self.clock, self.loopback = provider_of(slug), clock, loopback
        self.redirect_uri = loopback.redirect_uri if loopback is not None else PASTED
        candidate = candidate_of(self.provider, "our-app", SECRET, _PARAMS)
        self.attempt, self.address = begin(candidate, self.redirect_uri, "", clock.now())
        [self.state] = parse_qs(urlsplit(self.address).query)["state"]
        if loopback is not None:
            loopback.accept = lambda query: self.attempt.accept(query, clock.now())
        self.secrets = [CODE, self.state, *filter(None, [self.attempt.verifier])]

    def query(self, **members: str | None) -> str:
        """Of its right callback; with `members` in place of its own, without those that are None."""
        issuer = self.provider.login.issuer
        right = {self.provider.login.code_param: CODE, "state": self.state}
        right |= {"iss": issuer.format(**_PARAMS)} if issuer else {}
        if self.provider.slug == "zoho":
            right |= {"location": "eu", "accounts-server": "https://accounts.zoho.eu"}
        if self.provider.slug == "shopify":
            right |= {"shop": "our-shop.myshopify.com", "timestamp": "1700000000"}
        given = {name: text for name, text in {**right, **members}.items() if text is not None}
        if self.provider.slug == "shopify" and "hmac" not in members:
            given["hmac"] = signed(given)
        return urlencode(given)

    def get(self, target: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Status and text of the page that a browser ends on, which never holds the code, nor does its address."""
        parts = urlsplit(self.redirect_uri)
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
            connection.putrequest(method, target, skip_host=True)
            for name, text in {"Host": parts.netloc, **headers}.items():
                connection.putheader(name, text)
            connection.endheaders()
            answer = connection.getresponse()
            page, location = answer.read().decode(), answer.headers.get("Location", "")
            said = page + str(answer.headers) + answer.reason
            assert [secret for secret in self.secrets if secret in said] == []
            if answer.status != 303:
                assert CODE not in target or answer.status != 400, "a callback's page stays in the browser's history"
                return answer.status, html.unescape(page)
            target = location
            assert "?" not in target
        raise AssertionError("a redirect leads to a redirect")

    def is_waiting(self) -> bool:
        return self.loopback is None or self.loopback.ended is None

    def take(self) -> Callback:
        """The right callback, which is taken."""
        if self.loopback is None:
            return self.attempt.accept(query_in(f"{PASTED}?{self.query()}", PASTED, "code"), self.clock.now())
        status, page = self.get(f"/callback?{self.query()}")
        assert (status, "You are logged in" in page) == (200, True)
        ended = self.loopback.ended
        assert isinstance(ended, Callback)
        return ended


def signed(members: dict[str, str]) -> str:
    text = urlencode(sorted((name, value) for name, value in members.items() if name != "hmac"))
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.fixture
def waiting() -> Iterator[Callable[[str], Waiting]]:
    """Begins logins whose callback comes by HTTP."""
    with ExitStack() as stack:
        clock = FakeClock()
        yield lambda slug: Waiting(slug, stack.enter_context(Loopback("http://127.0.0.1:0/callback")), clock)


@dataclass(frozen=True)
class Forged:
    """A callback that is not to be used: what is sent, and the sentence that the browser shows."""

    name: str
    sent: Callable[[Waiting], tuple[Any, ...]]  # of `Waiting.get`; the last may be headers
    says: str
    provider: str = "google"
    status: int = 400


def at(make: Callable[[Waiting], str], path: str = "/callback") -> Callable[[Waiting], tuple[Any, ...]]:
    return lambda one: (f"{path}?{make(one)}",)


def edited(**members: str | None) -> Callable[[Waiting], tuple[Any, ...]]:
    return at(lambda one: one.query(**members))


def method(name: str) -> Callable[[Waiting], tuple[Any, ...]]:
    return lambda one: (f"/callback?{one.query()}", name)


def header(**headers: str) -> Callable[[Waiting], tuple[Any, ...]]:
    return lambda one: (f"/callback?{one.query()}", "GET", headers)


def _of_another(one: Waiting) -> str:
    other = Waiting(one.provider.slug if one.provider.slug in CATALOG else "google", None, one.clock)
    return other.query()


ANOTHER, NONE = Refusal.FOREIGN_STATE.value, Refusal.NO_STATE.value
ISSUER, HOST, TWICE = Refusal.FOREIGN_ISSUER.value, Refusal.FOREIGN_HOST.value, Refusal.DOUBLED.value
UNSIGNED = "the callback is not signed by Shopify (hmac)"
NOTHING, NOT_HERE = "There is nothing here", "not the address of the login"
EVIL = "https://accounts.zoho.eu.evil.example"

FORGED = (
    Forged("no state", edited(state=None), NONE),
    Forged("an empty state", edited(state=""), ANOTHER),
    Forged("a guessed state", edited(state="x" * 43), ANOTHER),
    Forged("the state of another login", at(_of_another), ANOTHER),
    Forged("the code of another login", edited(state="s" * 43, code="code-of-the-attacker"), ANOTHER),
    Forged("the state cut short", at(lambda one: one.query(state=one.state[:-1])), ANOTHER),
    Forged("the state and more", at(lambda one: one.query(state=one.state + "A")), ANOTHER),
    Forged("the state in other letters", at(lambda one: one.query(state=one.state.swapcase())), ANOTHER),
    Forged("a blank behind the state", at(lambda one: one.query(state=one.state + " ")), ANOTHER),
    Forged("a NUL behind the state", at(lambda one: one.query(state=one.state + "\0")), ANOTHER),
    Forged("a state that is no UTF-8", at(lambda _: f"code={CODE}&state=%FF%FE%80"), ANOTHER),
    Forged("a state beyond ASCII", edited(state="é" * 43), ANOTHER),
    Forged("the state percent-encoded twice", at(lambda one: f"code={CODE}&state={twice(one.state)}"), ANOTHER),
    Forged("the state under another name", at(lambda one: f"code={CODE}&State={one.state}"), NONE),
    Forged("the state in a fragment", lambda one: (f"/callback?code={CODE}#state={one.state}",), NONE),
    Forged("the state twice", at(lambda one: f"{one.query()}&state={one.state}"), TWICE),
    Forged("a foreign state behind the right one", at(lambda one: f"{one.query()}&state=other"), TWICE),
    Forged("the state twice, its name encoded once", at(lambda one: f"{one.query()}&%73tate=x"), TWICE),
    Forged("two codes", at(lambda one: f"{one.query()}&code=other"), TWICE),
    Forged("two issuers", at(lambda one: f"{one.query()}&iss=https%3A%2F%2Faccounts.google.com"), TWICE),
    Forged("a code beside an error, twice", at(lambda one: f"{one.query()}&error=a&error=b"), TWICE),
    Forged("an error of another login", at(lambda _: "error=access_denied&state=other"), ANOTHER),
    Forged("an error without a state", at(lambda _: "error=access_denied"), NONE),
    Forged("neither code nor error", edited(code=None), Refusal.NO_CODE.value),
    Forged("an empty code", edited(code=""), Refusal.NO_CODE.value),
    Forged("a code under another name", edited(code=None, spapi_oauth_code=CODE), Refusal.NO_CODE.value),
    Forged("a query of 60,000 characters", edited(state="x" * 60_000), ANOTHER),
    Forged("a thousand members", at(lambda _: "&".join(f"a{n}=1" for n in range(1000))), NONE),
    Forged("semicolons for ampersands", at(lambda one: f"code={CODE};state={one.state}"), NONE),
    Forged("another provider's issuer", edited(iss="https://github.com/login/oauth"), ISSUER),
    Forged("the issuer with a slash", edited(iss="https://accounts.google.com/"), ISSUER),
    Forged("the issuer in other letters", edited(iss="https://ACCOUNTS.google.com"), ISSUER),
    Forged("the issuer without TLS", edited(iss="http://accounts.google.com"), ISSUER),
    Forged("an empty issuer", edited(iss=""), ISSUER),
    Forged("an issuer that is no address", edited(iss="https://[accounts"), ISSUER),
    Forged("no issuer, where there must be one", edited(iss=None), Refusal.NO_ISSUER.value, "strict"),
    Forged("another realm's issuer", edited(iss="https://keys.example/realms/other"), ISSUER, "keycloak"),
    Forged(
        "GitHub's answer at Keycloak",
        at(lambda one: Waiting("github-app", None, one.clock).query()),
        ANOTHER,
        "keycloak",
    ),
    Forged("GitHub's issuer with our state", edited(iss="https://github.com/login/oauth"), ISSUER, "keycloak"),
    Forged("another path", at(lambda one: one.query(), "/callback2"), NOTHING, status=404),
    Forged("a path below", at(lambda one: one.query(), "/callback/x"), NOTHING, status=404),
    Forged("the path with a slash", at(lambda one: one.query(), "/callback/"), NOTHING, status=404),
    Forged("the path in other letters", at(lambda one: one.query(), "/Callback"), NOTHING, status=404),
    Forged("the path percent-encoded", at(lambda one: one.query(), "/%63allback"), NOTHING, status=404),
    Forged("the path by way of another", at(lambda one: one.query(), "/x/../callback"), NOTHING, status=404),
    Forged("the root", at(lambda one: one.query(), "/"), NOTHING, status=404),
    Forged("an address that is none", lambda _: ("http://[/callback?code=x",), NOTHING, status=404),
    Forged("another host (DNS rebinding)", header(Host="evil.example:8765"), NOT_HERE, status=421),
    Forged("another port in the host", header(Host="127.0.0.1:1"), NOT_HERE, status=421),
    Forged("another name of this machine", header(Host="localhost"), NOT_HERE, status=421),
    Forged("an empty host", header(Host=""), NOT_HERE, status=421),
    Forged(
        "another host in the target",
        lambda one: (f"http://evil.example/callback?{one.query()}", "GET", {"Host": "evil.example"}),
        NOT_HERE,
        status=421,
    ),
    Forged("a POST", method("POST"), "This is no request for a page", status=501),
    Forged("a PUT", method("PUT"), "This is no request for a page", status=501),
    Forged("OPTIONS of a script", method("OPTIONS"), "This is no request for a page", status=501),
    Forged("a method that is the code", lambda _: ("/callback", CODE), "This is no request for a page", status=501),
    Forged("a data centre elsewhere", edited(**{"accounts-server": "https://evil.example"}), HOST, "zoho"),
    Forged("a data centre below a foreign name", edited(**{"accounts-server": EVIL}), HOST, "zoho"),
    Forged(
        "a data centre as a user's name",
        edited(**{"accounts-server": "https://accounts.zoho.eu@evil.example"}),
        HOST,
        "zoho",
    ),
    Forged("a data centre that is no address", edited(**{"accounts-server": "https://[evil"}), HOST, "zoho"),
    Forged(
        "a data centre without a scheme",
        edited(**{"accounts-server": "evil.example"}),
        "a data centre that is not Zoho's",
        "zoho",
    ),
    Forged("an API server elsewhere", edited(api_domain="https://evil.example"), HOST, "zoho"),
    Forged("a wrong signature", edited(hmac="0" * 64), UNSIGNED, "shopify"),
    Forged("no signature", edited(hmac=None), UNSIGNED, "shopify"),
    Forged("an empty signature", edited(hmac=""), UNSIGNED, "shopify"),
    Forged("a signature beyond ASCII", edited(hmac="é" * 64), UNSIGNED, "shopify"),
    Forged(
        "another shop under the signature", at(lambda one: one.query().replace("our-shop", "evil")), UNSIGNED, "shopify"
    ),
    Forged(
        "another code under the signature",
        at(lambda one: one.query().replace(CODE, "code-of-the-attacker")),
        UNSIGNED,
        "shopify",
    ),
    Forged("a member that was not signed", at(lambda one: f"{one.query()}&more=1"), UNSIGNED, "shopify"),
    Forged("signed, but of no shop", edited(shop="evil.example/?"), "names no shop", "shopify"),
)


def twice(text: str) -> str:
    return "".join(f"%25{ord(letter):02X}" for letter in text)


@pytest.mark.parametrize("forged", FORGED, ids=lambda one: one.name)
def test_a_callback_that_is_not_this_logins_is_refused_with_its_sentence_and_the_login_goes_on(
    waiting: Callable[[str], Waiting], forged: Forged
) -> None:
    one = waiting(forged.provider)
    send(one, forged)
    assert one.is_waiting()
    assert one.take().code == CODE


def send(one: Waiting, forged: Forged) -> None:
    """It is refused with its sentence."""
    target, *more = forged.sent(one)
    headers = more.pop() if more and isinstance(more[-1], dict) else {}
    status, page = one.get(target, *more, **headers)
    assert (status, forged.says in page) == (forged.status, True), page


class WaitingAtTheFake(Waiting):
    """A login of the whole program, whose address is this."""

    def __init__(self, address: str, clock: FakeClock) -> None:
        self.provider, self.clock, self.address = provider_of("google"), clock, address
        query = parse_qs(urlsplit(address).query)
        [self.state], [self.redirect_uri] = query["state"], query["redirect_uri"]
        self.secrets = [CODE, self.state]


def test_no_forged_callback_makes_a_token_call_and_the_right_one_is_taken_after_them(logged_in: LoggedIn) -> None:
    ours = [forged for forged in FORGED if forged.provider == "google"]

    def forge_then_browse(address: str) -> None:
        for forged in ours:
            send(WaitingAtTheFake(address, logged_in.world.clock), forged)
        assert logged_in.token_calls() == 0
        browse(address)

    set_up(logged_in.world, "google", ANY_PORT)
    assert logged_in("google", forge_then_browse).code == 0
    assert logged_in.token_calls() == 1
    assert len(ours) >= 40


def test_the_callbacks_of_two_logins_that_are_crossed_make_no_token_call(logged_in: LoggedIn) -> None:
    """Each has a code that the provider gave out, for the state and the challenge of the other one."""

    def crossed(address: str) -> str:
        query = parse_qs(urlsplit(address).query)
        for name in ("state", "code_challenge"):
            address = address.replace(query[name][0], s256(query[name][0]))
        return sent_back(address)

    def cross_then_paste(address: str) -> str:
        page = requests.get(crossed(address), timeout=10)
        assert (page.status_code, Refusal.FOREIGN_STATE.value in page.text) == (400, True)
        return crossed(address)

    def look_then_browse(address: str) -> None:
        assert Refusal.FOREIGN_STATE.value in "\n".join(logged_in.person.said)
        assert logged_in.token_calls() == 0
        browse(address)

    set_up(logged_in.world, "google", ANY_PORT)
    assert logged_in("google", cross_then_paste, look_then_browse).code == 0
    assert logged_in.token_calls() == 1


def test_each_refusal_has_a_sentence_of_its_own_and_forty_callbacks_were_forged() -> None:
    assert len({one.value for one in Refusal}) == len(Refusal)
    assert len(FORGED) >= 40
    assert len({one.name for one in FORGED}) == len(FORGED)


@pytest.mark.parametrize("code", [CODE, "another code"])
def test_a_second_callback_is_not_used_whatever_its_code(waiting: Callable[[str], Waiting], code: str) -> None:
    one = waiting("google")
    taken = one.take()
    status, page = one.get(f"/callback?{one.query(code=code)}")
    assert (status, Refusal.USED_STATE.value in page) == (400, True)
    assert one.loopback is not None
    assert one.loopback.ended is taken


def test_a_callback_of_eleven_minutes_later_is_not_used(waiting: Callable[[str], Waiting]) -> None:
    one = waiting("google")
    one.clock.advance(600)
    assert one.take().code == CODE
    late = waiting("google")
    late.clock.advance(600.001)
    status, page = late.get(f"/callback?{late.query()}")
    assert (status, Refusal.LATE.value in page, late.is_waiting()) == (400, True, True)


def test_an_error_ends_the_login_with_the_providers_words_whatever_code_stands_beside_it(
    waiting: Callable[[str], Waiting],
) -> None:
    one = waiting("google")
    words = urlencode({"error": "access_denied", "error_description": "no\x1b[31m <b>thanks</b>\n" + "x" * 500})
    status, page = one.get(f"/callback?{one.query()}&{words}")
    assert (status, "The provider refused the login" in page, "thanks" in page) == (200, True, False)
    assert one.loopback is not None
    ended = one.loopback.ended
    assert isinstance(ended, NoGrantError)
    assert str(ended).startswith("the provider refused the login: access_denied: no")
    assert (len(str(ended)) < 250, str(ended).isprintable()) == (True, True)
    status, page = one.get(f"/callback?{one.query()}")
    assert Refusal.USED_STATE.value in page


@pytest.mark.parametrize("slug", ["shopify", "zoho", "quickbooks"])
def test_what_the_right_callback_alone_says_becomes_parameters(waiting: Callable[[str], Waiting], slug: str) -> None:
    one = waiting(slug)
    if slug == "quickbooks":
        query = one.query(realmId="9341453")
        assert one.attempt.accept(query, one.clock.now()).params == {"realmId": "9341453"}
        return
    taken = one.take()
    assert taken.params == {"shopify": {"shop": "our-shop"}, "zoho": {"accounts_server": "accounts.zoho.eu"}}[slug]
    assert CODE not in repr(taken)


def test_a_page_of_a_login_that_is_not_over_does_not_say_that_it_is(waiting: Callable[[str], Waiting]) -> None:
    one = waiting("google")
    assert one.get("/callback/done")[0] == 404
    assert one.get("/done")[0] == 404


def test_a_request_that_is_none_is_not_quoted_on_its_page(waiting: Callable[[str], Waiting]) -> None:
    import socket

    one = waiting("google")
    with socket.create_connection(("127.0.0.1", urlsplit(one.redirect_uri).port or 0), 10) as connection:
        connection.sendall(f"GET /callback?code={CODE} and more HTTP/1.1\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    assert " 400 " in answer
    assert CODE not in answer
    assert one.take().code == CODE


def test_address_and_attempt_hold_no_secret_and_no_two_logins_share_anything() -> None:
    logins = [Waiting("google", None, FakeClock()) for _ in range(50)]
    assert len({one.state for one in logins}) == len({one.attempt.verifier for one in logins}) == 50
    for one in logins:
        assert len(one.state) >= 43
        assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", one.attempt.verifier or "")
        assert str(one.attempt.verifier) not in one.address
        assert urlencode({"": SECRET})[1:] not in one.address
        assert one.state not in repr(vars(one.attempt))


def test_a_login_that_was_kept_elsewhere_takes_its_callback_and_no_other() -> None:
    """A service has no process that waits: it seals these fields, and finds them by the hash of the state."""
    one, clock = Waiting("google", None, FakeClock()), FakeClock()
    kept = one.attempt
    again = Attempt(kept.candidate, kept.redirect_uri, s256(one.state), kept.verifier, kept.ends_at)
    with pytest.raises(CallbackError, match=Refusal.FOREIGN_STATE.value):
        again.accept(Waiting("google", None, clock).query(), clock.now())
    assert again.accept(one.query(), clock.now()).code == CODE


# Pasted


PASTE = (
    ("another host", lambda one: f"https://evil.example/callback?{one.query()}", Refusal.FOREIGN_ADDRESS),
    (
        "a host that begins alike",
        lambda one: f"https://app.example.evil/callback?{one.query()}",
        Refusal.FOREIGN_ADDRESS,
    ),
    ("a path that begins alike", lambda one: f"{PASTED}2?{one.query()}", Refusal.FOREIGN_ADDRESS),
    ("without TLS", lambda one: f"http://app.example/callback?{one.query()}", Refusal.FOREIGN_ADDRESS),
    (
        "a user in front",
        lambda one: f"https://app.example@evil.example/callback?{one.query()}",
        Refusal.FOREIGN_ADDRESS,
    ),
    ("the query alone", lambda one: f"?{one.query()}", Refusal.FOREIGN_ADDRESS),
    ("only a fragment", lambda one: f"{PASTED}#{one.query()}", Refusal.FOREIGN_ADDRESS),
    ("the state in the fragment", lambda one: f"{PASTED}?code={CODE}#state={one.state}", Refusal.NO_STATE),
    ("the address that was shown", lambda one: one.address, Refusal.FOREIGN_ADDRESS),
    ("the redirect URI alone", lambda _: PASTED, Refusal.FOREIGN_ADDRESS),
    ("a bare code", lambda _: CODE, Refusal.NO_STATE),
    ("another login", lambda one: f"{PASTED}?{Waiting('google', None, one.clock).query()}", Refusal.FOREIGN_STATE),
    ("the state twice", lambda one: f"{PASTED}?{one.query()}&state={one.state}", Refusal.DOUBLED),
    ("another issuer", lambda one: f"{PASTED}?{one.query(iss='https://evil.example')}", Refusal.FOREIGN_ISSUER),
)


@pytest.mark.parametrize(
    ("make", "refusal"), [(make, refusal) for _, make, refusal in PASTE], ids=[one[0] for one in PASTE]
)
def test_a_pasted_line_that_is_not_this_logins_is_refused_and_the_login_goes_on(
    make: Callable[[Waiting], str], refusal: Refusal
) -> None:
    one = Waiting("google", None, FakeClock())
    with pytest.raises(CallbackError) as caught:
        one.attempt.accept(query_in(make(one), PASTED, "code"), one.clock.now())
    assert (caught.value.refusal, CODE in str(caught.value)) == (refusal, False)
    assert one.take().code == CODE


@pytest.mark.parametrize(
    ("line", "redirect_uri"),
    [
        ("https://app.example/?code=c", "https://app.example"),
        ("https://app.example?code=c", "https://app.example"),
        ("https://app.example/Callback?code=c", "https://App.Example:443/Callback"),
        ("<https://app.example/callback?code=c>", PASTED),
        ('  "https://app.example/callback?code=c#_=_" ', PASTED),
        ("https://app.example/callback?app=1&code=c", f"{PASTED}?app=1"),
        ("https://app.example/anywhere?code=c#top", "Acme_Inc-AcmeInc-Acme-abcdefg"),  # eBay's name of an address
    ],
)
def test_a_line_is_taken_as_browsers_show_it(line: str, redirect_uri: str) -> None:
    assert query_in(line, redirect_uri, "code") == "code=c"


def test_a_line_that_is_not_https_is_no_callback_to_a_named_address() -> None:
    with pytest.raises(CallbackError):
        query_in("http://app.example/anywhere?code=c", "Acme_Inc-AcmeInc-Acme-abcdefg", "code")
