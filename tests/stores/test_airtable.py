"""Airtable on a bad day: limits, outages, wrong answers, wrong tables, and who learns what from an error."""

from __future__ import annotations

import base64
import gzip
import json
import math
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.stores.places import AirtablePlace, airtable_options
from tests.world.airtable import AirtableServer, columns, faults
from tests.world.airtable.errors import error as refusal
from tests.world.clock import START, FakeClock
from tests.world.http import HTTPServer, Request, Response
from tests.world.raw import Authority, RawServer, serving_tls
from token_refresh.base.columns import OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from token_refresh.net.watchdog import TimedAdapter
from token_refresh.stores.airtable import AirtableStore
from token_refresh.stores.airtable.store import RECORDS_A_PAGE
from token_refresh.stores.base import (
    STOP_SECONDS,
    Change,
    DueQuery,
    StoreAltersError,
    StoreError,
    StoreQuotaError,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    WriteResult,
    Written,
)

EVERYONE = DueQuery({"google": START + timedelta(hours=2)}, START + timedelta(hours=1), "gohighlevel")


@dataclass
class Scene:
    """A table at Airtable and the store on it."""

    server: AirtableServer
    clock: FakeClock
    place: AirtablePlace
    folder: Path

    @property
    def store(self) -> AirtableStore:
        """The store under test."""
        assert isinstance(self.place.store, AirtableStore)
        return self.place.store

    def reopened(self, **options: Any) -> AirtableStore:
        """Another program on the same table, in the same state folder."""
        return AirtableStore(airtable_options(self.server, self.folder, **options), self.clock)

    def fill(self, count: int) -> list[Change]:
        """So many rows, and a change for each."""
        keys = [self.place.add(row(number)) for number in range(count)]
        return [renewal(key, number) for number, key in enumerate(keys)]

    def calls(self) -> dict[str, int]:
        """Requests since the last question, by kind."""
        counted = dict(self.server.calls)
        self.server.calls.clear()
        return counted


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A table with every column, and a store that knows it already. It is patient, but where an answer hangs."""
    clock, seconds = FakeClock(), 0.15 if "[hang]" in request.node.name else 30.0
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        place = AirtablePlace(server, server.credentials_table(), clock, tmp_path, timeout_seconds=(2, seconds))
        made = Scene(server, clock, place, tmp_path)
        assert made.store.columns
        server.calls.clear()
        yield made
        made.store.close()


def row(number: int, **more: Any) -> dict[str, Any]:
    """A row of the usual kind."""
    return {"locationId": f"loc-{number}", "client_id": "app", "encrypted_refresh": f"old cell {number}"} | more


def renewal(key: str, number: int, **more: Value) -> Change:
    """What a refresh writes."""
    values: dict[str, Value] = {
        "encrypted_refresh": f"new cell {number}",
        "last_access_token": f"access token {number}",
        "access_token_expiry": START + timedelta(hours=3),
    }
    return Change(key, f"old cell {number}", values | more)


def fates(results: list[WriteResult]) -> list[str]:
    """The fates alone."""
    return [result.written.value for result in results]


# Few calls, slowly


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 4.5, 5])
def test_requests_never_come_faster_than_allowed(scene: Scene, limit: float) -> None:
    store = scene.reopened(requests_per_second=limit)
    scene.clock.advance(10)
    changes = scene.fill(35)
    assert set(fates(store.write(changes))) == {"stored"}
    for _ in range(20):
        store.find("loc-1")
    assert scene.server.max_in_window(1.0) <= math.ceil(limit)
    assert scene.server.answers[429] == 0


def test_calls_of_a_run_are_the_fewest_there_can_be(scene: Scene) -> None:
    changes = scene.fill(205)
    due = scene.store.due(EVERYONE)
    assert (len(due), scene.calls()) == (205, {"list": 3})
    scene.store.prove_writable(due[0])
    assert scene.calls() == {"update": 1}
    scene.store.write(changes)
    assert scene.calls() == {"list": 3, "update": 21}
    assert scene.store.due(EVERYONE) == []
    assert scene.calls() == {"list": 1}
    scene.store.read([change.key for change in changes[:100]])
    assert scene.calls() == {"list": 1}
    scene.store.create(row(900))
    assert scene.calls() == {"list": 1, "create": 1}
    assert scene.store.calls == len(scene.server.requests)


def test_only_what_is_asked_for_is_read(scene: Scene) -> None:
    """An access token is some kilobytes, and no listing needs it."""
    scene.place.add(row(1, last_access_token="access token"))
    scene.store.due(EVERYONE)
    list(scene.store.rows())
    asked = [value for request in scene.server.requests for key, value in request.query if key.startswith("fields")]
    assert "encrypted_refresh" in asked
    assert "last_access_token" not in asked


def test_one_providers_rows_are_filtered_at_airtable(scene: Scene) -> None:
    for number in range(150):
        scene.place.add(row(number, provider="google" if number < 3 else ""))
    query = DueQuery({}, START, "gohighlevel", providers=("google",))
    assert (len(scene.store.due(query)), scene.calls()) == (3, {"list": 1})
    query = DueQuery({}, START, "gohighlevel", providers=("gohighlevel",))
    assert (len(scene.store.due(query)), scene.calls()) == (147, {"list": 2})


def test_only_rows_that_may_be_due_are_sent_over_at_all(scene: Scene) -> None:
    """Thousands of rows that wait, are dead or are fresh would cost a call for each hundred of them, every run."""
    soon, later = START + timedelta(hours=1), START + timedelta(hours=5)
    listed: set[str] = set()

    def overheard(_request: Request, act: Callable[[], Response]) -> Response:
        answer = act()
        listed.update(record["id"] for record in json.loads(answer.body)["records"])
        return answer

    scene.place.add(row(1, encrypted_refresh=""))
    scene.place.add(row(2, status="reauthorize"))
    scene.place.add(row(3, status="disabled"))
    scene.place.add(row(4, provider="hourly", access_token_expiry=later))
    keys = {
        scene.place.add(row(5)),
        scene.place.add(row(6, provider="hourly", access_token_expiry=START)),
        scene.place.add(row(7, provider="daily", access_token_expiry=later)),
    }
    scene.server.inject(overheard, kind="list")
    due = scene.store.due(DueQuery({"hourly": soon, "daily": START + timedelta(hours=9)}, soon, "gohighlevel"))
    assert {one.key for one in due} == listed == keys


def test_a_filter_too_long_for_an_address_is_posted(scene: Scene) -> None:
    locations = tuple(f"location number {number:05}" for number in range(600))
    key = scene.place.add(row(1, locationId=locations[77]))
    scene.server.inject(faults.status(503), kind="list", method="POST")
    store = scene.reopened()  # which has the usual patience: on a busy machine the fake takes its time over so much
    found = store.due(DueQuery({}, START, "gohighlevel", locations=locations))
    store.close()
    assert [one.key for one in found] == [key]
    assert scene.server.answers[414] == 0
    posted = [request for request in scene.server.requests if request.method == "POST"]
    assert [request.path.rpartition("/")[2] for request in posted] == ["listRecords"] * 2


def test_a_record_that_comes_twice_in_a_listing_is_one_row(scene: Scene) -> None:
    """Pages are read one after the other; the same row twice would look like a forbidden copy."""
    for number in range(150):
        scene.place.add(row(number))

    def with_the_first_again(_request: Request, act: Callable[[], Response]) -> Response:
        page = json.loads(act().body)
        first = scene.place.keys()[0]
        page["records"] += [record for record in scene.place.table.records() if record["id"] == first] * 2
        return Response.of_json(200, page)

    scene.server.inject(with_the_first_again, kind="list", times=2)
    assert len(scene.store.due(EVERYONE)) == 150


# Limits and outages


@pytest.mark.parametrize("plural", [False, True])
def test_a_rate_limit_is_waited_out_in_silence(scene: Scene, plural: bool) -> None:
    scene.server.plural_429 = plural
    scene.server.limiter.restarts = True
    scene.fill(1)
    scene.server.inject(spend_the_limit(scene), kind="list")
    before = scene.clock.slept
    assert len(scene.store.due(EVERYONE)) == 1
    assert 30 <= scene.clock.slept - before < 33
    assert scene.server.answers[429] >= 1
    assert not scene.store.in_trouble


def spend_the_limit(scene: Scene) -> Callable[[Request, Callable[[], Response]], Response]:
    """Somebody else's automations use up the second in which our request comes, and bring the penalty."""

    def spend(_request: Request, _act: Callable[[], Response]) -> Response:
        while scene.server.limiter.admit(scene.server.base_id, 5):
            pass
        return refusal(429, "RATE_LIMIT_REACHED", "Rate limit exceeded. Please try again later").response()

    return spend


@pytest.mark.parametrize("plural", [False, True])
def test_a_spent_quota_is_reported_at_once(scene: Scene, plural: bool) -> None:
    [change] = scene.fill(1)
    scene.server.plural_429 = plural
    scene.server.monthly_calls = 0
    before = scene.clock.slept
    with pytest.raises(StoreQuotaError, match="monthly") as raised:
        scene.store.due(EVERYONE)
    assert "plan" in raised.value.action
    assert scene.clock.slept - before < 1
    assert scene.store.in_trouble
    [result] = scene.store.write([change])
    assert result.written is Written.UNDONE
    assert isinstance(result.error, StoreQuotaError)


def test_a_payment_that_is_required_is_a_spent_quota(scene: Scene) -> None:
    scene.server.inject(faults.refuse(refusal(402, "PAYMENT_REQUIRED")), kind="list")
    with pytest.raises(StoreQuotaError):
        scene.store.due(EVERYONE)


BAD_ANSWERS: dict[str, Callable[[], Any]] = {
    "500": lambda: faults.status(500),
    "502": lambda: faults.status(502),
    "503": lambda: faults.status(503, retry_after=3),
    "reset": faults.reset,
    "hang": lambda: faults.delayed(0.4),
    "HTML": faults.html,
    "empty": faults.empty,
    "no records": faults.without_records,
    "cut": faults.cut,
    "records are none": lambda: faults.answer(Response.of_json(200, {"records": None})),
    "a record alone": lambda: faults.answer(Response.of_json(200, {"id": "rec1", "fields": {}})),
    "a list": lambda: faults.answer(Response.of_json(200, [])),
    "an accepted nothing": lambda: faults.answer(Response.of_json(202, {})),
    "nested beyond reason": lambda: faults.answer(Response(200, b"[" * 200_000)),
    "a redirect": lambda: faults.answer(Response(302, b"", {"Location": "/v0/elsewhere"})),
    "a redirect without a place": lambda: faults.answer(Response.of_json(302, {"records": []})),
}


QUICK_ANSWERS = {name: fault for name, fault in BAD_ANSWERS.items() if name != "hang"}  # that one really waits


@pytest.mark.parametrize("fault", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_listing_outlives_a_bad_answer(scene: Scene, fault: Callable[[], Any]) -> None:
    """None of these may read as an empty table: nothing due, exit 0, and every token runs out."""
    scene.fill(120)
    scene.server.inject(fault(), kind="list", times=2)
    assert len(scene.store.due(EVERYONE)) == 120
    assert not scene.store.in_trouble


@pytest.mark.parametrize("fault", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_write_outlives_a_bad_answer(scene: Scene, fault: Callable[[], Any]) -> None:
    changes = scene.fill(12)
    scene.server.inject(fault(), kind="update", times=2)
    assert set(fates(scene.store.write(changes))) == {"stored"}
    assert {scene.place.cells(change.key)["encrypted_refresh"][:8] for change in changes} == {"new cell"}
    assert not scene.store.in_trouble


@pytest.mark.parametrize("fault", QUICK_ANSWERS.values(), ids=QUICK_ANSWERS)
def test_an_outage_is_waited_for_two_minutes(scene: Scene, fault: Callable[[], Any]) -> None:
    scene.fill(1)
    scene.calls()
    scene.server.inject(fault(), kind="list", times=None)
    started = scene.clock.monotonic()
    with pytest.raises(StoreUnavailableError) as raised:
        scene.store.due(EVERYONE)
    assert raised.value.action
    assert 60 < scene.clock.monotonic() - started <= 121
    assert scene.store.in_trouble
    assert scene.calls()["list"] <= 12
    scene.server.faults.clear()
    assert len(scene.store.due(EVERYONE)) == 1
    assert not scene.store.in_trouble


def test_who_says_how_long_an_outage_lasts_is_not_asked_before(scene: Scene) -> None:
    scene.fill(1)
    scene.server.inject(faults.status(503, retry_after=50), kind="list")
    started = scene.clock.monotonic()
    assert len(scene.store.due(EVERYONE)) == 1
    assert 50 <= scene.clock.monotonic() - started < 51


def test_without_other_limits_no_request_lasts_for_ever(scene: Scene) -> None:
    """A store that accepts a connection and then says nothing must not hold up the runs of a night."""
    options = airtable_options(scene.server, scene.folder)
    assert (options.timeout_seconds, options.answer_seconds) == ((10, 60), 45.0)


def test_an_answer_to_a_write_that_confirms_nothing_is_no_confirmation(scene: Scene) -> None:
    [change] = scene.fill(1)
    scene.server.inject(faults.answer(Response.of_json(200, {"records": []})), kind="update")
    assert fates(scene.store.write([change])) == ["undone"]
    assert fates(scene.store.write([change])) == ["stored"]


def test_an_outage_of_writing_alone_is_trouble_all_the_while(scene: Scene) -> None:
    """Between two attempts the rows are read again, which works: nothing may be refreshed on the strength of that."""
    changes = scene.fill(250)
    scene.calls()
    seen: list[bool] = []
    scene.server.on_request = lambda request: seen.append(scene.store.in_trouble)
    scene.server.inject(faults.status(503), kind="update", times=None)
    started = scene.clock.monotonic()
    assert set(fates(scene.store.write(changes))) == {"undone"}
    assert scene.clock.monotonic() - started <= 125  # not two minutes for every hundred
    assert seen[2:] == [True] * len(seen[2:])
    assert scene.store.in_trouble
    calls = scene.calls()
    assert calls["update"] + calls["list"] <= 24
    scene.server.faults.clear()
    assert set(fates(scene.store.write(changes))) == {"stored"}
    assert not scene.store.in_trouble


def test_trouble_ends_with_a_write_that_turns_out_to_be_done(scene: Scene) -> None:
    """Applied, never acknowledged, and nothing left to send: the store is well, and the next outage is a new one."""
    changes = scene.fill(3)
    scene.server.inject(faults.unacknowledged(), kind="update")
    assert fates(scene.store.write(changes)) == ["stored"] * 3
    assert scene.calls()["update"] == 1
    assert not scene.store.in_trouble
    scene.clock.advance(3600)
    scene.server.inject(faults.status(503), kind="update", times=2)
    [row_] = scene.store.find("loc-1")
    scene.store.prove_writable(row_)
    assert not scene.store.in_trouble


def test_proving_waits_out_an_outage_too(scene: Scene) -> None:
    scene.fill(1)
    [row_] = scene.store.due(EVERYONE)
    scene.server.inject(faults.rate_limited(), kind="update", times=2)
    scene.store.prove_writable(row_)
    assert scene.server.calls["update"] == 3
    scene.server.inject(faults.status(500), kind="update", times=None)
    with pytest.raises(StoreUnavailableError):
        scene.store.prove_writable(row_)


def test_a_dead_iterator_restarts_the_listing(scene: Scene) -> None:
    scene.fill(250)
    dead = faults.refuse(refusal(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"))
    scene.server.inject(dead, kind="list", nth=3)
    assert len({one.key for one in scene.store.due(EVERYONE)}) == 250
    assert scene.calls() == {"list": 6}
    scene.server.inject(dead, kind="list", times=None, when=lambda request: "offset" in dict(request.query))
    with pytest.raises(StoreUnavailableError, match="half-way"):
        scene.store.due(EVERYONE)


def test_a_create_is_sent_again_only_where_it_was_certainly_not_done(scene: Scene) -> None:
    scene.server.inject(faults.rate_limited(), kind="create")
    key = scene.store.create(row(1))
    assert scene.place.keys() == [key]
    assert scene.calls()["create"] == 2
    scene.server.inject(faults.reset(), kind="create")
    with pytest.raises(StoreUnavailableError):
        scene.store.create(row(2))
    assert scene.place.keys() == [key]
    assert scene.calls()["create"] == 1


# Writes in company


def test_one_bad_row_does_not_keep_nine_out(scene: Scene) -> None:
    changes = scene.fill(10)
    changes[4] = renewal(changes[4].key, 4, status="a status that is no option")
    scene.calls()
    results = scene.store.write(changes)
    assert fates(results) == ["stored"] * 4 + ["refused"] + ["stored"] * 5
    assert isinstance(results[4].error, StoreRefusedError)
    assert "select" in str(results[4].error)
    assert "reauthorize" in results[4].error.action
    assert scene.place.cells(changes[4].key)["encrypted_refresh"] == "old cell 4"
    assert scene.calls()["update"] == 11


def test_a_bad_row_by_itself_is_sent_once(scene: Scene) -> None:
    [change] = scene.fill(1)
    assert fates(scene.store.write([renewal(change.key, 0, status="odd")])) == ["refused"]
    assert scene.calls()["update"] == 1


def test_a_batch_too_large_goes_row_by_row(scene: Scene) -> None:
    changes = scene.fill(4)
    too_large = faults.refuse(refusal(413, "REQUEST_TOO_LARGE"))
    scene.server.inject(too_large, kind="update", times=None, when=lambda request: len(request.json()["records"]) > 1)
    assert fates(scene.store.write(changes)) == ["stored"] * 4


def test_a_refused_value_names_its_column(scene: Scene) -> None:
    [change] = scene.fill(1)
    [result] = scene.store.write([renewal(change.key, 0, failure_count="many")])
    assert "failure_count" in str(result.error)


def test_an_outage_among_single_rows_forgets_none_that_was_stored(scene: Scene) -> None:
    changes = scene.fill(6)
    changes[0] = renewal(changes[0].key, 0, status="odd")
    scene.server.inject(faults.status(500), kind="update", nth=4, times=None)
    results = scene.store.write(changes)
    assert fates(results) == ["refused", "stored"] + ["undone"] * 4
    scene.server.faults.clear()
    assert fates(scene.store.write(changes)) == ["refused"] + ["stored"] * 5


def test_a_row_deleted_between_reading_and_writing_is_gone(scene: Scene) -> None:
    changes = scene.fill(3)
    scene.server.on_request = just_before("PATCH", lambda: scene.place.remove(changes[1].key))
    assert fates(scene.store.write(changes)) == ["stored", "gone", "stored"]


def just_before(method: str, act: Callable[[], Any]) -> Callable[[Request], None]:
    """A person is quicker than the first request of a method."""
    done = threading.Event()

    def look(request: Request) -> None:
        if request.method == method and not done.is_set():
            done.set()
            act()

    return look


def test_an_old_comparison_is_made_again(scene: Scene) -> None:
    """Airtable cannot write on a condition: the shorter the time since the row was read, the smaller the gap."""
    changes = scene.fill(40)

    def slow(request: Request) -> None:
        if request.method == "PATCH":
            scene.clock.advance(3)
            if len(patches(scene)) == 2:
                scene.place.edit(changes[35].key, encrypted_refresh="onboarded meanwhile")

    scene.server.on_request = slow
    results = scene.store.write(changes)
    assert fates(results) == ["stored"] * 35 + ["changed"] + ["stored"] * 4
    assert scene.place.cells(changes[35].key)["encrypted_refresh"] == "onboarded meanwhile"
    assert scene.calls() == {"list": 2, "update": 4}


def patches(scene: Scene) -> list[Request]:
    """The writes so far."""
    return [request for request in scene.server.requests if request.method == "PATCH"]


@pytest.mark.parametrize("fault", [faults.rate_limited(), faults.status(503), faults.reset()])
def test_what_was_onboarded_while_a_write_waited_stays(scene: Scene, fault: Any) -> None:
    """A penalty lasts 30 s, an outage up to two minutes: the write after it needs a comparison of its own."""
    changes = scene.fill(3)
    scene.server.inject(fault, kind="update")
    edited = threading.Event()

    def edit_during_the_pause(request: Request) -> None:
        if patches(scene) and request.method == "GET" and not edited.is_set():
            edited.set()
            scene.place.edit(changes[1].key, encrypted_refresh="onboarded meanwhile")

    scene.server.on_request = edit_during_the_pause
    assert fates(scene.store.write(changes)) == ["stored", "changed", "stored"]
    assert scene.place.cells(changes[1].key)["encrypted_refresh"] == "onboarded meanwhile"


def test_refusals_slower_than_a_comparison_lasts_come_to_an_end(scene: Scene) -> None:
    changes = [renewal(change.key, number, status="odd") for number, change in enumerate(scene.fill(3))]
    scene.server.on_request = lambda request: scene.clock.advance(7 if request.method == "PATCH" else 0)
    assert fates(scene.store.write(changes)) == ["refused"] * 3


# Columns


def test_columns_are_asked_for_once_a_day(scene: Scene) -> None:
    assert scene.reopened().columns == {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}
    assert scene.calls() == {}
    scene.clock.advance(86_399)
    assert scene.reopened().columns
    assert scene.calls() == {}
    scene.clock.advance(2)
    assert scene.reopened().columns
    assert scene.calls() == {"schema": 1}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"read_at": "x", "columns": []}', '{"read_at": 1e99, "columns": ["a"]}', "\udcff"]
)
def test_a_spoilt_cache_is_asked_for_again(scene: Scene, content: str) -> None:
    (scene.folder / "columns.json").write_bytes(content.encode(errors="surrogateescape"))
    assert len(scene.reopened().columns) == 14
    assert scene.calls() == {"schema": 1}


def test_a_cache_from_the_future_is_not_believed(scene: Scene) -> None:
    """The clock was wrong when it was written."""
    kept = {"read_at": (START + timedelta(days=400)).timestamp(), "columns": [*REQUIRED_COLUMNS]}
    (scene.folder / "columns.json").write_text(json.dumps(kept))
    assert len(scene.reopened().columns) == 14


def test_a_cache_that_cannot_be_written_stops_nothing(scene: Scene) -> None:
    scene.fill(1)
    store = scene.reopened(schema_file=scene.folder / "absent" / "columns.json")
    assert len(store.due(EVERYONE)) == 1


def test_a_column_added_or_gone_is_learnt_from_the_refusal(scene: Scene) -> None:
    [change] = scene.fill(1)
    scene.place.table.remove_column("last_error")
    assert len(scene.store.due(EVERYONE)) == 1
    assert scene.calls() == {"list": 2, "schema": 1}
    assert "last_error" not in scene.store.columns
    scene.place.table.remove_column("refreshed_by")
    change = renewal(change.key, 0, last_error="x", refreshed_by="host", failure_count=1)
    assert fates(scene.store.write([change])) == ["stored"]
    assert scene.place.cells(change.key)["failure_count"] == 1
    assert scene.reopened().columns == scene.store.columns


def test_a_renamed_required_column_is_named_and_asked_for_once(scene: Scene) -> None:
    changes = scene.fill(2)
    scene.place.table.rename_column("encrypted_refresh", "refresh (old)")
    with pytest.raises(StoreRefusedError, match="encrypted_refresh") as raised:
        scene.store.due(EVERYONE)
    assert "docs/airtable.md" in raised.value.action
    assert sum(scene.calls().values()) <= 3
    results = scene.store.write(changes)
    assert fates(results) == ["undone", "undone"]
    assert isinstance(results[0].error, StoreRefusedError)


def test_a_column_that_schema_shows_and_data_refuses_ends_in_words(scene: Scene) -> None:
    """The two endpoints disagree: learning again must not go round for ever, nor hide what was said."""
    scene.fill(1)
    unknown = refusal(422, "UNKNOWN_FIELD_NAME", 'Unknown field name: "status"')
    scene.server.inject(faults.refuse(unknown), kind="list", times=None)
    with pytest.raises(StoreRefusedError, match="status"):
        scene.store.due(EVERYONE)
    assert scene.calls() == {"list": 2, "schema": 1}


@pytest.mark.parametrize("six", [True, False])
def test_a_token_without_schema_scope_learns_the_columns(tmp_path: Path, six: bool) -> None:
    clock = FakeClock()
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        server.six_column_table() if six else server.credentials_table()
        server.add_token("pat-data", scopes={"data.records:read", "data.records:write"})
        store = AirtableStore(airtable_options(server, tmp_path, api_key="pat-data"), clock)
        assert store.columns == {*REQUIRED_COLUMNS, *(() if six else OPTIONAL_COLUMNS)}
        again = AirtableStore(airtable_options(server, tmp_path, api_key="pat-data"), clock)
        before = len(server.requests)
        assert again.columns == store.columns
        assert len(server.requests) == before


def test_a_missing_required_column_is_named_without_schema_scope_too(tmp_path: Path) -> None:
    clock = FakeClock()
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        table = server.six_column_table()
        table.rename_column("locationId", "Location")
        server.add_token("pat-data", scopes={"data.records:read", "data.records:write"})
        options = airtable_options(server, tmp_path, api_key="pat-data")
        with pytest.raises(StoreRefusedError, match="locationId"):
            AirtableStore(options, clock).due(EVERYONE)
        table.add({"Location": "loc-1", "encrypted_refresh": "cell"})
        store = AirtableStore(airtable_options(server, tmp_path, api_key="pat-data", id_field="Location"), clock)
        assert [one.location_id for one in store.due(EVERYONE)] == ["loc-1"]
        assert [one.location_id for one in store.find("loc-1")] == ["loc-1"]
        assert store.create({"locationId": "loc-2", "encrypted_refresh": "x"}) in table.find(Location="loc-2")


@pytest.mark.parametrize(
    ("column", "mend"),
    [
        (columns.rich_text("encrypted_refresh"), "without rich text"),
        (columns.text("access_token_expiry"), "a date that includes a time"),
        (columns.last_modified_time("last_refreshed"), "a date that includes a time"),
        (columns.text("failure_count"), "a number"),
        (columns.formula("status", '"active"'), "single select"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_column_of_the_wrong_type_is_refused_before_anything_is_lost(
    tmp_path: Path, column: columns.Column, mend: str
) -> None:
    """Rich text would give cells back changed; a computed column would refuse every write."""
    clock = FakeClock()
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        server.credentials_table(instead=[column])
        with pytest.raises(StoreRefusedError, match=column.name) as raised:
            AirtableStore(airtable_options(server, tmp_path), clock).due(EVERYONE)
        assert mend in raised.value.action


def test_a_column_that_vanishes_before_a_create_is_not_silently_left_out(scene: Scene) -> None:
    """Without its provider the row would become the default provider's."""
    scene.place.table.remove_column("provider")
    with pytest.raises(StoreRefusedError, match="provider"):
        scene.store.create(row(1, provider="google"))
    assert scene.place.keys() == []


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Makes a table with odd columns for a token that does not see the schema."""
    clock = FakeClock()
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        server.add_token(server.token, scopes={"data.records:read", "data.records:write"})

        def make(*instead: columns.Column) -> Scene:
            place = AirtablePlace(server, server.credentials_table(instead=instead), clock, tmp_path)
            return Scene(server, clock, place, tmp_path)

        yield make


def test_a_write_that_comes_back_changed_is_undone_and_no_other_is_sent(blind: Callable[..., Scene]) -> None:
    scene = blind(columns.day("access_token_expiry"))
    changes = scene.fill(25)
    results = scene.store.write(changes)
    assert set(fates(results)) == {"undone"}
    assert {type(result.error) for result in results} == {StoreAltersError}
    assert "access_token_expiry" in str(results[0].error)
    assert {scene.place.cells(change.key)["encrypted_refresh"][:8] for change in changes} == {"old cell"}
    assert scene.calls()["update"] == 2  # the first ten, and the cells that they had


def test_a_change_is_seen_where_the_answer_to_the_write_was_lost(blind: Callable[..., Scene]) -> None:
    scene = blind(columns.day("access_token_expiry"))
    changes = scene.fill(1)
    scene.server.inject(faults.unacknowledged(), kind="update")
    [result] = scene.store.write(changes)
    assert result.written is Written.UNDONE
    assert isinstance(result.error, StoreAltersError)
    assert scene.place.cells(changes[0].key)["encrypted_refresh"] == "old cell 0"


def test_a_changed_write_is_reported_although_it_cannot_be_taken_back(blind: Callable[..., Scene]) -> None:
    scene = blind(columns.day("access_token_expiry"))
    changes = scene.fill(1)
    scene.server.inject(faults.status(500), kind="update", nth=2, times=None)
    [result] = scene.store.write(changes)
    assert isinstance(result.error, StoreAltersError)


def test_the_proof_of_writability_shows_a_column_that_changes_times(blind: Callable[..., Scene]) -> None:
    scene = blind()
    scene.place.add(row(1, access_token_expiry=START))
    [found] = scene.store.due(EVERYONE)
    scene.place.table.column("access_token_expiry").type = "date"
    with pytest.raises(StoreAltersError, match="access_token_expiry") as raised:
        scene.store.prove_writable(found)
    assert "a date that includes a time" in raised.value.action


def test_rows_that_come_back_changed_are_taken_out_again(blind: Callable[..., Scene]) -> None:
    """And of hundred that an import brings no more are sent."""
    scene = blind(columns.rich_text("encrypted_refresh"))
    errors = scene.store.create_all([row(number, encrypted_refresh="a_b") for number in range(25)])
    assert {type(error) for error in errors} == {StoreAltersError}
    assert scene.place.keys() == []
    assert scene.calls()["create"] == 1
    with pytest.raises(StoreAltersError, match="encrypted_refresh"):
        scene.store.create(row(1, encrypted_refresh="no sign of Markdown"))
    assert scene.place.keys() == []


def test_a_schema_that_was_kept_is_asked_for_again_after_a_change(scene: Scene) -> None:
    [change] = scene.fill(1)
    column = scene.place.table.column("access_token_expiry")
    column.type, column.options = "date", {}
    [result] = scene.store.write([change])
    assert isinstance(result.error, StoreAltersError)
    with pytest.raises(StoreRefusedError, match="has the type date"):
        assert scene.reopened().columns


def test_a_missing_option_costs_one_more_write_and_is_known_to_the_next_program(blind: Callable[..., Scene]) -> None:
    scene = blind(columns.single_select("status", "active"))
    changes = [renewal(change.key, number, status="reauthorize") for number, change in enumerate(scene.fill(20))]
    assert set(fates(scene.store.write(changes))) == {"stored"}
    assert scene.calls()["update"] == 3
    again = scene.reopened()
    assert again.columns
    assert again.journalled_columns == {"status"}
    [(what, action)] = again.warnings()
    assert "no option reauthorize" in what
    assert "Add the option reauthorize" in action


# Who may not


@pytest.mark.parametrize("sees_schema", [True, False])
@pytest.mark.parametrize(
    ("wrong", "said", "mend"),
    [
        ({"table_name": "Secrets"}, ("no table 'Secrets'", "APISecrets", "may not read"), "AIRTABLE_TABLE_NAME"),
        ({"base_id": "appNobodysBase000"}, ("no such base",), "AIRTABLE_BASE_ID"),
        ({"api_key": "pat-wrong"}, ("does not accept AIRTABLE_API_KEY",), "personal access token"),
    ],
)
def test_a_wrong_name_is_reported_with_its_fix(
    scene: Scene, sees_schema: bool, wrong: dict[str, str], said: tuple[str, ...], mend: str
) -> None:
    if not sees_schema:
        scene.server.add_token(scene.server.token, scopes={"data.records:read", "data.records:write"})
    store = scene.reopened(schema_file=scene.folder / "other.json", **wrong)
    with pytest.raises(StoreRefusedError) as raised:
        store.due(EVERYONE)
    assert any(words in str(raised.value) for words in said)
    assert mend in raised.value.action
    assert sum(scene.calls().values()) <= 3
    assert scene.clock.slept < 2


@pytest.mark.parametrize("scopes", [{"data.records:read", "schema.bases:read"}, {"data.records:read"}])
def test_a_token_that_may_not_write_is_found_out_before_anything_is_refreshed(scene: Scene, scopes: set[str]) -> None:
    scene.fill(1)
    scene.server.add_token(scene.server.token, scopes=scopes)
    [row_] = scene.store.due(EVERYONE)
    with pytest.raises(StoreRefusedError, match="may not") as raised:
        scene.store.prove_writable(row_)
    assert "data.records:write" in raised.value.action


def test_a_user_without_editor_rights_is_found_out_too(scene: Scene) -> None:
    scene.fill(1)
    scene.server.add_token(scene.server.token, role="read")
    [row_] = scene.store.due(EVERYONE)
    with pytest.raises(StoreRefusedError, match="may not"):
        scene.store.prove_writable(row_)


# The machine around us


def test_a_hostile_environment_has_no_effect(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable would see every cell; a .netrc would replace our token; a foreign CA would let others read."""
    scene.fill(1)
    netrc = scene.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password eve\ndefault login eve password eve\n")
    netrc.chmod(0o600)
    with HTTPServer(lambda request: Response.of_json(200, {"records": []})) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(scene.folder / "no-such-bundle.pem"))
        monkeypatch.setenv("AIRTABLE_ENDPOINT_URL", proxy.url)
        assert len(scene.reopened().due(EVERYONE)) == 1
        assert proxy.requests == []
    eve = base64.b64encode(b"eve:eve").decode()
    assert {request.headers["authorization"] for request in scene.server.requests} == {f"Bearer {scene.server.token}"}
    assert all(eve not in str(request.headers) for request in scene.server.requests)


def _saying(server: Callable[[], RawServer], answer: bytes, then: bytes = b"") -> Callable[[Any], None]:
    """Answers each request with the same bytes, then goes on in bits until the other side has gone."""

    def console(sock: socket.socket) -> None:
        server().read_request(sock)
        sock.sendall(answer)
        until = time.monotonic() + 5
        while then and time.monotonic() < until:
            sock.sendall(then)
            time.sleep(0.01 if len(then) < 100 else 0)

    return console


def test_tls_keys_are_written_nowhere_and_only_the_named_authority_counts(
    scene: Scene, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSLKEYLOGFILE` would let whoever reads that file read our token off the wire."""
    keys = scene.folder / "session-keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    (scene.folder / "columns.json").unlink()
    answer = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}"
    with serving_tls(authority, _saying(lambda: server, answer)) as server:
        url = server.url.removesuffix("/token")
        with pytest.raises(StoreUnavailableError):
            scene.reopened(endpoint_url=url).due(EVERYONE)
        assert server.received == b""
        with pytest.raises(StoreRefusedError, match="AIRTABLE_API_KEY"):
            scene.reopened(endpoint_url=url, ca_bundle=authority.bundle).due(EVERYONE)
    assert b"Bearer" in server.received
    assert not keys.exists()


def test_a_bundle_without_certificates_sends_nothing_and_is_named(scene: Scene) -> None:
    bundle = scene.folder / "bundle.pem"
    bundle.write_text("no certificate")
    (scene.folder / "columns.json").unlink()
    with RawServer(lambda _: None) as server, pytest.raises(StoreRefusedError, match="CA_BUNDLE"):
        scene.reopened(endpoint_url=f"https://127.0.0.1:{server.port}", ca_bundle=bundle).due(EVERYONE)
    assert server.accepted == 0


BOMB = gzip.compress(b" " * (1 << 20)) * 64
OVERLONG = {
    "a packed bomb": (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB, b""),
    "a drip": (b"Content-Length: 100000\r\n\r\n{", b" "),
    "a drip of chunks": (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
    "headers without end": (b"", b"X-Header: " + b"y" * 1000 + b"\r\n"),
}


@pytest.mark.by_turns("name")
@pytest.mark.parametrize("name", OVERLONG)
def test_an_answer_without_end_costs_bounded_time_and_memory(scene: Scene, name: str) -> None:
    """Airtable, or whatever stands between, must not hold up or fill up the machine of a run."""
    head, then = OVERLONG[name]
    (scene.folder / "columns.json").unlink()
    scene.clock.advance(60)
    with RawServer(_saying(lambda: server, b"HTTP/1.1 200 OK\r\n" + head, then)) as server:
        limit = 0.05 if then else 60.0  # the bomb is to be stopped by its size
        store = scene.reopened(endpoint_url=server.url.removesuffix("/token"), answer_seconds=limit)
        tracemalloc.start()
        started = time.monotonic()
        try:
            with pytest.raises(StoreUnavailableError):
                store.due(EVERYONE)
            assert time.monotonic() - started < 15
            assert tracemalloc.get_traced_memory()[1] < 2.5 * (32 << 20)
        finally:
            tracemalloc.stop()


def test_a_request_under_way_ends_soon_once_somebody_wants_the_end(scene: Scene) -> None:
    """Its headers would be waited for a minute, and its body three quarters of one."""
    arrived, over = threading.Event(), threading.Event()

    def hang(sock: Any) -> None:
        server.read_request(sock)
        arrived.set()
        over.wait(30)

    adapter = TimedAdapter(None, 1)
    (scene.folder / "columns.json").unlink()
    with RawServer(hang) as server, ThreadPoolExecutor(1) as pool:
        url = server.url.removesuffix("/token")
        store = scene.reopened(endpoint_url=url, adapter=adapter, shorten=lambda seconds: adapter.shorten(seconds / 50))
        under_way = pool.submit(store.due, EVERYONE)
        assert arrived.wait(30)
        started = time.monotonic()
        store.hurry()
        with pytest.raises(StoreUnavailableError):
            under_way.result()
        over.set()
    assert time.monotonic() - started < 5
    assert server.accepted == 1  # no outage is waited out


@pytest.mark.parametrize("name", ["a drip", "a drip of chunks", "headers without end"])
def test_the_last_request_ends_before_the_time_to_end_is_over(scene: Scene, name: str) -> None:
    head, then = OVERLONG[name]
    (scene.folder / "columns.json").unlink()
    adapter = TimedAdapter(None, 1)
    with RawServer(_saying(lambda: server, b"HTTP/1.1 200 OK\r\n" + head, then)) as server:
        url = server.url.removesuffix("/token")
        store = scene.reopened(endpoint_url=url, adapter=adapter, shorten=adapter.shorten)
        store.hurry()
        scene.clock.advance(STOP_SECONDS - 2)
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            store.due(EVERYONE)
        assert time.monotonic() - started < 2
        assert server.accepted == 1
        scene.clock.advance(2)
        calls = store.calls
        with pytest.raises(StoreUnavailableError):
            store.due(EVERYONE)
        assert (store.calls, server.accepted) == (calls, 1)


def test_no_pause_of_the_base_is_waited_for_once_somebody_wants_the_end(scene: Scene) -> None:
    scene.fill(1)
    (scene.folder / "pace.json").write_text(json.dumps({"next_at": scene.clock.timestamp() + 100}))
    scene.store.hurry()
    started = scene.clock.monotonic()
    with pytest.raises(StoreUnavailableError):
        scene.store.due(EVERYONE)
    assert scene.clock.monotonic() == started


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["schema", "list", "update", "create"])
def test_a_redirect_is_never_followed(scene: Scene, status: int, kind: str) -> None:
    [change] = scene.fill(1)
    (scene.folder / "columns.json").unlink()
    with HTTPServer(lambda request: Response.of_json(200, {"records": [], "tables": [], "id": "rec"})) as elsewhere:
        there = Response.of_json(status, {}, {"Location": f"{elsewhere.url}/v0/x"})
        scene.server.inject(faults.answer(there), kind=kind, times=None)
        store = scene.reopened()
        if kind == "update":
            assert fates(store.write([change])) == ["undone"]
        else:
            with pytest.raises(StoreUnavailableError):
                store.create(row(2))
        assert elsewhere.requests == []


HOSTILE_NAMES = [
    "' OR '1'='1",
    "'",
    "\\'",
    "\\\\'",
    "\\",
    "a\\",
    "') OR TRUE() OR ('",
    "\\') OR TRUE() OR (\\'",
    '") OR TRUE() OR ("',
    "{locationId}",
    "'&{locationId}&'",
    "' & {client_id} & '",
    "TRUE()",
    "1=1",
    "'=''",
    "''",
    "'+'",
    "';//",
    "'/*",
    "*/'",
    "'\nOR TRUE() OR '",
    "'\tOR TRUE() OR '",
    "'\rOR 1 OR '",
    "\u2019 OR 1=1",
    "\uff07 OR 1=1",
    "' OR {status}!='x' OR '",
    "', 'loc-1",
    "'),RECORD_ID()!=(''",
    "${locationId}",
    "%27 OR %271%27=%271",
    "'; DELETE",
    "BLANK()",
    "ERROR()",
]


def test_rows_of_more_locations_than_one_formula_names_are_found_each_once(scene: Scene) -> None:
    names = [f"loc {number}" for number in range(RECORDS_A_PAGE + 1)]
    keys = [scene.place.add(row(number, locationId=name)) for number, name in enumerate([*names, "another"])]
    found = scene.store.find(*names, " loc 1 ", "nobody")
    assert sorted(row.key for row in found) == sorted(keys[:-1])


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_hostile_name_finds_and_touches_its_own_row_alone(scene: Scene, name: str) -> None:
    """Names go into formulas: in a listing, a search and the look before a create."""
    others = scene.fill(3)
    key = scene.place.add(row(9, locationId=name, provider="google"))
    assert [found.key for found in scene.store.find(name)] == [key]
    query = DueQuery(EVERYONE.cutoffs, EVERYONE.other_cutoff, "gohighlevel", everything=True, locations=(name,))
    assert [found.key for found in scene.store.due(query)] == [key]
    assert fates(scene.store.write([renewal(key, 9)])) == ["stored"]
    assert scene.store.due(replace(query, locations=(), providers=(name,))) == []
    created = scene.store.create({"locationId": name, "encrypted_refresh": "another", "provider": "google"})
    assert sorted(found.key for found in scene.store.find(name)) == sorted([key, created])
    assert [scene.place.touched(change.key) for change in others] == [set()] * 3
    listings = [request for request in scene.server.requests if "filterByFormula" in request.target]
    assert len(listings) >= 5


# What an error gives away


SECRETS = ("secretcell", "secrettoken", "secretplace", "pat-test")


def everything_in(error: BaseException | None) -> Iterator[str]:
    """What a logger or an error tracker may show of an error and of all that is chained to it."""
    while error is not None:
        yield str(error)
        yield repr(error)
        yield repr(error.args)
        for value in (*error.args, *vars(error).values()):
            yield str(value)
            yield repr(getattr(value, "__dict__", ""))
        yield from everything_in(error.__cause__)
        error = error.__context__


ALL_FAULTS: dict[str, Callable[[], Any]] = {
    **QUICK_ANSWERS,
    "401": lambda: faults.refuse(refusal(401, "UNAUTHORIZED", "secretcell secrettoken")),
    "403": lambda: faults.refuse(refusal(403, "INVALID_PERMISSIONS", "secretcell")),
    "404": lambda: faults.refuse(refusal(404, "NOT_FOUND", "secretcell")),
    "413": lambda: faults.refuse(refusal(413, "TOO_LARGE", "secretcell")),
    "418": lambda: faults.refuse(refusal(418, "TEAPOT", "secretcell")),
    "quota": faults.quota_spent,
    "a date quoted": lambda: faults.unprocessable(
        "INVALID_VALUE_FOR_COLUMN", 'Cannot parse date value "secretcell" for field secretcell'
    ),
    "an option quoted": lambda: faults.unprocessable("INVALID_MULTIPLE_CHOICE_OPTIONS", 'select option ""secretcell""'),
    "an odd record": lambda: faults.answer(
        Response.of_json(200, {"records": [{"id": 7, "fields": "secretcell"}], "id": "rec"})
    ),
    "a formula quoted": lambda: faults.unprocessable("INVALID_FILTER_BY_FORMULA", "secretplace is invalid"),
}


@pytest.mark.by_turns("kind")
@pytest.mark.parametrize("fault", ALL_FAULTS.values(), ids=ALL_FAULTS)
@pytest.mark.parametrize("kind", ["list", "update", "create"])
def test_no_error_carries_a_cell_the_token_or_a_formula(scene: Scene, kind: str, fault: Callable[[], Any]) -> None:
    key = scene.place.add(row(1, encrypted_refresh="secretcell", locationId="secretplace"))
    change = Change(key, "secretcell", {"encrypted_refresh": "secretcell2", "last_access_token": "secrettoken"})
    scene.server.inject(fault(), kind=kind, times=None)
    raised: list[BaseException] = []
    if kind == "update":
        raised += [result.error for result in scene.store.write([change]) if result.error is not None]
    else:
        try:
            scene.store.create({"locationId": "secretplace", **change.values})
        except StoreError as error:
            raised.append(error)
    assert raised or fault is BAD_ANSWERS["cut"]
    for one in raised:
        assert isinstance(one, StoreError)
        assert one.action
        shown = "\n".join(everything_in(one))
        assert not [secret for secret in SECRETS if secret in shown], shown


def test_reprs_of_rows_and_changes_hide_the_cells(scene: Scene) -> None:
    scene.place.add(row(1, encrypted_refresh="secretcell", encrypted_secret="secretcell"))
    [found] = scene.store.find("loc-1")
    change = Change(found.key, "secretcell", {"last_access_token": "secrettoken"})
    assert not [secret for secret in SECRETS if secret in f"{found!r} {change!r}"]
