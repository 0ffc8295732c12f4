"""The table of all answers: every HTTP status with every body, judged again by rules written down independently.

The bodies say what they hold (`Case`), so that the rules below need no parser of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

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
    *(100, 101, 199, 200, 201, 204, 299, 300, 302, 308, 399, 400, 401, 403, 404, 408, 409, 421, 422, 423, 425),
    *(428, 429, 430, 499, 500, 501, 502, 503, 504, 599),
)
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
        access: the access token in it, where it is one JSON object and says nothing of an error.
        refresh: the refresh token in it that came whole, where it says nothing of an error.
        code: its `error`, where that is a text.
        seconds: its usable `expires_in`.
        is_deep: the tokens stand one level down.
    """

    name: str
    body: bytes
    access: str | None = None
    refresh: str | None = None
    code: str = ""
    seconds: float | None = None
    is_deep: bool = False


def of(name: str, content: Any, **facts: Any) -> Case:
    """A case with a JSON body."""
    return Case(name, json.dumps(content).encode(), **facts)


def text(name: str, body: str, **facts: Any) -> Case:
    """A case with a body that is written as it stands."""
    return Case(name, body.encode(), **facts)


def lived(name: str, written: str, seconds: float | None) -> Case:
    """A success whose `expires_in` is written so."""
    return text(
        f"expires_in {name}",
        f'{{"access_token":"access-2","expires_in":{written}}}',
        access="access-2",
        seconds=seconds,
    )


def access(name: str, token: Any, usable: bool = False) -> Case:
    """A new refresh token beside such an access token."""
    content = {"access_token": token, "refresh_token": "refresh-2", "expires_in": 60}
    return of(f"access_token {name}", content, access=token if usable else None, refresh="refresh-2", seconds=60)


def renewed(name: str, token: Any, refresh: str | None = None) -> Case:
    """A success with such a refresh token."""
    content = {"access_token": "access-2", "refresh_token": token}
    return of(f"refresh_token {name}", content, access="access-2", refresh=refresh)


PAIR = {"access_token": "access-2", "refresh_token": "refresh-2", "expires_in": 60}
PAIR_FACTS: dict[str, Any] = {"access": "access-2", "refresh": "refresh-2", "seconds": 60}
CAMEL = {"accessToken": "access-2", "refreshToken": "refresh-2", "expiresIn": 60}
PAIR_TEXT = json.dumps(PAIR)
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
    lived("nearly zero", "1e-300", None),
    lived("huge", "99999999999999999999", TEN_YEARS.total_seconds()),
    lived("of 5000 digits", "9" * 5000, TEN_YEARS.total_seconds()),
    lived("negative, of 5000 digits", "-" + "9" * 5000, None),
    lived("a text of 5000 digits", '"' + "9" * 5000 + '"', None),
    lived("NaN", "NaN", None),
    lived("Infinity", "Infinity", TEN_YEARS.total_seconds()),
    lived("-Infinity", "-Infinity", None),
    lived("a float", "90.5", 90.5),
    lived("an overflowing float", "1e999", TEN_YEARS.total_seconds()),
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
    ),
    text("two access tokens", '{"access_token":null,"access_token":"access-2"}', access="access-2"),
    of("an error that is null beside the pair", {**PAIR, "error": None}, **PAIR_FACTS),
    of("an empty error beside the pair", {**PAIR, "error": ""}, **PAIR_FACTS),
    of("ok beside the pair", {**PAIR, "ok": True}, **PAIR_FACTS),
    of("camel case", CAMEL, **PAIR_FACTS),
    of("both spellings of the same", {**PAIR, **CAMEL}, **PAIR_FACTS),
    of("another spelling that is null", {**PAIR, "refreshToken": None, "accessToken": ""}, **PAIR_FACTS),
    of("one level down", {"status": 0, "body": PAIR}, is_deep=True, **PAIR_FACTS),
    of("one level down in camel case", {"data": CAMEL, "meta": {"id": 1}}, is_deep=True, **PAIR_FACTS),
    of("members nobody knows", {**PAIR, "x": {"refresh_token": "refresh-3"}, "scope": None}, **PAIR_FACTS),
    Case("a byte order mark", b"\xef\xbb\xbf" + PAIR_TEXT.encode(), **PAIR_FACTS),
    Case("UTF-16", PAIR_TEXT.encode("utf-16"), **PAIR_FACTS),
    Case("UTF-16 without a mark", PAIR_TEXT.encode("utf-16-le"), **PAIR_FACTS),
    Case("UTF-32", PAIR_TEXT.encode("utf-32"), **PAIR_FACTS),
    Case("Latin-1 in another member", b'{"company":"Caf\xe9",' + PAIR_TEXT[1:].encode(), **PAIR_FACTS),
    text("a raw tab in another member", '{"company":"A\tB",' + PAIR_TEXT[1:], **PAIR_FACTS),
    text("white space around", f"\r\n {PAIR_TEXT} \n", **PAIR_FACTS),
]

UNREADABLE = [
    Case("nothing", b""),
    Case("a NUL", b"\0"),
    Case("invalid UTF-8", b"\xff\xfe\xfa\x80"),
    text("HTML", "<!doctype html><title>502 Bad Gateway</title>invalid_grant"),
    text("HTML that talks of tokens", '<p>error: "invalid_grant", "refresh_token": missing'),
    text("text", "invalid_grant"),
    text("a form", "error=invalid_grant&access_token=access-2"),
    text("cut", '{"access_token":"access-2","expires_'),
    text("cut inside the refresh token", '{"access_token":"access-2","refresh_token":"refresh-'),
    text("cut inside an error", '{"error":"invalid_grant","error_descr'),
    text("nested a hundred thousand deep", '{"a":' + "[" * 100_000),
    text("a list", "[]"),
    text("a list of a pair", f"[{PAIR_TEXT.replace('refresh_token', 'other')}]"),
    text("a string", '"invalid_grant"'),
    text("a number", "42"),
    text("null", "null"),
    text("an empty object", "{}"),
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
    of("only a refresh token, one level down", {"request": {"refresh_token": "refresh-2"}}),
    of("two refresh tokens that differ in spelling and value", {**PAIR, "refreshToken": "refresh-3"}),
    of("two access tokens that differ in spelling and value", {**PAIR, "accessToken": "access-3"}),
    of("two pairs one level down", {"data": PAIR, "example": PAIR}),
    of("an access token in one member, a refresh token in another", {"a": CAMEL, "b": {"refresh_token": "refresh-3"}}),
    of("two levels down", {"response": {"data": PAIR}}),
    of("in a list", {"data": [PAIR]}),
    text("cut behind the refresh token", BEGUN.replace("2", "\\u0032") + ',"expi', refresh="refresh-2"),
    text("cut behind white space", ' \n{ "refresh_token"\t:\r\n"refresh-2"', refresh="refresh-2"),
    text("cut behind a refresh token that is no string", '{"access_token":"access-2","refresh_token":47114711'),
    text("cut behind a number that is whole", '{"refresh_token":47114711,"access_to', refresh="47114711"),
    text("cut behind a sample of a refresh token", '{"refresh_token":"****","access_token":"acc'),
    text("cut one level down", '{"body":{"access_token":"access-2","refresh_token":"refresh-2","expi'),
    text("cut behind one level down", '{"body":' + PAIR_TEXT + ',"stat'),
    text("cut behind an error", '{"error":"x_y",' + BEGUN[1:] + ',"expi'),
    text("cut in deep nesting behind", BEGUN + ',"x":' + "[" * 100_000, refresh="refresh-2"),
    text("a refresh token beside deep nesting", '{"x":' + "[" * 100_000 + ',"refresh_token":"refresh-2"}'),
    text("a pair and a comma too much", BEGUN + ",}", refresh="refresh-2"),
    text("a pair and a warning", PAIR_TEXT + "\nWarning: deprecated", refresh="refresh-2"),
    text("two objects", PAIR_TEXT + PAIR_TEXT, refresh="refresh-2"),
    text("a list that is cut", "[" + PAIR_TEXT),
    text("a text before the pair", "ok " + PAIR_TEXT),
    text("HTML that shows a pair", f"<pre>{PAIR_TEXT}</pre>"),
    text("a string that holds a pair", json.dumps(PAIR_TEXT)),
    text("cut inside a string that holds a pair", json.dumps({"message": PAIR_TEXT})[:-4]),
]

ERRORS = [
    *(of(f"error {code}", {"error": code, "error_description": "no"}, code=code) for code in RFC6749_CODES),
    *(of(f"error {code}", {"error": code}, code=code) for code in ("server_error", "temporarily_unavailable", "x")),
    of("error in capitals", {"error": "INVALID_GRANT"}, code="INVALID_GRANT"),
    of("error in the description alone", {"error_description": "invalid_grant"}),
    of("error as a number", {"error": 400}),
    of("error as a list", {"error": ["invalid_grant"]}),
    of("error as an object", {"error": {"code": "invalid_grant"}}),
    of("error null", {"error": None}),
    of("error empty", {"error": ""}),
    of("an error beside the pair", {**PAIR, "error": "invalid_grant"}, code="invalid_grant"),
    of("an error beside the pair one level down", {"data": PAIR, "error": "invalid_grant"}, code="invalid_grant"),
    of("an error beside the pair in its own object", {"data": {**PAIR, "error": "invalid_grant"}}),
    of("an error object beside the pair", {**PAIR, "error": {"code": 1}}),
    of("not ok beside the pair", {**PAIR, "ok": False}),
    of("not ok beside a refresh token", {"refresh_token": "refresh-2", "ok": False}),
    of("an error and a refresh token", {"error": "invalid_grant", "refresh_token": "refresh-2"}, code="invalid_grant"),
    of("an error and an empty access token", {"error": "invalid_grant", "access_token": ""}, code="invalid_grant"),
    of("an error of control characters", {"error": "invalid\x00_grant\x1b[2J"}, code="invalid\x00_grant\x1b[2J"),
]

GOOGLES = [
    of(
        "google: revoked",
        {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
        code="invalid_grant",
    ),
    of(
        "google: invalid_rapt",
        {"error": "invalid_grant", "error_subtype": "invalid_rapt", "error_uri": "https://x.example"},
        code="invalid_grant",
    ),
    of("google: subtype alone", {"error_subtype": "invalid_rapt"}),
    *(
        of(f"google: {code}", {"error": code}, code=code)
        for code in ("admin_policy_enforced", "deleted_client", "disabled_client", "internal_failure")
    ),
    of("google: API style", {"error": {"code": 503, "status": "UNAVAILABLE"}}),
]

HIGHLEVEL_DEAD = "Invalid grant: refresh token is invalid"
HIGHLEVELS = [
    of("highlevel: dead grant", {"statusCode": 400, "message": HIGHLEVEL_DEAD}),
    of(
        "highlevel: dead grant, described",
        {"error": "invalid_grant", "error_description": HIGHLEVEL_DEAD},
        code="invalid_grant",
    ),
    of("highlevel: paused", {"statusCode": 400, "message": "Location is not active"}),
    of(
        "highlevel: client",
        {"statusCode": 401, "message": "Invalid client credentials!", "error": "Unauthorized"},
        code="Unauthorized",
    ),
    of(
        "highlevel: unprocessable",
        {"statusCode": 422, "message": ["client_id must be a string", 7], "error": "Unprocessable Entity"},
        code="Unprocessable Entity",
    ),
    of("highlevel: missing", {"statusCode": 400, "message": "Missing parameter: refresh_token"}),
    of("highlevel: message of numbers", {"statusCode": 400, "message": [1, 2]}),
    of("highlevel: message an object", {"message": {"text": "Invalid grant"}}),
]

CASES = SUCCESSES + UNREADABLE + ERRORS + GOOGLES + HIGHLEVELS


def read(provider: Provider, status: int, body: bytes, **headers: str) -> Answer:
    return provider.read_answer(RawAnswer(status, headers, body, NOW))


# What the design says under "Outcomes", in words of its own.

DEAD_CODES = {"acme": {"invalid_grant"}, "google": {"invalid_grant", "admin_policy_enforced"}}
CLIENT_CODES = {
    "acme": {"invalid_client", "unauthorized_client"},
    "google": {"invalid_client", "unauthorized_client", "deleted_client", "disabled_client"},
}
ROW_CODES = {"invalid_request", "invalid_scope", "unsupported_grant_type"}


def counted(provider: Provider, status: int, case: Case) -> tuple[str | None, str | None]:
    """The access and the refresh token that the design lets count ("Which token counts")."""
    may_rotate = provider.rotates != "never"
    if 200 <= status < 300:
        return case.access, case.refresh if may_rotate or case.access else None
    if status >= 500 and may_rotate and case.access and case.refresh and not case.is_deep:
        return case.access, case.refresh
    return None, None


def expected(provider: Provider, status: int, case: Case) -> Outcome:
    """The outcome that the design asks for."""
    if counted(provider, status, case)[0] is not None:
        return Outcome.REFRESHED
    if status == 429:
        return Outcome.TRANSIENT
    if status < 500:
        if case.code in DEAD_CODES[provider.slug]:
            return Outcome.REAUTHORIZE
        if case.code in CLIENT_CODES[provider.slug] | ROW_CODES:
            return Outcome.OPERATOR
    return Outcome.TRANSIENT if provider.rotates == "never" else Outcome.UNKNOWN


def expires(provider: Provider, case: Case) -> datetime:
    return NOW + timedelta(seconds=case.seconds or provider.default_lifetime)


def hold_for_every_answer(provider: Provider, status: int, answer: Answer) -> None:
    """What no answer may break."""
    outcome = outcome_of(answer.verdict, provider.rotates)
    assert (outcome is Outcome.REFRESHED) == (answer.access_token is not None)
    assert (answer.expires_at is None) == (answer.access_token is None)
    if answer.refresh_token is not None:
        assert 200 <= status < 300 or (status >= 500 and answer.access_token is not None)
        assert answer.verdict in (Verdict.GRANTED, Verdict.UNCLEAR)  # no refusal brings one
    for moment in filter(None, (answer.expires_at, answer.refresh_expires_at)):
        assert moment.tzinfo is not None
        assert NOW < moment <= NOW + TEN_YEARS
    if status >= 500 or status == 429:
        assert outcome not in (Outcome.REAUTHORIZE, Outcome.OPERATOR)
    if status == 429:
        assert outcome in (Outcome.REFRESHED, Outcome.TRANSIENT)
    assert answer.error is None or answer.error.isprintable()
    assert (answer.status, answer.received_at) == (status, NOW)


def statuses(case: Case) -> Iterable[int]:
    """Every one; of those of one kind few where parsing the same megabyte again shows nothing more."""
    return EDGES if len(case.body) > 10_000 else STATUSES


def judge(provider: Provider, status: int, case: Case) -> None:
    """One answer against the design."""
    answer = read(provider, status, case.body)
    assert outcome_of(answer.verdict, provider.rotates) is expected(provider, status, case), (case.name, status)
    assert (answer.access_token, answer.refresh_token) == counted(provider, status, case), (case.name, status)
    if answer.access_token is not None:
        assert answer.expires_at == expires(provider, case)
    hold_for_every_answer(provider, status, answer)


EACH_PROVIDER = pytest.mark.parametrize(
    "provider", [*PLAIN.values(), GOOGLE], ids=lambda entry: f"{entry.slug}-{entry.rotates}"
)


@EACH_PROVIDER
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_body_means_the_same_at_each_status_that_the_design_treats_alike(case: Case, provider: Provider) -> None:
    for status in EDGES:
        judge(provider, status, case)


@pytest.mark.long
@EACH_PROVIDER
def test_and_at_every_other_status(provider: Provider) -> None:
    for case in CASES:
        for status in statuses(case):
            judge(provider, status, case)


def judge_highlevel(status: int, case: Case) -> None:
    """One answer of HighLevel's against what it documents."""
    said = case.name.startswith("highlevel: dead grant") or case.code == "invalid_grant"
    client = case.code in ("invalid_client", "unauthorized_client")
    answer = read(HIGHLEVEL, status, case.body)
    assert (answer.access_token, answer.refresh_token) == counted(HIGHLEVEL, status, case), (case.name, status)
    hold_for_every_answer(HIGHLEVEL, status, answer)
    if answer.access_token is not None or status == 429 or status >= 500:
        return
    assert (answer.verdict is Verdict.DEAD_GRANT) == said or status == 422, (case.name, status)
    if answer.verdict is Verdict.CLIENT_REFUSED:
        assert client or (status == 401 and case.name == "highlevel: client")
    if case in UNREADABLE:
        assert answer.verdict is Verdict.UNCLEAR


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_highlevel_flags_only_by_its_own_words_or_the_error_member(case: Case) -> None:
    for status in EDGES:
        judge_highlevel(status, case)


@pytest.mark.long
def test_highlevel_does_so_at_every_status() -> None:
    for case in CASES:
        for status in statuses(case):
            judge_highlevel(status, case)


def test_the_table_is_as_large_as_it_claims() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_maintenance_code_of_the_catalogue_leaves_the_token_unused() -> None:
    codes = ErrorCodes(maintenance=frozenset({"maintenance"}), row=frozenset({"bad_region"}))
    provider = Provider("acme", "Acme", "https://acme.example/token", error_codes=codes)
    for status in STATUSES:
        assert read(provider, status, b'{"error":"maintenance"}').verdict is Verdict.NOT_ACTED
    assert read(provider, 400, b'{"error":"bad_region"}').verdict is Verdict.REQUEST_REFUSED


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
        ("Sun, 99 Mar 2026 12:01:00 GMT", None),
        ("Sun, 01 Mar 99999 12:01:00 +9999", None),
        ("٣٠", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_ignored(header: str, seconds: float | None) -> None:
    assert read(PLAIN["always"], 429, b"", **{"retry-after": header}).retry_after == seconds


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
        answer = read(provider, status, body, **{"retry-after": retry_after})
        hold_for_every_answer(provider, status, answer)
        if answer.refresh_token is not None:
            assert answer.refresh_token == str(content["refresh_token"])
            assert not content.get("error")


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
        assert text.lstrip(" \t\r\n\ufeff").startswith(("{" + SHOWN, '{"access_token": "access-sample", ' + SHOWN))
        assert answer.access_token is not None or (rotates != "never" and 200 <= status < 300)


def test_a_documented_token_counts_at_no_status_and_an_answered_one_at_those_of_the_design() -> None:
    """The same member, once in a page and once in an answer."""
    page = f"<!doctype html><pre>{PAIR_TEXT}</pre>".encode()
    for provider in PLAIN.values():
        assert not [status for status in STATUSES if read(provider, status, page).refresh_token is not None]
        taken = [status for status in STATUSES if read(provider, status, PAIR_TEXT.encode()).refresh_token is not None]
        failing = range(500, 600) if provider.rotates != "never" else range(0)
        assert taken == [*range(200, 300), *failing]


@given(status=st.integers(100, 599), body=st.binary(max_size=200))
def test_no_bytes_make_reading_fail_or_flag_a_row(status: int, body: bytes) -> None:
    answer = read(HIGHLEVEL, status, body)
    hold_for_every_answer(HIGHLEVEL, status, answer)


@given(cut=st.integers(0, 200), rotates=st.sampled_from(sorted(PLAIN)), status=st.sampled_from([200, 201, 400, 500]))
def test_a_body_cut_anywhere_never_yields_half_a_token(cut: int, rotates: Rotation, status: int) -> None:
    body = json.dumps(
        {"access_token": "access-1", "expires_in": 86_399, "refresh_token": "refresh-2", "x": "y"}
    ).encode()
    answer = read(PLAIN[rotates], status, body[:cut])
    may_rotate, is_whole = rotates != "never", cut >= len(body)
    grants = is_whole and (status < 300 or (status >= 500 and may_rotate))
    assert answer.access_token == ("access-1" if grants else None)
    has_refresh = cut >= body.index(b'"refresh-2"') + len(b'"refresh-2"')
    counts = grants or (has_refresh and may_rotate and status < 300)
    assert answer.refresh_token == ("refresh-2" if counts else None)
