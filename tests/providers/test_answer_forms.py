"""Properties of every answer: whatever its form, spelling, encoding, status, and wherever it breaks off.

What an answer holds is drawn first and then written, so that the rules below never read one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from providers.base import Answer, Provider, RawAnswer, Rotation, Verdict
from providers.revocation import read_revocation

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROVIDERS: dict[Rotation, Provider] = {
    rotates: Provider("acme", "Acme", "https://acme.example/token", rotates=rotates)
    for rotates in ("always", "sometimes", "never")
}
UNUSABLE: tuple[object, ...] = ("", None, "***********", "short", [], ["refresh-in-a-list"], {}, True)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le")
CAMEL = {"access_token": "accessToken", "refresh_token": "refreshToken"}
NOT_PROCESSED = (408, 425, 429)

tokens = st.text("".join(map(chr, range(33, 127))), min_size=8, max_size=40).filter(lambda text: len(set(text)) > 1)
names = st.text("abcdefgh_é中", min_size=1, max_size=6)
words = st.text(max_size=10)
extras = st.dictionaries(
    st.text("mnopqrs é", min_size=1, max_size=5),
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.lists(st.integers(), max_size=3),
    max_size=3,
)
statuses = st.one_of(
    st.just(200), st.integers(200, 299), st.integers(100, 599), st.sampled_from([401, 403, *NOT_PROCESSED])
)


def nearly(count: int) -> st.SearchStrategy[int]:
    """A little less: where the last token may be cut."""
    return st.integers(max(0, count - 8), max(0, count - 1))


@dataclass(frozen=True)
class Written:
    """An answer, and what is in it.

    Attributes:
        body: all of it, `sent` bytes of which come.
        ends: where each member's value ends, by its name; behind the `&` that follows it in a form.
        whole_at: so many bytes are the whole object; None of a form, which only a complete answer shows to be whole.
        error: the member that makes it an error; None.
        is_error_on_top: it stands at the top level.
        has_names: a token is named.
    """

    body: bytes
    sent: int
    access: str | None
    refresh: str | None
    ends: dict[str, int]
    whole_at: int | None
    error: str | None
    is_error_on_top: bool
    has_names: bool
    status: int
    is_complete: bool

    @property
    def raw(self) -> RawAnswer:
        return RawAnswer(self.status, {}, self.body[: self.sent], NOW, self.is_complete)

    @property
    def is_whole(self) -> bool:
        return self.is_complete if self.whole_at is None else self.sent >= self.whole_at

    @property
    def is_error(self) -> bool:
        """As far as it can be seen."""
        return self.error is not None and (self.is_whole or self.ends[self.error] <= self.sent)

    def has(self, name: str) -> bool:
        """A token that can be used came whole."""
        token = self.access if name == "access_token" else self.refresh
        return token is not None and (self.is_whole or self.ends[name] <= self.sent)


@st.composite
def members(draw: st.DrawFn, *, is_text: bool) -> tuple[dict[str, Any], str | None, str | None, str | None]:
    """Members of the object with the tokens in any order; its access token, refresh token, and error."""
    content: dict[str, Any] = dict(draw(extras))
    access, refresh = draw(st.lists(tokens, min_size=2, max_size=2, unique=True))
    found: list[str | None] = []
    for name, token in (("access_token", access), ("refresh_token", refresh)):
        kind = draw(st.sampled_from(["there", "there", "there", "unusable", "missing"]))
        found.append(token if kind == "there" else None)
        if kind != "missing":
            content[name] = token if kind == "there" else draw(st.sampled_from(UNUSABLE))
    error = draw(st.sampled_from([None, None, None, "error", "errors", "ok"]))
    if is_text:
        content = {name: value for name, value in content.items() if isinstance(value, str)}
        error = None if error == "ok" else error
    if error is not None:
        content[error] = {"error": "x y", "errors": [{"code": "x"}] if not is_text else "x", "ok": False}[error]
    order = draw(st.permutations(sorted(content)))
    return {name: content[name] for name in order}, found[0], found[1], error


@st.composite
def json_answers(draw: st.DrawFn) -> Written:
    content, access, refresh, error = draw(members(is_text=False))
    encoding = draw(st.sampled_from(ENCODINGS))

    def dumps(value: object) -> str:
        return json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 2])))

    blanks = st.sampled_from(["", " ", "\n\t", "  "])
    spelling = CAMEL if draw(st.booleans()) else {}
    text, ends = draw(blanks), {}
    before, behind = draw(extras), draw(extras)
    outer = draw(st.none() | names)
    if outer is not None:
        text += "{" + "".join(f"{dumps(name)}:{dumps(value)}," for name, value in before.items()) + dumps(outer) + ":"
    text += "{"
    for number, (name, value) in enumerate(content.items()):
        text += (
            ("," if number else "") + draw(blanks) + dumps(spelling.get(name, name)) + draw(blanks) + ":" + draw(blanks)
        )
        text += dumps(value)
        ends[name] = len(text.encode(encoding, "surrogatepass"))
        text += draw(blanks)
    text += "}"
    if outer is not None:
        text += "".join(f",{dumps(name)}:{dumps(value)}" for name, value in behind.items() if name != outer) + "}"
    assume(not any("\ud800" <= letter <= "\udfff" for letter in text))
    body = text.encode(encoding)
    sent = draw(
        st.just(len(body)) | st.integers(0, len(body)) | nearly(len(body)) | st.sampled_from([0, *ends.values()])
    )
    return Written(
        body, sent, access, refresh, ends, len(body), error, outer is None, bool({*CAMEL} & {*content}),
        draw(statuses), draw(st.booleans()),
    )  # fmt: skip


@st.composite
def form_answers(draw: st.DrawFn) -> Written:
    content, access, refresh, error = draw(members(is_text=True))
    content = content or {"x": ""}
    has_plus = draw(st.booleans())

    def encoded(text: str) -> str:
        return quote_plus(text) if has_plus else quote(text, safe="")

    spelling = CAMEL if draw(st.booleans()) else {}
    text, ends = "", {}
    for name, value in content.items():
        text += ("&" if text else "") + encoded(spelling.get(name, name)) + "=" + encoded(value)
        ends[name] = len(text) + 1
    is_complete = draw(st.booleans())
    sent = len(text) if is_complete else draw(st.just(len(text)) | st.integers(0, len(text)) | nearly(len(text)))
    return Written(
        text.encode(), sent, access, refresh, ends, None, error, True, bool({*CAMEL} & {*content}),
        draw(statuses), is_complete,
    )  # fmt: skip


answers = json_answers() | form_answers()
rotations = st.sampled_from(sorted(PROVIDERS))


def expected(answer: Written, rotates: Rotation) -> tuple[Verdict, str | None, str | None]:
    """Verdict, access token and refresh token that the design asks for."""
    is_success = 200 <= answer.status < 300
    may_rotate = rotates != "never"
    has_access, has_refresh = (is_success and not answer.is_error and answer.has(name) for name in CAMEL)
    if has_access and answer.is_whole:
        return Verdict.GRANTED, answer.access, answer.refresh
    if answer.status == 429:
        return Verdict.NOT_ACTED, None, None
    if answer.status in NOT_PROCESSED or not 200 <= answer.status < 500:
        return Verdict.UNCLEAR, None, None
    if not is_success:
        if not (answer.is_whole or answer.is_complete):
            return Verdict.UNCLEAR, None, None
        return Verdict.CLIENT_REFUSED if answer.status == 401 else Verdict.REQUEST_REFUSED, None, None
    if has_refresh and may_rotate:
        return Verdict.UNCLEAR, None, answer.refresh
    if answer.is_whole and answer.error and answer.is_error_on_top:
        return Verdict.REQUEST_REFUSED, None, None
    names_token = answer.is_whole and answer.error is None and answer.has_names
    return Verdict.UNREAD if names_token and may_rotate else Verdict.UNCLEAR, None, None


def read(answer: Written, rotates: Rotation) -> Answer:
    return PROVIDERS[rotates].read_answer(answer.raw)


@given(answer=answers, rotates=rotations)
def test_what_counts_of_an_answer_and_what_it_says_follow_the_design(answer: Written, rotates: Rotation) -> None:
    got = read(answer, rotates)
    assert (got.verdict, got.access_token, got.refresh_token) == expected(answer, rotates)
    is_proven = got.access_token is not None and rotates != "never"
    assert got.is_unproven == (got.refresh_token is not None and not is_proven)


@given(answer=answers, rotates=rotations)
def test_no_token_counts_outside_a_success_nor_beside_an_error(answer: Written, rotates: Rotation) -> None:
    refused = [replace(answer, status=status) for status in (400, 401, 403, 404, 409, 429, 302, 500, 503)]
    for one in [*refused, *([answer] if answer.is_error else [])]:
        got = read(one, rotates)
        assert (got.access_token, got.refresh_token) == (None, None)


@given(answer=answers, rotates=rotations)
def test_a_whole_pair_in_a_whole_success_is_always_found(answer: Written, rotates: Rotation) -> None:
    if not (answer.access and answer.refresh and answer.error is None):
        return  # not by `assume`: too few have both
    whole = replace(answer, status=200, sent=len(answer.body), is_complete=True)
    got = read(whole, rotates)
    assert (got.verdict, got.access_token, got.refresh_token) == (Verdict.GRANTED, answer.access, answer.refresh)


@given(answer=answers, rotates=rotations)
def test_an_answer_that_breaks_off_grants_no_access_token_and_no_piece_of_a_token(
    answer: Written, rotates: Rotation
) -> None:
    if answer.sent == len(answer.body):
        return
    got = read(replace(answer, status=200, is_complete=answer.whole_at is not None and answer.is_complete), rotates)
    assert got.access_token is None
    assert got.refresh_token in (None, answer.refresh)


@pytest.mark.parametrize("rotates", PROVIDERS)
@pytest.mark.parametrize("outer", [None, "data"])
@pytest.mark.parametrize("is_form", [True, False])
def test_of_a_pair_that_is_cut_at_each_byte_no_piece_of_a_token_counts(
    is_form: bool, outer: str | None, rotates: Rotation
) -> None:
    """The refresh token is the last member, so that nothing behind it shows where it ends."""
    pair = {"access_token": "access-token-2", "expires_in": 60, "refresh_token": "refresh-token-2"}
    body = (urlencode(pair) if is_form else json.dumps({outer: pair} if outer else pair)).encode()
    for sent in range(len(body)):
        answer = PROVIDERS[rotates].read_answer(RawAnswer(200, {}, body[:sent], NOW, False))
        assert answer.access_token is None
        is_there = not is_form and rotates != "never" and sent >= body.index(b'token-2"', 40) + len(b'token-2"')
        assert answer.refresh_token == ("refresh-token-2" if is_there else None), sent


def test_an_empty_object_is_no_page_whatever_its_content_type() -> None:
    raw = RawAnswer(403, {"content-type": "text/html"}, b"{}", NOW, True)
    assert PROVIDERS["always"].read_answer(raw).verdict is Verdict.REQUEST_REFUSED


@given(answer=answers)
def test_where_tokens_rotate_a_success_that_names_one_never_ends_open_and_empty(answer: Written) -> None:
    """It ends granted, with an unproven token, or as an unknown form that nothing is sent after."""
    if not answer.has_names or answer.error is not None:
        return
    got = read(replace(answer, status=200, sent=len(answer.body), is_complete=True), "always")
    assert got.verdict in (Verdict.GRANTED, Verdict.UNREAD) or got.is_unproven


@given(answer=answers, rotates=rotations, status=st.integers(400, 599))
def test_only_a_failing_server_keeps_a_whole_pair_for_later(answer: Written, rotates: Rotation, status: int) -> None:
    answer = replace(answer, status=status)
    kept = PROVIDERS[rotates].pair_in(answer.raw)
    has_pair = answer.is_whole and not answer.is_error and answer.access and answer.refresh
    counts = status >= 500 and has_pair and rotates != "never"
    assert (kept.refresh_token if kept else None) == (answer.refresh if counts else None)
    assert kept is None or (kept.is_unproven and kept.verdict is Verdict.UNCLEAR and kept.access_token is None)


@given(answer=answers, content_type=st.sampled_from(["text/html", "text/plain", "application/xml", "", "\xff;;="]))
@example(Written(b"x=", 2, None, None, {"x": 3}, None, None, True, False, 200, True), "text/html")
def test_the_body_decides_and_not_the_content_type(answer: Written, content_type: str) -> None:
    if not answer.is_whole:
        return
    for status in (answer.status, 403, 406, 409):  # the last three are those of firewalls' pages
        raw = replace(answer.raw, status=status)
        named = replace(raw, headers={"content-type": content_type})
        for provider in PROVIDERS.values():
            assert provider.read_answer(named) == provider.read_answer(raw)


# Headers


months = st.sampled_from(["Jan", "Feb", "Mai", "12", ""])
numbers = st.integers(-10, 100) | st.integers(0, 10**12) | st.just(99_999_999_999)
dates = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    *(st.sampled_from(["Sun", "Xyz", ""]), numbers, months, numbers, numbers, numbers, numbers),
    st.sampled_from(["GMT", "-0000", "+9999", "-99999999", "EST", ""]),
)


@given(header=dates | words | st.integers().map(str) | st.floats().map(str) | st.lists(st.integers()).map(str))
@example("Sun, 01 Mar 99999999999 12:00:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -9959")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("9" * 15)
def test_a_wait_that_is_asked_for_is_a_day_at_most_and_nonsense_is_none(header: str) -> None:
    for status in (200, 429, 503):
        answer = PROVIDERS["always"].read_answer(RawAnswer(status, {"retry-after": header}, b"", NOW, True))
        assert answer.retry_after is None or 0 <= answer.retry_after <= 86_400
        revoked = read_revocation(PROVIDERS["always"], RawAnswer(status, {"retry-after": header}, b"", NOW, True))
        assert revoked.retry_after == answer.retry_after


hosts = st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,8}){1,2}", fullmatch=True)


@given(host=hosts, path=st.from_regex(r"(/[a-z0-9]{1,8}){0,3}", fullmatch=True), status=st.integers(300, 399))
def test_a_moved_address_is_shown_without_whatever_may_be_secret_in_it(host: str, path: str, status: int) -> None:
    location = f"https://user:pass-SECRET@{host}:8443{path}?refresh_token=SECRET&x=y#SECRET"
    answer = PROVIDERS["always"].read_answer(RawAnswer(status, {"location": location}, b"", NOW, True))
    assert answer.verdict is Verdict.REQUEST_REFUSED
    assert f"moved to {host}{path}:" in (answer.action or "")
    assert "SECRET" not in f"{answer.action} {answer.error}"
    relative = PROVIDERS["always"].read_answer(RawAnswer(status, {"location": path + "?q=SECRET"}, b"", NOW, True))
    assert "SECRET" not in (relative.action or "")
    assert not path or f"moved to {path}:" in (relative.action or "")


@given(location=st.text(max_size=40) | st.sampled_from(["http://[", "//", "https://[::1]:x/", "http://\x00\n"]))
def test_no_address_whatever_it_says_makes_reading_fail(location: str) -> None:
    answer = PROVIDERS["always"].read_answer(RawAnswer(302, {"location": location}, b"", NOW, True))
    assert "The provider's address has moved" in (answer.action or "")
    assert (answer.action or "").isprintable()


# What people see


shown_tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~+/=", min_size=4, max_size=60)
secret_names = st.sampled_from(
    [
        *("access_token", "refresh_token", "id_token", "accessToken", "refreshToken", "token", "client_secret"),
        *("newTokens", "token_value", "tokenText", "tokens_v2", "credentials", "jwt"),
    ]
)
frames = st.sampled_from(["{}", "token {} is bad", "refresh_token={}&x=y", '"{}"', "x{}x", "({})"])
word_names = st.sampled_from(["error", "error_description", "message", "errorMessage", "detail", "title", "other"])


@given(
    token=shown_tokens, name=secret_names, frame=frames, place=word_names, status=st.integers(200, 599),
    deep=st.booleans(), is_listed=st.booleans(),
)  # fmt: skip
def test_no_token_of_an_answer_stands_in_what_is_said_of_it(
    token: str, name: str, frame: str, place: str, status: int, deep: bool, is_listed: bool
) -> None:
    said = f"It is no good: {frame.format(token)}"
    holder = {name: [token] if is_listed else token}
    content = {"data": holder, place: said} if deep else {**holder, place: said}
    for provider in PROVIDERS.values():
        ours = words_of(provider, status, {place: "It is no good"})  # in which the token may be a word
        assert token in ours or token not in words_of(provider, status, content)


def words_of(provider: Provider, status: int, content: dict[str, Any]) -> str:
    """What is said of an answer, and what to do."""
    answer = provider.read_answer(RawAnswer(status, {}, json.dumps(content).encode(), NOW, True))
    return (answer.error or "") + (answer.action or "")


@given(text=st.text(max_size=600), place=word_names, status=st.integers(300, 499), depth=st.integers(0, 3))
def test_the_words_of_a_refusal_are_one_line_of_at_most_two_hundred_characters(
    text: str, place: str, status: int, depth: int
) -> None:
    content: dict[str, Any] = {place: f"Not so: {text}"}
    for _ in range(depth):
        content = {"inner": content}
    answer = PROVIDERS["always"].read_answer(RawAnswer(status, {}, json.dumps(content).encode(), NOW, True))
    assert answer.error is not None
    assert answer.error.isprintable()
    assert len(answer.error) <= len("HTTP 400, ") + 200
    assert answer.error.startswith(f"HTTP {status}, Not so")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"Invalid refresh token", ", Invalid refresh token"),
        (b" Not\r\n\x1b[2J now ", ", Not [2J now"),
        ("Zugriff verweigert für Ihr Konto".encode(), ", Zugriff verweigert für Ihr Konto"),
        (b"refresh_token=abcdefgh was refused", ""),
        (b"error=x&client_secret=abcdefgh", ", x"),
        (b'{"error":"x","refresh_token":"abcdefgh', ""),
        (b"<html><head><title>Gone</title></head>refresh_token: abc", ", Gone"),
        (b"<html>refresh_token: abc", ""),
        (b"<Error><Message>Access Denied</Message></Error>", ""),
        (b"<?xml version='1.0'?><Error><Message>Access Denied</Message></Error>", ", Access Denied"),
        (b"<?xml version='1.0'?><Error><AccessToken>abcdefgh</AccessToken></Error>", ""),
        ("<title>Nö</title>".encode("utf-16"), ", Nö"),
        (b"\xfa\x80\xfa\x80", ""),
        (b'["Not you", "again"]', ', ["Not you", "again"]'),
        (b'{"unusual": {"place": "Not for you"}}', ", Not for you"),
        (b'{"error": ["Not for you"]}', ", Not for you"),
        (b'{"scope": "a", "id": 7}', ""),
    ],
)
def test_the_words_of_a_refusal_are_found_where_they_stand_and_none_in_a_success(body: bytes, said: str) -> None:
    provider = PROVIDERS["always"]
    assert provider.read_answer(RawAnswer(400, {}, body, NOW, True)).error == f"HTTP 400{said}"
    if body[:1] not in (b"{", b"e"):
        assert provider.read_answer(RawAnswer(200, {}, body, NOW, True)).error == "HTTP 200"


def test_words_are_cut_between_two_of_them() -> None:
    body = json.dumps({"message": "no " * 100}).encode()
    error = PROVIDERS["always"].read_answer(RawAnswer(400, {}, body, NOW, True)).error
    assert error == "HTTP 400, " + "no " * 65 + "no…"


def test_a_form_of_very_many_members_is_read_at_once() -> None:
    body = b"&".join(b"a=%d" % number for number in range(120_000))
    answer = PROVIDERS["always"].read_answer(RawAnswer(200, {}, body, NOW, True))
    assert answer.verdict is Verdict.UNCLEAR
