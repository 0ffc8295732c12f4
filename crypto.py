"""Sealed cells: secrets as text that opens only with the right key, in the right row and field.

The format is written down for third parties in docs/format.md. This module does no input or output and
reads no settings; keys come in as bytes. The cryptographic library is imported where it is first used: a run that
ends because another one is active checks the keys' form and needs no more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

KEY_BYTES = 32
NONCE_BYTES = 12  # RFC 5116 section 5.1; random nonces are safe for 2**32 seals a key (SP 800-38D section 8.3)
TAG_BYTES = 16

_PREFIX = "sealed:v1"
_CELL = re.compile(r"sealed:v1:([0-9a-f]{16}):([A-Za-z0-9_-]+)")
_KEY_ID_INFO = b"token-refresh key id v1"
_FINGERPRINT_INFO = b"token-refresh fingerprint v1"
_UTF8 = ("utf-8", "surrogatepass")  # a provider's JSON may carry a lone surrogate; sealing it must not lose the answer
_AS_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)
_FERNET = re.compile(r"gAAAA[A-Za-z0-9_-]+={0,2}")
_FERNET_START = "gAAAA"
_ENCODED_FERNET_START = "Z0FBQUFB"  # base64 of "gAAAAA": a Fernet token that was encoded once more


class KeyFormatError(ValueError):
    """The text is not a key: canonical base64 of exactly 32 bytes that are not all zero."""


class SealedCellError(Exception):
    """A cell does not open. No message or attribute of this class carries the cell's content."""


class UnknownKeyError(SealedCellError):
    """The cell names a key that is not in the keyring.

    Attributes:
        key_id: the 16 hex digits that the cell names; they reveal nothing of the key.
    """

    def __init__(self, key_id: str) -> None:
        super().__init__(f"is encrypted with key {key_id}, which is not among the configured keys")
        self.key_id = key_id


class TamperedError(SealedCellError):
    """The key is right, but the cell was changed, or belongs to another row, field or token host."""


class MalformedCellError(SealedCellError):
    """The text is no sealed cell of any known form."""


@dataclass(frozen=True)
class Context:
    """What a cell is bound to; it opens nowhere else.

    Args:
        field: the Airtable column's name, in every store; `answer` in the journal.
        location_id: the row's location id; white space around it does not count.
        origin: the token endpoint's `https://host`, lower case, with `:port` only where it is not the default.
    """

    field: str
    location_id: str
    origin: str

    def associated_data(self, key_id: str) -> bytes:
        """The AEAD's associated data (RFC 5116): a compact ASCII JSON array."""
        # Stripped here, once for all: two callers that trim differently would lock each other out of a cell.
        parts = [_PREFIX, key_id, self.field, self.location_id.strip(), self.origin]
        return _AS_JSON.encode(parts).encode("ascii")


def generate_key() -> str:
    """A new random key, as text for `ENCRYPTION_KEY`."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def parse_key(text: str) -> bytes:
    """The 32 bytes that `text` encodes, in either base64 alphabet.

    Raises:
        KeyFormatError: it is not the canonical, padded base64 of exactly 32 bytes, or they are all zero.
    """
    raw = _canonical_base64(text)
    if raw is None:
        raise KeyFormatError("is not a valid key: copy it whole, all 44 characters")
    if len(raw) != KEY_BYTES:
        raise KeyFormatError(f"encodes {len(raw)} bytes, not {KEY_BYTES}")
    if not any(raw):
        raise KeyFormatError("is all zeros")
    return raw


def is_sealed(cell: str) -> bool:
    """Whether the cell claims to be of our own format; an older form carries no binding."""
    return cell.startswith("sealed:")


def is_cell(text: str) -> bool:
    """Whether the text has the form of a cell, of v1 or older; anything else may be a secret in the clear."""
    if _CELL.fullmatch(text) or _FERNET.fullmatch(text):
        return True
    raw = _canonical_base64(text)
    return raw is not None and len(raw) >= NONCE_BYTES + TAG_BYTES


def key_id_of(cell: str) -> str:
    """The key that a cell of format v1 names.

    Raises:
        MalformedCellError: this is no cell of format v1.
    """
    return _split(cell)[0]


@dataclass(frozen=True)
class FingerprintKey:
    """What texts are hashed with, so that they can be recognised again without being stored.

    Attributes:
        key_id: 16 hex digits that each fingerprint of it begins with.
        raw: 32 bytes.
    """

    key_id: str
    raw: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> FingerprintKey:
        """A new random key."""
        return cls(os.urandom(8).hex(), os.urandom(KEY_BYTES))


@dataclass(frozen=True)
class _Key:
    """32 bytes that no traceback or debug line shows."""

    raw: bytes = field(repr=False)


class Keyring:
    """The keys in use: the primary seals and opens, the fallbacks only open.

    Args:
        primary: 32 bytes.
        fallbacks: older keys of 32 bytes each.
        fingerprint_keys: what fingerprints are made with, the one for new ones first; by default one that is derived
            from each of the keys, as version 0.1.0 did: whoever drops a key then forgets what was known by it.

    Attributes:
        key_id: the id of the key that seals.

    Raises:
        KeyFormatError: a key has another length.
    """

    def __init__(
        self, primary: bytes, fallbacks: Iterable[bytes] = (), fingerprint_keys: Sequence[FingerprintKey] = ()
    ) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        keys = [primary, *fallbacks]
        for raw in keys:
            if len(raw) != KEY_BYTES:
                raise KeyFormatError(f"is {len(raw)} bytes, not {KEY_BYTES}")
        self._keys = {_derive(raw, _KEY_ID_INFO, 8).hex(): _Key(raw) for raw in keys}
        self._ciphers = {key_id: AESGCM(key.raw) for key_id, key in self._keys.items()}
        self.key_id = next(iter(self._keys))
        derived = [
            FingerprintKey(key_id, _derive(one.raw, _FINGERPRINT_INFO, 32)) for key_id, one in self._keys.items()
        ]
        self.fingerprint_keys = tuple(fingerprint_keys or derived)

    def seal(self, plaintext: str, context: Context) -> str:
        """Seal `plaintext` for `context` under the primary key, with a fresh random nonce.

        Raises:
            ValueError: `plaintext` is empty; an empty secret is an empty cell.
        """
        if not plaintext:
            raise ValueError("an empty text is not encrypted: an empty secret is an empty cell")
        nonce = os.urandom(NONCE_BYTES)
        data = context.associated_data(self.key_id)
        sealed = nonce + self._ciphers[self.key_id].encrypt(nonce, plaintext.encode(*_UTF8), data)
        return f"{_PREFIX}:{self.key_id}:{base64.urlsafe_b64encode(sealed).decode('ascii').rstrip('=')}"

    def open(self, cell: str, context: Context) -> str:
        """The text that was sealed for exactly this context. Only the key that the cell names is tried.

        Raises:
            UnknownKeyError: the cell names a key that is not in the ring.
            TamperedError: the cell was changed, or sealed for another context.
            MalformedCellError: this is no cell of format v1.
        """
        key_id, sealed = _split(cell)
        if key_id not in self._keys:
            raise UnknownKeyError(key_id)
        text = self._decrypt(key_id, sealed, context.associated_data(key_id))
        if text is None:
            raise TamperedError("was changed, or belongs to another row, field or token host")
        return text

    def open_unbound(self, cell: str) -> str:
        """The text of a cell of an older form: base64 of AES-256-GCM, Fernet, or base64 of Fernet.

        These forms bind a cell to nothing, so the caller must know that the secret can only go where it belongs.
        They name no key either: each key of the ring is tried.

        Raises:
            TamperedError: no key of the ring opens it.
            MalformedCellError: this is none of the older forms.
        """
        is_fernet = cell.startswith((_FERNET_START, _ENCODED_FERNET_START))
        text = self._open_fernet(cell) if is_fernet else self._open_bare(cell)
        if text is None:
            raise TamperedError("opens with none of the configured keys: it was encrypted with another key, or changed")
        return text

    def needs_reseal(self, cell: str) -> bool:
        """Whether the cell is of an older form or under another key than the primary; an empty one is neither."""
        return bool(cell) and not cell.startswith(f"{_PREFIX}:{self.key_id}:")

    def fingerprint(self, text: str) -> str:
        """A keyed hash that recognises `text` again without storing it: `<key id>:<64 hex digits>`."""
        return self.fingerprints(text)[0]

    def fingerprints(self, text: str) -> tuple[str, ...]:
        """The fingerprint of `text` under each fingerprint key, the one for new ones first."""
        content = text.encode(*_UTF8)
        return tuple(
            f"{key.key_id}:{hmac.digest(key.raw, content, hashlib.sha256).hex()}" for key in self.fingerprint_keys
        )

    def _decrypt(self, key_id: str, sealed: bytes, data: bytes | None) -> str | None:
        """The text; None where this key does not open it. Raises `MalformedCellError` where it holds no text."""
        from cryptography.exceptions import InvalidTag

        try:
            plaintext = self._ciphers[key_id].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], data)
        except InvalidTag:
            return None
        with suppress(UnicodeDecodeError):
            return plaintext.decode(*_UTF8)
        raise _no_text()

    def _open_bare(self, cell: str) -> str | None:
        sealed = _canonical_base64(cell)
        # Unlike v1, older programs also sealed empty texts.
        if sealed is None or len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise MalformedCellError("is not an encrypted value of this program")
        opened = (self._decrypt(key_id, sealed, None) for key_id in self._keys)
        return next((text for text in opened if text is not None), None)

    def _open_fernet(self, cell: str) -> str | None:
        from cryptography.fernet import Fernet, InvalidToken  # only older cells need it

        token = _fernet_token(cell)
        for key in self._keys.values():
            with suppress(InvalidToken):
                plaintext = Fernet(base64.urlsafe_b64encode(key.raw)).decrypt(token)
                with suppress(UnicodeDecodeError):
                    return plaintext.decode(*_UTF8)
                raise _no_text()
        return None


def _split(cell: str) -> tuple[str, bytes]:
    match = _CELL.fullmatch(cell)
    sealed = _canonical_base64(match[2] + "=" * (-len(match[2]) % 4)) if match is not None else None
    if match is None or sealed is None or len(sealed) <= NONCE_BYTES + TAG_BYTES:
        raise MalformedCellError("is not an encrypted value of this program")
    return match[1], sealed


def _fernet_token(cell: str) -> bytes:
    # Fernet's own decoder skips characters that are not base64: the text is checked before it sees it.
    if cell.startswith(_ENCODED_FERNET_START):
        decoded = _canonical_base64(cell)
        cell = decoded.decode("latin-1") if decoded is not None else ""
    if _FERNET.fullmatch(cell) is None or _canonical_base64(cell) is None:
        raise MalformedCellError("is not an encrypted value of this program")
    return cell.encode("ascii")


def _canonical_base64(text: str) -> bytes | None:
    """The bytes of `text`, where it is exactly what an encoder writes for them, in either alphabet; else None."""
    alphabet = b"-_" if "-" in text or "_" in text else b"+/"
    try:
        raw = base64.b64decode(text, altchars=alphabet, validate=True)
    except ValueError:
        return None
    # Several texts decode to the same bytes (unused bits, the other alphabet); only one of them is canonical.
    return raw if base64.b64encode(raw, alphabet) == text.encode("ascii") else None


def _derive(key: bytes, info: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


def _no_text() -> MalformedCellError:
    # Never raised inside an `except`: `__context__` would be the decoder's error, which carries the plaintext.
    return MalformedCellError("holds something that is not text")
