"""The fake Airtable when it refuses for its limits, and when it misbehaves as it is told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from pyairtable import Api
from pyairtable.api.table import Table as Client

from tests.world.airtable import AirtableServer, Table, faults
from tests.world.airtable.limits import RateLimiter


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[AirtableServer]:
    with AirtableServer(clock=clock) as running:
        running.six_column_table()
        yield running


@pytest.fixture
def table(server: AirtableServer) -> Table:
    return server.table("APISecrets")


@pytest.fixture
def client(server: AirtableServer) -> Client:
    return client_of(server)


def client_of(server: AirtableServer, timeout: tuple[float, float] = (5, 5)) -> Client:
    api = Api(server.token, endpoint_url=server.url, timeout=timeout, retry_strategy=None)  # type: ignore[arg-type]
    return api.table(server.base_id, "APISecrets")


def get(server: AirtableServer, path: str = "", token: str = "") -> requests.Response:
    url = f"{server.url}/v0/{path or server.base_id + '/APISecrets'}"
    return requests.get(url, headers={"Authorization": f"Bearer {token or server.token}"}, timeout=5)


def statuses(server: AirtableServer, count: int, path: str = "") -> list[int]:
    return [get(server, path).status_code for _ in range(count)]


# Requests a second


def test_sixth_request_in_a_second_is_429(server: AirtableServer) -> None:
    assert statuses(server, 6) == [200] * 5 + [429]


def test_five_requests_every_second_are_let_through(server: AirtableServer, clock: Clock) -> None:
    for _ in range(4):
        assert statuses(server, 5) == [200] * 5
        clock.seconds += 1
    assert server.max_in_window() == 5


def test_the_second_slides(server: AirtableServer, clock: Clock) -> None:
    statuses(server, 3)
    clock.seconds += 0.9
    assert statuses(server, 2) == [200, 200]
    clock.seconds += 0.2
    assert statuses(server, 4) == [200, 200, 200, 429]


def test_penalty_lasts_30_seconds(server: AirtableServer, clock: Clock) -> None:
    statuses(server, 6)
    clock.seconds += 29.9
    assert statuses(server, 1) == [429]
    clock.seconds += 0.1
    assert statuses(server, 5) == [200] * 5


def test_penalty_can_begin_again_with_each_request(clock: Clock) -> None:
    with AirtableServer(clock=clock, penalty_restarts=True) as server:
        server.six_column_table()
        statuses(server, 6)
        clock.seconds += 29
        assert statuses(server, 1) == [429]
        clock.seconds += 29
        assert statuses(server, 1) == [429]
        clock.seconds += 30
        assert statuses(server, 1) == [200]


def test_refused_request_changes_nothing(server: AirtableServer, client: Client, table: Table) -> None:
    statuses(server, 5)
    with pytest.raises(requests.HTTPError):
        client.create({"locationId": "a"})
    assert len(table) == 0
    assert server.answers[429] == 1


def test_bases_are_limited_apart_and_their_schema_calls_with_them(server: AirtableServer) -> None:
    other = server.create_base("Other").id
    server.create_table("APISecrets", [], other)
    assert statuses(server, 6)[-1] == 429
    assert statuses(server, 1, f"{other}/APISecrets") == [200]
    assert statuses(server, 1, f"meta/bases/{server.base_id}/tables") == [429]
    assert statuses(server, 1, "meta/bases") == [200]


def test_user_is_limited_to_50_requests_a_second_over_all_bases(server: AirtableServer) -> None:
    assert statuses(server, 51, "meta/whoami") == [200] * 50 + [429]
    server.add_token("pat-other-user", user="usrTestUser000002")
    assert get(server, "meta/whoami", "pat-other-user").status_code == 200


def test_no_limit_where_none_is_set(clock: Clock) -> None:
    with AirtableServer(clock=clock, requests_per_second=None) as server:
        server.six_column_table()
        assert statuses(server, 60) == [200] * 60
        assert server.max_in_window() == 60


def test_penalty_can_be_forgiven(server: AirtableServer) -> None:
    statuses(server, 6)
    server.limiter.forgive()
    assert statuses(server, 5) == [200] * 5


def test_most_requests_in_a_window_are_found_wherever_it_begins() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for seconds in (0.0, 0.5, 0.6, 0.7, 1.49, 1.5, 3.0):
        clock.seconds = seconds
        limiter.admit("base", None)
    assert limiter.max_in_window("base") == 4
    assert limiter.max_in_window("base", 0.1) == 2
    assert limiter.max_in_window("base", 10) == 7
    assert limiter.max_in_window("nobody") == 0


def test_429_has_the_documented_body_or_the_reported_one(server: AirtableServer) -> None:
    statuses(server, 5)
    message = "Rate limit exceeded. Please try again later"
    response = get(server)
    assert response.json() == {"error": {"type": "RATE_LIMIT_REACHED", "message": message}}
    assert "Retry-After" not in response.headers
    server.plural_429 = True
    assert get(server).json() == {"errors": [{"error": "RATE_LIMIT_REACHED", "message": message}]}


# Calls a month


def test_spent_quota_is_429_while_schema_calls_answer(server: AirtableServer, clock: Clock) -> None:
    server.monthly_calls = 2
    assert statuses(server, 3) == [200, 200, 429]
    assert get(server).json()["error"]["type"] == "PUBLIC_API_BILLING_LIMIT_EXCEEDED"
    assert statuses(server, 1, f"meta/bases/{server.base_id}/tables") == [200]
    clock.seconds += 3600
    assert statuses(server, 1) == [429]
    server.plural_429 = True
    assert get(server).json()["errors"][0]["error"] == "PUBLIC_API_BILLING_LIMIT_EXCEEDED"
    server.monthly_calls = 1
    assert statuses(server, 1) == [200]


def test_request_over_the_second_limit_spends_no_quota(server: AirtableServer) -> None:
    server.monthly_calls = 10
    statuses(server, 9)
    assert server.monthly_calls == 5


# Faults as pyairtable shows them


@pytest.mark.parametrize("code", [500, 502, 503])
def test_server_error_does_not_act(server: AirtableServer, client: Client, table: Table, code: int) -> None:
    server.inject(faults.status(code, retry_after=7), kind="create")
    with pytest.raises(requests.HTTPError) as error:
        client.create({"locationId": "a"})
    assert error.value.response.status_code == code
    assert error.value.response.headers["Retry-After"] == "7"
    assert len(table) == 0


def test_503_without_retry_after_has_the_documented_body(server: AirtableServer) -> None:
    server.inject(faults.status(503))
    response = get(server)
    assert "Retry-After" not in response.headers
    assert response.json()["error"]["type"] == "RETRIABLE_ERROR"


def test_html_with_200_is_no_json(server: AirtableServer, client: Client) -> None:
    server.inject(faults.html())
    with pytest.raises(requests.JSONDecodeError):
        client.all()


def test_empty_200_breaks_pyairtable(server: AirtableServer, client: Client) -> None:
    server.inject(faults.empty())
    with pytest.raises(AttributeError):
        client.all()


def test_answer_without_records_reads_as_an_empty_table(server: AirtableServer, client: Client, table: Table) -> None:
    table.add({"locationId": "a"})
    server.inject(faults.without_records())
    assert client.all() == []
    assert len(client.all()) == 1


def test_cut_answer_has_acted(server: AirtableServer, client: Client, table: Table) -> None:
    server.inject(faults.cut(), kind="create")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.create({"locationId": "a"})
    assert len(table) == 1


def test_reset_has_not_acted(server: AirtableServer, client: Client, table: Table) -> None:
    server.inject(faults.reset(), kind="create")
    with pytest.raises(requests.ConnectionError):
        client.create({"locationId": "a"})
    assert len(table) == 0
    assert server.answers[0] == 1


def test_unacknowledged_write_has_acted(server: AirtableServer, client: Client, table: Table) -> None:
    server.inject(faults.unacknowledged(), kind="create")
    with pytest.raises(requests.ConnectionError):
        client.create({"locationId": "a"})
    assert [record["fields"] for record in table.records()] == [{"locationId": "a"}]


@pytest.mark.parametrize("act_first", [True, False])
def test_hanging_request_acts_before_or_after_the_wait(server: AirtableServer, table: Table, act_first: bool) -> None:
    done = threading.Event()
    server.inject(faults.delayed(30, act_first=act_first, until=done), kind="create")
    with pytest.raises(requests.ReadTimeout):
        client_of(server, (5, 0.1)).create({"locationId": "a"})
    assert len(table) == int(act_first)
    done.set()


def test_422_on_a_batch_writes_none(server: AirtableServer, client: Client, table: Table) -> None:
    record = table.add({"locationId": "a"})
    server.inject(faults.unprocessable("INVALID_RECORDS", "No"), kind="update")
    with pytest.raises(requests.HTTPError) as error:
        client.batch_update([{"id": record, "fields": {"client_id": "x"}}])
    assert error.value.response.json() == {"error": {"type": "INVALID_RECORDS", "message": "No"}}
    assert table.cells(record) == {"locationId": "a"}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.rate_limited(), "RATE_LIMIT_REACHED"),
        (faults.quota_spent(), "PUBLIC_API_BILLING_LIMIT_EXCEEDED"),
    ],
)
def test_429_can_be_injected_without_its_penalty(server: AirtableServer, fault: faults.Fault, kind: str) -> None:
    server.inject(fault)
    response = get(server)
    assert (response.status_code, response.json()["error"]["type"]) == (429, kind)
    assert statuses(server, 1) == [200]


def test_pyairtables_own_retries_make_two_rows_of_an_unacknowledged_create(
    server: AirtableServer, table: Table
) -> None:
    server.inject(faults.unacknowledged(), kind="create")
    retrying = Api(server.token, endpoint_url=server.url).table(server.base_id, "APISecrets")
    retrying.create({"locationId": "a"})
    assert len(table) == 2


# Which requests a fault befalls


def test_fault_befalls_the_next_n_matching_requests(server: AirtableServer) -> None:
    injection = server.inject(faults.status(500), times=2)
    assert statuses(server, 3) == [500, 500, 200]
    assert (injection.hits, injection.spent) == (2, True)


def test_fault_befalls_the_nth_matching_request(server: AirtableServer) -> None:
    server.inject(faults.status(500), nth=3)
    assert statuses(server, 4) == [200, 200, 500, 200]


def test_fault_without_end_lasts_until_cleared(server: AirtableServer) -> None:
    server.inject(faults.status(500), times=None)
    assert statuses(server, 3) == [500] * 3
    server.faults.clear()
    assert statuses(server, 1) == [200]


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "schema"},
        {"method": "PATCH"},
        {"path": "/meta/"},
        {"path": lambda path: path.endswith("/tables")},
        {"when": lambda request: request.query != ()},
    ],
)
def test_fault_spares_requests_that_do_not_match(server: AirtableServer, condition: dict[str, Any]) -> None:
    injection = server.inject(faults.status(500), **condition)
    assert statuses(server, 1) == [200]
    assert injection.hits == 0


def test_fault_befalls_a_request_that_matches_every_condition(server: AirtableServer) -> None:
    server.inject(faults.status(500), kind="list", method="GET", path="APISecrets", when=lambda r: r.body == b"")
    assert statuses(server, 1) == [500]


def test_first_injected_fault_comes_first(server: AirtableServer) -> None:
    server.inject(faults.status(500))
    server.inject(faults.status(502))
    assert statuses(server, 3) == [500, 502, 200]


def test_unknown_kind_of_call_is_an_error_of_the_test(server: AirtableServer) -> None:
    with pytest.raises(ValueError, match="no such kind of call: 'read'"):
        server.inject(faults.reset(), kind="read")


def test_request_refused_for_its_token_or_limit_spends_no_fault(server: AirtableServer, clock: Clock) -> None:
    statuses(server, 6)
    injection = server.inject(faults.status(500))
    assert statuses(server, 1) == [429]
    assert get(server, token="pat-wrong").status_code == 401
    clock.seconds += 30
    assert statuses(server, 1) == [500]
    assert injection.hits == 1


def test_edit_between_a_read_and_a_write_is_seen_in_the_log(
    server: AirtableServer, client: Client, table: Table
) -> None:
    record = table.add({"locationId": "a", "encrypted_refresh": "old"})

    def colleague(request: object) -> None:
        if getattr(request, "method", "") == "PATCH":
            table.edit(record, {"encrypted_refresh": "theirs"}, by="colleague")

    server.on_request = colleague
    assert client.get(record)["fields"]["encrypted_refresh"] == "old"
    client.update(record, {"encrypted_refresh": "ours"})
    assert [(c.by, c.before) for c in table.changes(record, "encrypted_refresh")][1:] == [
        ("colleague", "old"),
        ("pat-test", "theirs"),
    ]


# Time and load


def test_latency_is_real_and_at_least_what_was_asked() -> None:
    with AirtableServer(latency_seconds=0.05, jitter_seconds=0.01) as server:
        start = time.perf_counter()
        get(server, "meta/whoami")
        assert time.perf_counter() - start >= 0.05


def test_many_threads_lose_and_double_nothing() -> None:
    with AirtableServer(requests_per_second=None) as server:
        table = server.six_column_table()
        ids = table.add_many({"locationId": str(number)} for number in range(8))

        def work(number: int) -> None:
            client = client_of(server)
            for round_ in range(10):
                client.update(ids[number], {"client_id": str(round_)})
                client.create({"locationId": f"{number}-{round_}"})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(table) == 88
        assert len({record["id"] for record in table.records()}) == 88
        assert {table.cell(record, "client_id") for record in ids} == {"9"}
        assert server.calls == {"update": 80, "create": 80}


def test_as_a_process_it_prints_where_it_listens() -> None:
    command = [sys.executable, "-m", "tests.world.airtable", "--rows", "3", "--unlimited"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url, base, name, token = process.stdout.readline().split()
            api = Api(token.removeprefix("token="), endpoint_url=url)
            assert len(api.table(base.removeprefix("base="), name.removeprefix("table=")).all()) == 3
        finally:
            process.kill()
