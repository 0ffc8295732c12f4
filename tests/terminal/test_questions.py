"""Which questions are asked, in which order, and what was agreed to; the terminal itself is tests/commands'."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

import pytest

from providers.base import Provider
from providers.login import Login
from tests.callers import Listed
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.clients.admission import Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.refresh.jobs import Client, JobFactory
from token_refresh.stores.base import Row
from token_refresh.stores.sealed import Seals
from token_refresh.terminal.prompts import Terminal
from token_refresh.terminal.questions import ask_for_credential, ask_whose, offer_login

FIXED = Provider("acme", "Acme", "https://acme.example/token")
HOSTED = Provider("hosted", "Hosted", "https://{instance}/token", placeholders={"instance": None})
MANY = Provider(
    "many",
    "Many",
    "https://{instance}/token",
    placeholders={"instance": "many.example", "redirect_uri": "", "user_type": "B"},
)
STRICT = Provider("strict", "Strict", "https://strict.example/token", login=Login(client_id_pattern=r"1000\.[0-9A-Z]+"))
ENDING = Provider("ending", "Ending", "https://ending.example/token", login=Login(secret_lifetime=86_400))
LISTED = Listed(FIXED, HOSTED, MANY, STRICT, ENDING)
BENCH = JobFactory(cast(Seals, None), LISTED, "acme", lambda _: Client("our-app", "our secret"))
NO_CLIENT = JobFactory(cast(Seals, None), LISTED, "acme", lambda _: Client("", ""))


class Answers(Terminal):
    """Answers in order, and keeps what was asked."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def text(self, question: str, default: str = "") -> str:
        self.asked.append(question)
        return self._answers.pop(0) or default

    def secret(self, question: str) -> str:
        return self.text(question)

    def yes(self, question: str) -> bool:
        return self.text(question) == "yes"


def asked_for(
    answers: Answers, terms: Terms, row: Row | None = None, bench: JobFactory = BENCH
) -> tuple[NewCredential, Terms]:
    location_id, provider = ask_whose(answers, bench, "acme")
    return ask_for_credential(answers, bench, provider, location_id, terms, lambda *_: row)


def test_the_settings_client_is_not_asked_for_where_settings_or_catalogue_fix_the_host() -> None:
    answers = Answers("loc", "", "", "token")
    entered, terms = asked_for(answers, Terms())
    assert answers.asked == [
        "Location id", "Provider", "Client secret (empty: the one from the settings)", "Refresh token",
    ]  # fmt: skip
    assert entered == NewCredential("loc", "acme", "our-app", "", "token")
    assert terms == Terms()


@pytest.mark.parametrize("answer", ["yes", ""])
def test_a_login_is_offered_where_the_provider_has_a_page_for_it(answer: str) -> None:
    answers = Answers(answer)
    with_login = replace(FIXED, authorize_url="https://acme.example/authorize")
    assert offer_login(answers, with_login) is (answer == "yes")
    assert answers.asked == ["Log in at Acme in a browser, instead of entering a refresh token?"]


def test_no_login_is_offered_where_there_is_none() -> None:
    assert not offer_login(Answers(), FIXED)


def test_what_a_provider_takes_is_asked_for_and_a_default_is_stored_nowhere() -> None:
    """Instance, tenant, redirect URI, user type: whoever leaves one to its default presses Enter."""
    answers = Answers("loc", "many", "", "https://app.example/callback", "", "app", "secret", "token")
    entered, _ = asked_for(answers, Terms())
    assert answers.asked[2:5] == ["Instance", "Redirect uri (may be empty)", "User type"]
    assert json.loads(entered.provider_params) == {"redirect_uri": "https://app.example/callback"}
    known = Row("rec1", "loc", "app", provider="many", provider_params='{"instance": "many.example", "user_type": "A"}')
    answers = Answers("loc", "many", "", "yes", "secret", "token")
    entered, _ = asked_for(answers, Terms(), known)
    assert answers.asked[2:3] == ["Redirect uri (may be empty)"]
    assert entered.provider_params == known.provider_params


def test_an_instance_may_be_pasted_as_its_address_and_its_host_is_confirmed() -> None:
    answers = Answers("loc", "many", "https://Git.example.com/gitlab/", "", "", "yes", "app", "secret", "token")
    _, terms = asked_for(answers, Terms())
    question = "The client secret and the refresh token will be sent to https://git.example.com. Is that right?"
    assert question in answers.asked
    assert list(terms.hosts) == ["git.example.com"]


@pytest.mark.parametrize("token", ["Bearer abcdefgh", '"abcdefgh"', "abc%2Fdefgh", "sealed:v1:x"])
def test_what_was_pasted_with_a_token_is_named_before_anything_is_locked(token: str) -> None:
    with pytest.raises(ActionableError, match=r"^the refresh_token .*; it was not sent$") as error:
        asked_for(Answers("loc", "acme", "", token), Terms())
    assert error.value.action == "Copy it again as the provider shows it, with nothing around it."


def test_a_host_that_a_person_agrees_to_is_the_one_host_agreed_to() -> None:
    answers = Answers("loc", "hosted", "Git.Example:8443", "yes", "", "secret", "token")
    entered, terms = asked_for(answers, Terms())
    assert answers.asked[2:] == [
        "Instance",
        "The client secret and the refresh token will be sent to https://git.example:8443. Is that right?",
        "Client id", "Client secret", "Refresh token",
    ]  # fmt: skip
    assert (entered.client_id, entered.client_secret) == ("our-app", "secret")
    assert list(terms.hosts) == ["git.example:8443"]


def test_a_host_that_was_agreed_to_by_flag_is_not_asked_about() -> None:
    answers = Answers("loc", "hosted", "git.example", "app", "secret", "token")
    _, terms = asked_for(answers, Terms(hosts=["git.example"]))
    assert not any("Is that right?" in question for question in answers.asked)
    assert list(terms.hosts) == ["git.example"]


def test_after_a_no_to_the_host_no_secret_is_asked_for() -> None:
    answers = Answers("loc", "hosted", "git.example", "no")
    with pytest.raises(ActionableError, match="nothing was sent or changed"):
        asked_for(answers, Terms())
    assert "Refresh token" not in answers.asked


@pytest.mark.parametrize(("cell", "agreed"), [("", False), ("sealed", True)])
def test_only_a_credential_that_was_there_may_be_replaced(cell: str, agreed: bool) -> None:
    """One that comes while the person types is somebody else's."""
    row = Row("rec1", "loc", "row-app", encrypted_refresh=cell, provider="acme")
    answers = Answers("loc", "acme", *(["yes"] if cell else []), "secret", "token")
    entered, terms = asked_for(answers, Terms(), row)
    assert (terms.replace, entered.client_id) == (agreed, "row-app")


def test_after_a_no_to_replacing_nothing_more_is_asked() -> None:
    row = Row("rec1", "loc", "row-app", encrypted_refresh="sealed", provider="acme")
    answers = Answers("loc", "acme", "no")
    with pytest.raises(ActionableError, match="nothing was changed"):
        asked_for(answers, Terms(), row)
    assert answers.asked == ["Location id", "Provider", "loc already has a credential. Replace it?"]


def test_an_empty_answer_that_is_needed_ends_the_questions() -> None:
    with pytest.raises(ActionableError, match="the refresh token is empty; nothing was changed") as error:
        asked_for(Answers("loc", "acme", "secret", ""), Terms())
    assert error.value.kind is Kind.USAGE


@pytest.mark.parametrize("answer", ["", "2027-05-31", "soon"])
def test_the_last_day_of_a_secret_that_ends_is_asked_for_and_kept(answer: str) -> None:
    answers = Answers("loc", "ending", "app", "secret", answer, "token")
    if answer == "soon":
        with pytest.raises(ActionableError, match="that is no day; nothing was changed"):
            asked_for(answers, Terms(), bench=NO_CLIENT)
        return
    entered, _ = asked_for(answers, Terms(), bench=NO_CLIENT)
    assert entered.provider_params == ('{"secret_ends": "2027-05-31"}' if answer else "")
    assert answers.asked[4].startswith("Last day of the client secret")


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_client_id_of_another_form_than_the_providers_is_asked_about(answer: str) -> None:
    answers = Answers("loc", "strict", "1000.abc", answer, "secret", "token")
    if answer == "no":
        with pytest.raises(ActionableError, match="nothing was sent or changed"):
            asked_for(answers, Terms(), bench=NO_CLIENT)
    else:
        entered, _ = asked_for(answers, Terms(), bench=NO_CLIENT)
        assert entered.client_id == "1000.abc"
    assert "Strict's client ids look different. Is it the client id?" in answers.asked


def test_a_client_id_that_a_row_holds_already_is_not_held_against_the_providers_form() -> None:
    known = Row("rec1", "loc", "of-old", provider="strict")
    entered, _ = asked_for(Answers("loc", "strict", "secret", "token"), Terms(), known)
    assert entered.client_id == "of-old"
