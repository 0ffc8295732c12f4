"""The second net under what is printed: secrets are masked even where a sentence should never have held one.

The first net is that no sentence holds one: errors carry no content, and `safe_error` masks what a provider quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "[…]"
SHORTEST_SECRET = 8  # shorter ones are not told from words

_NAMES = r"(?:access|refresh|id)_token|client_secret|client_assertion|api_key|password"
_SHAPES = (
    re.compile(rf"""((?:{_NAMES})\\?["']?\s*(?:=|:\s*\\?["'])\s*)[^\s&"'\\,;}}]+""", re.IGNORECASE),  # form or JSON
    re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{20,}", re.IGNORECASE),
    re.compile(r"(://)[^\s/@]+(?=@)"),  # user and password of an address
    re.compile(r"()\bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b"),  # Airtable's personal access token
)


class Redactor:
    """Masks known secrets, and whatever looks like one.

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


def _spellings(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1])
