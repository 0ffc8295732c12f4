"""The table of all answers: every HTTP status with every body, judged again by rules written down independently.

The bodies say what they hold (`Case`), so that the rules below need no parser of their own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers import Catalog
from providers.base import Answer, ErrorCodes, Provider, RawAnswer, Rotation, Verdict
from token_refresh.base.events import Outcome
from token_refresh.refresh.result import outcome_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATUSES = range(100, 600)
# Where one kind of status ends and the next begins, those that the code names, and those that providers send.
EDGES = (
    *(100, 101, 199, 200, 201, 204, 299, 300, 302, 308, 399, 400, 401, 403, 404, 405, 406, 407, 408, 409, 410, 421),
    *(422, 423, 424, 425, 426, 428, 429, 430, 499, 500, 501, 502, 503, 504, 599),
)
BETWEEN = [status for status in STATUSES if status not in EDGES]
TEN_YEARS = timedelta(days=3650)
LONG = "r2" * 32_768

CATALOG = Catalog()
HIGHLEVEL = CATALOG.get("gohighlevel")
GOOGLE = CATALOG.get("google")


def plain(rotates: Rotation) -> Provider:
    """A provider without quirks."""
    return Provider(slug="acme", name="Acme", token_url="https://acme.example/token", rotates=rotates, lifetime=1800)


PLAIN = {"always": plain("always"), "sometimes": plain("sometimes"), "never": plain("never")}


@dataclass(frozen=True)
class Case:
    """One body and what a person would read in it.

    Attributes:
        body: as it comes over the wire.
        access: the one access token in it that may count, where nothing in it says of an error.
        refresh: the one refresh token in it that came whole, where nothing in it says of an error.
        cut_refresh: the same where a form may go on behind what came.
        code: a code of RFC 6749 or of the provider in it.
        typed: a code where the names of classes stand, which counts only where the provider is known to use it.
        seconds: its `expires_in`, where that can be believed.
        is_object: it is one JSON object.
        is_form: it is a form.
        is_page: it is HTML.
        refuses: it says of itself that it is an error.
        names_token: it names a token, and nothing in it is an error.
    """

    name: str
    body: bytes
    access: str | None = None
    refresh: str | None = None
    cut_refresh: str | None = None
    code: str = ""
    typed: str = ""
    seconds: float | None = None
    is_object: bool = False
    is_form: bool = False
    is_page: bool = False
    refuses: bool = False
    names_token: bool = False


def of(name: str, content: Any, **facts: Any) -> Case:
    """A case with a JSON object for its body."""
    return Case(name, json.dumps(content).encode(), is_object=True, **facts)


def text(name: str, body: str, **facts: Any) -> Case:
    """A case with a body that is written as it stands."""
    return Case(name, body.encode(), **facts)


def error(name: str, content: Any, **facts: Any) -> Case:
    """A case with a JSON object that says of itself that it is an error."""
    return of(name, content, refuses=True, **facts)


def form(name: str, body: str, **facts: Any) -> Case:
    """A case with a form for its body."""
    return text(f"a form, {name}", body, is_form=True, **facts)


def lived(name: str, written: str, seconds: float | None) -> Case:
    """A success whose `expires_in` is written so."""
    return text(
        f"expires_in {name}",
        f'{{"access_token":"access-2","expires_in":{written}}}',
        access="access-2",
        seconds=seconds,
        is_object=True,
    )


def access(name: str, token: Any, usable: bool = False) -> Case:
    """A new refresh token beside such an access token."""
    content = {"access_token": token, "refresh_token": "refresh-2", "expires_in": 60}
    usable_token = token if usable else None
    return of(f"access_token {name}", content, access=usable_token, refresh="refresh-2", seconds=60, names_token=True)


def renewed(name: str, token: Any, refresh: str | None = None) -> Case:
    """A success with such a refresh token."""
    content = {"access_token": "access-2", "refresh_token": token}
    return of(f"refresh_token {name}", content, access="access-2", refresh=refresh)


PAIR = {"access_token": "access-2", "refresh_token": "refresh-2", "expires_in": 60}
PAIR_FACTS: dict[str, Any] = {"access": "access-2", "refresh": "refresh-2", "seconds": 60}
CAMEL = {"accessToken": "access-2", "refreshToken": "refresh-2", "expiresIn": 60}
PAIR_TEXT = json.dumps(PAIR)
PAIR_FORM = urlencode({"access_token": "access-2", "expires_in": 60, "refresh_token": "refresh-2"})
BEGUN = '{"access_token":"access-2","refresh_token":"refresh-2"'
RFC6749_CODES = (
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
)

SUCCESSES = [
    of("a whole pair", PAIR, **PAIR_FACTS),
    of("no expires_in", {"access_token": "access-2"}, access="access-2"),
    lived("a text", '"120"', 120),
    lived("a text with blanks", '" 120 "', 120),
    lived("no number", '"soon"', None),
    lived("negative", "-5", None),
    lived("a negative text", '"-5"', None),
    lived("zero", "0", None),
    lived("the longest that is believed", "86400", 86_400),
    lived("longer than is believed", "86401", None),
    lived("nearly zero", "1e-300", None),
    lived("huge", "99999999999999999999", None),
    lived("of 5000 digits", "9" * 5000, None),
    lived("negative, of 5000 digits", "-" + "9" * 5000, None),
    lived("a text of 5000 digits", '"' + "9" * 5000 + '"', None),
    lived("NaN", "NaN", None),
    lived("Infinity", "Infinity", None),
    lived("-Infinity", "-Infinity", None),
    lived("a float", "90.5", 90.5),
    lived("an overflowing float", "1e999", None),
    lived("true", "true", None),
    lived("null", "null", None),
    lived("a list", "[60]", None),
    lived("in Arabic digits", '"\\u0663\\u0660"', None),
    access("of 64 KiB", "a2" * 32_768, usable=True),
    access("of eight characters", "a234567z", usable=True),
    access("with a blank inside", "access 2", usable=True),
    renewed("missing", None),
    renewed("empty", ""),
    renewed("blank", " \t"),
    renewed("false", False),
    renewed("zero", 0),
    renewed("of 64 KiB", LONG, LONG),
    renewed("of seven characters", "r23456z"),
    renewed("of eight characters", "r234567z", "r234567z"),
    renewed("a mask", "************"),
    renewed("with a lone surrogate", "refresh\ud8002"),
    renewed("non-ASCII", "refräsh-2"),
    renewed("with a newline", "refresh-2\n"),
    renewed("with outer blanks", " refresh-2 ", " refresh-2 "),
    renewed("a short number", 4711),
    renewed("a number", 47_114_711, "47114711"),
    renewed("a negative number", -47_114_711),
    renewed("a list", ["refresh-2"]),
    renewed("an object", {"token": "refresh-2"}),
    renewed("true", True),
    text(
        "two refresh tokens",
        '{"access_token":"access-2","refresh_token":"refresh-1","refresh_token":"refresh-2"}',
        access="access-2",
        refresh="refresh-2",
        is_object=True,
    ),
    text("two access tokens", '{"access_token":null,"access_token":"access-2"}', access="access-2", is_object=True),
    of("an error that is null beside the pair", {**PAIR, "error": None}, **PAIR_FACTS),
    of("an empty error beside the pair", {**PAIR, "error": ""}, **PAIR_FACTS),
    of("ok beside the pair", {**PAIR, "ok": True}, **PAIR_FACTS),
    of("camel case", CAMEL, **PAIR_FACTS),
    of("both spellings of the same", {**PAIR, **CAMEL}, **PAIR_FACTS),
    of("another spelling that is null", {**PAIR, "refreshToken": None, "accessToken": ""}, **PAIR_FACTS),
    of("one level down", {"status": 0, "body": PAIR}, **PAIR_FACTS),
    of("one level down in camel case", {"data": CAMEL, "meta": {"id": 1}}, **PAIR_FACTS),
    of("members nobody knows", {**PAIR, "x": {"refresh_token": "refresh-3"}, "scope": None}, **PAIR_FACTS),
    Case("a byte order mark", b"\xef\xbb\xbf" + PAIR_TEXT.encode(), is_object=True, **PAIR_FACTS),
    Case("UTF-16", PAIR_TEXT.encode("utf-16"), is_object=True, **PAIR_FACTS),
    Case("UTF-16 without a mark", PAIR_TEXT.encode("utf-16-le"), is_object=True, **PAIR_FACTS),
    Case("UTF-32", PAIR_TEXT.encode("utf-32"), is_object=True, **PAIR_FACTS),
    Case("Latin-1 in another member", b'{"company":"Caf\xe9",' + PAIR_TEXT[1:].encode(), is_object=True, **PAIR_FACTS),
    text("a raw tab in another member", '{"company":"A\tB",' + PAIR_TEXT[1:], is_object=True, **PAIR_FACTS),
    text("white space around", f"\r\n {PAIR_TEXT} \n", is_object=True, **PAIR_FACTS),
    form("whole", PAIR_FORM, **PAIR_FACTS),
    form("white space around", f"\n{PAIR_FORM}\r\n", **PAIR_FACTS),
    form("in camel case", urlencode(CAMEL), cut_refresh="refresh-2", **PAIR_FACTS),
    form("an access token alone", "access_token=access-2", access="access-2"),
    form("an empty refresh token", "access_token=access-2&refresh_token=", access="access-2"),
    form("an encoded token", "access_token=access%2B2%3D&scope=a+b", access="access+2="),
    form("a token that is not encoded", "access_token=YWNjZXNz==&x", access="YWNjZXNz=="),
    form("the same twice", f"access_token=access-2&{PAIR_FORM}", **PAIR_FACTS),
    form(
        *("a refresh token before the end", "access_token=access-2&refresh_token=refresh-2&x="),
        access="access-2",
        refresh="refresh-2",
        cut_refresh="refresh-2",
    ),
    form(
        *("with a token of 64 KiB", f"access_token=access-2&refresh_token={LONG}&x=y"),
        access="access-2",
        refresh=LONG,
        cut_refresh=LONG,
    ),
]

UNREADABLE = [
    Case("nothing", b""),
    Case("a NUL", b"\0"),
    Case("invalid UTF-8", b"\xff\xfe\xfa\x80"),
    text("HTML", "<!doctype html><title>502 Bad Gateway</title>invalid_grant", is_page=True),
    text("HTML that talks of tokens", '<p>error: "invalid_grant", "refresh_token": missing', is_page=True),
    text("text", "invalid_grant"),
    text("cut", '{"access_token":"access-2","expires_'),
    text("cut inside the refresh token", '{"access_token":"access-2","refresh_token":"refresh-'),
    text("cut inside an error", '{"error":"invalid_grant","error_descr'),
    text("nested a hundred thousand deep", '{"a":' + "[" * 100_000),
    text("a list", "[]"),
    text("a list of a pair", f"[{PAIR_TEXT.replace('refresh_token', 'other')}]"),
    text("a string", '"invalid_grant"'),
    text("a number", "42"),
    text("null", "null"),
    text("an empty object", "{}", is_object=True),
    access("missing", None),
    access("a short number", 42),
    access("a list", ["access-2"]),
    access("empty", ""),
    access("blank", " " * 12),
    access("of seven characters", "a23456z"),
    access("a mask", "xxxxxxxxxxxx"),
    access("with a newline", "access\n2"),
    access("ending in a newline", "access-2\n"),
    access("non-ASCII", "access-tokén"),
    access("with a lone surrogate", "access-2\udfff"),
    access("true", True),
    of("only a refresh token", {"refresh_token": "refresh-2"}, refresh="refresh-2"),
    of("only a refresh token in camel case", {"refreshToken": "refresh-2"}, refresh="refresh-2"),
    of("only a refresh token, one level down", {"request": {"refresh_token": "refresh-2"}}, refresh="refresh-2"),
    *(
        of(name, content, names_token=True)
        for name, content in {
            "two refresh tokens that differ in spelling and value": {**PAIR, "refreshToken": "refresh-3"},
            "two access tokens that differ in spelling and value": {**PAIR, "accessToken": "access-3"},
            "two pairs one level down": {"data": PAIR, "example": PAIR},
            "tokens in two members": {"a": CAMEL, "b": {"refresh_token": "refresh-3"}},
            "two levels down": {"response": {"data": PAIR}},
            "in a list": {"data": [PAIR]},
            "in capitals": {"ACCESS_TOKEN": "access-2", "REFRESH_TOKEN": "refresh-2"},
            "below a name of its own": {"tokens": {"access": "access-2", "refresh": "refresh-2"}},
            "a type of token alone": {"token_type": "bearer"},
            "thirty levels down": functools.reduce(lambda inner, _: {"x": inner}, range(30), PAIR),
        }.items()
    ),
    of("an id and a session", {"id": 7, "session": {"key": "access-2"}}),
    form("two refresh tokens", f"{PAIR_FORM}&refresh_token=refresh-3", names_token=True, cut_refresh="refresh-2"),
    form("three refresh tokens", f"{PAIR_FORM}&refresh_token=refresh-3&refresh_token=refresh-2", names_token=True),
    form(
        *("a refresh token alone", "refresh_token=refresh-2&x=y"),
        refresh="refresh-2",
        cut_refresh="refresh-2",
    ),
    form("a refresh token alone at the end", "x=y&refresh_token=refresh-2", refresh="refresh-2"),
    form("no token at all", "x=y&z"),
    form("a sample", "access_token=****&refresh_token=x", names_token=True),
    text("a form with a blank in it", "access_token=access-2&scope=a b"),
    text("a form in a page", f"<p>{PAIR_FORM}</p>", is_page=True),
    text("XML", "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    text("XHTML", "<?xml version='1.0'?><!DOCTYPE html><html><title>No</title></html>", is_page=True),
    text("cut behind the refresh token", BEGUN.replace("2", "\\u0032") + ',"expi', refresh="refresh-2"),
    text("cut behind white space", ' \n{ "refresh_token"\t:\r\n"refresh-2"', refresh="refresh-2"),
    text("cut behind a refresh token that is no string", '{"access_token":"access-2","refresh_token":47114711'),
    text("cut behind a number that is whole", '{"refresh_token":47114711,"access_to', refresh="47114711"),
    text("cut behind a sample of a refresh token", '{"refresh_token":"****","access_token":"acc'),
    text(
        "cut one level down",
        '{"body":{"access_token":"access-2","refresh_token":"refresh-2","expi',
        refresh="refresh-2",
    ),
    text("cut behind one level down", '{"body":' + PAIR_TEXT + ',"stat', refresh="refresh-2"),
    text("cut right behind one level down", '{"body":' + PAIR_TEXT, refresh="refresh-2"),
    text("cut two levels down", '{"a":{"body":' + PAIR_TEXT + ',"stat'),
    text("cut one level down, inside the refresh token", '{"body":{"access_token":"access-2","refresh_token":"refre'),
    text("cut one level down, behind two candidates", '{"a":' + PAIR_TEXT + ',"b":' + PAIR_TEXT + ',"c'),
    text("cut one level down, behind an error", '{"a":{"error":"x_y",' + BEGUN[1:] + ',"expi'),
    text("cut behind an error", '{"error":"x_y",' + BEGUN[1:] + ',"expi'),
    text("cut in deep nesting behind", BEGUN + ',"x":' + "[" * 100_000, refresh="refresh-2"),
    text("a refresh token beside deep nesting", '{"x":' + "[" * 100_000 + ',"refresh_token":"refresh-2"}'),
    text("a pair and a comma too much", BEGUN + ",}", refresh="refresh-2"),
    text("a pair and a warning", PAIR_TEXT + "\nWarning: deprecated", refresh="refresh-2"),
    text("two objects", PAIR_TEXT + PAIR_TEXT, refresh="refresh-2"),
    text("a list that is cut", "[" + PAIR_TEXT),
    text("a text before the pair", "ok " + PAIR_TEXT),
    text("HTML that shows a pair", f"<pre>{PAIR_TEXT}</pre>", is_page=True),
    text("a string that holds a pair", json.dumps(PAIR_TEXT)),
    text("cut inside a string that holds a pair", json.dumps({"message": PAIR_TEXT})[:-4]),
]

ERRORS = [
    *(error(f"error {code}", {"error": code, "error_description": "no"}, code=code) for code in RFC6749_CODES),
    *(error(f"error {code}", {"error": code}, code=code) for code in ("server_error", "temporarily_unavailable", "x")),
    error("error in capitals", {"error": "INVALID_GRANT"}, code="INVALID_GRANT"),
    of("error in the description alone", {"error_description": "invalid_grant"}),
    error("error as a number", {"error": 400}),
    error("error as a list", {"error": ["invalid_grant"]}),
    *(error(f"error.code {code}", {"error": {"code": code}}, code=code) for code in RFC6749_CODES),
    *(error(f"errors[].code {code}", {"errors": [{}, {"code": code}, 7]}, code=code) for code in RFC6749_CODES),
    *(of(f"code {code}", {"code": code, "message": "no"}, code=code) for code in RFC6749_CODES),
    *(error(f"errors[].errorType {code}", {"errors": [{"errorType": code}]}, typed=code) for code in RFC6749_CODES),
    *(error(f"errors[].type {code}", {"errors": [{"type": code}]}, typed=code) for code in RFC6749_CODES),
    *(of(f"__type {code}", {"__type": code}, typed=code) for code in RFC6749_CODES),
    of("__type with a name space", {"__type": "com.example#invalid_grant"}),
    error("the same code twice", {"error": "invalid_client", "errorType": "invalid_client"}, code="invalid_client"),
    error("errors that is one object", {"errors": {"code": "invalid_grant"}}, code="invalid_grant"),
    error("errors of texts", {"errors": ["invalid_grant"]}),
    of("errors empty", {"errors": []}),
    of("a message alone", {"message": "invalid_grant"}),
    of("error null", {"error": None}),
    of("error empty", {"error": ""}),
    of("an error two levels down", {"a": {"b": {"error": "invalid_grant"}}}),
    error("an error beside the pair", {**PAIR, "error": "invalid_grant"}, code="invalid_grant"),
    error("an error beside the pair one level down", {"data": PAIR, "error": "invalid_grant"}, code="invalid_grant"),
    of("an error beside the pair in its own object", {"data": {**PAIR, "error": "invalid_grant"}}),
    error("an error object beside the pair", {**PAIR, "error": {"code": 1}}),
    error("errors beside the pair", {**PAIR, "errors": [{"code": 1}]}),
    error("not ok", {"ok": False}),
    error("not ok beside the pair", {**PAIR, "ok": False}),
    error("not ok beside a refresh token", {"refresh_token": "refresh-2", "ok": False}),
    error(
        *("an error and a refresh token", {"error": "invalid_grant", "refresh_token": "refresh-2"}),
        code="invalid_grant",
    ),
    error("an error and an empty access token", {"error": "invalid_grant", "access_token": ""}, code="invalid_grant"),
    error("an error of control characters", {"error": "invalid\x00_grant\x1b[2J"}),
    form("an error", "error=invalid_grant&error_description=no&x=y", code="invalid_grant", refuses=True),
    form("an error nobody knows", "error=x&error_uri=y", refuses=True),
    form(
        "an error beside a pair",
        f"{PAIR_FORM}&error=invalid_client",
        code="invalid_client",
        cut_refresh="refresh-2",
        refuses=True,
    ),
]

GOOGLES = [
    error(
        *("google: revoked", {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}),
        code="invalid_grant",
    ),
    error(
        "google: invalid_rapt",
        {"error": "invalid_grant", "error_subtype": "invalid_rapt", "error_uri": "https://x.example"},
        code="invalid_grant",
    ),
    of("google: subtype alone", {"error_subtype": "invalid_rapt"}),
    *(
        error(f"google: {code}", {"error": code}, code=code)
        for code in ("admin_policy_enforced", "deleted_client", "disabled_client", "internal_failure")
    ),
    error("google: code where classes stand", {"errors": [{"type": "deleted_client"}]}, typed="deleted_client"),
    error("google: API style", {"error": {"code": 503, "status": "UNAVAILABLE"}}),
]

HIGHLEVEL_DEAD = "Invalid grant: refresh token is invalid"
HIGHLEVELS = [
    of("highlevel: dead grant", {"statusCode": 400, "message": HIGHLEVEL_DEAD}),
    error(
        "highlevel: dead grant, described",
        {"error": "invalid_grant", "error_description": HIGHLEVEL_DEAD},
        code="invalid_grant",
    ),
    of("highlevel: paused", {"statusCode": 400, "message": "Location is not active"}),
    error(
        "highlevel: client",
        {"statusCode": 401, "message": "Invalid client credentials!", "error": "Unauthorized"},
        code="Unauthorized",
    ),
    error(
        "highlevel: unprocessable",
        {"statusCode": 422, "message": ["client_id must be a string", 7], "error": "Unprocessable Entity"},
        code="Unprocessable Entity",
    ),
    of("highlevel: missing", {"statusCode": 400, "message": "Missing parameter: refresh_token"}),
    of("highlevel: message of numbers", {"statusCode": 400, "message": [1, 2]}),
    of("highlevel: message an object", {"message": {"text": "Invalid grant"}}),
]

CASES = SUCCESSES + UNREADABLE + ERRORS + GOOGLES + HIGHLEVELS


def raw(status: int, body: bytes, *, is_complete: bool = True, retry_after: str = "") -> RawAnswer:
    return RawAnswer(status, {"retry-after": retry_after}, body, NOW, is_complete)


def read(provider: Provider, status: int, body: bytes, *, retry_after: str = "") -> Answer:
    return provider.read_answer(raw(status, body, retry_after=retry_after))


# What the design says under "Outcomes", in words of its own.

DEAD_CODES = {"acme": {"invalid_grant"}, "google": {"invalid_grant", "admin_policy_enforced"}}
CLIENT_CODES = {
    "acme": {"invalid_client", "unauthorized_client"},
    "google": {"invalid_client", "unauthorized_client", "deleted_client", "disabled_client"},
}
OUTAGE_CODES: dict[str, set[str]] = {"acme": set(), "google": {"internal_failure"}}
ROW_CODES = {"invalid_request", "invalid_scope", "unsupported_grant_type"}
TYPED_CODES = {"invalid_grant", "deleted_client"}  # of classes: `invalid_grant`, or what the catalogue names
OUTCOMES = {
    Verdict.GRANTED: Outcome.REFRESHED,
    Verdict.DEAD_GRANT: Outcome.REAUTHORIZE,
    Verdict.CLIENT_REFUSED: Outcome.OPERATOR,
    Verdict.REQUEST_REFUSED: Outcome.OPERATOR,
    Verdict.UNREAD: Outcome.OPERATOR,
    Verdict.NOT_ACTED: Outcome.TRANSIENT,
}


def is_whole(case: Case, is_complete: bool) -> bool:
    """JSON is whole where it parses, a form where the answer is complete."""
    return case.is_object or (case.is_form and is_complete)


def refused_by_code(provider: Provider, case: Case) -> Verdict | None:
    """What the code in an object says; None where nobody knows it, or there is none."""
    code = case.code or (case.typed if provider.slug == "google" or case.typed == "invalid_grant" else "")
    if code in DEAD_CODES[provider.slug]:
        return Verdict.DEAD_GRANT
    if code in OUTAGE_CODES[provider.slug]:
        return Verdict.UNCLEAR
    if case.typed and code not in TYPED_CODES:
        return None
    if code in CLIENT_CODES[provider.slug]:
        return Verdict.CLIENT_REFUSED
    return Verdict.REQUEST_REFUSED if code in ROW_CODES else None


def expected(provider: Provider, status: int, case: Case, *, is_complete: bool) -> Verdict:
    """What the design says happened."""
    whole = is_whole(case, is_complete)
    if 200 <= status < 300 and whole and case.access is not None:
        return Verdict.GRANTED
    if status == 429:
        return Verdict.NOT_ACTED
    if status in (408, 425) or not 200 <= status < 500:
        return Verdict.UNCLEAR
    if whole and (by_code := refused_by_code(provider, case)) is not None:
        return by_code
    if status < 300:
        if whole and case.refuses:
            return Verdict.REQUEST_REFUSED
        is_unread = whole and case.names_token and case.refresh is None and provider.rotates != "never"
        return Verdict.UNREAD if is_unread else Verdict.UNCLEAR
    if not (is_complete or whole):
        return Verdict.UNCLEAR
    if status in (403, 406, 409) and case.is_page:
        return Verdict.NOT_ACTED
    return Verdict.CLIENT_REFUSED if status == 401 else Verdict.REQUEST_REFUSED


def counted(provider: Provider, status: int, case: Case, *, is_complete: bool) -> tuple[str | None, str | None]:
    """The access and the refresh token that the design lets count ("Which token counts")."""
    if not 200 <= status < 300:
        return None, None
    whole = is_whole(case, is_complete)
    refresh = case.cut_refresh if case.is_form and not whole else case.refresh
    if whole and case.access is not None:
        return case.access, refresh
    return None, refresh if provider.rotates != "never" else None


def pair(provider: Provider, status: int, case: Case, *, is_complete: bool) -> str | None:
    """The refresh token of a pair that a failing server sent, for when the one that was sent is refused."""
    counts = status >= 500 and is_whole(case, is_complete) and provider.rotates != "never"
    return case.refresh if counts and case.access is not None else None


def expires(provider: Provider, case: Case) -> datetime:
    is_believed = case.seconds is not None and case.seconds <= max(10 * (provider.lifetime or 0), 86_400)
    return NOW + timedelta(seconds=case.seconds if is_believed and case.seconds else provider.default_lifetime)


def hold_for_every_answer(provider: Provider, status: int, answer: Answer) -> None:
    """What no answer may break."""
    outcome = outcome_of(answer.verdict, provider.rotates)
    open_outcome = Outcome.TRANSIENT if provider.rotates == "never" else Outcome.UNKNOWN
    assert outcome is OUTCOMES.get(answer.verdict, open_outcome)
    assert (outcome is Outcome.REFRESHED) == (answer.access_token is not None)
    assert (answer.expires_at is None) == (answer.access_token is None)
    if answer.access_token is not None or answer.refresh_token is not None:
        assert 200 <= status < 300
        assert answer.verdict in (Verdict.GRANTED, Verdict.UNCLEAR)  # no refusal brings one
    is_proven = answer.access_token is not None and provider.rotates != "never"
    assert answer.is_unproven == (answer.refresh_token is not None and not is_proven)
    for moment in filter(None, (answer.expires_at, answer.refresh_expires_at)):
        assert moment.tzinfo is not None
        assert NOW < moment <= NOW + TEN_YEARS
    if status >= 500 or status in (408, 425, 429):
        assert outcome not in (Outcome.REAUTHORIZE, Outcome.OPERATOR, Outcome.REFRESHED)
    assert answer.retry_after is None or 0 <= answer.retry_after <= 86_400
    assert answer.action is None or answer.action.isprintable()
    assert answer.error is None or (answer.error.isprintable() and answer.error.startswith(f"HTTP {status}"))
    assert answer.error is None or len(answer.error) <= len("HTTP 200, ") + 200
    assert answer.status == status or (answer.status is None and 200 <= status < 300)  # which broke off
    assert answer.received_at == NOW


def other_statuses(case: Case) -> Iterable[int]:
    """All but the edges; none where parsing the same megabyte again shows nothing more."""
    return () if len(case.body) > 10_000 else BETWEEN


def judge(provider: Provider, status: int, case: Case) -> None:
    """One answer, complete and not, against the design."""
    for is_complete in (True, False):
        at = case.name, status, is_complete
        sent = raw(status, case.body, is_complete=is_complete)
        answer = provider.read_answer(sent)
        assert answer.verdict is expected(provider, status, case, is_complete=is_complete), at
        tokens = counted(provider, status, case, is_complete=is_complete)
        assert (answer.access_token, answer.refresh_token) == tokens, at
        if answer.access_token is not None:
            assert answer.expires_at == expires(provider, case)
        hold_for_every_answer(provider, status, answer)
        kept = provider.pair_in(sent)
        assert (kept and kept.refresh_token) == pair(provider, status, case, is_complete=is_complete), at
        assert kept is None or (kept.is_unproven and kept.access_token is None and kept.verdict is Verdict.UNCLEAR)


PROVIDERS = [*PLAIN.values(), GOOGLE]
EACH_PROVIDER = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda entry: f"{entry.slug}-{entry.rotates}")


@pytest.mark.by_turns("provider")
@EACH_PROVIDER
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_body_means_at_each_status_what_the_design_says(case: Case, provider: Provider) -> None:
    for status in EDGES:
        judge(provider, status, case)


@pytest.mark.long
@EACH_PROVIDER
def test_and_at_every_other_status(provider: Provider) -> None:
    """By turns: each body at each status with one of the providers, and each provider at each status."""
    for number, case in enumerate(CASES, PROVIDERS.index(provider)):
        for status in other_statuses(case):
            if (number + status) % len(PROVIDERS) == 0:
                judge(provider, status, case)


def judge_highlevel(status: int, case: Case) -> None:
    """One answer of HighLevel's against what it documents."""
    said = case.name.startswith("highlevel: dead grant") or "invalid_grant" in (case.code, case.typed)
    answer = read(HIGHLEVEL, status, case.body)
    tokens = counted(HIGHLEVEL, status, case, is_complete=True)
    assert (answer.access_token, answer.refresh_token) == tokens, (case.name, status)
    hold_for_every_answer(HIGHLEVEL, status, answer)
    if answer.access_token is not None or status in (408, 425, 429) or not 200 <= status < 500:
        return
    assert (answer.verdict is Verdict.DEAD_GRANT) == said or status == 422, (case.name, status)
    if answer.verdict is Verdict.CLIENT_REFUSED:
        assert status == 401 or case.code in ("invalid_client", "unauthorized_client")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_highlevel_flags_only_by_its_own_words_or_a_code(case: Case) -> None:
    for status in EDGES:
        judge_highlevel(status, case)


@pytest.mark.long
def test_highlevel_does_so_at_every_other_status() -> None:
    for case in CASES:
        for status in other_statuses(case):
            judge_highlevel(status, case)


@pytest.mark.parametrize(
    "broken", [b'"refresh_token" "refresh-2"}', b'7: "refresh-2"}', b'"refresh_token", "refresh-2"}']
)
def test_where_an_object_is_no_json_any_more_it_ends(broken: bytes) -> None:
    begun = b'{"access_token": "access-2", '
    for provider in PLAIN.values():
        for status in EDGES:
            assert provider.read_answer(raw(status, begun + broken)) == provider.read_answer(raw(status, begun))


def test_the_table_is_as_large_as_it_claims() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_maintenance_code_of_the_catalogue_leaves_the_token_unused() -> None:
    codes = ErrorCodes(maintenance=frozenset({"maintenance"}), row=frozenset({"bad_region"}))
    provider = Provider("acme", "Acme", "https://acme.example/token", error_codes=codes)
    for status in STATUSES:
        assert read(provider, status, b'{"error":"maintenance"}').verdict is Verdict.NOT_ACTED
    assert read(provider, 400, b'{"error":"bad_region"}').verdict is Verdict.REQUEST_REFUSED


def test_an_outage_of_the_catalogue_is_as_open_as_a_failing_server_and_a_passing_refusal_did_nothing() -> None:
    codes = ErrorCodes(outage=frozenset({"internal"}), passing=frozenset({"Is Being Processed"}))
    provider = Provider("acme", "Acme", "https://acme.example/token", error_codes=codes)
    dead = b'{"error":"invalid_grant","error_description":"the request is being processed"}'
    for status in range(200, 500):
        passing = Verdict.UNCLEAR if status in (408, 425) else Verdict.NOT_ACTED
        assert read(provider, status, dead).verdict is passing
        if status != 429:
            assert read(provider, status, b'{"ok":false,"error":"internal"}').verdict is Verdict.UNCLEAR
    assert read(provider, 500, dead).verdict is Verdict.UNCLEAR
    assert read(provider, 400, b'{"error":"invalid_grant"}').verdict is Verdict.DEAD_GRANT


@pytest.mark.parametrize("name", ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"])
def test_the_end_of_the_refresh_token_is_read_where_an_answer_names_it(name: str) -> None:
    answer = read(PLAIN["always"], 200, json.dumps({**PAIR, name: 86_400}).encode())
    assert answer.refresh_expires_at == NOW + timedelta(days=1)
    assert read(PLAIN["always"], 200, json.dumps({**PAIR, name: 0}).encode()).refresh_expires_at is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        (" 30 ", 30.0),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 12:01:00 -0000", 60.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 400, None),
        ("9" * 15, 86_400.0),
        ("Fri, 01 Mar 2199 12:01:00 GMT", 86_400.0),
        ("30, 60", None),
        ("Sun, 99 Mar 2026 12:01:00 GMT", None),
        ("Sun, 01 Mar 99999 12:01:00 +9999", None),
        ("٣٠", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_ignored(header: str, seconds: float | None) -> None:
    assert read(PLAIN["always"], 429, b"", retry_after=header).retry_after == seconds


TOKENS = st.sampled_from(["access-2", "refresh-2", "sample", "********"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | TOKENS,
    lambda inner: st.lists(inner, max_size=3),
)
MEMBERS = st.sampled_from(
    ["access_token", "refresh_token", "expires_in", "error", "error_description", "message", "refresh_expires_in", "ok"]
)


@given(
    status=st.integers(100, 599),
    content=st.dictionaries(MEMBERS, JSON),
    retry_after=st.text(max_size=40) | st.datetimes().map(str),
)
def test_no_object_whatever_its_members_makes_reading_fail(status: int, content: Any, retry_after: str) -> None:
    body = json.dumps(content).encode()
    for provider in (PLAIN["always"], PLAIN["never"], GOOGLE, HIGHLEVEL):
        answer = read(provider, status, body, retry_after=retry_after)
        hold_for_every_answer(provider, status, answer)
        if answer.refresh_token is not None:
            assert answer.refresh_token == str(content["refresh_token"])
            assert not content.get("error")
            assert content.get("ok") is not False


SHOWN = '"refresh_token": "refresh-sample"'
FRAMES = st.sampled_from(
    [
        *("{{{}}}", '{{"example": {{{}}}}}', '{{"error": "invalid_request", {}}}', '{{"ok": false, {}}}', "[{{{}}}]"),
        *(
            '{{"access_token": "access-sample", {}}}',
            '{{"access_token": "access-sample", {}, "expires',
            "<p>{{{}}}</p>",
        ),
        *('{{"access_token": "access-sample", {}}} and more', '{{{}, "error": {{"code": 5}}}}', "{}"),
    ]
)


@given(status=st.integers(100, 599), before=st.text(max_size=20), frame=FRAMES, after=st.text(max_size=20))
@example(503, "<!doctype html><h1>Our API</h1><pre>", "{{{}}}", "</pre>")
@example(200, "", "{{{}}}", "")
@example(502, "", '{{"access_token": "access-sample", {}}}', "")
def test_a_refresh_token_somewhere_in_a_text_counts_only_as_a_member_of_an_answer_that_grants(
    status: int, before: str, frame: str, after: str
) -> None:
    text = before + frame.format(SHOWN) + after
    for rotates, provider in PLAIN.items():
        answer = read(provider, status, text.encode(errors="replace"))
        hold_for_every_answer(provider, status, answer)
        if answer.refresh_token is None:
            continue
        assert answer.refresh_token == "refresh-sample"
        objects = ("{" + SHOWN, '{"access_token": "access-sample", ' + SHOWN, '{"example": {' + SHOWN)
        assert text.lstrip(" \t\r\n\ufeff").startswith(objects)
        assert 200 <= status < 300
        assert answer.access_token is not None or rotates != "never"


def test_a_documented_token_counts_at_no_status_and_an_answered_one_in_a_success() -> None:
    """The same member, once in a page and once in an answer."""
    page = f"<!doctype html><pre>{PAIR_TEXT}</pre>".encode()
    for provider in PLAIN.values():
        assert not [status for status in STATUSES if read(provider, status, page).refresh_token is not None]
        taken = [status for status in STATUSES if read(provider, status, PAIR_TEXT.encode()).refresh_token is not None]
        assert taken == [*range(200, 300)]


@given(status=st.integers(100, 599), body=st.binary(max_size=200))
def test_no_bytes_make_reading_fail_or_flag_a_row(status: int, body: bytes) -> None:
    answer = read(HIGHLEVEL, status, body)
    hold_for_every_answer(HIGHLEVEL, status, answer)
