"""What an answer says to people: its words, wherever they stand, without anything secret."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from token_refresh.base.text import MASK, safe_error, squeezed

_WORD_MEMBERS = (
    *("error_description", "message", "error_message", "detail", "title", "reason", "msg", "error_msg", "description"),
    *("fault_string", "faultstring", "error_summary", "errors", "error"),
)
_WORD_LEVELS = 4  # of objects in objects in which they are looked for
LONGEST_WORDS = 200  # characters
_NAME = r"(?:token|secret|password|assertion|credential|jwt)(?!s?_?(?:type|expir|endpoint|ur[il]))"
_SECRET_MEMBER = re.compile(_NAME, re.IGNORECASE)
_SHORTEST_PIECE = 4  # characters; a shorter secret is masked only where it is a word of its own
_MOST_SECRETS, _LONGEST_SECRETS = 64, 65_536  # in one answer, and characters in all: above that no word is shown
_MOST_WORDS = 4096  # characters of a page in which its title is looked for
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_NO_SUCH_ADDRESS = (404, 405)
_ELSEWHERE = (*range(300, 400), *_NO_SUCH_ADDRESS)
_TAG = re.compile(r"<[^>]*>")
_NAMED_SECRET = re.compile(rf"{_NAME}\w*[\"']?\s*[=:>]", re.IGNORECASE)


def words_in(content: Mapping[str, Any]) -> list[str]:
    """What is meant for a person, from the top down."""
    found: list[str] = []
    level = [content]
    for _ in range(_WORD_LEVELS):
        for place in level:
            members = {snake_case(name): value for name, value in place.items()}
            for value in filter(None, map(members.get, _WORD_MEMBERS)):
                found += filter(None, map(text_of, value if isinstance(value, list) else [value]))
        inner = [value for place in level for value in place.values()]
        inner += [one for value in inner if isinstance(value, list) for one in value]
        level = [one for one in inner if isinstance(one, Mapping)]
    return found


def sentences_in(content: Mapping[str, Any]) -> str:
    """Whatever else reads like words: text with a blank in it."""
    texts = [text_of(value) for _, value in all_members(content)]
    return ": ".join(dict.fromkeys(text for text in texts if " " in text))


def all_members(content: object) -> Iterator[tuple[str, object]]:
    """Every member at every depth, by its path (`data.tokens.access`), with what it holds."""
    waiting: list[tuple[str, object]] = [("", content)]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, Mapping):
            waiting += reversed([(f"{path}.{name}", member) for name, member in value.items()])
        elif isinstance(value, list | tuple):
            waiting += reversed([(path, member) for member in value])


def without_secrets(words: str, content: Mapping[str, Any]) -> str:
    """`words` without whatever the members hold that are named for something secret; "" where these are too many."""
    secrets = {
        str(value)
        for path, value in all_members(content)
        if _SECRET_MEMBER.search(path) and isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    if len(secrets) > _MOST_SECRETS or sum(map(len, secrets)) > _LONGEST_SECRETS:
        return ""
    words = safe_error(words, *(secret for secret in secrets if len(secret) >= _SHORTEST_PIECE))
    for secret in secrets - {""}:
        words = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, words)
    return words


def shortened(words: str) -> str:
    """At most 200 characters, cut between two words where that can be."""
    if len(words) <= LONGEST_WORDS:
        return words
    cut = words[: LONGEST_WORDS - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"


def is_page(body: bytes, content_type: str) -> bool:
    """Whether a person was to read it: a firewall's page, maintenance."""
    content_type, begin = content_type.lower(), _beginning(body).lstrip().lower()
    if begin.startswith("<?xml") or "xml" in content_type:
        return "<html" in begin
    return begin.startswith("<") or content_type.startswith("text/html")


def _beginning(body: bytes) -> str:
    """Of a page as much as its title is looked for in."""
    begin = body[: 4 * _MOST_WORDS]  # a character is four bytes at most, and the last one may be cut
    return begin.decode(json.detect_encoding(begin), errors="replace")[:_MOST_WORDS]


def plain_words(body: bytes, content_type: str) -> str:
    """Of a refusal that is no object what a person would read first: a page's title, else its text without tags."""
    text = _beginning(body)
    title = _TITLE.search(text)
    if title is None and (is_page(body, content_type) or "{" in text):
        return ""
    words = title[1] if title else text
    return "" if "\ufffd" in words or _NAMED_SECRET.search(words) else _TAG.sub(" ", words)


def snake_case(name: str) -> str:
    """`refresh_token` of `refreshToken`."""
    return name if name.islower() else "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def text_of(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def address_advice(verdict: str, status: int, headers: Mapping[str, str]) -> str | None:
    """What to do where a request was refused because it went to the wrong place.

    The query of an address may hold a secret. None where that is not why.
    """
    if verdict != "request refused" or status not in _ELSEWHERE:
        return None
    if status in _NO_SUCH_ADDRESS:
        return "Check the provider's address: instance or tenant in the row, or its TOKEN_URL."
    place = ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(headers.get("location", ""))
        place = squeezed(f"{parts.hostname or ''}{parts.path}")[:LONGEST_WORDS]
        place = f" to {place}" if place else ""
    return f"The provider's address has moved{place}: check that on its page, then set its TOKEN_URL."
