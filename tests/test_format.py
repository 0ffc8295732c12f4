"""docs/format.md is enough for a third party: a reader in another language opens our cells and makes cells for us."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import Context, KeyFormatError, Keyring, SealedCellError, parse_key
from providers.addresses import origin_of
from tests.world.oidc_provider import find_node

VECTORS = Path(__file__).resolve().parent / "vectors"
ERRORS = {"unknown key": "UnknownKeyError", "tampered": "TamperedError", "malformed": "MalformedCellError"}
PROPERTY = settings(max_examples=3 * settings().max_examples)


def paired(text: str) -> str:
    """Two surrogates that make a pair are the one character: no JSON tells them apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


# Whatever a table or a provider may hold.
ANY_TEXT = st.text(st.characters(codec=None))
ODD_TEXT = st.text(st.sampled_from("aß\\\"'/\b\t\n\f\r\0\x1f\x7f\x85\xa0\u200b\u2028\ufeff\ud800\udfffé\u0301😀 "))
TEXTS = (ANY_TEXT | ODD_TEXT).map(paired)
KEYS = st.binary(min_size=32, max_size=32).filter(any)
PORTS = st.sampled_from(["", ":443", ":8443", ":1", ":65535", ":0443"])
LABELS = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9_])?", fullmatch=True)
HOSTS = (
    st.lists(LABELS, min_size=1, max_size=4).map(".".join)
    | st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: ".".join(labels) + ".")
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda address: f"[{address.exploded.upper()}]")
)
TOKEN_URLS = st.builds(lambda host, port: f"https://{host}{port}/oauth/token", HOSTS, PORTS)

Ask = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """The reader: Node, its own cryptography, and nothing of ours."""
    with subprocess.Popen(
        [find_node(), str(VECTORS / "cells.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def answer(**request: str) -> dict[str, str]:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            answered: dict[str, str] = json.loads(stdout.readline())
            return answered

        yield answer
        stdin.close()


def written(key: bytes, *, url_safe: bool = False) -> str:
    return (base64.urlsafe_b64encode if url_safe else base64.b64encode)(key).decode()


@PROPERTY
@given(KEYS, st.booleans(), TEXTS.filter(bool), TEXTS, TEXTS, TOKEN_URLS)
def test_the_reader_opens_what_we_seal(
    ask: Ask, key: bytes, url_safe: bool, plaintext: str, field: str, location_id: str, token_url: str
) -> None:
    cell = Keyring(key).seal(plaintext, Context(field, location_id, origin_of(token_url)))
    text = written(key, url_safe=url_safe)
    place = {"field": field, "location_id": location_id, "token_url": token_url}
    assert ask(key=text, cell=cell, **place) == {"plaintext": plaintext}
    assert ask(key=text, cell=cell, **{**place, "field": f"{field}x"}) == {"error": "tampered"}


@PROPERTY
@given(KEYS, st.booleans(), TEXTS.filter(bool), TEXTS, TEXTS, TOKEN_URLS)
def test_we_open_what_the_reader_seals(
    ask: Ask, key: bytes, url_safe: bool, plaintext: str, field: str, location_id: str, token_url: str
) -> None:
    text = written(key, url_safe=url_safe)
    made = ask(key=text, plaintext=plaintext, field=field, location_id=location_id, token_url=token_url)
    opened = Keyring(parse_key(text)).open(made["cell"], Context(field, location_id, origin_of(token_url)))
    assert opened == plaintext


@PROPERTY
@given(KEYS, st.text(st.sampled_from("sealed:v1:0123456789abcdefABCDEF_-=+/ \n"), max_size=120) | st.text(max_size=50))
def test_both_refuse_the_same_text_for_the_same_reason(ask: Ask, key: bytes, text: str) -> None:
    ring = Keyring(key)
    sealed = ring.seal("secret", Context("f", "l", "https://token.example"))
    for cell in (
        text,
        f"sealed:v1:{ring.key_id}:{text}",
        sealed[: len(text)],
        f"{sealed}{text[:1]}",
        f"{text[:1]}{sealed}",
    ):
        theirs = ask(key=written(key), cell=cell, field="f", location_id="l", token_url="https://token.example/")
        try:
            ours = {"plaintext": ring.open(cell, Context("f", "l", "https://token.example"))}
        except SealedCellError as error:
            ours = {"error": next(word for word, name in ERRORS.items() if name == type(error).__name__)}
        assert theirs == ours


def vectors() -> list[dict[str, Any]]:
    """Those of the current format that are read with one key."""
    every = json.loads((VECTORS / "sealed_cells.json").read_text())["vectors"]
    return [vector for vector in every if vector["reader"] == "open" and len(vector["keys"]) == 1]


def test_the_reader_ends_as_every_vector_says(ask: Ask) -> None:
    assert len(vectors()) > 60
    for vector in vectors():
        key = hashlib.sha256(f"token-refresh vectors: key {vector['keys'][0]}".encode()).digest()
        place = {name: vector[name] for name in ("field", "location_id")}
        answer = ask(key=written(key), cell=vector["cell"], origin=vector["origin"], **place)
        ending = ERRORS[answer["error"]] if "error" in answer else "ok"
        assert (vector["name"], ending) == (vector["name"], vector["expect"])
        assert answer.get("plaintext") == vector.get("plaintext")


@pytest.mark.parametrize(
    "key",
    ["", "A" * 44, written(b"k" * 31), written(b"k" * 33), written(b"\xff" * 32)[:-1], "+-" + written(b"k" * 32)[2:]],
)
def test_the_reader_refuses_what_is_no_key(ask: Ask, key: str) -> None:
    with pytest.raises(KeyFormatError):
        parse_key(key)
    place = {"field": "f", "location_id": "l", "token_url": "https://token.example/"}
    assert ask(key=key, plaintext="x", **place) == {"error": "no key"}


def test_the_reader_has_nothing_of_ours_and_nothing_installed() -> None:
    script = (VECTORS / "cells.mjs").read_text()
    imported = [line.rpartition("from ")[2] for line in script.splitlines() if line.startswith("import ")]
    assert imported == ['"node:crypto";', '"node:readline";']
