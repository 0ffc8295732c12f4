"""The dialect of each provider of the catalogue, made of its canned answers (`tests/providers/answers`)."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.providers.answers import ANSWERS, Answers, Granted, LoginAnswers, Refused
from tests.world.http import Response
from tests.world.oauth import refusals, templates
from tests.world.oauth.dialects import GENERIC, QUIRKS, Dialect, Login, Manner, Revocation, Rotation
from tests.world.oauth.refusals import Refusal, Violation

CATALOG_FOLDER = Path(__file__).parents[3] / "providers" / "catalog"
GRACE_SECONDS = 60  # where the answers say that a refresh token may be sent again


def fake_of(slug: str, answers: Answers, catalog: Mapping[str, Any]) -> Dialect:
    """A strict fake that asks, answers and refuses as the canned answers say, and has its own quirks where it has any.

    The entry of the catalogue says what they do not: issuer, name of the code in the callback, whether any port will
    do, how long a used refresh token may be sent again, and whether a revocation takes tokens of both kinds.
    """
    fresh, steady = _longest(answers, is_fresh=True), _longest(answers, is_fresh=False)
    usual = (fresh if answers.rotates == "always" else steady) or answers.granted[0]
    made: dict[str, Any] = {
        "path": _path(answers.url),
        "method": answers.method,
        "auth": answers.auth,
        "encoding": answers.encoding,
        "client_id_param": answers.client_id_param,
        "grant": answers.grant,
        "token_param": answers.token_param,
        "required": {name: (text,) for name, text in answers.sends.items()},
        "rotation": _rotation(answers),
        "grace_seconds": math.inf if answers.grant == "exchange" else catalog.get("replay_window", GRACE_SECONDS),
        "earliest": answers.earliest,
        "lifetime": usual.lives,
        "refresh_lifetime": _refresh_lifetime(answers, usual),
        "fresh": (fresh or usual).body,
        "steady": (steady or usual).body,
        "repeats_refresh_token": templates.repeats_refresh_token((steady or usual).body),
        "login": _login(answers.login, catalog, answers.row) if answers.login else None,
        "device_path": _path(answers.device_url) if answers.device_url else None,
        "revocation": _revocation(answers, is_either=catalog.get("revoke_token") == "both"),
    }
    made |= QUIRKS.get(slug, {})
    return Dialect(slug, **made | {"errors": _refuses(answers.refused, made.get("errors"))})


def _longest(answers: Answers, *, is_fresh: bool) -> Granted | None:
    """Of the answers with a new refresh token (or without) the first whose refresh token lives longest."""
    alike = [one for one in answers.granted if templates.brings_refresh_token(one.body) == is_fresh]
    return max(alike, key=lambda one: one.refresh_lives or math.inf, default=None)


def _refresh_lifetime(answers: Answers, granted: Granted) -> float:
    if answers.grant == "exchange":  # they are one token
        return granted.lives
    return granted.refresh_lives or math.inf


def _rotation(answers: Answers) -> Rotation:
    if answers.rotates == "never":
        return "grace" if answers.grant == "exchange" else "never"
    ends_family = answers.replay == "last_minute"
    if answers.rotates == "sometimes":
        return "family_where_set" if ends_family else "where_set"
    if answers.lost_answer == "recovered" or answers.replay == "safe":
        return "grace"
    return "family" if ends_family else "single_use"


def _login(told: LoginAnswers, catalog: Mapping[str, Any], row: Mapping[str, str]) -> Login:
    separator, scopes = _scopes(told.scope)
    issuer = catalog.get("issuer", "").format_map({**catalog.get("placeholders", {}), **row})
    return Login(
        path=_path(told.authorize_url),
        token_path=_path(told.url) if told.url else None,
        asks=told.asks,
        scopes=scopes,
        separator=separator,
        pkce=told.pkce,
        callback=told.callback,
        code_param=catalog.get("code_param", "code"),
        exchange_code_param=told.code_param,
        client_id_param=told.client_id_param,
        lands_at=told.lands_at,
        issuer=issuer or None,
        sends=told.sends,
        body=told.body,
        any_port=catalog.get("any_port", False),
    )


def _scopes(scope: str) -> tuple[str, frozenset[str]]:
    """The separator, and the scopes that are always asked for, of a request for those and `one` and `two`."""
    between = re.search(r"one(\W+)\S*two$", scope)
    separator = between[1] if between else " "
    return separator, frozenset(one for one in scope.split(separator) if not re.search(r"\b(one|two)$", one))


def _revocation(answers: Answers, *, is_either: bool) -> Revocation | None:
    told = answers.revocation
    if told is None:
        return None
    manner = Manner(told.method, told.auth, told.encoding, answers.client_id_param)
    return Revocation(_path(told.url), manner, told.sends, is_either, told.body, told.says == "revoked")


def _refuses(refused: Iterable[Refused], own: refusals.ErrorShape | None) -> refusals.ErrorShape:
    """The provider's own shape of refusals, else the first canned one of its kind, else RFC 6749's."""
    first: dict[str, Refused] = {}
    for one in refused:
        first.setdefault("busy" if one.status == refusals.TOO_MANY_REQUESTS else one.end, one)
    canned = {
        "throttled": first.get("busy"),
        **dict.fromkeys(("invalid_grant", "uninstalled"), first.get("reauthorize")),
        "invalid_client": first.get("client"),
        **dict.fromkeys(("paused", "early"), first.get("transient")),
    }

    def say(refusal: Refusal) -> Response:
        if own is not None and refusal.code != "throttled":
            return own(refusal)
        said = canned.get(refusal.code)
        if said is None or refusal.parameter == "code" or isinstance(refusal, Violation):
            return refusals.rfc6749(refusal)
        kind = "application/json" if said.body.startswith(("{", "[")) else "text/plain"
        return Response(said.status, said.body.encode(), {"Content-Type": kind, **refusals.NO_STORE})

    return say


def _path(url: str) -> str:
    return urlsplit(url).path


def _catalog_entry(slug: str) -> dict[str, Any]:
    return tomllib.loads((CATALOG_FOLDER / f"{slug}.toml").read_text(encoding="utf-8"))


FAKES = {slug: fake_of(slug, answers, _catalog_entry(slug)) for slug, answers in ANSWERS.items()}
DIALECTS = (*FAKES.values(), *GENERIC)
# As the samples of its reference spell the same answer; served where a test asks for it.
HUBSPOT_CAMEL_CASE = replace(
    FAKES["hubspot"],
    name="hubspot-camel-case",
    steady=ANSWERS["hubspot"].granted[1].body,
    lifetime=ANSWERS["hubspot"].granted[1].lives,
)
