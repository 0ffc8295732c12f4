"""Where a provider answers a spent refresh token again for a while: a second request begins in that time, or not at all
but by the rule of `replay`.

The fake's `acme-window` has such a window of 30 s; a repeat after it ends the whole grant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from providers.base import Answer, RawAnswer, TokenRequest, Verdict
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import TABLES, Rows, entries, table_of
from tests.refresh.runs.test_faults_inside import run_context_of
from tests.world.clock import START
from tests.world.oauth import faults
from token_refresh.base.clock import iso
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.net.transport import EXCHANGE_SECONDS, Transport
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import RunContext, Scope

pytestmark = pytest.mark.by_turns("rows")

WINDOW, FIRST = 30, 10  # seconds: of `acme-window`, and what its first request may take
EXPIRY = START + timedelta(seconds=1000)  # due, and far from the last minute
RARE_RUNS = {"REFRESH_INTERVAL": "300", "TOKEN_EXPIRY_BUFFER": "60"}
DROPPED = faults.acted_then_dropped()


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """Rows of each kind of store."""
    made = table_of(request.param, request)
    made.world.program.settings |= RARE_RUNS
    if made.world.airtable is not None:
        made.world.airtable.requests_per_second = None  # a struck process has a clock of its own
    yield made
    assert made.world.oauth.violations == []


def sent(rows: Rows) -> int:
    """How many token requests arrived."""
    return len(rows.world.oauth.requests)


def run(rows: Rows) -> dict[str, Any]:
    """A run; what became of the row, or why it waits."""
    result = rows.world.program.run("--json").json()
    [row] = result["results"] or result["waiting"]
    return dict(row)


def lives(rows: Rows) -> bool:
    """Whether the grant does, whoever has its token."""
    return rows.world.oauth.family("loc").revoked_at is None


def unavailable(retry_after: int) -> faults.Fault:
    """The provider acts, and says instead of its answer that it is not available for so many seconds."""
    return faults.acted_then(faults.status(503, headers={"Retry-After": str(retry_after)}))


# In one run


def test_a_lost_answer_is_asked_for_again_at_once_although_a_later_repeat_ends_the_grant(rows: Rows) -> None:
    rows.add("acme-window", "loc", EXPIRY)
    rows.world.oauth.fail(DROPPED)
    assert (run(rows)["outcome"], sent(rows), rows.is_current("loc")) == ("refreshed", 2, True)


@pytest.mark.parametrize(("retry_after", "outcome", "requests"), [(29, "refreshed", 2), (31, "unknown", 1)])
def test_a_provider_that_asks_for_a_pause_is_asked_again_where_the_window_is_longer(
    rows: Rows, retry_after: int, outcome: str, requests: int
) -> None:
    rows.add("acme-window", "loc", EXPIRY)
    rows.world.oauth.fail(unavailable(retry_after))
    assert (run(rows)["outcome"], sent(rows), lives(rows)) == (outcome, requests, True)


def test_a_second_lost_answer_is_asked_for_by_the_rule_of_replay(rows: Rows) -> None:
    rows.add("acme-window", "loc", EXPIRY)
    rows.world.oauth.fail(DROPPED, times=2)
    assert (run(rows)["outcome"], sent(rows)) == ("unknown", 2)
    rows.world.clock.advance(EXCHANGE_SECONDS + 1)
    assert run(rows)["reason"].startswith("the last answer was lost; the provider is asked again when")
    assert (sent(rows), lives(rows)) == (2, True)


@dataclass
class Limits:
    """Passes requests on, and takes time for each; knows how long each may take."""

    usual: Transport
    seconds: list[float | None]
    lose: int = 0  # so many of the first answers

    def post(self, request: TokenRequest) -> RawAnswer | Answer:
        """See `Transport.post`."""
        self.seconds.append(request.seconds)
        answer = self.usual.post(request)
        return answer if len(self.seconds) > self.lose else Answer(Verdict.UNCLEAR)


def refreshed(rows: Rows, lose: int) -> list[float | None]:
    """Limits of the requests of a run whose first answers are lost."""
    with run_context_of(rows) as context:
        limits = Limits(context.transport, [], lose)
        Refresher(context._replace(transport=limits)).run(Scope())
    return limits.seconds


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("acme-window", [FIRST, EXCHANGE_SECONDS]), ("acme", [EXCHANGE_SECONDS, EXCHANGE_SECONDS])],
)
def test_the_first_request_ends_early_enough_for_another_and_that_has_the_usual_time(
    rows: Rows, kind: str, expected: list[float]
) -> None:
    rows.add(kind, "loc", EXPIRY)
    assert refreshed(rows, lose=1) == expected


def test_a_request_after_one_that_did_nothing_is_the_first(rows: Rows) -> None:
    rows.add("acme-window", "loc", EXPIRY)
    rows.world.oauth.fail(faults.too_many_requests(5))
    assert refreshed(rows, lose=0) == [FIRST, FIRST]


# After a kill


def killed(rows: Rows, kind: str = "acme-window") -> None:
    """A run is killed when the provider has acted and nobody has seen the answer."""
    rows.add(kind, "loc", EXPIRY)
    struck(rows.world, Point.ACTED, Fate.KILL)
    assert ([entry.step for entry in entries(rows.world)], sent(rows)) == (["sent"], 1)


@pytest.mark.by_turns("rows", "kind", "window")
@pytest.mark.parametrize(("kind", "window"), [("acme-window", WINDOW), ("gohighlevel", 30)])
@pytest.mark.parametrize("seconds", [1, FIRST + 1, WINDOW - 1])
def test_in_the_window_the_next_run_waits_for_the_first_request_s_own_limit_and_sends_the_token_again(
    rows: Rows, kind: str, window: int, seconds: int
) -> None:
    assert window == WINDOW
    killed(rows, kind)
    rows.world.clock.advance(seconds)
    assert (run(rows)["outcome"], sent(rows), rows.is_current("loc")) == ("refreshed", 2, True)
    token = next(token for token in rows.world.oauth.family("loc").refresh_tokens if token.replays)
    first, again = token.sent_at
    assert again - first == pytest.approx(max(seconds, FIRST), abs=1)


def test_after_the_window_the_rule_of_replay_holds(rows: Rows) -> None:
    killed(rows)
    rows.world.clock.advance(WINDOW + 1)
    assert run(rows)["reason"].startswith("the last answer was lost; the provider is asked again when")
    assert (sent(rows), lives(rows)) == (1, True)


def test_a_token_that_the_window_lets_go_out_again_stays_where_a_pause_outlasts_it(rows: Rows) -> None:
    killed(rows)
    rows.world.clock.advance(1)  # the killed process had a clock of its own
    rows.world.oauth.fail(faults.too_many_requests(40))
    assert (run(rows)["outcome"], sent(rows), lives(rows)) == ("unknown", 2, True)


def test_a_token_whose_window_ended_while_its_client_was_paused_is_not_said_to_wait_for_the_store(rows: Rows) -> None:
    world = rows.world
    world.program.undone = lambda _: []
    rows.add("acme-window", "loc", EXPIRY)
    struck(world, Point.ACTED, Fate.KILL)
    world.clock.advance(1)
    for number in range(4):
        rows.add("acme-window", f"other{number}", EXPIRY - timedelta(seconds=60))
    world.oauth.fail(faults.too_many_requests(40), times=4)
    [reason] = [row["reason"] for row in world.program.run("--json").json()["waiting"] if row["location_id"] == "loc"]
    assert "store" not in reason


def test_a_killed_resend_is_given_the_usual_time(rows: Rows) -> None:
    world = rows.world
    killed(rows)
    world.clock.advance(FIRST)
    struck(world, Point.ACTED, Fate.KILL)
    assert sent(rows) == 2
    until = world.clock.now() + timedelta(seconds=EXCHANGE_SECONDS)
    waiting = run(rows)
    assert (waiting["reason"], waiting["until"]) == (
        "a request of an earlier run may still be on its way",
        iso(until),
    )
    world.clock.advance(EXCHANGE_SECONDS - 1)
    assert run(rows)["reason"] == "a request of an earlier run may still be on its way"
    assert sent(rows) == 2


def test_when_a_request_left_by_a_clock_that_ran_ahead_is_not_known_so_no_window_is_counted_on(rows: Rows) -> None:
    world = rows.world
    rows.add("acme-window", "loc", EXPIRY)
    world.clock.advance(500)
    struck(world, Point.ACTED, Fate.KILL)
    world.clock.set_back(500)
    world.clock.advance(20)
    assert run(rows)["reason"] == "a request of an earlier run may still be on its way"
    world.clock.advance(EXCHANGE_SECONDS)
    assert run(rows)["reason"].startswith("the last answer was lost")
    assert (sent(rows), lives(rows)) == (1, True)


# Onboarding


def entered(rows: Rows) -> NewCredential:
    location, provider, client_id, secret, token = rows.world.csv_line("acme-window", "loc")
    return NewCredential(location, provider, client_id, secret, token)


def test_onboarding_asks_again_at_once_although_a_later_repeat_ends_the_grant(rows: Rows) -> None:
    credential = entered(rows)
    with run_context_of(rows) as context:
        limits = Limits(context.transport, [], lose=1)
        [result] = [Admission(context._replace(transport=limits)).admit(credential, Terms())]
    assert (result.outcome, limits.seconds) == ("refreshed", [FIRST, EXCHANGE_SECONDS])
    assert rows.is_current("loc")


def test_onboarding_does_not_ask_again_when_the_window_is_over(rows: Rows) -> None:
    credential = entered(rows)
    with run_context_of(rows) as context:

        class Slow(Limits):
            def post(self, request: TokenRequest) -> RawAnswer | Answer:
                context.clock.sleep(WINDOW)  # as where the machine slept meanwhile
                return super().post(request)

        slow = Slow(context.transport, [], lose=1)
        result = Admission(context._replace(transport=slow)).admit(credential, Terms())
    assert (result.outcome, sent(rows), lives(rows)) == ("unknown", 1, True)


@pytest.mark.parametrize(("seconds", "requests"), [(FIRST - 1, 1), (FIRST + 1, 2)])
def test_an_onboarding_that_was_killed_goes_on_when_the_first_request_s_own_limit_is_over(
    rows: Rows, seconds: int, requests: int
) -> None:
    credential = entered(rows)

    def onboard(context: RunContext) -> tuple[()]:
        Admission(context).admit(credential, Terms())
        return ()

    struck(rows.world, Point.ACTED, Fate.KILL, onboard)
    rows.world.clock.advance(seconds)
    rows.world.program.run()
    assert sent(rows) == requests
    if requests > 1:
        assert rows.is_current("loc")
