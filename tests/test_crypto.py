"""Sealed cells: what opens, what does not, and that no error gives anything away."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

import crypto
from crypto import (
    Context,
    KeyFormatError,
    Keyring,
    MalformedCellError,
    SealedCellError,
    TamperedError,
    UnknownKeyError,
)

PROJECT = Path(__file__).resolve().parent.parent
VECTORS = Path(__file__).resolve().parent / "vectors"
PLAINTEXT = "canary-9f2c-plaintext"

KEY = bytes(range(32))
OLD_KEY = bytes(range(100, 132))
FOREIGN_KEY = bytes(range(200, 232))
CONTEXT = Context("encrypted_refresh", "loc-1", "https://token.example")
RING = Keyring(KEY, [OLD_KEY])
PROPERTY = settings(max_examples=3 * settings().max_examples)
ANY_TEXT = st.text(st.characters(codec=None), max_size=200)  # every code point, lone surrogates too
# Few distinct letters, so that parts often agree, and those that JSON must escape.
CONTEXTS = st.builds(Context, *[ANY_TEXT | st.text('ab",\\ \n', max_size=3)] * 3)


def trimmed(context: Context) -> Context:
    return replace(context, location_id=context.location_id.strip())


def code_units(context: Context) -> list[bytes]:
    return [part.encode("utf-16", "surrogatepass") for part in vars(trimmed(context)).values()]


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def bare(key: bytes, text: bytes = PLAINTEXT.encode()) -> str:
    nonce = hashlib.sha256(key + text).digest()[:12]
    return encoded(nonce + AESGCM(key).encrypt(nonce, text, None))


def fernet(key: bytes, text: bytes = PLAINTEXT.encode()) -> str:
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(text).decode()


def encoded_fernet(key: bytes, text: bytes = PLAINTEXT.encode()) -> str:
    return encoded(fernet(key, text).encode())


def bare_url_safe(key: bytes, text: bytes = PLAINTEXT.encode()) -> str:
    return bare(key, text).replace("+", "-").replace("/", "_")


OLDER_FORMS = pytest.mark.parametrize("older", [bare, bare_url_safe, fernet, encoded_fernet])


def error_of(read: Callable[[str], object], cell: str) -> type[SealedCellError] | None:
    """The class of the refusal; None where the cell opens. Anything else than a refusal is a failed test."""
    try:
        read(cell)
    except SealedCellError as error:
        return type(error)
    return None


def opened_in(context: Context = CONTEXT, ring: Keyring = RING) -> Callable[[str], str]:
    return lambda cell: ring.open(cell, context)


def everything_said_by(error: BaseException) -> str:
    """Text, arguments, attributes and notes of an error and of all that it is chained to."""
    said = []
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None:
            said += [str(link), repr(link), repr(link.args), repr(vars(link)), repr(getattr(link, "__notes__", ""))]
            said += [repr(getattr(link, name, None)) for name in ("object", "doc", "string")]
            chain += [link.__cause__, link.__context__]
    return "\n".join(said)


# Keys


class TestParseKey:
    @PROPERTY
    @given(st.binary(min_size=32, max_size=32).filter(any))
    def test_either_alphabet_is_read(self, raw):
        """A key written by any base64 encoder works."""
        assert crypto.parse_key(base64.b64encode(raw).decode()) == raw
        assert crypto.parse_key(base64.urlsafe_b64encode(raw).decode()) == raw

    def test_generated_key_is_a_key(self):
        """What generate_key prints can be used as it is, is never the same, and is as long as promised."""
        keys = {crypto.generate_key() for _ in range(200)}
        assert len(keys) == 200
        assert {len(crypto.parse_key(key)) for key in keys} == {32}
        assert {len(key) for key in keys} == {44}

    @pytest.mark.parametrize("length", [0, 1, 16, 24, 31, 33, 48, 64])
    def test_key_of_another_length_is_refused(self, length):
        """AES-128 and AES-192 keys are not taken for AES-256 ones."""
        with pytest.raises(KeyFormatError, match=f"encodes {length} bytes, not 32"):
            crypto.parse_key(encoded(bytes(range(1, length + 1))))

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("correcthorsebatterystaplecorrect", id="passphrase of 32 letters"),
            pytest.param("correct horse battery staple", id="passphrase with spaces"),
            pytest.param(KEY.hex(), id="hex"),
            pytest.param("0x" + KEY.hex(), id="hex with prefix"),
            pytest.param(encoded(bytes(32)), id="all zeros"),
            pytest.param("A" * 44, id="44 letters without padding"),
            pytest.param("", id="nothing"),
            pytest.param("=", id="padding alone"),
            pytest.param(encoded(KEY).rstrip("="), id="unpadded"),
            pytest.param(encoded(KEY) + "=", id="over-padded"),
            pytest.param(encoded(KEY) + "====", id="padding twice"),
            pytest.param(encoded(KEY) * 2, id="two keys"),
            pytest.param(encoded(KEY)[:-2] + "9=", id="unused bits set"),
            pytest.param("+" + "-" + encoded(KEY)[2:], id="mixed alphabets, plus and minus"),
            pytest.param("/" + "_" + encoded(KEY)[2:], id="mixed alphabets, slash and underscore"),
            pytest.param("+" + "_" + encoded(KEY)[2:], id="mixed alphabets, plus and underscore"),
            pytest.param("b'" + encoded(KEY) + "'", id="as Python shows bytes"),
            pytest.param('"' + encoded(KEY) + '"', id="in quotes"),
            pytest.param("\ufeff" + encoded(KEY), id="byte order mark"),
            pytest.param(encoded(KEY).replace("A", "\uff21"), id="full-width letters"),
            pytest.param("\udc80" + encoded(KEY), id="lone surrogate"),
            pytest.param("é" * 44, id="not ASCII"),
        ],
    )
    def test_what_is_no_canonical_key_is_refused(self, text):
        """Nothing that merely resembles a key is bent into one."""
        with pytest.raises(KeyFormatError):
            crypto.parse_key(text)

    @pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n", "\u00a0"])
    @pytest.mark.parametrize("position", [0, 10, 44])
    def test_white_space_is_refused(self, space, position):
        """Outer white space is cut off where keys are read, not here; inner never."""
        key = encoded(KEY)
        with pytest.raises(KeyFormatError):
            crypto.parse_key(key[:position] + space + key[position:])

    @pytest.mark.parametrize("text", [PLAINTEXT, encoded(PLAINTEXT.encode()), PLAINTEXT + "\udc80"])
    def test_refusal_does_not_quote_the_text(self, text):
        """A key with a typing mistake is still nearly the key."""
        with pytest.raises(KeyFormatError) as caught:
            crypto.parse_key(text)
        assert text[:12] not in everything_said_by(caught.value)

    @pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
    @pytest.mark.parametrize("place", ["primary", "fallback"])
    def test_keyring_refuses_key_of_another_length(self, place, length):
        """A keyring that is handed raw bytes checks them as well."""
        with pytest.raises(KeyFormatError, match=f"is {length} bytes, not 32"):
            Keyring(bytes(length)) if place == "primary" else Keyring(KEY, [bytes(length)])

    def test_keyring_does_not_show_its_keys(self):
        """Neither a traceback with locals nor a debug line prints a key."""
        shown = repr(RING) + str(RING) + repr(vars(RING))
        assert repr(KEY)[2:-1] not in shown
        assert KEY.hex() not in shown
        assert encoded(KEY) not in shown


# What opens


class TestRoundTrip:
    @PROPERTY
    @given(ANY_TEXT.filter(bool), ANY_TEXT, ANY_TEXT, ANY_TEXT)
    def test_what_was_sealed_opens(self, plaintext, field, location_id, origin):
        """Whatever a provider or a table holds: any code point, in the secret and in what it is bound to."""
        context = Context(field, location_id, origin)
        cell = RING.seal(plaintext, context)
        assert RING.open(cell, context) == plaintext

    @pytest.mark.parametrize(
        "plaintext",
        [
            pytest.param("x", id="letter"),
            pytest.param("\0", id="nul"),
            pytest.param(" \n", id="space"),
            pytest.param("\U0001f511" * 3, id="astral"),
            pytest.param("\ud800", id="lone surrogate"),
            pytest.param("\ud83d" + "\udd11", id="pair of lone surrogates"),
            pytest.param("x" * 65_536, id="64 KiB"),
            pytest.param("\U0001f511" * 65_536, id="64 Ki astral"),
        ],
    )
    def test_odd_texts_come_back_exactly(self, plaintext):
        """Length, white space and broken Unicode change nothing."""
        assert RING.open(RING.seal(plaintext, CONTEXT), CONTEXT) == plaintext

    def test_cell_has_the_documented_shape(self):
        """One line of plain letters that starts with a letter: no spreadsheet takes it for a formula."""
        cell = RING.seal(PLAINTEXT, CONTEXT)
        assert re.fullmatch(r"sealed:v1:[0-9a-f]{16}:[A-Za-z0-9_-]+", cell)
        assert cell.startswith(f"sealed:v1:{RING.key_id}:")
        assert crypto.is_sealed(cell)

    def test_nonces_are_fresh(self):
        """The same text seals to something else each time, in each of 20,000 cells."""
        nonces = {RING.seal("x", CONTEXT).rpartition(":")[2][:16] for _ in range(20_000)}
        assert len(nonces) == 20_000

    def test_empty_text_is_not_sealed(self):
        """An empty secret is an empty cell."""
        with pytest.raises(ValueError, match="empty"):
            RING.seal("", CONTEXT)

    def test_fallback_key_opens_but_does_not_seal(self):
        """After a change of keys old cells open and new ones are under the new key."""
        old_cell = Keyring(OLD_KEY).seal(PLAINTEXT, CONTEXT)
        assert RING.open(old_cell, CONTEXT) == PLAINTEXT
        assert error_of(opened_in(ring=Keyring(OLD_KEY)), RING.seal(PLAINTEXT, CONTEXT)) is UnknownKeyError

    def test_key_listed_twice_does_no_harm(self):
        """The primary may also stand among the fallbacks, as in the middle of a rotation."""
        ring = Keyring(KEY, [OLD_KEY, KEY, OLD_KEY])
        assert ring.key_id == RING.key_id
        assert ring.fingerprints("x") == RING.fingerprints("x")
        assert ring.open(RING.seal(PLAINTEXT, CONTEXT), CONTEXT) == PLAINTEXT

    @pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "\u3000", "\x1f", "\x85"])
    def test_white_space_around_the_location_id_does_not_count(self, space):
        """Whoever seals and whoever opens may or may not have trimmed the table's text."""
        padded = replace(CONTEXT, location_id=f"{space}{CONTEXT.location_id}{space}")
        assert RING.open(RING.seal(PLAINTEXT, padded), CONTEXT) == PLAINTEXT
        assert RING.open(RING.seal(PLAINTEXT, CONTEXT), padded) == PLAINTEXT


# What does not


class TestContext:
    @PROPERTY
    @given(CONTEXTS, CONTEXTS)
    def test_cell_opens_in_no_other_context(self, sealed_for, asked_for):
        """Field, location and origin each count, and none can be shifted into another."""
        cell = RING.seal(PLAINTEXT, sealed_for)
        if trimmed(sealed_for) != trimmed(asked_for):
            assert error_of(opened_in(asked_for), cell) is TamperedError

    @pytest.mark.parametrize("part", ["field", "location_id", "origin"])
    @PROPERTY
    @given(st.data())
    def test_one_changed_part_is_enough(self, part, data):
        """One character more, fewer or other in one part: nothing opens."""
        cell = RING.seal(PLAINTEXT, CONTEXT)
        value = getattr(CONTEXT, part)
        position = data.draw(st.integers(0, len(value) - 1))
        letter = data.draw(
            st.characters(exclude_categories=["Zs", "Cc", "Zl", "Zp"], exclude_characters=value[position])
        )
        changed = value[:position] + data.draw(st.sampled_from(["", letter])) + value[position + 1 :]
        assert error_of(opened_in(replace(CONTEXT, **{part: changed})), cell) is TamperedError

    @PROPERTY
    @given(CONTEXTS, CONTEXTS)
    def test_associated_data_is_unambiguous_ascii(self, one, other):
        """Two contexts give the same bytes only where they are the same to the last code unit."""
        first, second = (context.associated_data("0" * 16) for context in (one, other))
        assert first.isascii()
        assert (first == second) == (code_units(one) == code_units(other))

    def test_no_two_of_many_cells_can_change_places(self):
        """60 cells of 5 locations, 4 fields and 3 hosts: each opens in its own place, none in the 3,540 others."""
        fields = ("encrypted_secret", "encrypted_refresh", "last_access_token", "answer")
        origins = ("https://a.example", "https://a.example:8443", "https://b.example")
        locations = ("loc-1", "loc-2", "LOC-1", "loc-11", "")
        places = [Context(*place) for place in product(fields, locations, origins)]
        cells = {place: RING.seal(f"secret of {place}", place) for place in places}
        assert all(RING.open(cell, place) == f"secret of {place}" for place, cell in cells.items())
        refusals = Counter(error_of(opened_in(there), cells[here]) for here, there in permutations(places, 2))
        assert refusals == {TamperedError: 3540}


class TestEditedCell:
    TELLING = "AaBbZz09+/-_=:.,;'\"\\ \n\r\t\0\ufeff\u200bé\uff21\U0001f511gf"
    # Each of the three endings of base64, twice.
    LENGTHS = pytest.mark.parametrize("length", range(1, 7))

    def cell(self, length: int) -> str:
        return RING.seal("x" * length, CONTEXT)

    def edits(self, cell: str) -> Iterator[str]:
        for at in range(len(cell)):
            yield cell[:at] + cell[at + 1 :]
            yield cell[:at] + cell[at].swapcase() + cell[at + 1 :]
            yield cell[:at] + cell[at : at + 2][::-1] + cell[at + 2 :]
            for letter in self.TELLING:
                yield cell[:at] + letter + cell[at + 1 :]
                yield cell[:at] + letter + cell[at:]

    @LENGTHS
    def test_every_single_edit_is_refused(self, length):
        """Each character replaced, deleted, doubled, swapped with the next, or with something put before it."""
        cell = self.cell(length)
        edited = {other for other in self.edits(cell) if other != cell}
        assert len(edited) > len(cell) * 50
        assert RING.open(cell, CONTEXT)
        assert [other for other in edited if error_of(opened_in(), other) is None] == []

    @LENGTHS
    def test_every_letter_of_the_alphabet_at_every_place_is_refused(self, length):
        """Also at the end, where four letters stand for the same bytes to a lenient decoder."""
        cell = self.cell(length)
        letters = string.ascii_letters + string.digits + "-_+/="
        edited = (cell[:at] + letter + cell[at + 1 :] for at in range(len(cell)) for letter in letters)
        assert [other for other in edited if other != cell and error_of(opened_in(), other) is None] == []

    @pytest.mark.parametrize(
        "tail", ["\n", "\r\n", " ", "\t", "=", "==", "===", "====", "\0", "A", "AAAA", ":", "\ufeff"]
    )
    @LENGTHS
    def test_anything_after_the_cell_is_refused(self, length, tail):
        """No tail is overlooked, be it invisible; nor in front."""
        cell = self.cell(length)
        assert error_of(opened_in(), cell + tail) is not None
        assert error_of(opened_in(), tail + cell) is not None

    @LENGTHS
    def test_every_truncation_is_refused(self, length):
        """A column that cuts long text off is noticed."""
        cell = self.cell(length)
        assert None not in {error_of(opened_in(), cell[:cut]) for cut in range(len(cell))}


class TestErrorClasses:
    def test_unknown_key_is_named(self):
        """Whoever lost a key learns which one."""
        foreign = Keyring(FOREIGN_KEY)
        with pytest.raises(UnknownKeyError, match=foreign.key_id) as caught:
            RING.open(foreign.seal(PLAINTEXT, CONTEXT), CONTEXT)
        assert caught.value.key_id == foreign.key_id

    def test_no_key_but_the_named_one_is_tried(self):
        """A cell of a ring's key under another key's name does not open, though that key is at hand."""
        cell = RING.seal(PLAINTEXT, CONTEXT)
        renamed = cell.replace(RING.key_id, Keyring(OLD_KEY).key_id)
        assert error_of(opened_in(), renamed) is TamperedError

    @pytest.mark.parametrize("cell", ["", "x", "sealed:", "sealed:v1:", "sealed:v2:" + "0" * 16 + ":AAAA", PLAINTEXT])
    def test_text_that_is_no_cell_is_malformed(self, cell):
        """Plain text in a column for secrets is not mistaken for a cell that somebody changed."""
        assert error_of(opened_in(), cell) is MalformedCellError
        assert error_of(RING.open_unbound, cell) is MalformedCellError

    @pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
    def test_fuzzed_cells_raise_nothing_else(self, count: int):
        """So many damaged cells of all four forms, and junk: each is refused, by one of the three errors."""
        source = random.Random(20_240_229)
        forms = [RING.seal(PLAINTEXT, CONTEXT), Keyring(FOREIGN_KEY).seal(PLAINTEXT, CONTEXT)]
        forms += [older(KEY) for older in (bare, bare_url_safe, fernet, encoded_fernet)]
        originals = set(forms)
        seen: Counter[tuple[str, type[SealedCellError] | None]] = Counter()
        for _ in range(count):
            cell = mutated(source.choice(forms), source) if source.random() < 0.9 else junk(source)
            if cell not in originals:
                seen["open", error_of(opened_in(), cell)] += 1
                seen["open_unbound", error_of(RING.open_unbound, cell)] += 1
        assert seen.total() > 1.98 * count
        three = {UnknownKeyError, TamperedError, MalformedCellError}
        assert {error for reader, error in seen if reader == "open"} == three
        assert {error for reader, error in seen if reader == "open_unbound"} == {TamperedError, MalformedCellError}


def mutated(cell: str, source: random.Random) -> str:
    letters = list(cell)
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        at = source.randrange(len(letters) + 1)
        letter = source.choice(string.ascii_letters + string.digits + "-_+/=: \n\0\ud800\u00e9\U0001f511")
        action = source.randrange(5)
        if action == 0:
            letters.insert(at, letter)
        elif action == 1:
            letters[at : at + 1] = letter
        elif action == 2:
            del letters[at : at + source.randrange(1, 9)]
        elif action == 3:
            letters[at:at] = letters[source.randrange(len(letters) or 1) :][:12]
        else:
            letters[at : at + 2] = reversed(letters[at : at + 2])
    return "".join(letters)


def junk(source: random.Random) -> str:
    heads = ("", "sealed:", "sealed:v1:", f"sealed:v1:{RING.key_id}:", "gAAAA", "gAAAAAB", "Z0FBQUFB", "Z0FBQUFBQ")
    body = base64.urlsafe_b64encode(source.randbytes(source.randrange(120))).decode()
    noise = "".join(chr(source.randrange(0x110000)) for _ in range(source.randrange(12)))
    return source.choice(heads) + source.choice((body, body.rstrip("="), noise, body + noise))


class TestNothingIsGivenAway:
    def refused_cells(self) -> Iterator[tuple[str, Callable[[str], object]]]:
        cell = RING.seal(PLAINTEXT, CONTEXT)
        not_text = b"\xff\xfe" + PLAINTEXT.encode()
        nonce = bytes(12)
        data = CONTEXT.associated_data(RING.key_id)
        sealed = base64.urlsafe_b64encode(nonce + AESGCM(KEY).encrypt(nonce, not_text, data)).decode().rstrip("=")
        yield f"sealed:v1:{RING.key_id}:{sealed}", opened_in()
        yield cell, opened_in(replace(CONTEXT, field="another"))
        yield cell + "\n", opened_in()
        yield cell, opened_in(ring=Keyring(FOREIGN_KEY))
        yield PLAINTEXT, opened_in()
        yield PLAINTEXT + "\udc80é", opened_in()
        for older in (bare, fernet, encoded_fernet):
            yield older(KEY), opened_in()
            yield older(KEY, not_text), RING.open_unbound
            yield older(FOREIGN_KEY), RING.open_unbound
            yield older(KEY) + "\n", RING.open_unbound
        yield PLAINTEXT, RING.open_unbound
        yield "gAAAA" + PLAINTEXT, RING.open_unbound
        yield "Z0FBQUFB" + encoded(PLAINTEXT.encode() + b"\xff"), RING.open_unbound

    def test_errors_carry_neither_cell_nor_plaintext(self):
        """Not in text, arguments or attributes, nor in any error that one is chained to."""
        for cell, read in self.refused_cells():
            with pytest.raises(SealedCellError) as caught:
                read(cell)
            said = everything_said_by(caught.value)
            assert PLAINTEXT not in said
            body = cell.rpartition(":")[2].strip()
            assert not any(body[at : at + 12] in said for at in range(max(1, len(body) - 11)))

    def test_errors_are_chained_to_nothing(self):
        """The decoder's and the cipher's own errors would hold what they failed on."""
        for cell, read in self.refused_cells():
            with pytest.raises(SealedCellError) as caught:
                read(cell)
            assert caught.value.__cause__ is None
            assert caught.value.__context__ is None

    def test_errors_of_sealing_do_not_quote_either(self):
        """No text is refused but the empty one; lone surrogates, which an encoder would quote, are sealed."""
        for text in (PLAINTEXT + "\ud800", "\udfff" + PLAINTEXT):
            assert RING.open(RING.seal(text, CONTEXT), CONTEXT) == text


# Older forms


class TestOlderForms:
    @OLDER_FORMS
    @pytest.mark.parametrize("key", [KEY, OLD_KEY], ids=["primary", "fallback"])
    def test_older_form_opens_by_open_unbound(self, older, key):
        """Cells of the programs that came before can be taken over, with each key of the ring."""
        assert RING.open_unbound(older(key)) == PLAINTEXT
        assert RING.open_unbound(older(key, "é\U0001f511".encode())) == "é\U0001f511"

    @OLDER_FORMS
    def test_older_form_of_an_empty_text_opens(self, older):
        """Programs before this one sealed the missing secret of a public client."""
        assert RING.open_unbound(older(KEY, b"")) == ""

    @OLDER_FORMS
    def test_older_form_does_not_open_as_v1(self, older):
        """It is bound to nothing, so only who asks for that gets it."""
        assert error_of(opened_in(), older(KEY)) is MalformedCellError
        assert not crypto.is_sealed(older(KEY))

    @OLDER_FORMS
    def test_older_form_under_a_foreign_key_is_refused(self, older):
        """No key of the ring opens it: that is told apart from text that is no cell."""
        assert error_of(RING.open_unbound, older(FOREIGN_KEY)) is TamperedError

    @OLDER_FORMS
    def test_every_single_edit_of_an_older_form_is_refused(self, older):
        """Fernet's own decoder overlooks characters that are not base64; ours does not."""
        cell = older(KEY)
        same = {cell, cell.translate(str.maketrans("+/", "-_")), cell.translate(str.maketrans("-_", "+/"))}
        edited = {other for other in TestEditedCell().edits(cell) if other not in same}
        opened = [other for other in edited if error_of(RING.open_unbound, other) is None]
        assert opened == []

    @OLDER_FORMS
    @pytest.mark.parametrize("space", [" ", "\n", "\t"])
    def test_white_space_in_an_older_form_is_refused(self, older, space):
        """What is stored is taken whole or not at all."""
        cell = older(KEY)
        for at in (0, 20, len(cell)):
            assert error_of(RING.open_unbound, cell[:at] + space + cell[at:]) is MalformedCellError

    def test_rotated_fernet_opens(self):
        """MultiFernet's cells are Fernet's."""
        keys = [Fernet(base64.urlsafe_b64encode(key)) for key in (OLD_KEY, FOREIGN_KEY)]
        assert RING.open_unbound(MultiFernet(keys).encrypt(PLAINTEXT.encode()).decode()) == PLAINTEXT

    @pytest.mark.parametrize("length", range(1, 7))
    def test_v1_cell_stripped_of_its_binding_is_refused(self, length):
        """Whoever can edit the table cannot unbind a cell by rewriting it as an older form."""
        text = "x" * length
        body = RING.seal(text, CONTEXT).rpartition(":")[2]
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        stripped = {body, encoded(raw), base64.urlsafe_b64encode(raw).decode(), encoded(raw).rstrip("=")}
        stripped |= {encoded(encoded(raw).encode()), "gAAAA" + body, encoded(b"gAAAAA" + raw)}
        assert None not in {error_of(RING.open_unbound, cell) for cell in stripped}

    def test_v1_cell_is_not_opened_unbound(self):
        """Nor as it is."""
        assert error_of(RING.open_unbound, RING.seal(PLAINTEXT, CONTEXT)) is MalformedCellError


class TestNeedsReseal:
    def test_cell_under_the_primary_key_does_not(self):
        """A table that was rotated is finished."""
        assert not RING.needs_reseal(RING.seal(PLAINTEXT, CONTEXT))

    def test_empty_cell_does_not(self):
        """There is nothing to seal, and nothing for a rotation to wait for."""
        assert not RING.needs_reseal("")

    def test_cell_under_a_fallback_or_foreign_key_does(self):
        """A rotation finds every cell that a retired key still opens."""
        assert RING.needs_reseal(Keyring(OLD_KEY).seal(PLAINTEXT, CONTEXT))
        assert RING.needs_reseal(Keyring(FOREIGN_KEY).seal(PLAINTEXT, CONTEXT))

    @OLDER_FORMS
    def test_older_form_does(self, older):
        """An older form becomes v1 with its next write."""
        assert RING.needs_reseal(older(KEY))


class TestFingerprint:
    @PROPERTY
    @given(ANY_TEXT, ANY_TEXT)
    def test_same_text_same_fingerprint(self, text, other):
        """It recognises a text, and only that."""
        assert RING.fingerprint(text) == Keyring(KEY).fingerprint(text)
        assert (RING.fingerprint(text) == RING.fingerprint(other)) == (text == other)

    def test_it_names_its_key_and_nothing_else(self):
        """Key id and 64 hex digits."""
        assert re.fullmatch(rf"{RING.key_id}:[0-9a-f]{{64}}", RING.fingerprint(PLAINTEXT))

    def test_it_depends_on_the_key(self):
        """Without the key nobody can test guesses against it: it is no plain hash."""
        digests = {ring.fingerprint(PLAINTEXT).partition(":")[2] for ring in (RING, Keyring(OLD_KEY))}
        assert len(digests) == 2
        assert hashlib.sha256(PLAINTEXT.encode()).hexdigest() not in digests

    def test_each_key_of_the_ring_gives_one_the_primary_first(self):
        """What was remembered under a key that is now a fallback is still recognised."""
        ring = Keyring(KEY, [OLD_KEY, FOREIGN_KEY])
        expected = tuple(Keyring(key).fingerprint(PLAINTEXT) for key in (KEY, OLD_KEY, FOREIGN_KEY))
        assert ring.fingerprints(PLAINTEXT) == expected
        assert ring.fingerprint(PLAINTEXT) == expected[0]


# Vectors


def vectors() -> list[dict[str, Any]]:
    return json.loads((VECTORS / "sealed_cells.json").read_text(encoding="ascii"))["vectors"]  # type: ignore[no-any-return]


def vector_key(label: str) -> bytes:
    return hashlib.sha256(f"token-refresh vectors: key {label}".encode()).digest()


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_vector_ends_as_it_says(vector):
    """Cells made by an independent program open, or fail with the error that the file names."""
    ring = Keyring(vector_key(vector["keys"][0]), [vector_key(label) for label in vector["keys"][1:]])
    read: Callable[[str], str] = ring.open_unbound
    if vector["reader"] == "open":
        read = opened_in(Context(vector["field"], vector["location_id"], vector["origin"]), ring)
    if vector["expect"] == "ok":
        assert read(vector["cell"]) == vector["plaintext"]
        return
    with pytest.raises(SealedCellError) as caught:
        read(vector["cell"])
    assert type(caught.value).__name__ == vector["expect"]
    assert getattr(caught.value, "key_id", None) == vector.get("key_id")


@pytest.mark.parametrize(
    "vector", [vector for vector in vectors() if "associated_data" in vector], ids=lambda vector: vector["name"]
)
def test_vector_has_our_associated_data(vector):
    """Byte for byte, also for texts that encoders of JSON disagree on."""
    context = Context(vector["field"], vector["location_id"], vector["origin"])
    key_id = vector["cell"].split(":")[2]
    assert context.associated_data(key_id).decode("ascii") == vector["associated_data"]


def test_vectors_cover_every_ending():
    """Each error and each reader is in the file, and no name twice."""
    every = vectors()
    assert {vector["expect"] for vector in every} == {"ok", "UnknownKeyError", "TamperedError", "MalformedCellError"}
    assert len({vector["name"] for vector in every}) == len(every) > 100


def test_vectors_are_what_their_script_makes():
    """The file was not edited by hand, and its script does not use the code under test."""
    script = VECTORS / "make_sealed_cells.py"
    made = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, check=True, cwd=VECTORS)
    assert made.stdout == (VECTORS / "sealed_cells.json").read_bytes()
    assert not re.search(r"^\s*(import|from) (crypto|stores)\b", script.read_text(), re.MULTILINE)


class TestFormatDocument:
    """docs/format.md, held against the vectors and the code."""

    TEXT = (PROJECT / "docs" / "format.md").read_text(encoding="utf-8")

    def example(self) -> dict[str, str]:
        return dict(re.findall(r"^\| ([a-z0-9 ]+) \| `` (.+) `` \|$", self.TEXT, re.MULTILINE))

    def test_worked_example_is_a_vector(self):
        """The page shows a cell that really opens, with each intermediate value."""
        example = self.example()
        vector = next(vector for vector in vectors() if vector["name"] == example["vector"])
        key = vector_key(vector["keys"][0])
        assert hashlib.sha256(example["key is the sha256 of"].encode()).digest() == key
        assert example["key id"] == Keyring(key).key_id
        for name, member in (("field", "field"), ("location id", "location_id"), ("origin", "origin")):
            assert json.loads(f'"{example[name]}"') == vector[member]
        assert example["associated data"] == vector["associated_data"]
        assert example["nonce"] == vector["nonce_hex"]
        assert example["plaintext"] == vector["plaintext"]
        assert example["cell"] == vector["cell"]
        body = base64.urlsafe_b64decode(example["cell"].rpartition(":")[2] + "==")
        assert bytes.fromhex(example["nonce"] + example["ciphertext"] + example["tag"]) == body

    def test_printed_program_opens_the_example(self):
        """A third party can copy the program on the page and have the secret."""
        program = re.search(r"```python\n(.+?)```", self.TEXT, re.DOTALL)
        assert program is not None
        example = self.example()
        key = encoded(hashlib.sha256(example["key is the sha256 of"].encode()).digest())
        arguments = [key, example["cell"], example["field"]]
        arguments += [json.loads(f'"{example[name]}"') for name in ("location id", "origin")]
        done = subprocess.run(
            [sys.executable, "-I", "-c", program[1], *arguments], capture_output=True, check=True, text=True
        )
        assert done.stdout == example["plaintext"] + "\n"

    def test_white_space_is_listed_completely(self):
        """The characters that are cut off around a location id are those that the page names."""
        listed = re.search(r"White space is (.+?)\.\n", self.TEXT, re.DOTALL)
        assert listed is not None
        named: set[int] = set()
        for first, last in re.findall(r"U\+([0-9A-F]{4})(?:\u2013U\+([0-9A-F]{4}))?", listed[1]):
            named |= set(range(int(first, 16), int(last or first, 16) + 1))
        assert named == {point for point in range(sys.maxunicode + 1) if chr(point).isspace()}
