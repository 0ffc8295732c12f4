"""Makes `sealed_cells.json`, without any of the program's own code: a second reading of docs/format.md.

Run from the project's folder; the output is the same every time:

    python tests/vectors/make_sealed_cells.py > tests/vectors/sealed_cells.json

Keys, nonces and initialisation vectors are SHA-256 of labels, so that nothing in the file is a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import sys
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FIELD = "encrypted_refresh"
LOCATION = "ve9EPM428h8vShlRW1KT"
ORIGIN = "https://services.leadconnectorhq.com"
PLAINTEXT = "a refresh token"
FERNET_TIME = 1_700_000_000

OK = "ok"
UNKNOWN_KEY = "UnknownKeyError"
TAMPERED = "TamperedError"
MALFORMED = "MalformedCellError"

SHORT_ESCAPES = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}


def derive(label: str, length: int) -> bytes:
    return hashlib.sha256(f"token-refresh vectors: {label}".encode()).digest()[:length]


def key_of(label: str) -> bytes:
    return derive(f"key {label}", 32)


def hkdf_sha256(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with no salt; one block is enough for up to 32 bytes."""
    pseudo_random_key = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(pseudo_random_key, info + b"\x01", hashlib.sha256).digest()[:length]


def key_id_of(key: bytes) -> str:
    return hkdf_sha256(key, b"token-refresh key id v1", 8).hex()


def json_string(text: str) -> str:
    raw = text.encode("utf-16-be", "surrogatepass")
    units = [unit for (unit,) in struct.iter_unpack(">H", raw)]
    return '"' + "".join(escaped(unit) for unit in units) + '"'


def escaped(unit: int) -> str:
    if unit in SHORT_ESCAPES:
        return SHORT_ESCAPES[unit]
    return chr(unit) if 0x20 <= unit <= 0x7E else f"\\u{unit:04x}"


def associated_data(key_id: str, field: str, location_id: str, origin: str) -> str:
    return "[" + ",".join(json_string(part) for part in ("sealed:v1", key_id, field, location_id.strip(), origin)) + "]"


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def sealed_bytes(nonce: bytes, plaintext: bytes, data: bytes | None, key: bytes) -> bytes:
    return nonce + AESGCM(key).encrypt(nonce, plaintext, data)


@dataclass(frozen=True)
class Made:
    """A cell that opens, and what it was made of."""

    cell: str
    raw: bytes
    nonce: bytes
    data: str


def make(
    label: str,
    *,
    plaintext: str = PLAINTEXT,
    field: str = FIELD,
    location_id: str = LOCATION,
    origin: str = ORIGIN,
    key: str = "first",
) -> Made:
    raw_key = key_of(key)
    key_id = key_id_of(raw_key)
    nonce = derive(f"nonce {label}", 12)
    data = associated_data(key_id, field, location_id, origin)
    raw = sealed_bytes(nonce, plaintext.encode("utf-8", "surrogatepass"), data.encode("ascii"), raw_key)
    return Made(f"sealed:v1:{key_id}:{unpadded(raw)}", raw, nonce, data)


def vector(
    name: str,
    expect: str,
    cell: str,
    *,
    plaintext: str | None = None,
    reader: str = "open",
    keys: tuple[str, ...] = ("first",),
    field: str = FIELD,
    location_id: str = LOCATION,
    origin: str = ORIGIN,
    **more: str,
) -> dict[str, object]:
    found: dict[str, object] = {"name": name, "expect": expect, "reader": reader, "keys": list(keys), "cell": cell}
    if reader == "open":
        found |= {"field": field, "location_id": location_id, "origin": origin}
    if plaintext is not None:
        found["plaintext"] = plaintext
    return found | more


def opening(
    name: str,
    *,
    plaintext: str = PLAINTEXT,
    field: str = FIELD,
    location_id: str = LOCATION,
    origin: str = ORIGIN,
) -> dict[str, object]:
    made = make(name, plaintext=plaintext, field=field, location_id=location_id, origin=origin)
    return vector(
        name,
        OK,
        made.cell,
        plaintext=plaintext,
        field=field,
        location_id=location_id,
        origin=origin,
        associated_data=made.data,
        nonce_hex=made.nonce.hex(),
    )


def cells_that_open() -> list[dict[str, object]]:
    locations = {
        "quotes": "Joe's \"Grill\" & 'Bar'",
        "backslash": "C:\\locations\\n",
        "slash": "a/b/c",
        "right_to_left": "\u05de\u05e1\u05e2\u05d3\u05d4 \u202eabc",
        "accents": "Caf\u00e9 Z\u00fcrich",
        "astral": "\U0001f355 pizza \U00020bb7",
        "lone_surrogate": "half \ud83c pizza",
        "newline": "line one\nline two\r\nline three",
        "control_characters": "a\x00b\x01c\x08d\te\x0cf\x1fg\x7fh\x80i",
        "line_separators": "a\u2028b\u2029c",
        "json_inside": '","encrypted_secret","x","https://evil.example"]',
        "byte_order_mark": "\ufeffabc",
        "long": "x" * 1000,
    }
    origins = {
        "port": "https://login.example.com:8443",
        "loopback": "http://127.0.0.1:9000",
        "ipv6": "https://[2001:db8::1]:8443",
    }
    plaintexts = {
        "one_letter": "x",
        "two_letters": "xy",
        "three_letters": "xyz",
        "unicode_token": "\u00fcn\u00efcode \U0001f511 \u0000 end",
        "surrogate_token": "broken \udc00 answer",
        "json_answer": '{"access_token":"a","refresh_token":"b","expires_in":86399}',
        "looks_like_a_cell": "sealed:v1:0000000000000000:AAAA",
    }
    outer = {"space": f"  {LOCATION} ", "newline": f"{LOCATION}\r\n", "no_break_space": f"\u00a0{LOCATION}\u3000"}
    fields = ("encrypted_secret", "last_access_token", "id_token", "answer")
    return [
        opening("plain"),
        *(opening(f"location_{name}", location_id=text) for name, text in locations.items()),
        *(opening(f"location_with_outer_{name}", location_id=text) for name, text in outer.items()),
        *(opening(f"origin_{name}", origin=text) for name, text in origins.items()),
        *(opening(f"field_{name}", field=name) for name in fields),
        *(opening(f"plaintext_{name}", plaintext=text) for name, text in plaintexts.items()),
        vector(
            "under_a_fallback_key",
            OK,
            make("fallback", key="second").cell,
            plaintext=PLAINTEXT,
            keys=("first", "second"),
        ),
    ]


def cells_of_another_context() -> list[dict[str, object]]:
    cell = make("plain").cell
    accented = make("accented", location_id="Caf\u00e9").cell
    ported = make("ported", origin=f"{ORIGIN}:8443").cell
    first, second = key_id_of(key_of("first")), key_id_of(key_of("second"))
    return [
        vector("another_field", TAMPERED, cell, field="encrypted_secret"),
        vector("another_field_case", TAMPERED, cell, field="Encrypted_refresh"),
        vector("another_location", TAMPERED, cell, location_id="ve9EPM428h8vShlRW1KU"),
        vector("another_location_case", TAMPERED, cell, location_id=LOCATION.lower()),
        vector("empty_location", TAMPERED, cell, location_id=""),
        vector("location_with_inner_space", TAMPERED, cell, location_id="ve9EPM428h 8vShlRW1KT"),
        vector("location_with_byte_order_mark", TAMPERED, cell, location_id=f"\ufeff{LOCATION}"),
        vector("location_with_zero_width_space", TAMPERED, cell, location_id=f"{LOCATION}\u200b"),
        vector("location_decomposed", TAMPERED, accented, location_id="Cafe\u0301"),
        vector("another_host", TAMPERED, cell, origin="https://services.leadconnectorhq.com.evil.example"),
        vector("another_scheme", TAMPERED, cell, origin=ORIGIN.replace("https", "http")),
        vector("another_port", TAMPERED, cell, origin=f"{ORIGIN}:8443"),
        vector("default_port_written", TAMPERED, cell, origin=f"{ORIGIN}:443"),
        vector("port_left_out", TAMPERED, ported),
        vector("origin_with_slash", TAMPERED, cell, origin=f"{ORIGIN}/"),
        vector("location_and_origin_shifted", TAMPERED, cell, location_id=f'{LOCATION}","{ORIGIN}', origin=""),
        vector("key_not_in_the_ring", UNKNOWN_KEY, cell, keys=("second",), key_id=first),
        vector("key_id_of_another_key_in_the_ring", TAMPERED, cell.replace(first, second), keys=("first", "second")),
        vector("key_id_of_no_key", UNKNOWN_KEY, cell.replace(first, "0123456789abcdef"), key_id="0123456789abcdef"),
    ]


def cells_sealed_otherwise() -> list[dict[str, object]]:
    """Made by a program that understood docs/format.md almost."""
    key = key_of("first")
    key_id = key_id_of(key)
    nonce = derive("nonce otherwise", 12)
    good = associated_data(key_id, FIELD, "Caf\u00e9", ORIGIN)
    parts = ["sealed:v1", key_id, FIELD, "Caf\u00e9", ORIGIN]
    wrong = {
        "data_with_spaces": json.dumps(parts).encode(),
        "data_not_escaped": json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode(),
        "data_with_upper_case_escapes": good.replace("\\u00e9", "\\u00E9").encode(),
        "data_without_key_id": good.replace(f'"{key_id}",', "").encode(),
        "data_without_version": good.replace('"sealed:v1",', "").encode(),
        "data_empty": b"",
    }
    cells = {name: sealed_bytes(nonce, PLAINTEXT.encode(), data, key) for name, data in wrong.items()}
    plain = associated_data(key_id, FIELD, LOCATION, ORIGIN).encode()
    head = f"sealed:v1:{key_id}:"
    return [
        *(vector(name, TAMPERED, head + unpadded(raw), location_id="Caf\u00e9") for name, raw in cells.items()),
        vector(
            "sealed_by_aes_128", TAMPERED, head + unpadded(sealed_bytes(nonce, PLAINTEXT.encode(), plain, key[:16]))
        ),
        vector("empty_text_sealed", MALFORMED, head + unpadded(sealed_bytes(nonce, b"", plain, key))),
        vector("not_text_sealed", MALFORMED, head + unpadded(sealed_bytes(nonce, b"\xff\xfe token", plain, key))),
    ]


def cells_that_were_damaged() -> list[dict[str, object]]:
    # 46 bytes: a standard encoder pads the body, and its last letter has unused bits. Both `-` and `_` are in it.
    tries = (make(f"damaged {number}", plaintext="a refresh token!!!") for number in range(1000))
    made = next(made for made in tries if {"-", "_"} <= set(made.cell.rpartition(":")[2]))
    head, _, body = made.cell.rpartition(":")
    key_id = head.rpartition(":")[2]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sloppy = letters[letters.index(body[-1]) + 1]
    flipped = bytearray(made.raw)
    flipped[20] ^= 1
    bodies = {
        "standard_alphabet": base64.b64encode(made.raw).decode().rstrip("="),
        "padded": base64.urlsafe_b64encode(made.raw).decode(),
        "over_padded": body + "====",
        "unused_bits_set": body[:-1] + sloppy,
        "body_empty": "",
        "body_of_nonce_only": unpadded(made.raw[:12]),
        "body_of_nonce_and_tag_only": unpadded(made.raw[:28]),
        "body_in_hex_with_colon": ":" + made.raw.hex(),
        "body_with_newline": body[:20] + "\n" + body[20:],
        "body_with_space": body[:20] + " " + body[20:],
    }
    cells = {name: f"{head}:{text}" for name, text in bodies.items()} | {
        "upper_case_key_id": made.cell.replace(key_id, key_id.upper()),
        "short_key_id": made.cell.replace(key_id, key_id[:-1]),
        "long_key_id": made.cell.replace(key_id, key_id + "0"),
        "no_key_id": made.cell.replace(key_id + ":", ""),
        "next_version": made.cell.replace("sealed:v1:", "sealed:v2:"),
        "upper_case_prefix": made.cell.replace("sealed:v1:", "SEALED:V1:"),
        "capital_prefix": made.cell.replace("sealed:v1:", "Sealed:v1:"),
        "no_version": made.cell.replace("sealed:v1:", "sealed:"),
        "prefix_only": "sealed:v1:",
        "leading_space": f" {made.cell}",
        "trailing_space": f"{made.cell} ",
        "trailing_newline": f"{made.cell}\n",
        "byte_order_mark_in_front": f"\ufeff{made.cell}",
        "in_quotes": f'"{made.cell}"',
        "twice": made.cell + made.cell,
        "rich_text_escapes": made.cell.replace("_", "\\_").replace(":", "\\:"),
        "full_width_digits": made.cell.replace("v1", "v\uff11"),
        "truncated_by_a_letter": made.cell[:-1],
        "truncated_in_the_key_id": made.cell[:20],
        "empty_cell": "",
        "plain_text": PLAINTEXT,
    }
    return [
        *(vector(name, MALFORMED, cell) for name, cell in cells.items()),
        vector("one_bit_flipped", TAMPERED, f"{head}:{unpadded(bytes(flipped))}"),
        vector("truncated_by_a_byte", TAMPERED, f"{head}:{unpadded(made.raw[:-1])}"),
        vector("truncated_to_forty_letters", TAMPERED, f"{head}:{body[:40]}"),
        vector("one_byte_more", TAMPERED, f"{head}:{unpadded(made.raw + bytes(1))}"),
    ]


def fernet(label: str, plaintext: str, key: bytes) -> str:
    """A token of github.com/fernet/spec, by hand: signing key, then encryption key; AES-128-CBC, PKCS 7."""
    vector_bytes = derive(f"iv {label}", 16)
    raw = plaintext.encode()
    padding = 16 - len(raw) % 16
    encryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(vector_bytes)).encryptor()
    signed = b"\x80" + struct.pack(">Q", FERNET_TIME) + vector_bytes
    signed += encryptor.update(raw + bytes([padding]) * padding) + encryptor.finalize()
    return base64.urlsafe_b64encode(signed + hmac.new(key[:16], signed, hashlib.sha256).digest()).decode()


def cells_of_older_forms() -> list[dict[str, object]]:
    key = key_of("first")
    nonce = derive("nonce older", 12)
    raw = sealed_bytes(nonce, PLAINTEXT.encode(), None, key)
    token = fernet("older", PLAINTEXT, key)
    forms = {
        "bare": base64.b64encode(raw).decode(),
        "bare_url_safe": base64.urlsafe_b64encode(raw).decode(),
        "fernet": token,
        "encoded_fernet": base64.b64encode(token.encode()).decode(),
    }
    empty = {
        "bare_empty": base64.b64encode(sealed_bytes(nonce, b"", None, key)).decode(),
        "fernet_empty": fernet("empty", "", key),
    }
    v1 = make("plain")
    damaged = {
        "bare_unpadded": base64.b64encode(raw + b"x").decode().rstrip("="),
        "bare_too_short": base64.b64encode(raw[:27]).decode(),
        "bare_with_newline": forms["bare"] + "\n",
        "fernet_with_space_inside": token[:30] + " " + token[30:],
        "fernet_unpadded": token.rstrip("=") if token.endswith("=") else token[:-1],
        "encoded_fernet_of_junk": base64.b64encode(token[:30].encode() + b"\xff!" + token[30:].encode()).decode(),
        "sealed_v1": v1.cell,
    }
    bare_v1 = base64.urlsafe_b64encode(v1.raw).decode()
    return [
        *(
            vector(f"older_{name}", OK, cell, plaintext=PLAINTEXT, reader="open_unbound")
            for name, cell in forms.items()
        ),
        *(
            vector(
                f"older_{name}_under_a_fallback_key",
                OK,
                cell,
                plaintext=PLAINTEXT,
                reader="open_unbound",
                keys=("second", "first"),
            )
            for name, cell in forms.items()
        ),
        *(vector(f"older_{name}", OK, cell, plaintext="", reader="open_unbound") for name, cell in empty.items()),
        *(vector(f"older_{name}_is_not_bound", MALFORMED, cell) for name, cell in forms.items()),
        *(
            vector(f"older_{name}_under_another_key", TAMPERED, cell, reader="open_unbound", keys=("second",))
            for name, cell in forms.items()
        ),
        *(vector(f"older_{name}", MALFORMED, cell, reader="open_unbound") for name, cell in damaged.items()),
        vector("sealed_v1_stripped_to_base64", TAMPERED, bare_v1, reader="open_unbound"),
    ]


def document() -> dict[str, object]:
    labels = ("first", "second")
    return {
        "about": "Sealed cells and what must come of opening them. Made by make_sealed_cells.py; see docs/format.md.",
        "expect": "ok, or the error class; `reader` is open (needs field, location_id, origin) or open_unbound",
        "keys": {
            "derivation": "SHA-256 of `token-refresh vectors: key LABEL`",
            "key_ids": {label: key_id_of(key_of(label)) for label in labels},
        },
        "vectors": [
            *cells_that_open(),
            *cells_of_another_context(),
            *cells_sealed_otherwise(),
            *cells_that_were_damaged(),
            *cells_of_older_forms(),
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=1) + "\n")
