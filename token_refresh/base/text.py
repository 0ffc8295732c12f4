"""Text from outside, made fit to be shown or stored: one line, without secrets, and no formula of a spreadsheet.

Two nets keep secrets out. The first is that no sentence holds one: errors carry no content, and `safe_error` masks what
a provider quotes. The second is `Redactor`, through which everything goes that is printed.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "[…]"
SHORTEST_SECRET = 8  # shorter ones, and shorter pieces of one, are not distinguished from words
LONGEST_ERROR = 250
LONGEST_TEXT = 1000  # characters of a name; a longer one fits into no index
# With these a spreadsheet's formula begins (owasp.org/www-community/attacks/CSV_Injection), full-width forms too.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

VISIBLE_ASCII = re.compile("[ -~]*")  # what can be a token in a header (RFC 6749 appendix A), matched whole
_PASTE_MISTAKES = (
    (re.compile(r"[\r\n]"), "holds a line break"),
    (re.compile(r"[^ -~]"), "holds an invisible or typographic character, which no token has"),
    (re.compile(r"""\A(["'`]).*\1\Z"""), "stands in quotes"),
    (re.compile(r"\A(?:bearer|basic)\s", re.IGNORECASE), "begins with `Bearer` or `Basic`, which belong to a header"),
    (re.compile(r"\A\W*[a-z_-]*(?:token|secret|client_?id)\W*[=:]", re.IGNORECASE), "begins with its name"),
    (re.compile(r"\A[{\[]"), "is a piece of JSON"),
    # Nothing of it is left that would have been encoded, too: a secret may hold a percent sign of its own.
    (
        re.compile(r"\A(?=.*%(?:2[0-9BCF]|3[ADF]|40|5[BD]|7[CE]))(?:[A-Za-z0-9_.~+*-]|%[0-9A-F]{2})+\Z", re.IGNORECASE),
        "is percent-encoded, as in an address",
    ),
    # Fernet's first bytes are a version and a time; the second is base64 of these (github.com/fernet/spec).
    (re.compile(r"\Asealed:|\A(?:gAAAAAB[\w-]{90}|Z0FBQUFBQ[\w+/-]{90})"), "is an encrypted value of a table"),
)
_READ_LENGTH = 4 * LONGEST_ERROR
_MASKED = "\0"  # stands for a masked character; no printable text holds it
_TOKEN_LIKE = re.compile(r"[A-Za-z0-9._~+/=-]{40,}")  # longer than any word or error code
_NAMES = r"(?:access|refresh|id)_token|client_secret|client_assertion|api_key|password"
_SHAPES = (
    re.compile(rf"""((?:{_NAMES})\\?["']?\s*(?:=|:\s*\\?["'])\s*)[^\s&"'\\,;}}]+""", re.IGNORECASE),  # form or JSON
    re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{20,}", re.IGNORECASE),
    re.compile(r"(://)[^\s/@]+(?=@)"),  # user and password of an address
    re.compile(r"()\bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b"),  # Airtable's personal access token
)


def one_line(text: str) -> str:
    """`text` with a blank for each character that is not printed: it forges no second line and moves no cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def sentences(what: str, action: str) -> str:
    """What happened, then what to do, if anything is. What a provider said may end with a full stop of its own."""
    return f"{what.rstrip('.')}. {action}" if action else what


def squeezed(text: str) -> str:
    """The same without outer blanks, and with one blank for several."""
    return " ".join(one_line(text).split())


def trimmed(text: str) -> str:
    """A name without what nobody sees around it: blanks, line ends, zero-width and other format characters."""
    seen = [place for place, letter in enumerate(text) if letter.isprintable() and not letter.isspace()]
    return text[seen[0] : seen[-1] + 1] if seen else ""


def paste_mistake(text: str) -> str:
    """What shows that a token, secret or id was not copied as it is; empty where nothing does.

    All of them are printable ASCII (RFC 6749 appendix A).
    """
    return next((problem for pattern, problem in _PASTE_MISTAKES if pattern.search(text)), "")


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word, and with the verb that follows it: `1 row was`, `2 rows were`.

    Args:
        many: the words for other numbers than one; `one` with an s where it is empty.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def without_formula(text: str) -> str:
    """Text that we write, fit for a cell: a spreadsheet to which the table is exported finds no formula in it.

    Tokens, and what a person entered, are written as they are.
    """
    return text.lstrip(" " + "".join(FORMULA_STARTS))


def delimiter_of(header: str) -> str:
    """What separates the cells of a CSV file, by its first line.

    Spreadsheets write semicolons where the comma is the decimal sign, and some write tabs.
    """
    return next((one for one in ",;\t" if one in header), ",")


class Redactor:
    """Masks known secrets as a whole, and whatever looks like one.

    Args:
        secrets: texts to mask wherever they stand, as they are or encoded.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {spelling for secret in secrets if len(secret) >= SHORTEST_SECRET for spelling in _spellings(secret)}
        longest_first = sorted(known, key=len, reverse=True)  # one may be a part of another
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def __call__(self, text: str) -> str:
        """`text` without them."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for shape in _SHAPES:
            text = shape.sub(rf"\g<1>{MASK}", text)
        return text


def safe_error(text: str, *secrets: str) -> str:
    """What a provider said, fit for a log and the table: one printable line without any part of a secret.

    A provider may quote the token it was sent, cut off or encoded: every piece of eight characters is masked.
    """
    text = one_line(text[:_READ_LENGTH])
    for secret in filter(None, secrets):
        for spelling in (secret, *_spellings(secret)):
            text = _without_pieces(text, spelling)
    text = re.sub(f"{_MASKED}+", MASK, text)
    return without_formula(squeezed(_TOKEN_LIKE.sub(MASK, text)))[:LONGEST_ERROR]


def _spellings(secret: str) -> set[str]:
    """How a secret may look: as it is, in an address, in JSON, in Python, in a page, in hexadecimal, in base64."""
    raw = secret.encode(errors="replace")
    spellings = {secret, quote(raw, safe=""), quote_plus(raw), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    spellings |= {html.escape(secret), raw.hex()}
    for shift in range(3):  # in base64 the text looks different for each place it may start at
        encoded = base64.b64encode(bytes(shift) + raw).decode("ascii").rstrip("=")
        inner = encoded[2 * shift - shift // 2 : -1]
        spellings |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {spelling for spelling in spellings if len(spelling) >= SHORTEST_SECRET}


def _without_pieces(text: str, secret: str) -> str:
    """`text` with every piece of `secret` masked, whatever its case."""
    haystack, needle = text.lower(), secret.lower()
    if len(haystack) != len(text):  # a character whose lower case is longer
        haystack, needle = text, secret
    length = min(len(needle), SHORTEST_SECRET)
    hidden = set[int]()
    for start in range(len(haystack) - length + 1):
        if haystack[start : start + length] in needle:
            hidden.update(range(start, start + length))
    return "".join(_MASKED if place in hidden else character for place, character in enumerate(text))
