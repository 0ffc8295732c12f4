"""When tokens end, in every way that answers say it: also those that cannot be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.times import LONGEST_LIFETIME_SECONDS, access_end, moment_of, refresh_end
from tests.world.clock import START

HOUR = timedelta(hours=1)
AN_HOUR_ON = START + HOUR
DAY = 86_400.0


@pytest.mark.parametrize(
    "members",
    [
        {"expires_in": 3600},
        {"expires_in": 3600.0},
        {"expires_in": "3600"},
        {"expires_in": " 3600.0 "},
        {"expires_in": AN_HOUR_ON.timestamp()},
        {"expires_in": int(AN_HOUR_ON.timestamp() * 1000)},
        {"expires_in": str(int(AN_HOUR_ON.timestamp()))},
        {"expires_at": int(AN_HOUR_ON.timestamp())},
        {"expires_at": AN_HOUR_ON.isoformat()},
        {"expires_at": "2026-03-01T13:00:00Z"},
        {"expires_at": "2026-03-01T13:00:00"},
        {"expires_at": "2026-03-01 14:00:00+01:00"},
        {"expires_on": str(int(AN_HOUR_ON.timestamp()))},
        {"expires": 3600},
        {"expires": "2026-03-01T13:00:00.000Z"},
        {"expires_in": None, "expires_at": "2026-03-01T13:00:00Z"},
        {"expires_in": 0, "expires_at": "2026-03-01T13:00:00Z"},
        {"expires_in": "soon", "expires": 3600},
    ],
)
def test_an_end_is_read_in_whatever_way_it_is_written(members: dict[str, object]) -> None:
    assert access_end(members, START, DAY).at == AN_HOUR_ON


@pytest.mark.parametrize(
    "members",
    [{}, {"expires_in": None}, {"expires_in": True}, {"expires_in": "soon"}, {"expires_in": [3600]}, {"exp": 3600},
     {"expires_in": -5}, {"expires_in": float("nan")}, {"expires_at": "2026-99-01T00:00:00Z"}, {"expires_in": ""},
     {"expires_in": "٣٦٠٠"}],
)  # fmt: skip
def test_an_answer_that_says_no_end_claims_nothing(members: dict[str, object]) -> None:
    assert access_end(members, START, DAY) == (None, None)


@pytest.mark.parametrize(
    ("members", "claim"),
    [
        ({"expires_in": 0}, "expires_in means 2026-03-01 12:00 UTC"),
        ({"expires_in": DAY + 1}, "expires_in means 2026-03-02 12:00 UTC"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at means 2020-01-01 00:00 UTC"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, None),
        ({"expires_in": float("inf")}, "expires_in means 9999-12-31 23:59 UTC"),
        ({"expires_in": 10**400}, "expires_in means 9999-12-31 23:59 UTC"),
        ({"expires_in": "9" * 18}, "expires_in means 9999-12-31 23:59 UTC"),
    ],
)
def test_an_end_that_cannot_be_is_not_believed_and_is_named(members: dict[str, object], claim: str | None) -> None:
    assert access_end(members, START, DAY) == (None, claim)


@given(seconds=st.integers(1, 10**8), form=st.sampled_from(["in", "at", "ms", "iso", "text"]))
def test_each_way_of_writing_an_end_is_read_as_the_same_time(seconds: int, form: str) -> None:
    end = START + timedelta(seconds=seconds)
    value = {
        "in": seconds, "at": end.timestamp(), "ms": end.timestamp() * 1000, "iso": end.isoformat(),
        "text": f"{seconds}.0",
    }[form]  # fmt: skip
    assert moment_of(value, START) == end


@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2))
def test_whatever_stands_there_is_a_time_in_utc_or_nothing(value: object) -> None:
    moment = moment_of(value, START)
    assert moment is None or (isinstance(moment, datetime) and moment.tzinfo is UTC)
    for end in (access_end({"expires_in": value}, START, DAY).at, refresh_end({"refresh_expires_in": value}, START)):
        assert end is None or START < end <= START + timedelta(seconds=LONGEST_LIFETIME_SECONDS)


@pytest.mark.parametrize(
    "name", ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in", "refresh_token_expires_at"]
)
def test_the_end_of_a_refresh_token_has_many_names(name: str) -> None:
    assert refresh_end({name: 3600}, START) == AN_HOUR_ON
    assert refresh_end({}, START) is None
