"""What is said of a row that is due."""

from __future__ import annotations

import pytest

from token_refresh.base.events import NoticeCode
from token_refresh.diagnosis.notices import unknown_status_notice
from token_refresh.stores.base import Row


def row_of(status: str) -> Row:
    return Row("1", "loc", "app", status=status)


@pytest.mark.parametrize("status", ["", "active", "reauthorize", "disabled"])
def test_a_known_status_is_not_remarked_upon(status: str) -> None:
    assert unknown_status_notice(row_of(status)) is None


def test_an_unknown_status_counts_as_active_with_a_warning_that_quotes_it() -> None:
    notice = unknown_status_notice(row_of("Paused" + "x" * 100))
    assert notice is not None
    assert (notice.code, notice.location_id) == (NoticeCode.UNKNOWN_STATUS, "loc")
    assert str(notice).startswith("loc: status 'Paused")
    assert notice.message.endswith("counts as active")
    assert len(notice.message) < 100
