"""Which rows are one too many: two would spend one refresh token for each other."""

from __future__ import annotations

import dataclasses
import json

from tests.refresh.test_jobs import LEGACY_CELL, job, row
from token_refresh.refresh.duplicates import duplicates_among
from token_refresh.refresh.jobs import UnusableRow
from token_refresh.stores.base import Row


def apart(*stored: Row) -> tuple[list[str], list[UnusableRow]]:
    """The keys of the rows that stay, and the faults of the others."""
    faults = duplicates_among(job(one) for one in stored)
    return [one.key for one in stored if one.key not in faults], list(faults.values())


def named(faults: list[UnusableRow], *stored: Row) -> None:
    """Every fault names every one of these rows."""
    assert {one.row.key for one in faults} == {one.key for one in stored}
    for one in faults:
        assert all(f"row {other.key}" in str(one.error) for other in stored)
        assert one.error.action == "Delete all but one."


def test_different_rows_all_stay() -> None:
    stored = [row(f"refresh-{number}", location_id=f"loc{number}") for number in range(5)]
    assert apart(*stored) == ([one.key for one in stored], [])


def test_one_identity_twice_is_not_sent_and_both_rows_are_named() -> None:
    first, second, other = row("refresh-1"), row("refresh-2"), row("refresh-3", location_id="other")
    stay, faults = apart(first, other, second)
    assert stay == [other.key]
    named(faults, first, second)
    assert "location and provider" in str(faults[0].error)


def test_the_default_provider_named_and_unnamed_is_one_identity() -> None:
    stay, faults = apart(row("refresh-1", provider=""), row("refresh-2", provider="acme"))
    assert stay == []
    assert len(faults) == 2


def test_one_location_at_two_providers_is_no_duplicate() -> None:
    assert apart(row("refresh-1"), row("refresh-1", provider="never"))[1] == []


def test_one_token_in_two_rows_is_not_sent_though_it_was_re_encrypted() -> None:
    first, second = row(location_id="one"), row(location_id="two")
    assert first.encrypted_refresh != second.encrypted_refresh
    stay, faults = apart(first, second)
    assert stay == []
    named(faults, first, second)
    assert "refresh token" in str(faults[0].error)
    assert all("refresh-1" not in str(one.error) for one in faults)


def test_one_token_under_two_paths_of_one_host_is_a_duplicate_too() -> None:
    params = {name: json.dumps({"tenant": name}) for name in ("one", "two")}
    first, second = (
        row(location_id=name, provider="tenant", origin="https://acme.example", provider_params=cell)
        for name, cell in params.items()
    )
    named(apart(first, second)[1], first, second)


def test_the_same_token_text_at_two_hosts_is_no_duplicate() -> None:
    elsewhere = row(location_id="two", provider="audience", provider_params='{"audience": "a"}')
    assert apart(row(location_id="one"), elsewhere)[1] == []


def test_a_token_that_never_changes_may_be_shared_but_not_its_cell() -> None:
    first, second = row(location_id="one", provider="never"), row(location_id="two", provider="never")
    assert apart(first, second)[1] == []
    copied = dataclasses.replace(row("refresh-2", provider="never"), encrypted_refresh=LEGACY_CELL)
    again = dataclasses.replace(row("refresh-3", provider="never", location_id="loc2"), encrypted_refresh=LEGACY_CELL)
    stay, faults = apart(first, copied, again)
    assert stay == [first.key]
    named(faults, copied, again)


def test_three_of_a_kind_all_stay_away_each_reported_once() -> None:
    stored = [row(location_id=name) for name in ("one", "two", "three")]
    stay, faults = apart(*stored)
    assert stay == []
    named(faults, *stored)
    assert len(faults) == 3


def test_a_chain_of_different_likenesses_takes_every_row_away_once() -> None:
    first = row("refresh-1", location_id="one")
    middle = row("refresh-1", location_id="two")  # the first one's token, the last one's identity
    last = row("refresh-2", location_id="two")
    stay, faults = apart(first, middle, last)
    assert stay == []
    assert sorted(one.row.key for one in faults) == sorted(one.key for one in (first, middle, last))
