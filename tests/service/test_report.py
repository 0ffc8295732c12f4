"""The report: what its charts count, in which order its clients stand, and that it is whole by itself."""

from __future__ import annotations

import re
from datetime import date, timedelta

from tests.service.test_rendering import Shape
from tests.service.views import view
from tests.world.clock import START
from token_refresh.service.report import DAYS, HOURS, report

TODAY = START.date()


def written(*views: object, results: tuple[tuple[date, str, dict[str, int]], ...] = ()) -> str:
    """A report."""
    return "".join(report(views, results, START))  # type: ignore[arg-type]


def bars(page: str, chart: str) -> list[str]:
    """What each column of a chart says."""
    [section] = re.findall(rf'<section aria-labelledby="{chart}">.*?</section>', page, re.DOTALL)
    return re.findall("<title>(.*?)</title>", section)


def test_each_token_is_counted_in_the_hour_in_which_it_ends() -> None:
    hours = bars(written(view(), view(expires_at=START + timedelta(hours=47, minutes=59))), "hours")
    assert len(hours) == HOURS
    assert hours[0] == "2026-03-01 12:00: 1 that a refresh renews before, 0 that only a login renews"
    assert hours[-1].startswith("2026-03-03 11:00: 1 ")


def test_tokens_beyond_two_days_expired_ones_and_disabled_clients_are_not_on_the_timeline() -> None:
    others = [
        view(expires_at=START + timedelta(hours=48)),
        view(expires_at=START - timedelta(minutes=1), state="expired"),
        view(expires_at=None),
        view(status="disabled", state="disabled"),
    ]
    assert not [one for one in bars(written(*others), "hours") if ": 0 " not in one]


def test_a_token_that_only_a_login_renews_is_counted_apart() -> None:
    page = written(view(can_refresh=False), view(state="login_needed"))
    assert bars(page, "hours")[0].endswith(": 0 that a refresh renews before, 2 that only a login renews")


def test_the_refreshes_of_each_of_thirty_days_are_shown_with_those_that_failed() -> None:
    results = (
        (TODAY, "google", {"refreshed": 7, "changed": 1, "transient": 2}),
        (TODAY, "microsoft", {"refreshed": 1, "reauthorize": 1, "operator": 1, "unknown": 1}),
        (TODAY - timedelta(days=DAYS - 1), "google", {"refreshed": 3}),
    )
    page = written(results=results)
    days = bars(page, "days")
    assert len(days) == DAYS
    assert days[0] == "2026-01-31: 3 worked, 0 failed"
    assert days[-1] == "2026-03-01: 8 worked, 5 failed"
    assert "11 worked" in page
    assert re.search(r"google</th><td>10</td><td>2</td>", page)


def test_a_report_without_clients_and_without_history_is_whole() -> None:
    page = written()
    assert (len(bars(page, "hours")), len(bars(page, "days"))) == (HOURS, DAYS)
    assert page.rstrip().endswith("</html>")


def test_clients_that_need_a_person_come_first_and_then_those_whose_token_ends_first() -> None:
    soon, late = START + timedelta(minutes=5), START + timedelta(days=1)
    page = written(
        view(location_id="disabled", state="disabled"),
        view(location_id="later", expires_at=late),
        view(location_id="sooner", expires_at=soon),
        view(location_id="waiting", state=""),
        view(location_id="failing", state="failing"),
        view(location_id="login", state="login_needed"),
        view(location_id="expired", state="expired"),
    )
    named = re.findall(r'<th role="rowheader" scope="row">(\w+)', page)
    assert named == ["expired", "login", "failing", "waiting", "sooner", "later", "disabled"]


def test_nothing_is_loaded_from_anywhere_and_nothing_would_be_allowed_to() -> None:
    page = written(view())
    shape = Shape(page)
    assert not {"script", "link", "img", "form", "button"} & {tag for tag, *_ in shape.tags}
    assert not [one for one in shape.addresses if not one.startswith("#")]
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", page)
