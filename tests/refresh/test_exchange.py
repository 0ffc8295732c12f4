"""One request: what is on the disk before each step, and what comes of an answer that no disk takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crypto import Context, Keyring
from providers.base import Answer, Credential, Provider, RawAnswer, TokenRequest, Verdict
from tests.world.clock import START, FakeClock
from token_refresh.journal.entries import ANSWER_FIELD, Journal, Step
from token_refresh.journal.file import JournalError
from token_refresh.refresh.exchange import exchange

ACME = Provider("acme", "Acme", "https://acme.example/token")
CREDENTIAL = Credential("app", "secret", "token", {})
ORIGIN = "https://acme.example"
GRANTED = RawAnswer(200, {}, b'{"access_token": "access token", "refresh_token": "next token"}', START)


class Line:
    """Gives the same answer to every request, and looks into the journal meanwhile."""

    def __init__(self, journal: Journal, answer: RawAnswer | Answer) -> None:
        self._journal = journal
        self._answer = answer
        self.seen: list[list[str]] = []

    def post(self, request: TokenRequest) -> RawAnswer | Answer:
        self.seen.append([entry.step for entry in self._journal.entries(Step.SENT, Step.ANSWERED)])
        return self._answer


@pytest.fixture
def journal(tmp_path: Path, clock: FakeClock) -> Iterator[Journal]:
    opened = Journal(tmp_path, Keyring(bytes(range(32))), clock)
    yield opened
    opened.close()


def send(
    journal: Journal, line: Line, provider: Provider = ACME, intent: Callable[[], int] | None = None
) -> tuple[int, Answer, JournalError | None]:
    def admit() -> int:
        return journal.admit("loc", "acme", ORIGIN, "", "token", "{}")

    request, context = provider.refresh_request(CREDENTIAL), Context(ANSWER_FIELD, "loc", ORIGIN)
    return exchange(journal, line, request, provider.read_answer, context, intent or admit)


def test_the_intent_is_noted_before_the_request_leaves_and_the_answer_kept_after_it(journal: Journal) -> None:
    line = Line(journal, GRANTED)
    entry_id, answer, not_saved = send(journal, line)
    assert line.seen == [["sent"]]
    [entry] = journal.entries(Step.ANSWERED)
    assert (entry.id, journal.open_answer(entry)) == (entry_id, GRANTED)
    assert (answer.refresh_token, not_saved) == ("next token", None)


def test_an_intent_that_the_journal_refuses_keeps_the_request_back(journal: Journal) -> None:
    def refuse() -> int:
        raise JournalError("the disk is full", "Free disk space.")

    line = Line(journal, GRANTED)
    with pytest.raises(JournalError):
        send(journal, line, intent=refuse)
    assert line.seen == []


def test_a_second_request_is_of_the_same_entry(journal: Journal) -> None:
    line = Line(journal, Answer(Verdict.UNCLEAR, error="no answer within 90 s"))
    first, first_answer, _ = send(journal, line)
    second, second_answer, _ = send(journal, line, intent=lambda: journal.send_again(first, ORIGIN, is_lost=True))
    assert first_answer.verdict is second_answer.verdict is Verdict.UNCLEAR
    [entry] = journal.entries(Step.SENT)
    assert (entry.id, entry.lost_at) == (second, START)


def test_an_answer_that_no_disk_takes_counts_and_the_journal_hands_it_out_sealed(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise JournalError("the disk is full", "Free disk space.")

    line = Line(journal, GRANTED)
    entry_id = journal.admit("loc", "acme", ORIGIN, "", "token", "{}")
    monkeypatch.setattr(journal._file, "commit", refuse)
    _, kept, not_saved = send(journal, line, intent=lambda: entry_id)
    assert kept.refresh_token == "next token"
    assert isinstance(not_saved, JournalError)
    [entry] = journal.entries(Step.SENT)
    [answer] = journal.not_saved()
    assert journal.open_answer(entry, answer.sealed) == GRANTED


def test_an_answer_that_cannot_be_read_is_kept_before(journal: Journal) -> None:
    class Broken(Provider):
        def read_answer(self, raw: RawAnswer) -> Answer:
            raise RuntimeError("a mistake of this program")

    with pytest.raises(RuntimeError):
        send(journal, Line(journal, GRANTED), Broken("acme", "Acme", "https://acme.example/token"))
    assert len(journal.entries(Step.ANSWERED)) == 1
