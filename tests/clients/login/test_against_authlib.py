"""The protocol of a login against Authlib, which knows the same standards and none of our code."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from authlib.oauth2.rfc6749.parameters import parse_authorization_code_response, prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from providers import Catalog
from tests.clients.login.person import candidate_of
from token_refresh.clients.login.attempt import Attempt, begin, s256

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REDIRECT = "http://127.0.0.1:8765/callback"


def begun(scope: str = "calendar") -> tuple[Attempt, str]:
    return begin(candidate_of(Catalog().get("google"), "app"), REDIRECT, scope, NOW)


def test_the_challenge_is_what_authlib_makes_of_the_verifier() -> None:
    verifier = begun()[0].verifier
    assert verifier is not None
    assert s256(verifier) == create_s256_code_challenge(verifier)


def test_the_address_is_what_authlib_makes_of_the_same_parameters() -> None:
    _, address = begun("calendar mail")
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    place = address.partition("?")[0]
    extras = {name: query[name] for name in ("code_challenge", "code_challenge_method", "access_type", "prompt")}
    theirs = prepare_grant_uri(place, "app", "code", REDIRECT, ["calendar", "mail"], query["state"], **extras)
    assert parse_qs(urlsplit(theirs).query) == parse_qs(urlsplit(address).query)


def test_a_callback_is_read_as_authlib_reads_it() -> None:
    made, address = begun()
    state = parse_qs(urlsplit(address).query)["state"][0]
    callback = f"{REDIRECT}?code=4%2F0A&state={state}&iss=https%3A%2F%2Faccounts.google.com"
    theirs = parse_authorization_code_response(callback, state)
    assert made.accept(urlsplit(callback).query, NOW).code == theirs["code"] == "4/0A"
