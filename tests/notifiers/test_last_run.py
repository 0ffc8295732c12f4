"""What a monitor reads of the last run, and what it means by now."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.notifiers.news_world import settings_for, surroundings_for
from tests.notifiers.summaries import finished, summary_of
from tests.world.clock import START, FakeClock
from token_refresh.base.errors import ActionableError, Kind, exit_code
from token_refresh.notifiers.channels import notifiers_of
from token_refresh.notifiers.last_run import Finding, LastRun, not_checked
from token_refresh.notifiers.summary import Code, Facts, Item, RunSummary
from token_refresh.notifiers.watch import Limit

NAME = "0123456789abcdef"
LATER, BEFORE = START + timedelta(minutes=30), START - timedelta(minutes=30)


def facts(*locations: str, first_end: datetime | None = None) -> Facts:
    """These locations fail."""
    return Facts([Item(Code.FAILING, "HTTP 500", "", name, "acme") for name in locations], first_end)


def judged(folder: Path, *summaries: RunSummary, after: timedelta = timedelta(minutes=5)) -> Finding:
    for summary in summaries:
        LastRun(folder, NAME).keep(summary)
    return LastRun(folder, NAME).judge(START + after)


@pytest.mark.parametrize(
    ("known", "code", "words"),
    [
        (facts(), 0, "OK: the last run ended 5 min ago"),
        (Facts([Item(Code.QUOTA, "900 calls")]), 0, "OK: "),  # nobody's token
        (
            facts("loc", first_end=LATER),
            1,
            "WARNING: all access tokens are valid; 1 client needs somebody: loc (failing)",
        ),
        (facts("loc"), 1, "WARNING: "),
        (
            facts("a", "b", first_end=BEFORE),
            2,
            "CRITICAL: access tokens have expired; 2 clients need somebody: a (failing)",
        ),
    ],
)
def test_who_needs_somebody_decides(tmp_path: Path, known: Facts, code: int, words: str) -> None:
    found = judged(tmp_path, summary_of(finished(), facts=known))
    assert exit_code([found.kind] if found.kind else []) == code
    assert str(found).startswith(words)
    assert "\n" not in str(found)


def test_a_token_that_expired_since_the_run_counts_by_now(tmp_path: Path) -> None:
    summary = summary_of(finished(), facts=facts("loc", first_end=LATER))
    assert judged(tmp_path, summary, after=timedelta(minutes=29)).state == "attention"
    assert judged(tmp_path, after=timedelta(minutes=30)).state == "expired"


def test_no_run_for_two_intervals_is_late_whatever_the_last_one_found(tmp_path: Path) -> None:
    summary = summary_of(finished(), interval=900, facts=Facts())
    assert judged(tmp_path, summary, after=timedelta(seconds=1800)).state == "ok"
    found = judged(tmp_path, after=timedelta(seconds=1801))
    assert (found.state, found.kind) == ("late", Kind.EXPIRED)


def test_a_run_that_could_not_ask_the_store_keeps_what_was_known_and_needs_attention(tmp_path: Path) -> None:
    error = ActionableError("Airtable does not answer", "Wait.", Kind.STORE_UNAVAILABLE)
    well = summary_of(finished(), facts=Facts())
    failed = summary_of(finished(error=error), exit_code=3)
    found = judged(tmp_path, well, failed)
    assert (found.state, found.message) == (
        "attention", "the last run ended 5 min ago with exit code 3 (Airtable does not answer)"
    )  # fmt: skip
    assert found.action == "Wait."
    ill = summary_of(finished(), facts=facts("loc", first_end=BEFORE))
    assert judged(tmp_path, ill, failed).state == "expired"


def test_runs_that_cannot_do_their_work_for_two_intervals_are_as_bad_as_none(tmp_path: Path) -> None:
    """Nobody may know by then which tokens have expired."""
    error = ActionableError("ENCRYPTION_KEY decrypts no value", "Set the key.", Kind.CONFIGURATION)
    for hours in range(3):
        run = finished(at=START + timedelta(hours=hours), error=error)
        assert judged(tmp_path, summary_of(run, exit_code=2), after=timedelta(hours=hours)).state == "attention"
    run = finished(at=START + timedelta(hours=3), error=error)
    found = judged(tmp_path, summary_of(run, exit_code=2), after=timedelta(hours=3))
    assert (found.state, found.kind, found.action) == ("late", Kind.EXPIRED, "Set the key.")


def test_a_run_that_a_person_started_says_who_is_well_but_not_that_runs_come(tmp_path: Path) -> None:
    ill = summary_of(finished(), facts=facts("loc"))
    by_hand = summary_of(finished(at=START + timedelta(hours=3)), facts=Facts(), is_scheduled=False)
    assert judged(tmp_path, ill, by_hand).state == "ok"
    assert judged(tmp_path, after=timedelta(hours=3)).state == "late"


def test_the_last_success_is_the_last_run_that_could_do_its_work_also_one_that_a_person_started(
    tmp_path: Path,
) -> None:
    assert LastRun(tmp_path, NAME).success_at is None
    for hours, (code, is_scheduled) in enumerate([(0, True), (1, False), (3, True), (2, True), (4, False)]):
        run = finished(run_id=str(hours), at=START + timedelta(hours=hours))
        LastRun(tmp_path, NAME).keep(summary_of(run, exit_code=code, is_scheduled=is_scheduled))
    assert LastRun(tmp_path, NAME).success_at == START + timedelta(hours=1)
    assert LastRun(tmp_path, NAME).started_at == START + timedelta(hours=3)


def test_a_run_that_ends_after_another_keeps_what_that_one_left(tmp_path: Path, clock: FakeClock) -> None:
    around = surroundings_for(settings_for(tmp_path), clock)
    [notifier] = [one for one in notifiers_of(around) if one.name == "last run"]
    LastRun(tmp_path, around.name).keep(summary_of(finished(), facts=facts("loc")))
    by_hand = summary_of(finished(run_id="two", at=START + timedelta(minutes=1)), is_scheduled=False)
    notifier.act(by_hand, Limit(1))
    found = LastRun(tmp_path, around.name).judge(START + timedelta(minutes=5))
    assert (found.state, found.message) == (
        "attention",
        "all access tokens are valid; 1 client needs somebody: loc (failing)",
    )


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"ended_at": 3, "exit_code": "x"}', b"\xff"])
def test_without_a_run_nobody_knows(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / f"last-run-{NAME}.json").write_bytes(content)
    found = judged(tmp_path)
    assert (found.state, found.kind) == ("unknown", Kind.NOT_CHECKED)
    assert str(found).startswith("UNKNOWN: no run has come yet. Look whether cron starts ")


def test_a_set_up_that_is_wrong_is_unknown_with_what_to_do() -> None:
    found = not_checked(ActionableError("ENCRYPTION_KEY is not set", "Copy the key.\nOr make one.", Kind.CONFIGURATION))
    assert str(found) == "UNKNOWN: ENCRYPTION_KEY is not set. Copy the key. Or make one."
    assert exit_code([found.kind] if found.kind else []) == 3


def test_of_many_ten_are_named(tmp_path: Path) -> None:
    found = judged(tmp_path, summary_of(finished(), facts=facts(*(f"loc{number}" for number in range(12)))))
    assert "12 clients need somebody: loc0 (failing), " in found.message
    assert found.message.endswith("loc9 (failing), …")
