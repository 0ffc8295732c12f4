"""Our clock against a provider's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.world.clock import START
from token_refresh.base.checks import BAD, GOOD
from token_refresh.diagnosis.endpoints import check_clock


@pytest.mark.parametrize(("seconds", "state"), [(-61, BAD), (-59, GOOD), (59, GOOD), (61, BAD)])
def test_a_minute_this_way_or_that_is_no_fault_of_a_clock(seconds: int, state: str) -> None:
    assert check_clock(START, START + timedelta(seconds=seconds)).state == state
