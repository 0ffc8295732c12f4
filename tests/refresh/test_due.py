"""What is due: the table of the rules, and what must hold for every lifetime and interval."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.base import Provider, Rotation
from tests.world.clock import START
from token_refresh.refresh.due import DuePolicy, lifetime_of
from token_refresh.stores.base import Row, make_row

HOURLY = DuePolicy(interval=3600, buffer=300)
DAY = 86_400


def provider(lifetime: int | None = DAY, earliest: int = 0, slug: str = "acme") -> Provider:
    return Provider(slug, "Acme", "https://acme.example/token", lifetime=lifetime, earliest=earliest)


def row(left: float | None, lifetime: float | None = None, provider_name: str = "acme") -> Row:
    """A row whose access token lives for `left` more seconds, of `lifetime` since the last refresh."""
    expiry = None if left is None else START + timedelta(seconds=left)
    last = None if expiry is None or lifetime is None else expiry - timedelta(seconds=lifetime)
    return Row(
        "1", "loc", "app", encrypted_refresh="cell", provider=provider_name,
        access_token_expiry=expiry, last_refreshed=last,
    )  # fmt: skip


def due(left: float | None, lifetime: float | None = None, policy: DuePolicy = HOURLY, earliest: int = 0) -> bool:
    return policy.is_due(row(left, lifetime), provider(earliest=earliest), START)


@pytest.mark.parametrize(
    ("lifetime", "window"),
    [
        (86_399, 86_399 / 3),  # a day: a third of the life
        (23_400, 7800),
        (22_500, 7500),  # two intervals and the buffer weigh as much as a third
        (12_000, 7500),
        (8334, 7500),
        (8333, 8333 * 0.9),  # never above nine tenths
        (7200, 6480),
        (3600, 3240),
        (1800, 1620),
        (60, 54),
    ],
)
def test_the_window_follows_from_the_lifetime(lifetime: int, window: float) -> None:
    assert HOURLY.window(lifetime).total_seconds() == pytest.approx(window)


def test_a_token_is_due_below_its_window_and_not_at_it() -> None:
    assert not due(DAY / 3)
    assert due(DAY / 3 - 1)
    assert due(0)
    assert due(-DAY)


def test_the_rows_own_lifetime_counts_before_the_catalogues() -> None:
    assert due(3000, lifetime=3600)
    assert not due(7000, lifetime=7200)
    assert due(7000)  # by the catalogue's day


@pytest.mark.parametrize("lifetime", [0, -60])
def test_a_lifetime_that_makes_no_sense_is_the_catalogues(lifetime: float) -> None:
    assert lifetime_of(row(1000, lifetime), provider()) == DAY
    assert lifetime_of(row(1000), provider()) == DAY
    assert lifetime_of(row(1000), provider(lifetime=None)) == 3600


@pytest.mark.parametrize("cell", [None, "", "soon", "2026-03-01", "2026-03-01T12:00:00", 17, "9999-99-99T00:00:00Z"])
def test_a_missing_or_unreadable_expiry_is_due(cell: object) -> None:
    cells = {"locationId": "loc", "encrypted_refresh": "cell", "access_token_expiry": cell}
    assert HOURLY.is_due(make_row("1", cells.get), provider(), START)


def test_where_a_provider_gives_nothing_to_refresh_with_nothing_is_due() -> None:
    for stored in (row(-DAY), row(None)):
        assert not HOURLY.is_due(stored, replace(provider(), grant="none"), START)


@pytest.mark.parametrize(("left", "expected"), [(31, False), (30, False), (29, True), (0, True)])
def test_a_provider_that_accepts_a_refresh_only_late_is_not_asked_before(left: float, expected: bool) -> None:
    assert due(left, lifetime=600, earliest=30) is expected
    assert due(left, earliest=30) is expected


def test_a_cap_beyond_the_window_changes_nothing() -> None:
    assert HOURLY.window(DAY, earliest=DAY) == HOURLY.window(DAY)


def test_the_last_minute_is_when_the_next_run_would_come_too_late_or_nobody_knows() -> None:
    assert HOURLY.is_last_minute(row(3899), provider(), START)
    assert not HOURLY.is_last_minute(row(3900), provider(), START)
    assert HOURLY.is_last_minute(row(None), provider(), START)


@pytest.mark.parametrize(
    ("lifetime", "expected"), [(3599, 0), (3600, 0), (3601, 0), (4000, 1), (7999, 1), (8000, 2), (DAY, 2)]
)
def test_how_many_runs_come_between_the_time_that_a_token_is_due_and_its_end(lifetime: int, expected: int) -> None:
    assert HOURLY.runs_in(provider(lifetime=lifetime)) == expected


@given(
    interval=st.integers(60, 7 * DAY), buffer=st.integers(0, DAY), lifetime=st.integers(60, 400 * DAY),
    start=st.floats(0, 1),
)  # fmt: skip
@example(interval=3600, buffer=0, lifetime=9000, start=0.25)  # two runs are more than a third of its life
def test_where_two_runs_fit_a_refresh_that_fails_once_is_tried_again_before_the_token_ends(
    interval: int, buffer: int, lifetime: int, start: float
) -> None:
    policy, entry = DuePolicy(interval, buffer), provider(lifetime)
    stored, expiry = row(lifetime, lifetime), START + timedelta(seconds=lifetime)
    runs = policy.runs_in(entry)
    first = START + timedelta(seconds=start * interval)
    count = int((expiry - first) / timedelta(seconds=interval)) + 1
    last = [first + timedelta(seconds=interval) * number for number in range(max(0, count - 3), count)]
    tried = [now for now in last if now < expiry and policy.is_due(stored, entry, now)]
    assert len(tried) >= runs
    if lifetime * 0.9 > 2 * interval:
        assert runs == 2


def ending(left: float, ago: float | None, rotates: Rotation = "always", now: float = 0) -> bool:
    """Whether a row with a fresh access token is due: its refresh token ends in `left` s, and is `ago` s old."""
    last = None if ago is None else START - timedelta(seconds=ago)
    stored = replace(
        row(100 * DAY), refresh_token_expiry=START + timedelta(seconds=left), last_refreshed=last
    )  # fmt: skip
    entry = replace(provider(100 * DAY), rotates=rotates)
    moment = START + timedelta(seconds=now)
    is_due = HOURLY.is_due(stored, entry, moment)
    assert not is_due or HOURLY.query([entry], "acme", moment).admits(stored)
    return is_due


def test_a_refresh_token_that_ends_before_two_more_runs_makes_its_row_due_where_a_refresh_renews_it() -> None:
    assert ending(7499, 30 * DAY)
    assert not ending(7500, 30 * DAY)
    assert ending(7499, 30 * DAY, "sometimes")
    assert not ending(7499, 30 * DAY, "never")
    assert ending(7499, None)


def test_a_refresh_token_that_has_just_come_is_not_due_however_soon_it_ends() -> None:
    assert not ending(3600, 0)
    assert ending(3600, 0, now=400)


def test_an_end_that_a_refresh_has_outlived_makes_nothing_due() -> None:
    assert not ending(-100, 50)
    assert ending(-100, 200)


LIFETIMES = st.integers(1, 10 * 365 * DAY)
POLICIES = st.builds(DuePolicy, interval=st.integers(60, 7 * DAY), buffer=st.integers(0, DAY))


@given(policy=POLICIES, lifetime=LIFETIMES, earliest=st.integers(0, DAY), passed=st.floats(0, 0.09))
def test_nothing_is_due_right_after_its_refresh(policy: DuePolicy, lifetime: int, earliest: int, passed: float) -> None:
    left = lifetime * (1 - passed)
    assert not policy.is_due(row(left), provider(lifetime, earliest), START)
    believed = min(lifetime, provider().longest_lifetime)
    assert not due(believed * (1 - passed), lifetime=believed, policy=policy, earliest=earliest)


@given(policy=POLICIES, catalogue=LIFETIMES, own=st.none() | LIFETIMES, start=st.floats(0, 1))
def test_a_token_that_outlives_two_runs_is_refreshed_before_it_ends(
    policy: DuePolicy, catalogue: int, own: int | None, start: float
) -> None:
    lifetime = own or catalogue
    if lifetime * 0.9 <= 2 * policy.interval:
        return  # it may die between two runs, whatever is done
    entry = provider(catalogue)
    now = START + timedelta(seconds=start * policy.interval)
    stored = row(lifetime, own)
    expiry = START + timedelta(seconds=lifetime)
    for _ in range(2):  # the last two runs that come before the end
        runs = int((expiry - now).total_seconds() // policy.interval)
        now += timedelta(seconds=max(0, runs - 1) * policy.interval)
        seen = policy.query([entry], "acme", now).admits(stored)
        if seen and policy.is_due(stored, entry, now):
            return
        now += timedelta(seconds=policy.interval)
    raise AssertionError("it ended before it was due")


@given(policy=POLICIES, catalogue=LIFETIMES, own=st.none() | LIFETIMES, left=st.floats(-DAY, 10 * DAY))
def test_the_stores_filter_leaves_out_nothing_that_would_end_before_the_next_run(
    policy: DuePolicy, catalogue: int, own: int | None, left: float
) -> None:
    entry, stored = provider(catalogue), row(left, own)
    if policy.is_due(stored, entry, START) and left < 2 * policy.interval + policy.buffer:
        assert policy.query([entry], "acme", START).admits(stored)


@given(policy=POLICIES, lifetime=LIFETIMES, left=st.floats(-DAY, 400 * DAY))
def test_a_row_of_the_catalogues_lifetime_is_in_the_filter_whenever_it_is_due(
    policy: DuePolicy, lifetime: int, left: float
) -> None:
    entry, stored = provider(lifetime), row(left)
    if policy.is_due(stored, entry, START):
        assert policy.query([entry], "acme", START).admits(stored)


def test_the_filter_has_one_cut_off_a_provider_and_one_for_the_rest() -> None:
    entries = [provider(DAY, slug="long"), provider(600, slug="short"), provider(600, earliest=30, slug="late")]
    query = HOURLY.query(entries, "long", START)

    def after(seconds: float) -> datetime:
        return START + timedelta(seconds=seconds)

    assert query.cutoffs == {"long": after(DAY / 3), "Acme": after(DAY / 3), "late": after(30)}
    assert query.other_cutoff == after(7500)  # the short one's, too
    assert query.default_provider == "long"
    assert query.admits(row(DAY / 3 - 1, provider_name=""))
    assert query.admits(row(None, provider_name="nobody"))
