"""Every form of an answer that the fake providers know, as our own transport and reader see it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import pytest

from providers.base import Answer, Credential, Provider, RawAnswer, Verdict
from tests.world.clock import FakeClock
from tests.world.http import Framing
from tests.world.oauth import OAuthServer, forms
from tests.world.oauth.faults import Fault
from tests.world.oauth.forms import (
    FRAMINGS,
    REFUSAL_FORMS,
    SHAPES,
    composed,
    cut_at,
    firewall,
    framed,
    refused_in,
    reshaped,
    with_status,
)
from token_refresh.net.transport import HTTPTransport

ACME = Provider("acme", "Acme", "https://acme.example/token")
WORDS = "You shall not pass"
Meet = Callable[[Fault], tuple[RawAnswer, Answer]]


@pytest.fixture
def meet(oauth: OAuthServer, clock: FakeClock) -> Iterator[Meet]:
    """A refresh that meets a fault: what came, and what it means."""
    oauth.add_client("acme", "app", "secret")
    provider = replace(ACME, token_url=oauth.token_url("acme"))

    def refresh(fault: Fault) -> tuple[RawAnswer, Answer]:
        token = oauth.grant("acme", "app", location_id="loc")
        oauth.fail(fault, token=token)
        transport = HTTPTransport(clock, 1)  # a new one: this server closes a connection without saying so before
        raw = transport.post(provider.refresh_request(Credential("app", "secret", token, {})))
        transport.close()
        assert isinstance(raw, RawAnswer)
        return raw, provider.read_answer(raw)

    yield refresh
    assert oauth.violations == []


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_answer_of_each_shape_is_read_or_said_to_be_of_an_unknown_form(
    meet: Meet, oauth: OAuthServer, shape: str, framing: Framing
) -> None:
    raw, answer = meet(composed(reshaped(shape), framed(framing)))
    assert raw.is_complete == (framing != "close")
    if framing == "close" and shape.startswith("form"):  # nobody says whether its last member came whole
        is_last = not shape.endswith("twice")
        assert (answer.verdict, answer.refresh_token) == (Verdict.UNCLEAR, None if is_last else oauth.current("loc"))
    elif SHAPES[shape].is_read:
        tokens = oauth.current_access("loc"), oauth.current("loc")
        assert (answer.verdict, answer.access_token, answer.refresh_token) == (Verdict.GRANTED, *tokens)
    else:
        assert (answer.verdict, answer.access_token, answer.refresh_token) == (Verdict.UNREAD, None, None)


@pytest.mark.by_turns("framing")
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_of_an_answer_that_breaks_off_no_more_counts_than_a_whole_refresh_token(
    meet: Meet, oauth: OAuthServer, shape: str, framing: Framing
) -> None:
    for place in (0.0, 0.3, 0.6, 0.9, 0.97, 0.99):
        raw, answer = meet(composed(reshaped(shape), framed(framing), cut_at(place)))
        assert not raw.is_complete
        assert (answer.verdict, answer.access_token) == (Verdict.UNCLEAR, None)
        assert answer.refresh_token in (None, oauth.current("loc"))
        assert answer.is_unproven == (answer.refresh_token is not None)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pair_behind_a_failure_is_kept_for_later_where_its_shape_is_read(
    meet: Meet, oauth: OAuthServer, shape: str
) -> None:
    for place, framing in product((None, 0.95), FRAMINGS):
        fault = composed(reshaped(shape), with_status(503), framed(framing))
        raw, answer = meet(fault if place is None else composed(fault, cut_at(place)))
        assert (answer.verdict, answer.refresh_token) == (Verdict.UNCLEAR, None)
        kept = ACME.pair_in(raw)
        is_whole = place is None and (framing != "close" or not shape.startswith("form"))
        assert (kept and kept.refresh_token) == (oauth.current("loc") if is_whole and SHAPES[shape].is_read else None)


@pytest.mark.by_turns("status")
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 406, 409, 410, 422, 451])
@pytest.mark.parametrize("form", REFUSAL_FORMS)
def test_a_complete_refusal_of_each_form_is_one_and_its_words_are_shown(meet: Meet, form: str, status: int) -> None:
    for framing in ("length", "chunked"):
        raw, answer = meet(composed(refused_in(form, "x_unknown", WORDS, status), framed(framing)))
        assert raw.is_complete
        if form == "page" and status in (403, 406, 409):
            assert answer.verdict is Verdict.NOT_ACTED
        else:
            assert answer.verdict is (Verdict.CLIENT_REFUSED if status == 401 else Verdict.REQUEST_REFUSED)
        assert (WORDS in (answer.error or "")) == REFUSAL_FORMS[form].tells_words
        if REFUSAL_FORMS[form].tells_code:
            assert "x_unknown" in (answer.error or "")
        assert ("address" in (answer.action or "")) == (status in (302, 404, 405))


@pytest.mark.parametrize("form", REFUSAL_FORMS)
def test_a_refusal_that_breaks_off_refuses_only_where_its_object_came_whole(meet: Meet, form: str) -> None:
    for framing in FRAMINGS:
        _, answer = meet(composed(refused_in(form, "invalid_grant", WORDS), framed(framing), cut_at(0.6)))
        assert answer.verdict is Verdict.UNCLEAR or form == "nothing"


@pytest.mark.parametrize("form", REFUSAL_FORMS)
def test_a_dead_grant_is_known_in_each_form_that_has_a_place_for_its_code(meet: Meet, form: str) -> None:
    _, answer = meet(refused_in(form, "invalid_grant", WORDS))
    is_named = REFUSAL_FORMS[form].tells_code or form in ("errors[].errorType", "errors[].type", "__type")
    assert answer.verdict is (Verdict.DEAD_GRANT if is_named else Verdict.REQUEST_REFUSED)
    _, other = meet(refused_in(form, "invalid_client", WORDS))
    assert other.verdict is (Verdict.CLIENT_REFUSED if REFUSAL_FORMS[form].tells_code else Verdict.REQUEST_REFUSED)


@pytest.mark.parametrize("status", [403, 406, 409])
def test_the_page_of_a_firewall_passes(meet: Meet, status: int) -> None:
    _, answer = meet(firewall(status))
    assert answer.verdict is Verdict.NOT_ACTED
    assert answer.error == f"HTTP {status}, Just a moment"


@pytest.mark.parametrize(
    "every", [forms.GRANTS, forms.FAILED_GRANTS, forms.REFUSALS], ids=["grants", "failed", "refusals"]
)
def test_drawn_forms_bring_no_token_that_was_not_issued(
    meet: Meet, oauth: OAuthServer, every: tuple[Fault, ...]
) -> None:
    for fault in random.Random(7).sample(every, 40):
        _, answer = meet(fault)
        assert answer.access_token is None or answer.access_token == oauth.current_access("loc"), fault.name
        assert answer.refresh_token is None or answer.refresh_token == oauth.current("loc"), fault.name
