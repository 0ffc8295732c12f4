"""Both nets: what is masked in words for people and in what a provider said, and what stays readable."""

from __future__ import annotations

import base64
import html
import io
import json
from contextlib import redirect_stderr
from urllib.parse import quote, quote_plus

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import World
from token_refresh.base.text import MASK, Redactor, counted, paste_mistake, safe_error, trimmed
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console

TOKEN = "rt/9Kd+7Zq=Lm&3xV 8'w\"ß<Y>"  # of every kind of character that somebody encodes
SECRET = "s3cr3t-of-the-app"
LENGTH = 250  # of what a cell or a log gets to hold of an error
KNOWN = "a b/c+d=\"e\\f' and more of it"
PAT = f"pat{'p' * 14}.{'0f' * 32}"  # the shape alone


FERNET = Fernet(base64.urlsafe_b64encode(bytes(32))).encrypt(b"a token").decode()
WRAPPED = {
    "1//0gAb\nCd": "holds a line break",
    "1//0gAb\u200bCd": "holds an invisible or typographic character",
    "\ufeff1//0gAbCd": "holds an invisible or typographic character",
    "1//0gAb\u00a0Cd": "holds an invisible or typographic character",
    "“1//0gAbCd”": "holds an invisible or typographic character",
    "1//0gAb\u2013Cd": "holds an invisible or typographic character",
    '"1//0gAbCd"': "stands in quotes",
    "'1//0gAbCd'": "stands in quotes",
    "Bearer 1//0gAbCd": "begins with `Bearer`",
    "bearer\t1//0gAbCd": "holds an invisible",
    "refresh_token=1//0gAbCd": "begins with its name",
    '"refresh_token": "1//0gAbCd",': "begins with its name",
    '{"refresh_token": "1//0gAbCd"}': "begins with its name",
    "client-secret: abc": "begins with its name",
    '{"a": 1}': "is a piece of JSON",
    "1%2F%2F0gAbCd": "is percent-encoded",
    "Atzr%7cIwEB": "is percent-encoded",
    "sealed:v1:0123456789abcdef:AAAA": "is an encrypted value",
    FERNET: "is an encrypted value",
    base64.b64encode(FERNET.encode()).decode(): "is an encrypted value",
}


@pytest.mark.parametrize(("text", "problem"), WRAPPED.items(), ids=range(len(WRAPPED)))
def test_what_was_copied_together_with_a_token_is_named(text: str, problem: str) -> None:
    assert paste_mistake(text).startswith(problem)


@pytest.mark.parametrize(
    "token",
    [
        "1//0gAbCd-_.~", "Atzr|IwEBIA==", "5Aep861TSESvWeug_xvFHRBTTbf_YrTWgEyjBJrOr.", "stampNL001.gAAAAKj5x9a",
        "gAAAAKj5x9a!IAAAA", "eyJhbGciOiJSU0EtT0FFUCJ9.x.y", "0.AAAA-Bc~D", "M.C123_BL2.-CYv*!$", "words with blanks",
        "a%b", "a:+/%25&=", "12345678", "token", "",
    ],
)  # fmt: skip
def test_tokens_as_providers_give_them_are_taken(token: str) -> None:
    assert paste_mistake(token) == ""


VSCHARS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60)
WRAPPERS = st.sampled_from(['"{}"', "'{}'", "`{}`", "Bearer {}", "refresh_token={}", "{}\n", "\u200b{}", "{}\u2060"])


@given(token=VSCHARS, wrapper=WRAPPERS)
def test_whatever_the_token_a_wrapper_around_it_is_noticed(token: str, wrapper: str) -> None:
    assert paste_mistake(wrapper.format(token))


@given(token=st.text("ABCDEFabcdef0123456789-_.~+/=|", min_size=8, max_size=60))
def test_a_token_of_the_usual_characters_is_taken(token: str) -> None:
    assert paste_mistake(token) == ""


INVISIBLE = st.text(" \t\r\n\u00a0\u200b\u200e\u2060\ufeff\u00ad", max_size=4)


@given(before=INVISIBLE, name=st.text("ab c-_ü😀", min_size=1, max_size=12), after=INVISIBLE)
def test_what_nobody_sees_around_a_name_is_cut_and_nothing_else(before: str, name: str, after: str) -> None:
    assert trimmed(f"{before}{name}{after}") == name.strip()


@pytest.mark.parametrize(
    "spelling", [KNOWN, quote(KNOWN, safe=""), json.dumps(KNOWN)[1:-1], repr(KNOWN)[1:-1], KNOWN.encode().hex()]
)
def test_a_known_secret_is_masked_however_it_is_spelled(spelling: str) -> None:
    assert Redactor([KNOWN])(f"before {spelling} after") == f"before {MASK} after"


def test_a_known_secret_is_masked_in_a_header_of_basic_authentication() -> None:
    pair = base64.b64encode(f"app:{KNOWN}".encode()).decode()
    assert pair[6:-4] not in Redactor([KNOWN])(f"sent {pair} to it")


def test_a_secret_within_another_is_no_way_around() -> None:
    redacted = Redactor(["12345678", "1234567890abcdef"])
    assert redacted("x1234567890abcdefx 12345678") == f"x{MASK}x {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "POST grant_type=refresh_token&refresh_token=hidden&client_id=app",
        "client_secret=hidden",
        '{"access_token": "hidden", "expires_in": 3600}',
        "{'refresh_token': 'hidden'}",
        '"{\\"refresh_token\\":\\"hidden\\"}"',
        "Authorization: Bearer hidden-hidden-hidden-hidden",
        "Authorization: Basic hiddenhiddenhiddenhidden==",
        "https://user:hidden@proxy.example:8080/",
        f"the key {PAT} is wrong",
    ],
)
def test_what_has_the_shape_of_a_secret_is_masked(text: str) -> None:
    shown = Redactor()(text)
    assert "hidden" not in shown
    assert PAT not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "text",
    [
        "the refresh_token is missing",
        "HTTP 400, invalid_request: Missing parameter: refresh_token",
        "Bearer authentication is not supported",
        "Set ENCRYPTION_KEY. Run: chmod 600 /etc/x.env",
        "loc1: sealed:v1:d615004d750da330:tyR3qQh2LZn_m627md7qAaeoLMiQHvzdSuM7ctNGcyYL7xq9cEP5Z6e0cg",
        "https://acme.example/oauth/token answers HTTP 500",
    ],
)
def test_words_for_people_stay_as_they_are(text: str) -> None:
    assert Redactor(["unrelated secret", "HTTP"])(text) == text


def test_what_the_settings_hold_is_masked_as_soon_as_they_are_read(world: World) -> None:
    console, err = Console(), io.StringIO()
    prepare(world.program.settings | {"ACME_CLIENT_SECRET": KNOWN}, world.clock, console)
    with redirect_stderr(err):
        console.error(f"{KNOWN} and {world.program.settings['ENCRYPTION_KEY']}")
    assert f"{MASK} and {MASK}" in err.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_is_said_around_the_net(log_format: str) -> None:
    console = Console()
    console.configure("DEBUG", log_format)
    console.hide([KNOWN])
    err = io.StringIO()
    with redirect_stderr(err):
        console.info(f"info {KNOWN}", fact=KNOWN, other="refresh_token=hidden", count=1)
        console.warn(f"warning {KNOWN}")
        console.error("error", f"Do not {KNOWN}")
    assert KNOWN not in err.getvalue()
    assert json.dumps(KNOWN)[1:-1] not in err.getvalue()
    assert "hidden" not in err.getvalue()
    assert len(err.getvalue().splitlines()) == 3


# What a provider said


def test_one_thing_is_counted_in_the_singular() -> None:
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [counted(number, "entry was", "entries were") for number in (1, 21)] == ["1 entry was", "21 entries were"]


def test_plain_words_stay_as_they_are() -> None:
    words = "HTTP 400, invalid_grant: Token has been expired or revoked."
    assert safe_error(words, TOKEN, SECRET) == words
    assert safe_error(words) == words
    assert safe_error("HTTP 400, Ungültig, für „Müller“", TOKEN) == "HTTP 400, Ungültig, für „Müller“"


def encodings(secret: str) -> dict[str, str]:
    raw = secret.encode()
    return {
        "as it is": secret,
        "quoted": quote(secret, safe=""),
        "quoted, slashes left": quote(secret),
        "quoted in lower case": quote(secret, safe="").lower(),
        "form": quote_plus(secret),
        "upper case": secret.upper(),
        "JSON": json.dumps(secret),
        "HTML": html.escape(secret),
        "hexadecimal": raw.hex(),
        "base64": base64.b64encode(raw).decode(),
        "base64url": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "base64 of a pair": base64.b64encode(b"app:" + raw).decode(),
        "base64 behind two bytes": base64.b64encode(b"ab" + raw).decode(),
        "base64 within more": base64.b64encode(b"a" + raw + b"tail").decode(),
    }


def leaked(text: str, spelling: str, length: int = 8) -> list[str]:
    """The pieces of a spelling that show in a text."""
    pieces = [spelling[start : start + length] for start in range(len(spelling) - length + 1)]
    return [piece for piece in pieces if piece.lower() in text.lower()]


@pytest.mark.parametrize("secret", [TOKEN, SECRET, "refresh-f1-1-0011223344556677"])
@pytest.mark.parametrize("name", encodings("x"))
def test_a_secret_that_is_quoted_does_not_show_however_it_is_written(secret: str, name: str) -> None:
    spelled = encodings(secret)[name]
    safe = safe_error(f"HTTP 400, the token '{spelled}' is wrong", "other", secret)
    inner = spelled[4:-4] if "base64" in name else spelled  # what surrounds it shares the characters at its ends
    assert leaked(safe, inner) == []
    assert "[…]" in safe
    assert safe.startswith("HTTP 400, the token")


@pytest.mark.parametrize("start", range(0, 12, 3))
@pytest.mark.parametrize("length", [8, 10, 12])
def test_a_piece_of_a_secret_does_not_show(start: int, length: int) -> None:
    piece = SECRET[start : start + length]
    if len(piece) < 8:
        return
    safe = safe_error(f"token {piece}… is wrong", SECRET)
    assert piece not in safe
    assert "[…]" in safe


def test_a_short_secret_is_hidden_whole() -> None:
    assert "pw1" not in safe_error("pw1 is no password, nor is pw1pw1", "pw1")


def test_an_empty_secret_hides_nothing() -> None:
    assert safe_error("HTTP 400", "", "") == "HTTP 400"


def test_a_token_that_nobody_knew_of_is_hidden_by_its_length() -> None:
    jwt = ".".join(["eyJhbGciOiJIUzI1NiJ9", "a" * 60, "b" * 43])
    assert safe_error(f"issued {jwt} today") == "issued […] today"


def test_control_characters_lines_and_directions_become_blanks() -> None:
    safe = safe_error("HTTP 400,\r\n\x1b[31mred\x1b[0m\x00\u202egnp.exe\u2028next\ud800 \t end")
    assert safe.isprintable()
    assert safe == "HTTP 400, [31mred [0m gnp.exe next end"


def test_a_long_text_is_cut_and_a_secret_at_the_cut_does_not_show() -> None:
    assert len(safe_error("x y " * 100_000)) <= LENGTH
    for place in (LENGTH - 10, LENGTH - 4, 4 * LENGTH - 10):
        safe = safe_error(("a b " * 500)[:place] + SECRET + " tail" * 100, SECRET)
        assert leaked(safe, SECRET) == []
        assert len(safe) <= LENGTH


def test_a_secret_as_long_as_an_answer_is_handled() -> None:
    secret = "".join(chr(97 + number * 7 % 26) for number in range(200_000))
    assert leaked(safe_error(f"the token {secret[5000:5400]} is wrong", secret), secret[5000:5400]) == []


@given(before=st.text(max_size=20), secret=st.text(min_size=8, max_size=40), after=st.text(max_size=20))
def test_no_secret_shows_whatever_surrounds_it(before: str, secret: str, after: str) -> None:
    safe = safe_error(f"{before} {secret} {after}", secret)
    assert safe.isprintable()
    assert len(safe) <= LENGTH
    if secret.isprintable() and secret == " ".join(secret.split()) and secret not in f"{before} {after}":
        assert secret not in safe


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r\n=", "=+-@", " = "])
def test_what_a_provider_says_never_begins_like_a_formula(start: str) -> None:
    """The table may be exported to a spreadsheet."""
    assert safe_error(f"{start}HYPERLINK(1)") == "HYPERLINK(1)"


def test_a_character_whose_lower_case_is_longer_shifts_no_mask() -> None:
    """İ becomes two characters: places found in one spelling would be masked at others in the other."""
    assert "İ".lower() != "İ"
    safe = safe_error(f"İİİİ the token {SECRET} is wrong", SECRET)
    assert safe == "İİİİ the token […] is wrong"
