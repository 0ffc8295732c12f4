"""The order of a run: who goes next, who waits, who is tried again, and who is judged by another's answer."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from providers.base import Judgement, Provider, Replay, Rotation, Verdict
from providers.gohighlevel import GoHighLevel
from tests.world.clock import START
from token_refresh.refresh.due import DuePolicy
from token_refresh.refresh.jobs import ClientKey
from token_refresh.refresh.schedule import Hold, Schedule, Task
from token_refresh.stores.base import Row

POLICY = DuePolicy(3600, 300)
ATTEMPTS = 3  # of a request that did nothing
MANY = 10  # failures in a row
GRANTED = Judgement(Verdict.GRANTED, status=200, brings_refresh_token=True)
REFUSED = Judgement(Verdict.CLIENT_REFUSED, status=401)
DEAD = Judgement(Verdict.DEAD_GRANT, status=400)
NO_CONNECTION = Judgement(Verdict.NOT_ACTED)
SILENCE = Judgement(Verdict.UNCLEAR)
THROTTLED = Judgement(Verdict.NOT_ACTED, status=429, retry_after=20.0)


def provider(slug: str = "acme", rotates: Rotation = "always", replay: Replay = "once", window: int = 0) -> Provider:
    kind = GoHighLevel if slug == "gohighlevel" else Provider
    url = f"https://{slug}.example/token"
    return kind(slug, slug.title(), url, rotates=rotates, replay=replay, replay_window=window)


def job(
    name: str,
    minutes: int | None = 0,
    of: Provider | None = None,
    client: str = "app",
    lost: bool = False,
    failed: bool = False,
) -> Task:
    """A row whose access token ends so many minutes from now."""
    of = of or provider()
    expiry = None if minutes is None else START + timedelta(minutes=minutes)
    lost_at = START - timedelta(hours=1) if lost else None
    row = Row(name, name, client, access_token_expiry=expiry)
    is_last_minute = POLICY.is_last_minute(row, of, START)
    return Task(name, of, ClientKey(of.token_url, client, "secret"), expiry, lost_at, is_last_minute, failed)


def schedule(*tasks: Task, seed: int = 0) -> Schedule:
    made = Schedule(random.Random(seed))
    made.extend(tasks)
    return made


def started(one: Schedule, now: float = 0.0, most: int = 1000) -> list[str]:
    """The rows that may start now, in order."""
    return [task.key for task in start(one, now, most)]


def start(one: Schedule, now: float = 0.0, most: int = 1000) -> list[Task]:
    tasks: list[Task] = []
    while len(tasks) < most and (task := one.next(now)) is not None:
        tasks.append(task)
    return tasks


def left(one: Schedule, now: float = 0.0) -> dict[str, str]:
    """The rows that no request went out for, and why."""
    return {task.key: reason for task, reason, *_ in one.not_begun(now)}


def ends(settled: list[Task]) -> dict[str, Verdict]:
    names = [one.key for one in settled]
    assert len(names) == len(set(names)), "settled twice"
    return {one.key: one.verdict for one in settled if one.verdict is not None}


# Order


def test_the_soonest_expiry_goes_first_and_a_missing_one_before_all() -> None:
    assert started(schedule(job("late", 30), job("soon", 5), job("blank", None))) == ["blank", "soon", "late"]


def test_a_row_whose_answer_was_lost_goes_before_rows_that_expire_sooner() -> None:
    assert started(schedule(job("soon", 1), job("lost", 50, lost=True))) == ["lost", "soon"]


def test_rows_that_failed_last_time_go_last_also_those_whose_answer_was_lost() -> None:
    """A host that hangs must not use up the time of healthy rows, run after run."""
    rows = (job("failed", 1, failed=True), job("hung", 2, lost=True, failed=True), job("healthy", 90), job("soon", 5))
    assert started(schedule(*rows)) == ["soon", "healthy", "hung", "failed"]


def test_rows_of_one_expiry_keep_the_order_of_the_listing() -> None:
    assert started(schedule(*(job(str(number), 5) for number in range(5)))) == list("01234")


def test_each_row_is_started_once() -> None:
    one = schedule(job("a"), job("b"))
    assert len(start(one)) == 2
    assert start(one) == []
    assert one.wakes_at(0.0) is None


# A refused client


def refused_first(*jobs: Task) -> tuple[Schedule, Task]:
    """A schedule whose first row was refused."""
    one = schedule(*jobs)
    [first] = start(one, most=1)
    assert ends(one.settle(first, REFUSED, 0.0)) == {}
    return one, first


def test_after_a_refusal_only_the_row_with_the_latest_expiry_is_heard() -> None:
    one, _ = refused_first(job("first", 1), job("second", 2), job("last", 90))
    assert started(one) == ["last"]


def test_a_refusal_belongs_to_the_row_when_the_probe_is_accepted() -> None:
    one, _ = refused_first(job("first", 1), job("second", 2), job("last", 90))
    [probe] = start(one)
    assert ends(one.settle(probe, GRANTED, 1.0)) == {"last": Verdict.GRANTED, "first": Verdict.REQUEST_REFUSED}
    assert started(one, 1.0) == ["second"]


def test_at_highlevel_a_lone_refusal_is_an_uninstalled_app() -> None:
    highlevel = provider("gohighlevel")
    one, _ = refused_first(job("first", 1, highlevel), job("last", 90, highlevel))
    [probe] = start(one)
    assert ends(one.settle(probe, GRANTED, 1.0))["first"] is Verdict.DEAD_GRANT


def test_a_dead_grant_of_the_probe_shows_that_the_client_is_known() -> None:
    one, _ = refused_first(job("first", 1), job("last", 90))
    [probe] = start(one)
    assert ends(one.settle(probe, DEAD, 1.0)) == {"last": Verdict.DEAD_GRANT, "first": Verdict.REQUEST_REFUSED}


def test_a_refused_probe_closes_the_client_and_the_rest_is_never_begun() -> None:
    one, _ = refused_first(job("first", 1), job("second", 2), job("third", 3), job("last", 90))
    [probe] = start(one)
    judged = ends(one.settle(probe, REFUSED, 1.0))
    assert judged == {"first": Verdict.CLIENT_REFUSED, "last": Verdict.CLIENT_REFUSED}
    assert started(one, 1.0) == []
    assert left(one) == {"second": "Acme refuses client app", "third": "Acme refuses client app"}
    assert one.drain() == []


def test_a_throttled_probe_is_heard_again_after_the_pause() -> None:
    one, _ = refused_first(job("first", 1), job("second", 2), job("last", 90))
    [probe] = start(one)
    assert one.settle(probe, THROTTLED, 1.0) == []
    assert started(one, 2.0) == []
    at = one.wakes_at(2.0)
    assert at is not None
    [again] = start(one, at)
    assert again is probe
    assert ends(one.settle(again, GRANTED, at)) == {"last": Verdict.GRANTED, "first": Verdict.REQUEST_REFUSED}
    assert started(one, at) == ["second"]


def test_an_unclear_probe_is_followed_by_another_one() -> None:
    family = provider(replay="last_minute")
    one, _ = refused_first(job("first", 1, family), job("second", 80, family), job("last", 90, family))
    [probe] = start(one)
    assert ends(one.settle(probe, SILENCE, 1.0)) == {"last": Verdict.UNCLEAR}
    [second] = start(one, 1.0)
    assert ends(one.settle(second, GRANTED, 2.0)) == {"second": Verdict.GRANTED, "first": Verdict.REQUEST_REFUSED}


def test_when_two_probes_are_unclear_the_client_is_closed_and_nobody_blamed() -> None:
    family = provider(replay="last_minute")
    one, _ = refused_first(*(job(name, minutes, family) for name, minutes in zip("abcd", (1, 80, 85, 90), strict=True)))
    for _ in range(2):
        [probe] = start(one)
        last = one.settle(probe, SILENCE, 1.0)
    assert ends(last) == {"c": Verdict.UNCLEAR, "a": Verdict.CLIENT_REFUSED}
    assert started(one) == []


def test_several_refusals_in_flight_are_judged_together_by_one_probe() -> None:
    one = schedule(*(job(str(number), number) for number in range(6)))
    flying = start(one, most=3)
    for task in flying:
        assert one.settle(task, REFUSED, 0.0) == []
    [probe] = start(one)
    assert probe.key == "5"
    judged = ends(one.settle(probe, GRANTED, 1.0))
    assert judged == {"5": Verdict.GRANTED} | dict.fromkeys("012", Verdict.REQUEST_REFUSED)
    assert started(one, 1.0) == ["3", "4"]


def test_a_probe_that_was_held_back_before_is_not_sent_a_second_time() -> None:
    """Rows are held while a request that left before the refusal is still out; one of them becomes the probe."""
    one = schedule(job("refused", 1), job("slow", 2), job("third", 3), job("probe", 90))
    refused, slow = start(one, most=2)
    one.settle(refused, REFUSED, 0.0)
    assert started(one) == []
    one.settle(slow, GRANTED, 0.5)
    [probe] = start(one, 0.5)
    assert probe.key == "probe"
    judged = ends(one.settle(probe, GRANTED, 1.0))
    assert judged == {"probe": Verdict.GRANTED, "refused": Verdict.REQUEST_REFUSED}
    assert started(one, 1.0) == ["third"]


def test_a_refusal_of_the_only_row_closes_the_client_without_blaming_the_row() -> None:
    one = schedule(job("only", of=provider("gohighlevel")))
    [only] = start(one)
    assert ends(one.settle(only, REFUSED, 0.0)) == {"only": Verdict.CLIENT_REFUSED}


def test_a_refusal_of_the_very_last_row_blames_nobody_although_others_were_accepted_before() -> None:
    """The secret may have been replaced at the provider in the middle of the run."""
    highlevel = provider("gohighlevel")
    one = schedule(*(job(name, number, highlevel) for number, name in enumerate("abc")))
    for _ in range(2):
        [task] = start(one, most=1)
        one.settle(task, GRANTED, 0.0)
    [last] = start(one)
    assert ends(one.settle(last, REFUSED, 0.0)) == {"c": Verdict.CLIENT_REFUSED}


def test_a_secret_that_turns_wrong_in_the_middle_of_a_run_flags_nobody() -> None:
    highlevel = provider("gohighlevel")
    one = schedule(*(job(str(number), number, highlevel) for number in range(40)))
    verdicts: dict[str, Verdict] = {}
    answered = 0
    while flying := start(one, most=4):
        for task in flying:
            verdicts |= ends(one.settle(task, GRANTED if answered < 10 else REFUSED, 0.0))
            answered += 1
    verdicts |= ends(one.drain())
    assert Counter(verdicts.values()) == {Verdict.GRANTED: 10, Verdict.CLIENT_REFUSED: answered - 10}
    assert answered <= 16


def test_two_clients_of_one_provider_are_judged_apart() -> None:
    one = schedule(job("bad", 1, client="wrong"), job("good", 2, client="right"), job("bad too", 3, client="wrong"))
    [bad] = start(one, most=1)
    one.settle(bad, REFUSED, 0.0)
    good, probe = start(one)
    assert ends(one.settle(probe, REFUSED, 0.0)) == dict.fromkeys(("bad", "bad too"), Verdict.CLIENT_REFUSED)
    assert ends(one.settle(good, GRANTED, 0.0)) == {"good": Verdict.GRANTED}
    assert left(one) == {}


def test_a_row_that_waits_for_another_attempt_is_settled_when_its_client_is_closed() -> None:
    one = schedule(job("throttled", 1), job("refused", 2), job("other", 3), job("probe", 90))
    throttled, refused = start(one, most=2)
    assert one.settle(throttled, NO_CONNECTION, 0.0) == []
    assert one.settle(refused, REFUSED, 0.0) == []
    [probe] = start(one, most=1)
    judged = ends(one.settle(probe, REFUSED, 0.0))
    assert judged["throttled"] is Verdict.NOT_ACTED
    assert started(one, 100.0) == []


def test_a_row_whose_next_attempt_fell_into_a_judgement_gets_it_when_the_client_is_right() -> None:
    one = schedule(job("throttled", 1), job("refused", 2), job("probe", 90))
    throttled, refused = start(one, most=2)
    assert one.settle(throttled, NO_CONNECTION, 0.0) == []
    assert one.settle(refused, REFUSED, 0.0) == []
    [probe] = start(one, 100.0)  # its back-off is over, but the client is being judged
    assert probe.key == "probe"
    one.settle(probe, GRANTED, 100.0)
    assert start(one, 100.0) == [throttled]
    assert ends(one.settle(throttled, GRANTED, 101.0)) == {"throttled": Verdict.GRANTED}


def test_a_row_whose_next_attempt_fell_into_a_judgement_is_settled_when_the_client_is_refused() -> None:
    one = schedule(job("throttled", 1), job("refused", 2), job("probe", 90))
    throttled, refused = start(one, most=2)
    one.settle(throttled, NO_CONNECTION, 0.0)
    one.settle(refused, REFUSED, 0.0)
    [probe] = start(one, 100.0)
    assert ends(one.settle(probe, REFUSED, 100.0))["throttled"] is Verdict.NOT_ACTED
    assert started(one, 200.0) == []


def test_a_row_that_waits_for_its_first_request_stays_unbegun_when_its_client_is_closed() -> None:
    later = job("later", 5)
    later.not_before = 50.0  # the request of a dead run may arrive until then
    one, _ = refused_first(job("first", 1), later, job("probe", 90))
    [probe] = start(one)
    assert ends(one.settle(probe, REFUSED, 0.0)) == dict.fromkeys(("first", "probe"), Verdict.CLIENT_REFUSED)
    assert started(one, 100.0) == []
    assert left(one) == {"later": "Acme refuses client app"}


# The breaker


def failing(count: int, answer: Judgement) -> tuple[Schedule, list[Task]]:
    rows = [job(str(number), number, failed=True) for number in range(count + 5)]
    one = schedule(*rows, job("other", 99, provider("other"), failed=True))
    settled: list[Task] = []
    for task in start(one, most=count):
        settled += one.settle(task, answer, 0.0)
    return one, settled


def test_many_failures_in_a_row_end_the_requests_to_that_provider_only() -> None:
    one, settled = failing(MANY, NO_CONNECTION)
    assert ends(settled) == {str(number): Verdict.NOT_ACTED for number in range(MANY)}
    assert started(one, 1000.0) == ["other"]
    assert left(one) == {str(number): "acme.example does not answer" for number in range(MANY, MANY + 5)}


def test_before_a_host_is_left_alone_a_row_that_was_well_is_heard() -> None:
    """Some servers fail at each grant that is dead: dead rows must not keep healthy ones from their turn."""
    dead = [job(f"dead {number}", None) for number in range(2 * MANY)]
    one = schedule(*dead, job("well", 20), job("weller", 30), job("failed", 40, failed=True))
    for _ in range(2):
        for task in start(one, most=MANY):
            one.settle(task, Judgement(Verdict.UNCLEAR, status=500, brings_refresh_token=True), 0.0)
        [probe] = start(one)
        one.settle(probe, GRANTED, 0.0)
    assert one.take_holds() == []
    assert left(one) == {"failed": ""}


def test_a_host_that_fails_at_a_row_that_was_well_too_is_left_alone() -> None:
    one = schedule(*(job(f"dead {number}", None) for number in range(MANY)), job("well", 20), job("weller", 30))
    for task in start(one, most=MANY):
        one.settle(task, SILENCE, 0.0)
    [probe] = start(one)
    assert probe.key == "weller"
    one.settle(probe, SILENCE, 0.0)
    assert started(one, 100.0) == []
    assert left(one) == {"well": "acme.example does not answer"}


def test_where_the_client_of_the_row_to_be_heard_is_closed_another_rows_answer_is_waited_for() -> None:
    dead = [job(f"dead {number}", None, client="other") for number in range(MANY)]
    one = schedule(*dead, job("well", 20, client="other"), job("weller", 30))
    for task in start(one, most=MANY):
        one.settle(task, Judgement(Verdict.UNCLEAR, status=500, brings_refresh_token=True), 0.0)
    one.hold(Hold("acme.example app", 61.0, is_broken=False), 0.0)  # the client of the row that would be heard
    [probe] = start(one)
    assert probe.key == "well"
    assert ends(one.settle(probe, GRANTED, 0.0)) == {"well": Verdict.GRANTED}
    assert one.take_holds() == []


def test_one_success_among_the_failures_keeps_the_breaker_closed() -> None:
    one = schedule(*(job(str(number), number) for number in range(MANY + 5)))
    for number, task in enumerate(start(one, most=MANY + 1)):
        one.settle(task, GRANTED if number == 5 else NO_CONNECTION, 0.0)
    assert started(one) == [str(MANY + number) for number in range(1, 5)]


def test_a_burst_of_429_pauses_a_client_and_breaks_nothing() -> None:
    one, settled = failing(MANY + 2, THROTTLED)
    assert settled == []
    assert started(one, 0.0) == ["other"]
    [first] = start(one, 100.0)  # one alone, until one is accepted
    one.settle(first, GRANTED, 100.0)
    assert len(start(one, 100.0)) == MANY + 2 + 5 - 1


def test_a_refusal_between_failures_shows_that_the_host_answers() -> None:
    one = schedule(*(job(str(number), number, client=str(number)) for number in range(2 * MANY)))
    refusals = (REFUSED, DEAD, Judgement(Verdict.REQUEST_REFUSED, status=404), Judgement(Verdict.NOT_ACTED, status=403))
    for task in start(one):
        number = int(task.key)
        one.settle(task, refusals[number % 4] if number % MANY == MANY - 1 else NO_CONNECTION, 0.0)
    assert one.take_holds() == []


def test_a_dead_instance_leaves_the_other_instances_of_its_provider_alone() -> None:
    living = provider()
    dead = replace(living, token_url="https://dead.example/token")
    one = schedule(*(job(f"dead {number}", number, dead) for number in range(MANY)), job("living", 50, living))
    tasks = start(one)
    for task in tasks[:-1]:
        one.settle(task, NO_CONNECTION, 0.0)
    assert tasks[-1].key == "living"
    assert one.take_holds() == [Hold("dead.example", 60.0, is_broken=True)]
    assert ends(one.settle(tasks[-1], GRANTED, 0.0)) == {"living": Verdict.GRANTED}


def test_dead_grants_are_answers_and_never_break_a_provider() -> None:
    one, settled = failing(MANY + 2, DEAD)
    assert len(settled) == MANY + 2
    assert len(start(one)) == 6


# Pauses and back-off


UNAVAILABLE = Judgement(Verdict.UNCLEAR, status=503, retry_after=20.0)


@pytest.mark.parametrize("answer", [THROTTLED, UNAVAILABLE])
def test_retry_after_is_the_rows_own_while_another_row_of_the_client_is_accepted(answer: Judgement) -> None:
    one = schedule(*(job(name, number) for number, name in enumerate("abc")))
    [first] = start(one, most=1)
    assert one.settle(first, answer, 100.0) == []
    [probe] = start(one, 100.0)  # no second request beside it
    one.settle(probe, GRANTED, 101.0)
    assert started(one, 101.0) == ["c"]
    assert one.wakes_at(101.0) == 120.0
    assert started(one, 120.0) == ["a"]


@pytest.mark.parametrize("answer", [THROTTLED, UNAVAILABLE])
def test_a_second_row_that_is_asked_to_wait_pauses_the_client_and_no_other(answer: Judgement) -> None:
    one = schedule(*(job(name, number) for number, name in enumerate("abc")), job("other", 9, client="other"))
    for task in start(one, most=2):
        one.settle(task, answer, 100.0)
    assert one.take_holds() == [Hold("acme.example app", 20.0, is_broken=False)]
    assert started(one, 100.0) == ["other"]
    assert started(one, 119.9) == []
    assert one.wakes_at(100.0) == 120.0
    assert len(started(one, 120.0)) == 1


def test_the_same_row_asked_to_wait_again_says_nothing_of_its_client() -> None:
    one = schedule(job("a", 1), job("b", 2))
    [first] = start(one, most=1)
    for _ in range(2):
        one.settle(first, THROTTLED, 100.0)
        [first] = start(one, 120.0, most=1) if first.attempts < 2 else [first]
    assert one.take_holds() == []


def test_a_row_that_waits_for_its_own_back_off_respects_the_pause_of_its_client() -> None:
    one = schedule(job("a", 1), job("b", 2), job("c", 3))
    first, second, third = start(one)
    one.settle(first, NO_CONNECTION, 100.0)
    one.settle(second, THROTTLED, 100.0)
    one.settle(third, THROTTLED, 100.0)
    assert started(one, 119.9) == []
    assert one.wakes_at(110.0) == 120.0
    [a] = start(one, 120.0)
    one.settle(a, GRANTED, 120.0)
    assert len(started(one, 120.0)) == 2


def test_a_pause_of_an_hour_at_one_row_ends_that_row_and_no_other() -> None:
    one = schedule(job("a", 1), job("b", 2), job("c", 3))
    [first] = start(one, most=1)
    hour = Judgement(Verdict.NOT_ACTED, status=429, retry_after=3600.0)
    assert ends(one.settle(first, hour, 0.0)) == {"a": Verdict.NOT_ACTED}
    [probe] = start(one)
    one.settle(probe, GRANTED, 0.0)
    assert started(one) == ["c"]


def test_a_pause_of_an_hour_at_two_rows_leaves_the_rest_of_the_client_to_a_later_run_and_says_until_when() -> None:
    one = schedule(job("a", 1), job("b", 2), job("c", 3))
    hour = Judgement(Verdict.NOT_ACTED, status=429, retry_after=3600.0)
    for task in start(one, most=2):
        one.settle(task, hour, 0.0)
    assert started(one, 1.0) == []
    assert one.wakes_at(1.0) is None
    assert [(task.key, reason, until) for task, reason, until, _ in one.not_begun(1.0)] == [
        ("c", "Acme asks for a pause", 3600.0)
    ]


def test_a_pause_longer_than_a_minute_is_left_to_the_next_run() -> None:
    one = schedule(job("a"))
    [task] = start(one)
    long = Judgement(Verdict.NOT_ACTED, status=429, retry_after=60.1)
    assert ends(one.settle(task, long, 0.0)) == {"a": Verdict.NOT_ACTED}


def test_a_probe_waits_out_the_pause_that_its_client_is_asked_for() -> None:
    one = schedule(job("refused", 1), job("slow", 2), job("slower", 3), job("probe", 90))
    refused, slow, slower = start(one, most=3)
    one.settle(refused, REFUSED, 0.0)
    one.settle(slow, THROTTLED, 0.0)
    one.settle(slower, THROTTLED, 0.0)
    assert started(one, 1.0) == []
    assert one.wakes_at(1.0) == 20.0
    [probe] = start(one, 20.0)
    assert probe.key == "probe"
    one.settle(probe, GRANTED, 20.0)
    assert sorted(started(one, 20.0)) == ["slow", "slower"]


@given(seed=st.integers(), answer=st.sampled_from([NO_CONNECTION, Judgement(Verdict.NOT_ACTED, status=503)]))
def test_back_off_grows_with_jitter_and_ends_after_three_attempts(seed: int, answer: Judgement) -> None:
    one = schedule(job("a"), seed=seed)
    now = 0.0
    for attempt in range(1, ATTEMPTS):
        [task] = start(one, now)
        assert one.settle(task, answer, now) == []
        at = one.wakes_at(now)
        assert at is not None
        assert 0.5 * 2**attempt <= at - now <= 2**attempt
        now = at
    [task] = start(one, now)
    assert ends(one.settle(task, answer, now)) == {"a": answer.verdict}
    assert one.wakes_at(now) is None


def test_rows_that_failed_at_once_do_not_come_back_at_once() -> None:
    def wakes_at(seed: int) -> float | None:
        one = schedule(job("a"), seed=seed)
        [task] = start(one)
        one.settle(task, NO_CONNECTION, 0.0)
        return one.wakes_at(0.0)

    assert len(set(map(wakes_at, range(9)))) == 9


def test_a_refusal_that_waiting_does_not_fix_is_not_tried_again() -> None:
    one = schedule(job("paused"))
    [task] = start(one)
    assert ends(one.settle(task, Judgement(Verdict.NOT_ACTED, status=400), 0.0)) == {"paused": Verdict.NOT_ACTED}


# A lost answer


def resends(one: Task, answer: Judgement = SILENCE) -> int:
    """How often the token goes out again within the run while no answer comes."""
    run = schedule(one)
    [task] = start(run)
    count = 0
    while not run.settle(task, answer, float(count)):
        [again] = start(run, float(count))
        assert again is task
        count += 1
    return count


def test_a_lost_answer_is_asked_for_once_more_at_once_where_replay_is_once() -> None:
    assert resends(job("a", 50, provider(replay="once"))) == 1


def test_where_replay_is_safe_a_lost_answer_is_asked_for_at_once_and_then_with_back_off() -> None:
    """A grace window is often shorter than the time to the next run."""
    one = schedule(job("a", 50, provider(replay="safe")))
    [task] = start(one)
    assert one.settle(task, SILENCE, 0.0) == []
    assert started(one, 0.0) == ["a"]
    assert one.settle(task, SILENCE, 0.0) == []
    assert started(one, 0.0) == []
    assert started(one, 4.0) == ["a"]
    [settled] = one.settle(task, SILENCE, 4.0)
    assert (settled, task.attempts) == (task, ATTEMPTS)


def test_where_replay_kills_the_family_it_goes_out_again_only_in_the_last_minute() -> None:
    family = provider(replay="last_minute")
    assert resends(job("a", 66, family)) == 0
    assert resends(job("a", 64, family)) == 1
    assert resends(job("a", None, family)) == 1


def test_in_a_window_it_goes_out_again_at_once_whatever_comes_later() -> None:
    family = provider(replay="last_minute", window=30)
    assert resends(job("a", 66, family)) == 1
    assert resends(job("a", 64, family)) == 1
    assert resends(job("a", 66, provider(replay="last_minute", window=14))) == 0


def test_a_token_that_was_held_until_its_window_is_over_does_not_go_out_again() -> None:
    family = provider(replay="last_minute", window=30)
    one = schedule(job("a", 66, family), job("b", 67, family))
    [task, other] = start(one, most=2)
    assert one.settle(task, SILENCE, 1.0) == []
    assert one.settle(other, DEAD, 1.0) == [other]
    one.hold(Hold("acme.example", 28.0, is_broken=True), 1.0)
    assert started(one, 28.9) == []
    assert started(one, 30.0) == []
    assert ends(one.drain()) == {"a": Verdict.UNCLEAR}


def test_a_token_of_a_killed_run_goes_out_between_the_end_of_that_request_and_that_of_the_window() -> None:
    def one(now: float) -> list[str]:
        task = job("a", 66, provider(replay="last_minute", window=30), lost=True)
        task.not_before, task.not_after = 10.0, 30.0
        made = schedule(task)
        assert made.wakes_at(0.0) == 10.0
        return started(made, now)

    assert [one(now) for now in (9.9, 10.0, 29.9, 30.0)] == [[], ["a"], ["a"], []]


def test_an_answer_lost_in_an_earlier_run_leaves_one_request_in_this_one() -> None:
    assert resends(job("a", lost=True)) == 0


def test_an_unusable_answer_with_a_new_refresh_token_forbids_sending_the_old_one_again() -> None:
    half = Judgement(Verdict.UNCLEAR, status=200, brings_refresh_token=True)
    assert resends(job("a", None, provider(replay="safe")), half) == 0


def test_an_unclear_answer_where_tokens_never_change_is_tried_again_with_back_off() -> None:
    one = schedule(job("a", of=provider(rotates="never")))
    [task] = start(one)
    assert one.settle(task, SILENCE, 0.0) == []
    assert started(one, 0.0) == []
    assert not task.is_lost
    assert started(one, 2.0) == ["a"]


def test_an_unusable_answer_of_a_working_server_is_not_asked_for_again_where_tokens_never_change() -> None:
    assert resends(job("a", of=provider(rotates="never")), Judgement(Verdict.UNCLEAR, status=200)) == 0


# The end


def test_drain_settles_what_waits_for_another_attempt() -> None:
    one = schedule(job("a"), job("b", 5))
    [task] = start(one, most=1)
    one.settle(task, NO_CONNECTION, 0.0)
    assert ends(one.drain()) == {"a": Verdict.NOT_ACTED}
    assert left(one) == {"b": ""}
    assert one.drain() == []


def test_drain_settles_refused_rows_whose_probe_was_never_heard() -> None:
    one, _ = refused_first(job("first", 1), job("second", 2))
    assert ends(one.drain()) == {"first": Verdict.CLIENT_REFUSED}


def test_a_request_that_did_not_leave_is_not_begun() -> None:
    one = schedule(job("a"))
    [task] = start(one)
    one.withdraw(task)
    assert left(one) == {"a": ""}
    assert one.drain() == []


def test_a_resend_that_did_not_leave_ends_with_the_first_answer() -> None:
    one = schedule(job("a"))
    [task] = start(one)
    one.settle(task, SILENCE, 0.0)
    [again] = start(one)
    one.withdraw(again)
    assert ends(one.drain()) == {"a": Verdict.UNCLEAR}


# Pauses of other processes


def test_a_client_that_another_process_was_asked_to_pause_is_left_alone() -> None:
    one = schedule(job("a"), job("b", 1, client="other"))
    assert one.hold(Hold("acme.example app", 20.0, is_broken=False), 0.0) == []
    assert one.hold(Hold("nobody.example app", 20.0, is_broken=False), 0.0) == []
    assert one.hold(Hold("nobody.example", 20.0, is_broken=True), 0.0) == []
    assert started(one, 19.0) == ["b"]
    assert one.wakes_at(19.0) == 20.0
    assert started(one, 20.0) == ["a"]
    assert one.take_holds() == []


@pytest.mark.parametrize(("key", "is_broken"), [("acme.example app", False), ("acme.example", True)])
def test_a_pause_of_another_process_that_is_over_holds_nobody_back(key: str, is_broken: bool) -> None:
    one = schedule(job("a"))
    assert one.hold(Hold(key, -1.0, is_broken), 0.0) == []
    [task] = start(one)
    one.settle(task, NO_CONNECTION, 0.0)
    assert one.take_holds() == []  # nor does it count as failures
    assert [again.key for again in start(one, 10.0)] == ["a"]


def test_a_longer_pause_of_another_process_is_left_to_the_next_run() -> None:
    one = schedule(job("a"), job("waits"))
    task = start(one, most=1)[0]
    one.settle(task, NO_CONNECTION, 0.0)
    held = one.hold(Hold("acme.example app", 60.1, is_broken=False), 0.0)
    assert ends(held) == {task.key: NO_CONNECTION.verdict}
    assert started(one, 1000.0) == []
    assert left(one) == {"waits": "Acme asks for a pause"}
    assert one.drain() == []


def test_a_provider_that_failed_elsewhere_gets_one_request_after_its_pause() -> None:
    one = schedule(*(job(str(number), number, failed=True) for number in range(5)))
    one.hold(Hold("acme.example", 60.0, is_broken=True), 0.0)
    assert started(one, 59.0) == []
    assert left(one) == {str(number): "acme.example does not answer" for number in range(5)}
    [task, other] = start(one, 60.0, most=2)
    one.settle(task, NO_CONNECTION, 60.0)
    assert started(one, 1000.0) == []
    assert one.take_holds() == [Hold("acme.example", 60.0, is_broken=True)]
    one.settle(other, GRANTED, 61.0)


def test_a_pause_that_was_asked_for_is_published_once() -> None:
    one = schedule(job("a"), job("b"), job("c"))
    a, b, c = start(one)
    one.settle(a, THROTTLED, 0.0)
    assert one.take_holds() == []
    one.settle(b, THROTTLED, 0.0)
    assert one.take_holds() == [Hold("acme.example app", 20.0, is_broken=False)]
    assert one.take_holds() == []
    one.settle(c, Judgement(Verdict.NOT_ACTED, status=429, retry_after=80_000.0), 30.0)
    assert one.take_holds() == [Hold("acme.example app", 3600.0, is_broken=False)]


ANSWERS = st.builds(
    Judgement,
    st.sampled_from(Verdict),
    brings_refresh_token=st.sampled_from([False, False, True]),
    status=st.sampled_from([None, 200, 400, 401, 429, 500, 503]),
    retry_after=st.sampled_from([None, None, 5.0, 59.0, 61.0]),
)
JOBS = st.builds(
    lambda slug, minutes, client, lost, replay, rotates: (slug, minutes, client, lost, replay, rotates),
    st.sampled_from(["acme", "gohighlevel"]),
    st.sampled_from([None, 1, 30, 64, 66, 200]),
    st.sampled_from(["one", "two"]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["safe", "once", "last_minute"]),
    st.sampled_from(["always", "never"]),
)


class AnyRun(RuleBasedStateMachine):
    """Any answers in any order: each begun row ends exactly once, and none is out twice at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = schedule()
        self.total = 0
        self.flying: list[Task] = []
        self.ended: dict[str, Verdict] = {}
        self.sent: Counter[str] = Counter()
        self.now = 0.0
        self.is_journal_full = False

    @initialize(kinds=st.lists(JOBS, max_size=14), seed=st.integers(0, 9))
    def prepare(self, kinds: list[Any], seed: int) -> None:
        jobs = [
            job(str(number), minutes, provider(slug, rotates, replay), client, lost)
            for number, (slug, minutes, client, lost, replay, rotates) in enumerate(kinds)
        ]
        self.schedule = schedule(*jobs, seed=seed)
        self.total = len(jobs)

    @precondition(lambda self: not self.is_journal_full)
    @rule(count=st.integers(1, 8))
    def begin(self, count: int) -> None:
        for task in start(self.schedule, self.now, count):
            key = task.key
            assert task not in self.flying
            assert key not in self.ended, "begun again after its end"
            assert not (task.answer and task.answer.brings_refresh_token), "a token that has a successor was sent"
            assert not self.schedule._client(task).closed
            self.sent[key] += 1
            assert self.sent[key] <= ATTEMPTS + 1
            self.flying.append(task)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 100), answer=ANSWERS)
    def answer(self, which: int, answer: Judgement) -> None:
        task = self.flying.pop(which % len(self.flying))
        self.end(self.schedule.settle(task, answer, self.now))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 100))
    def withdraw(self, which: int) -> None:
        task = self.flying.pop(which % len(self.flying))
        self.schedule.withdraw(task)
        self.sent[task.key] -= 1
        self.is_journal_full = True

    @precondition(lambda self: not self.flying and not self.is_journal_full)
    @rule()
    def sleep_until_something_can_be_done(self) -> None:
        """A loop that sleeps as long as it is told makes headway: it neither spins nor sleeps for ever."""
        for _ in range(100):
            self.begin(8)
            at = self.schedule.wakes_at(self.now)
            if self.flying or at is None:
                return
            assert at > self.now
            self.now = at
        raise AssertionError("nothing ever starts")

    @rule(
        slug=st.sampled_from(["acme", "gohighlevel"]),
        seconds=st.sampled_from([-1.0, 5.0, 61.0]),
        is_broken=st.booleans(),
    )
    def another_process_was_asked(self, slug: str, seconds: float, is_broken: bool) -> None:
        key = f"{slug}.example" + ("" if is_broken else " one")
        self.end(self.schedule.hold(Hold(key, seconds, is_broken), self.now))

    @rule(seconds=st.sampled_from([0.1, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def end(self, settled: list[Task]) -> None:
        for key, verdict in ends(settled).items():
            assert key not in self.ended, "settled twice"
            self.ended[key] = verdict

    def teardown(self) -> None:
        for task in self.flying:
            self.end(self.schedule.settle(task, DEAD, self.now))
        self.end(self.schedule.drain())
        begun = {key for key, count in self.sent.items() if count > 0}
        assert begun == set(self.ended)
        assert set(left(self.schedule)) == {str(number) for number in range(self.total)} - begun
        assert self.schedule.drain() == []


TestAnyRun = AnyRun.TestCase
TestAnyRun.settings = settings(max_examples=settings().max_examples * 3 // 2, stateful_step_count=30)


@given(kinds=st.lists(JOBS, max_size=20), answers=st.randoms(use_true_random=False), width=st.integers(1, 16))
def test_a_run_to_the_end_starts_every_row_or_says_why_not(
    kinds: list[Any], answers: random.Random, width: int
) -> None:
    jobs = [job(str(number), *_of(kind)) for number, kind in enumerate(kinds)]
    one = schedule(*jobs)
    likely = [GRANTED] * answers.choice([1, 20]) + [REFUSED, DEAD, NO_CONNECTION, SILENCE, THROTTLED]
    verdicts: dict[str, Verdict] = {}
    flying: list[Task] = []
    now: float | None = 0.0
    while now is not None:
        flying += start(one, now, width - len(flying))
        if not flying:
            now = one.wakes_at(now)
            continue
        task = flying.pop(answers.randrange(len(flying)))
        for key, verdict in ends(one.settle(task, answers.choice(likely), now)).items():
            assert key not in verdicts
            verdicts[key] = verdict
    verdicts |= ends(one.drain())
    not_begun = left(one)
    assert sorted([*verdicts, *not_begun]) == sorted(str(number) for number in range(len(jobs)))
    assert all(not_begun.values())


def _of(kind: Any) -> tuple[Any, ...]:
    slug, minutes, client, lost, replay, rotates = kind
    return minutes, provider(slug, rotates, replay), client, lost
