"""The fake Airtable as clients see it: records, listings, columns, schema, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from pyairtable import Api
from pyairtable.api.table import Table as Client
from requests import HTTPError

from tests.world.airtable import AirtableServer, Table, columns

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


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
    with AirtableServer(clock=clock, now=lambda: NOW, requests_per_second=None) as running:
        yield running


@pytest.fixture
def table(server: AirtableServer) -> Table:
    return server.credentials_table()


@pytest.fixture
def client(server: AirtableServer, table: Table) -> Client:
    return api(server).table(server.base_id, table.name)


def api(server: AirtableServer, token: str = "", **options: Any) -> Api:
    return Api(token or server.token, endpoint_url=server.url, timeout=(5, 5), retry_strategy=None, **options)


def call(server: AirtableServer, method: str, path: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {server.token}", **options.pop("headers", {})}
    return requests.request(method, f"{server.url}/v0/{path}", headers=headers, timeout=5, **options)


def records_path(server: AirtableServer, table: Table, record: str = "") -> str:
    return f"{server.base_id}/{table.id}" + (f"/{record}" if record else "")


def refusal(error: pytest.ExceptionInfo[HTTPError]) -> tuple[int, str, str]:
    body = error.value.response.json()["error"]
    return error.value.response.status_code, body["type"], body.get("message", "")


def error_of(response: requests.Response) -> tuple[int, str, str]:
    body = response.json()["error"]
    return response.status_code, body["type"], body.get("message", "")


# Reading


def test_empty_cells_are_absent_from_fields(client: Client, table: Table) -> None:
    record = table.add({"locationId": "a", "client_id": "", "failure_count": None})
    assert client.get(record)["fields"] == {"locationId": "a"}


def test_record_has_id_and_created_time_in_utc_milliseconds(client: Client, table: Table) -> None:
    record = client.get(table.add({"locationId": "a"}))
    assert record["createdTime"] == "2026-03-01T12:00:00.000Z"
    assert len(record["id"]) == 17
    assert record["id"].startswith("rec")


def test_all_reads_every_page_once(client: Client, table: Table, server: AirtableServer) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(250))
    assert sorted(record["id"] for record in client.all()) == sorted(ids)
    assert server.calls["list"] == 3


def test_last_full_page_has_no_offset(table: Table, server: AirtableServer) -> None:
    table.add_many({"locationId": str(number)} for number in range(100))
    assert call(server, "GET", records_path(server, table)).json().keys() == {"records"}


def test_order_without_sort_is_arbitrary_but_stable(client: Client, table: Table) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(50))
    listed = [record["id"] for record in client.all()]
    assert listed != ids
    assert listed == [record["id"] for record in client.all()]


def test_same_seed_gives_the_same_ids_and_order() -> None:
    def listing() -> list[str]:
        with AirtableServer(seed=7, requests_per_second=None) as server:
            table = server.six_column_table()
            table.add_many({"locationId": str(number)} for number in range(9))
            return [record["id"] for record in api(server).table(server.base_id, table.name).all()]

    assert listing() == listing()


def test_view_gives_the_order_of_creation(client: Client, table: Table) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(20))
    assert [record["id"] for record in client.all(view="Grid view")] == ids


def test_unknown_view_is_refused_by_name(client: Client) -> None:
    with pytest.raises(HTTPError) as error:
        client.all(view="Mine")
    assert refusal(error) == (422, "VIEW_NAME_NOT_FOUND", "View Mine not found")


def test_sort_puts_empty_cells_first_and_last_when_descending(client: Client, table: Table) -> None:
    table.add_many([{"failure_count": 2}, {"failure_count": 10}, {"locationId": "empty"}, {"failure_count": -1}])
    ascending = [record["fields"].get("failure_count") for record in client.all(sort=["failure_count"])]
    descending = [record["fields"].get("failure_count") for record in client.all(sort=["-failure_count"])]
    assert ascending == [None, -1, 2, 10]
    assert descending == [10, 2, -1, None]


def test_sort_by_two_columns_breaks_ties_with_the_second(client: Client, table: Table) -> None:
    table.add_many({"provider": p, "locationId": i} for p, i in (("b", "1"), ("a", "2"), ("b", "0"), ("a", "3")))
    found = [record["fields"]["locationId"] for record in client.all(sort=["provider", "-locationId"])]
    assert found == ["3", "2", "1", "0"]


def test_fields_narrow_the_answer_by_name_or_id(client: Client, table: Table) -> None:
    table.add({"locationId": "a", "client_id": "b", "provider": "c"})
    (record,) = client.all(fields=["client_id", table.column("provider").id])
    assert record["fields"] == {"client_id": "b", "provider": "c"}


@pytest.mark.parametrize("options", [{"fields": ["locationId", "nope"]}, {"sort": ["nope"]}])
def test_unknown_column_in_a_listing_is_refused_by_name(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(HTTPError) as error:
        client.all(**options)
    assert refusal(error) == (422, "UNKNOWN_FIELD_NAME", 'Unknown field name: "nope"')


def test_max_records_limits_all_pages_together(client: Client, table: Table) -> None:
    table.add_many({"locationId": str(number)} for number in range(30))
    assert len(client.all(max_records=12, page_size=5)) == 12


@pytest.mark.parametrize(
    "query",
    [
        "pageSize=0",
        "pageSize=101",
        "pageSize=ten",
        "maxRecords=0",
        "cellFormat=string",
        "sort[0][field]=locationId&sort[0][direction]=up",
        "sort[0][direction]=asc",
        "returnFieldsByFieldId=maybe",
        "limit=5",
    ],
)
def test_parameter_that_does_not_fit_is_422(server: AirtableServer, table: Table, query: str) -> None:
    response = call(server, "GET", f"{records_path(server, table)}?{query}")
    assert error_of(response)[:2] == (422, "INVALID_REQUEST_UNKNOWN")


@pytest.mark.parametrize(
    "body", [{"filterByFormula": 5}, {"sort": "locationId"}, {"sort": [{"field": []}]}, {"fields": 1}, {"fields": [1]}]
)
def test_listing_by_post_checks_the_types_of_its_body(
    server: AirtableServer, table: Table, body: dict[str, Any]
) -> None:
    response = call(server, "POST", records_path(server, table) + "/listRecords", json=body)
    assert error_of(response)[:2] == (422, "INVALID_REQUEST_UNKNOWN")


def test_field_ids_replace_names_where_asked(server: AirtableServer, table: Table) -> None:
    record = table.add({"locationId": "a"})
    by_id = api(server, use_field_ids=True).table(server.base_id, table.name)
    expected = {table.column("locationId").id: "a"}
    assert by_id.get(record)["fields"] == expected
    assert by_id.all()[0]["fields"] == expected
    assert by_id.update(record, {})["fields"] == expected


def test_long_formula_goes_by_post_and_finds_the_same(client: Client, table: Table, server: AirtableServer) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(450))
    formula = "OR(" + ",".join(f"RECORD_ID()='{record}'" for record in ids) + ")"
    assert len(client.all(formula=formula, fields=["locationId"], sort=["locationId"])) == 450
    assert {request.method for request in server.requests} == {"POST"}


def test_url_over_16000_characters_is_414(server: AirtableServer, table: Table) -> None:
    path = f"{records_path(server, table)}?filterByFormula="
    room = 16_000 - len(f"{server.url}/v0/{path}")
    assert call(server, "GET", path + "1" * room).status_code == 200
    response = call(server, "GET", path + "1" * (room + 1))
    assert response.status_code == 414
    assert "html" in response.headers["Content-Type"]


def test_table_is_found_by_id_and_by_encoded_name(server: AirtableServer) -> None:
    table = server.create_table("Ünïted / keys?", [columns.text("Name")])
    table.add({"Name": "a"})
    for key in (table.id, table.name):
        assert len(api(server).table(server.base_id, key).all()) == 1


def test_get_of_another_tables_record_is_answered_all_the_same(server: AirtableServer, table: Table) -> None:
    """Airtable looks a record up in the whole base (pyairtable issue 375)."""
    other = server.create_table("Other", [columns.text("Name")])
    record = other.add({"Name": "a"})
    assert call(server, "GET", records_path(server, table, record)).json()["fields"] == {"Name": "a"}


# Iterators


def test_offset_dies_when_asked_to(client: Client, table: Table, server: AirtableServer) -> None:
    table.add_many({"locationId": str(number)} for number in range(3))
    pages = client.iterate(page_size=1)
    next(pages)
    server.expire_iterators()
    with pytest.raises(HTTPError) as error:
        next(pages)
    assert refusal(error) == (422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE", "")


def test_offset_dies_of_inactivity_but_not_of_use(client: Client, table: Table, clock: Clock) -> None:
    table.add_many({"locationId": str(number)} for number in range(5))
    pages = client.iterate(page_size=1)
    for _ in range(3):
        next(pages)
        clock.seconds += 299
    next(pages)
    clock.seconds += 301
    with pytest.raises(HTTPError) as error:
        next(pages)
    assert refusal(error)[1] == "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"


@pytest.mark.parametrize("offset", ["nonsense", "itr00000000000000/rec00000000000000", "/"])
def test_unknown_offset_is_refused(server: AirtableServer, table: Table, offset: str) -> None:
    response = call(server, "GET", records_path(server, table), params={"offset": offset})
    assert error_of(response)[1] == "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"


def test_offset_of_another_table_is_refused(server: AirtableServer, table: Table) -> None:
    table.add_many([{"locationId": "a"}, {"locationId": "b"}])
    offset = call(server, "GET", records_path(server, table) + "?pageSize=1").json()["offset"]
    other = server.create_table("Other", [columns.text("Name")])
    response = call(server, "GET", records_path(server, other), params={"offset": offset})
    assert error_of(response)[1] == "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"


def test_same_offset_twice_gives_the_same_page(server: AirtableServer, table: Table) -> None:
    table.add_many({"locationId": str(number)} for number in range(3))
    path = records_path(server, table) + "?pageSize=1"
    offset = call(server, "GET", path).json()["offset"]
    answers = [call(server, "GET", path, params={"offset": offset}).json() for _ in range(2)]
    assert answers[0] == answers[1]


def test_rows_edited_and_deleted_during_a_listing_show_on_later_pages(client: Client, table: Table) -> None:
    table.add_many({"locationId": str(number)} for number in range(4))
    order = [record["id"] for record in client.all()]
    pages = client.iterate(page_size=2)
    next(pages)
    table.edit(order[2], {"client_id": "new"})
    table.remove(order[3])
    (record,) = next(pages)
    assert (record["id"], record["fields"]["client_id"]) == (order[2], "new")


def test_on_request_can_change_the_table_before_the_answer(
    client: Client, table: Table, server: AirtableServer
) -> None:
    record = table.add({"locationId": "a"})
    server.on_request = lambda request: table.edit(record, {"client_id": request.method})
    assert client.get(record)["fields"]["client_id"] == "GET"


def test_failure_inside_the_server_fails_the_test() -> None:
    def broken(_request: object) -> None:
        raise AssertionError("seen")

    server = AirtableServer(requests_per_second=None).__enter__()
    server.on_request = broken
    assert call(server, "GET", "meta/whoami").status_code == 500
    with pytest.raises(AssertionError, match="seen"):
        server.__exit__(None)


# Writing


def test_patch_leaves_other_cells_alone_and_put_empties_them(client: Client, table: Table) -> None:
    record = table.add({"locationId": "a", "client_id": "b", "provider": "c"})
    assert client.update(record, {"client_id": "B"})["fields"] == {
        "locationId": "a",
        "client_id": "B",
        "provider": "c",
    }
    assert client.update(record, {"client_id": "x"}, replace=True)["fields"] == {"client_id": "x"}


@pytest.mark.parametrize("empty", [None, ""])
def test_null_and_empty_text_empty_a_cell(client: Client, table: Table, empty: str | None) -> None:
    record = table.add({"locationId": "a", "client_id": "b"})
    assert client.update(record, {"client_id": empty})["fields"] == {"locationId": "a"}


def test_batch_update_writes_ten_records_by_name_or_id(client: Client, table: Table) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(10))
    key = table.column("client_id").id
    answer = client.batch_update([{"id": record, "fields": {key: "x"}} for record in ids])
    assert [record["id"] for record in answer] == ids
    assert {table.cell(record, "client_id") for record in ids} == {"x"}


def test_batch_replace_empties_what_is_not_named(client: Client, table: Table) -> None:
    record = table.add({"locationId": "a", "client_id": "b"})
    client.batch_update([{"id": record, "fields": {"locationId": "z"}}], replace=True)
    assert table.cells(record) == {"locationId": "z"}


@pytest.mark.parametrize(
    "bad",
    [
        {"nope": "x"},
        {"status": "paused"},
        {"access_token_expiry": "soon"},
        {"failure_count": "3"},
        {"client_id": 5},
    ],
)
def test_batch_with_one_bad_record_writes_none(client: Client, table: Table, bad: dict[str, Any]) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(10))
    before = table.records()
    batch: list[Any] = [{"id": record, "fields": {"client_id": "x"}} for record in ids[:9]]
    with pytest.raises(HTTPError) as error:
        client.batch_update([*batch, {"id": ids[9], "fields": bad}])
    assert refusal(error)[0] == 422
    assert table.records() == before
    assert table.changes(by="pat-test") == []


def test_batch_with_a_deleted_record_names_it_and_writes_none(client: Client, table: Table) -> None:
    first, gone = table.add_many([{"locationId": "a"}, {"locationId": "b"}])
    table.remove(gone)
    with pytest.raises(HTTPError) as error:
        client.batch_update([{"id": first, "fields": {"client_id": "x"}}, {"id": gone, "fields": {}}])
    assert refusal(error) == (422, "ROW_DOES_NOT_EXIST", f"Record ID {gone} does not exist in this table")
    assert table.cells(first) == {"locationId": "a"}


def test_batch_of_eleven_is_refused(server: AirtableServer, table: Table) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(11))
    path = records_path(server, table)
    update = {"records": [{"id": record, "fields": {}} for record in ids]}
    assert error_of(call(server, "PATCH", path, json=update))[:2] == (422, "INVALID_RECORDS")
    created = call(server, "POST", path, json={"records": [{"fields": {}}] * 11})
    assert error_of(created)[2] == "A maximum of 10 records can be created per request but you have provided 11."
    deleted = call(server, "DELETE", path, params={"records[]": ids})
    assert error_of(deleted)[:2] == (422, "INVALID_RECORDS")
    assert len(table) == 11


@pytest.mark.parametrize(
    ("method", "body", "kind"),
    [
        ("PATCH", {"records": []}, "INVALID_RECORDS"),
        ("PATCH", {"records": "rec"}, "INVALID_RECORDS"),
        ("PATCH", {"records": [{"fields": {}}]}, "INVALID_RECORDS"),
        ("PATCH", {"records": [{"id": "rec00000000000000"}]}, "INVALID_RECORDS"),
        ("PATCH", {"records": [{"id": "rec00000000000000", "fields": {}}] * 2}, "INVALID_RECORDS"),
        ("PATCH", {}, "INVALID_REQUEST_MISSING_FIELDS"),
        ("POST", {}, "INVALID_REQUEST_MISSING_FIELDS"),
        ("POST", {"fields": []}, "INVALID_REQUEST_MISSING_FIELDS"),
        ("POST", {"fields": {}, "typeCast": True}, "INVALID_REQUEST_UNKNOWN"),
        ("POST", {"fields": {}, "typecast": "maybe"}, "INVALID_REQUEST_UNKNOWN"),
    ],
)
def test_malformed_write_is_422(
    server: AirtableServer, table: Table, method: str, body: dict[str, Any], kind: str
) -> None:
    assert error_of(call(server, method, records_path(server, table), json=body))[:2] == (422, kind)


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
def test_body_that_is_no_json_object_is_400(server: AirtableServer, table: Table, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert call(server, "POST", records_path(server, table), data=body, headers=headers).status_code == 400


def test_json_without_its_content_type_is_400(server: AirtableServer, table: Table) -> None:
    assert call(server, "POST", records_path(server, table), data='{"fields": {}}').status_code == 400


def test_create_one_and_ten(client: Client, table: Table) -> None:
    assert client.create({"locationId": "a"})["fields"] == {"locationId": "a"}
    made = client.batch_create([{"locationId": str(number)} for number in range(10)])
    assert [record["fields"]["locationId"] for record in made] == [str(number) for number in range(10)]
    assert len(table) == 11


def test_delete_one_and_many(client: Client, table: Table) -> None:
    ids = table.add_many({"locationId": str(number)} for number in range(5))
    assert client.delete(ids[0]) == {"id": ids[0], "deleted": True}
    assert client.batch_delete(ids[1:3]) == [{"id": record, "deleted": True} for record in ids[1:3]]
    assert [record["id"] for record in table.records()] == ids[3:]


def test_batch_delete_with_a_missing_record_deletes_none(client: Client, table: Table) -> None:
    ids = table.add_many([{}, {}])
    with pytest.raises(HTTPError) as error:
        client.batch_delete([ids[0], "rec00000000000000"])
    assert refusal(error)[1] == "ROW_DOES_NOT_EXIST"
    assert len(table) == 2


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_missing_record_by_path_is_403(server: AirtableServer, table: Table, method: str) -> None:
    response = call(server, method, records_path(server, table, "rec00000000000000"), json={"fields": {}})
    assert error_of(response)[:2] == (403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND")


# Upserts


def test_upsert_updates_the_match_and_creates_the_rest(client: Client, table: Table) -> None:
    known = table.add({"locationId": "a", "client_id": "old"})
    result = client.batch_upsert(
        [{"fields": {"locationId": "a", "client_id": "new"}}, {"fields": {"locationId": "b"}}], ["locationId"]
    )
    assert result["updatedRecords"] == [known]
    assert [table.cells(record) for record in result["createdRecords"]] == [{"locationId": "b"}]
    assert [record["fields"] for record in result["records"]] == [
        {"locationId": "a", "client_id": "new"},
        {"locationId": "b"},
    ]


def test_upsert_with_two_matches_writes_nothing(client: Client, table: Table) -> None:
    table.add_many([{"locationId": "a"}, {"locationId": "a"}])
    before = table.records()
    entries = [{"fields": {"locationId": "new"}}, {"fields": {"locationId": "a", "client_id": "x"}}]
    with pytest.raises(HTTPError) as error:
        client.batch_upsert(entries, ["locationId"])
    assert refusal(error)[0] == 422
    assert table.records() == before


def test_upsert_by_id_needs_no_match(client: Client, table: Table) -> None:
    record = table.add({"locationId": "a"})
    result = client.batch_upsert([{"id": record, "fields": {"client_id": "x"}}], ["locationId"])
    assert result["updatedRecords"] == [record]
    with pytest.raises(HTTPError) as error:
        client.batch_upsert([{"id": "rec00000000000000", "fields": {}}], ["locationId"])
    assert refusal(error)[1] == "ROW_DOES_NOT_EXIST"


@pytest.mark.parametrize("names", [[], ["locationId", "client_id", "provider", "status"], ["nope"], "locationId", None])
def test_upsert_takes_one_to_three_known_columns(server: AirtableServer, table: Table, names: Any) -> None:
    body = {"performUpsert": {"fieldsToMergeOn": names}, "records": [{"fields": {"locationId": "a"}}]}
    assert call(server, "PATCH", records_path(server, table), json=body).status_code == 422
    assert len(table) == 0


# Columns


@pytest.mark.parametrize("column", ["locationId", "encrypted_refresh"])
def test_text_up_to_100000_characters(client: Client, table: Table, column: str) -> None:
    record = client.create({column: "x" * 100_000})["id"]
    assert len(table.cell(record, column)) == 100_000
    with pytest.raises(HTTPError) as error:
        client.update(record, {column: "x" * 100_001})
    assert refusal(error)[:2] == (422, "INVALID_VALUE_FOR_COLUMN")


def test_plain_long_text_comes_back_as_written(client: Client) -> None:
    value = "sealed:v1:0123456789abcdef:a_b-c__D\n"
    assert client.create({"encrypted_refresh": value})["fields"]["encrypted_refresh"] == value


def test_rich_text_escapes_underscores_and_appends_a_newline(server: AirtableServer) -> None:
    server.credentials_table(instead=[columns.rich_text("encrypted_refresh")])
    client = api(server).table(server.base_id, "APISecrets")
    shown = client.create({"encrypted_refresh": "a_b"})["fields"]["encrypted_refresh"]
    assert shown == "a\\_b\n"
    assert client.create({"encrypted_refresh": shown})["fields"]["encrypted_refresh"] == shown


@pytest.mark.parametrize(
    ("zone", "written", "shown"),
    [
        ("utc", "2026-03-01T10:00:00.000Z", "2026-03-01T10:00:00.000Z"),
        ("utc", "2026-03-01T10:00:00", "2026-03-01T10:00:00.000Z"),
        ("client", "2026-03-01T10:00:00", "2026-03-01T10:00:00.000Z"),
        ("America/New_York", "2026-03-01T10:00:00", "2026-03-01T15:00:00.000Z"),
        ("America/New_York", "2026-07-01T10:00:00", "2026-07-01T14:00:00.000Z"),
        ("America/New_York", "2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000Z"),
        ("Europe/Berlin", "2026-03-01", "2026-02-28T23:00:00.000Z"),
        ("Europe/Berlin", "2026-03-01T10:00:00.123456+05:30", "2026-03-01T04:30:00.123Z"),
        ("utc", "2026-03-01 10:00", "2026-03-01T10:00:00.000Z"),
    ],
)
def test_time_is_read_in_the_columns_zone_and_shown_in_utc(
    server: AirtableServer, zone: str, written: str, shown: str
) -> None:
    server.create_table("Times", [columns.text("Name"), columns.date_time("At", zone)])
    client = api(server).table(server.base_id, "Times")
    assert client.create({"At": written})["fields"]["At"] == shown


@pytest.mark.parametrize("value", ["tomorrow", "2026-13-01T00:00:00Z", "1772359200", "2026-03-01T25:00:00Z"])
def test_text_that_is_no_time_is_refused_by_column(client: Client, value: str) -> None:
    with pytest.raises(HTTPError) as error:
        client.create({"access_token_expiry": value})
    message = f'Cannot parse date value "{value}" for field access_token_expiry'
    assert refusal(error) == (422, "INVALID_VALUE_FOR_COLUMN", message)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("access_token_expiry", 1772359200),
        ("client_id", 5),
        ("client_id", ["a"]),
        ("failure_count", "3"),
        ("failure_count", True),
        ("status", 1),
    ],
)
def test_value_of_the_wrong_type_is_refused_by_column(client: Client, column: str, value: Any) -> None:
    with pytest.raises(HTTPError) as error:
        client.create({column: value})
    message = f'Field "{column}" cannot accept the provided value'
    assert refusal(error) == (422, "INVALID_VALUE_FOR_COLUMN", message)


def test_unknown_column_in_a_write_is_refused_by_name(client: Client) -> None:
    with pytest.raises(HTTPError) as error:
        client.create({"locationid": "case matters"})
    assert refusal(error) == (422, "UNKNOWN_FIELD_NAME", 'Unknown field name: "locationid"')


def test_unknown_option_is_refused_and_made_by_typecast(client: Client, table: Table) -> None:
    with pytest.raises(HTTPError) as error:
        client.create({"status": "paused"})
    message = 'Insufficient permissions to create new select option ""paused""'
    assert refusal(error) == (422, "INVALID_MULTIPLE_CHOICE_OPTIONS", message)
    assert client.create({"status": "paused"}, typecast=True)["fields"] == {"status": "paused"}
    assert "paused" in table.column("status").choices
    assert client.create({"status": "paused"})["fields"] == {"status": "paused"}


def test_typecast_reads_numbers_in_text(client: Client) -> None:
    fields = client.create({"failure_count": "3", "client_id": 7}, typecast=True)["fields"]
    assert fields == {"failure_count": 3, "client_id": "7"}


def test_checkbox_is_true_or_absent(server: AirtableServer) -> None:
    server.create_table("Flags", [columns.text("Name"), columns.checkbox("On")])
    client = api(server).table(server.base_id, "Flags")
    record = client.create({"On": True})
    assert record["fields"] == {"On": True}
    assert client.update(record["id"], {"On": False})["fields"] == {}
    with pytest.raises(HTTPError):
        client.create({"On": "true"})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (columns.link("x"), "recAAAAAAAAAAAAAA"),
        (columns.link("x"), ["not an id"]),
        (columns.multi_select("x", "a"), "a"),
        (columns.number("x"), "5"),
        (columns.checkbox("x"), "true"),
        (columns.day("x"), 5),
    ],
    ids=lambda value: value.type if isinstance(value, columns.Column) else str(value),
)
def test_text_is_not_taken_by_columns_of_other_types(
    server: AirtableServer, column: columns.Column, value: Any
) -> None:
    server.create_table("Odd", [columns.text("Name"), column])
    with pytest.raises(HTTPError) as error:
        api(server).table(server.base_id, "Odd").create({"x": value})
    assert refusal(error) == (422, "INVALID_VALUE_FOR_COLUMN", 'Field "x" cannot accept the provided value')


def test_lists_are_shown_and_filtered_as_lists(server: AirtableServer) -> None:
    table = server.create_table("Odd", [columns.text("Name"), columns.link("Links"), columns.shown("Looked up")])
    record = table.add({"Name": "a", "Links": ["recAAAAAAAAAAAAAA"]})
    table.compute(record, "Looked up", ["one", "two"])
    client = api(server).table(server.base_id, "Odd")
    assert client.get(record)["fields"] == {"Name": "a", "Links": ["recAAAAAAAAAAAAAA"], "Looked up": ["one", "two"]}
    assert [one["id"] for one in client.all(formula="{Looked up}='one, two'")] == [record]
    with pytest.raises(HTTPError) as error:
        client.update(record, {"Looked up": ["three"]})
    assert "computed" in refusal(error)[2]


def test_an_error_in_a_cell_is_an_object_and_fails_its_formulas(server: AirtableServer) -> None:
    table = server.create_table("Odd", [columns.text("Name"), columns.shown("Sum", "rollup")])
    record, other = table.add_many([{"Name": "a"}, {"Name": "b"}])
    table.compute(record, "Sum", {"error": "#ERROR!"})
    client = api(server).table(server.base_id, "Odd")
    assert client.get(record)["fields"]["Sum"] == {"error": "#ERROR!"}
    assert [one["id"] for one in client.all(formula="NOT({Sum})")] == [other]


def test_a_date_column_keeps_the_day_of_a_time_alone(server: AirtableServer) -> None:
    server.create_table("Days", [columns.text("Name"), columns.day("On")])
    client = api(server).table(server.base_id, "Days")
    assert client.create({"On": "2026-03-01T10:00:00.000Z"})["fields"]["On"] == "2026-03-01"
    assert client.create({"On": "2026-03-01"})["fields"]["On"] == "2026-03-01"


@pytest.mark.parametrize("day", ["local", "friendly", "us", "european", "iso"])
@pytest.mark.parametrize("hours", ["12hour", "24hour"])
def test_formats_of_a_time_are_for_people_alone(server: AirtableServer, day: str, hours: str) -> None:
    server.create_table("Times", [columns.text("Name"), columns.date_time("At", "Asia/Tokyo", day, hours)])
    client = api(server).table(server.base_id, "Times")
    assert client.create({"At": "2026-03-01T10:00:00.000Z"})["fields"]["At"] == "2026-03-01T10:00:00.000Z"


@pytest.mark.parametrize("keeps_record_ids", [True, False])
def test_a_restored_snapshot_is_another_base(server: AirtableServer, table: Table, keeps_record_ids: bool) -> None:
    record = table.add({"locationId": "a"})
    base = server.restore_snapshot(keeps_record_ids=keeps_record_ids)
    restored = api(server).table(base.id, table.id).all()
    assert base.id != server.base_id
    assert [one["fields"] for one in restored] == [{"locationId": "a"}]
    assert (restored[0]["id"] == record) is keeps_record_ids
    api(server).table(base.id, table.name).update(restored[0]["id"], {"locationId": "b"})
    assert table.cell(record, "locationId") == "a"


COMPUTED = [
    columns.formula("Twice", "{Name} & {Name}"),
    columns.created_time("Made"),
    columns.last_modified_time("Changed"),
    columns.auto_number("Number"),
]


@pytest.mark.parametrize("name", [column.name for column in COMPUTED])
def test_computed_column_is_read_only(server: AirtableServer, name: str) -> None:
    server.create_table("Computed", [columns.text("Name"), *COMPUTED])
    client = api(server).table(server.base_id, "Computed")
    with pytest.raises(HTTPError) as error:
        client.create({name: "x"})
    message = f'Field "{name}" cannot accept a value because the field is computed'
    assert refusal(error) == (422, "INVALID_VALUE_FOR_COLUMN", message)


def test_computed_columns_show_what_they_compute(server: AirtableServer) -> None:
    table = server.create_table("Computed", [columns.text("Name"), *COMPUTED])
    record = table.add({"Name": "ab"})
    moment = "2026-03-01T12:00:00.000Z"
    expected = {"Name": "ab", "Twice": "abab", "Made": moment, "Changed": moment, "Number": 1}
    assert table.cells(record) == expected


# Schema


def test_schema_parses_as_pyairtables_models(server: AirtableServer, client: Client, table: Table) -> None:
    schema = client.schema()
    assert (schema.id, schema.name) == (table.id, "APISecrets")
    assert [field.name for field in schema.fields] == [column.name for column in table.columns.values()]
    assert schema.field("access_token_expiry").type == "dateTime"
    assert schema.field(schema.primary_field_id).name == "locationId"
    assert [base.id for base in api(server).bases()] == [server.base_id]


def test_create_field_then_write_to_it(server: AirtableServer) -> None:
    server.six_column_table()
    client = api(server).table(server.base_id, "APISecrets")
    client.create_field("note", "multilineText", description="Anything")
    zone = {"timeZone": "utc", "dateFormat": {"name": "iso"}, "timeFormat": {"name": "24hour"}}
    client.create_field("seen", "dateTime", options=zone)
    client.create_field("state", "singleSelect", options={"choices": [{"name": "on"}]})
    written: dict[str, Any] = {"note": "n", "seen": "2026-03-01T10:00:00Z", "state": "on"}
    assert client.create(written)["fields"] == {**written, "seen": "2026-03-01T10:00:00.000Z"}
    field: Any = client.schema(force=True).field("seen")
    assert field.options.date_format.format == "YYYY-MM-DD"


def test_create_table_with_its_columns(server: AirtableServer) -> None:
    base = api(server).base(server.base_id)
    made = base.create_table("New", [{"name": "Name", "type": "singleLineText"}], description="For tests")
    assert made.create({"Name": "a"})["fields"] == {"Name": "a"}
    with pytest.raises(HTTPError) as error:
        base.create_table("New", [{"name": "Name", "type": "singleLineText"}])
    assert refusal(error)[:2] == (422, "DUPLICATE_TABLE_NAME")


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"name": "client_id", "type": "singleLineText"}, "DUPLICATE_OR_EMPTY_FIELD_NAME"),
        ({"name": " ", "type": "singleLineText"}, "DUPLICATE_OR_EMPTY_FIELD_NAME"),
        ({"name": "a", "type": "lastModifiedTime"}, "UNSUPPORTED_FIELD_TYPE_FOR_CREATE"),
        ({"name": "a", "type": "longText"}, "INVALID_REQUEST_UNKNOWN"),
        ({"name": "a"}, "INVALID_REQUEST_UNKNOWN"),
        ({"name": "a", "type": "checkbox"}, "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE"),
        ({"name": "a", "type": "dateTime", "options": {"timeZone": "utc"}}, "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE"),
        ({"name": "a", "type": "url", "options": {"x": 1}}, "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE"),
        (
            {
                "name": "a",
                "type": "dateTime",
                "options": {"timeZone": "UTC", "dateFormat": {"name": "iso"}, "timeFormat": {"name": "24hour"}},
            },
            "INVALID_FIELD_TYPE_OPTIONS_FOR_CREATE",
        ),
    ],
)
def test_column_that_cannot_be_made_is_refused(
    server: AirtableServer, table: Table, spec: dict[str, Any], kind: str
) -> None:
    before = len(table.columns)
    response = call(server, "POST", f"meta/bases/{server.base_id}/tables/{table.id}/fields", json=spec)
    assert error_of(response)[:2] == (422, kind)
    assert len(table.columns) == before


def test_whoami_needs_no_scope(server: AirtableServer) -> None:
    server.add_token("pat-nothing", scopes=[])
    assert api(server, "pat-nothing").whoami() == {"id": "usrTestUser000001"}


# Tokens


def test_no_token_and_wrong_token_are_401_of_two_kinds(server: AirtableServer, table: Table) -> None:
    path = records_path(server, table)
    missing = call(server, "GET", path, headers={"Authorization": None})
    assert error_of(missing)[:2] == (401, "AUTHENTICATION_REQUIRED")
    assert error_of(call(server, "GET", path, headers={"Authorization": "Bearer pat-other"}))[:2] == (
        401,
        "UNAUTHORIZED",
    )


def test_revoked_token_is_401(client: Client, server: AirtableServer) -> None:
    server.revoke_token(server.token)
    with pytest.raises(HTTPError) as error:
        client.all()
    assert refusal(error)[0] == 401


@pytest.mark.parametrize(
    ("scope", "method", "path", "allowed"),
    [
        ("data.records:read", "GET", "{base}/APISecrets", True),
        ("data.records:read", "POST", "{base}/APISecrets/listRecords", True),
        ("data.records:read", "POST", "{base}/APISecrets", False),
        ("data.records:read", "GET", "meta/bases/{base}/tables", False),
        ("data.records:write", "POST", "{base}/APISecrets", True),
        ("data.records:write", "GET", "{base}/APISecrets", False),
        ("schema.bases:read", "GET", "meta/bases/{base}/tables", True),
        ("schema.bases:read", "GET", "meta/bases", True),
        ("schema.bases:read", "POST", "meta/bases/{base}/tables", False),
        ("schema.bases:write", "GET", "meta/bases", False),
    ],
)
def test_scope_decides_what_a_token_may_do(
    server: AirtableServer, table: Table, scope: str, method: str, path: str, allowed: bool
) -> None:
    server.add_token("pat-one-scope", scopes=[scope])
    body: Any = None if method == "GET" else {} if "listRecords" in path else {"fields": {}}
    headers = {"Authorization": "Bearer pat-one-scope"}
    response = call(server, method, path.format(base=server.base_id), json=body, headers=headers)
    assert response.status_code == (200 if allowed else 403)
    if not allowed:
        assert error_of(response)[1] == "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"


def test_role_decides_beside_the_scope(server: AirtableServer, table: Table) -> None:
    headers = {"Authorization": "Bearer pat-reader"}
    server.add_token("pat-reader", role="read")
    assert call(server, "GET", records_path(server, table), headers=headers).status_code == 200
    refused = call(server, "POST", records_path(server, table), json={"fields": {}}, headers=headers)
    assert error_of(refused)[:2] == (403, "INVALID_PERMISSIONS")


def test_base_not_given_to_the_token_is_403_and_unlisted(server: AirtableServer, table: Table) -> None:
    other = server.create_base("Other")
    server.add_token("pat-other-base", bases=[other.id])
    with pytest.raises(HTTPError) as error:
        api(server, "pat-other-base").table(server.base_id, table.name).all()
    assert refusal(error)[:2] == (403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND")
    assert [base.id for base in api(server, "pat-other-base").bases()] == [other.id]


def test_missing_table_is_403_and_missing_base_or_route_a_bare_404(server: AirtableServer) -> None:
    assert error_of(call(server, "GET", f"{server.base_id}/Nope"))[1] == "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"
    for path in ("appNope0000000000/Nope", "meta/nope", f"{server.base_id}", f"{server.base_id}//"):
        response = call(server, "GET", path)
        assert (response.status_code, response.json()) == (404, {"error": "NOT_FOUND"})


# The tests' own hands


def test_change_log_tells_who_wrote_which_cell_by_which_request(client: Client, table: Table) -> None:
    record = table.add({"locationId": "a", "client_id": "b"})
    client.update(record, {"client_id": "c", "provider": None})
    seen = [(c.by, c.via and c.via.method, c.column, c.before, c.after) for c in table.changes(record)]
    assert seen == [
        ("person", None, "locationId", None, "a"),
        ("person", None, "client_id", None, "b"),
        ("pat-test", "PATCH", "client_id", "b", "c"),
        ("pat-test", "PATCH", "provider", None, None),
    ]
    assert {change.at for change in table.changes()} == {NOW}


def test_change_log_can_be_narrowed(table: Table) -> None:
    first, second = table.add_many([{"locationId": "a"}, {"locationId": "b", "client_id": "c"}])
    table.edit(first, {"client_id": "x"}, by="colleague")
    assert len(table.changes(second)) == 2
    assert len(table.changes(column="client_id")) == 2
    assert [change.after for change in table.changes(by="colleague")] == ["x"]


def test_refused_write_leaves_no_trace_in_the_log(client: Client, table: Table) -> None:
    with pytest.raises(HTTPError):
        client.create({"nope": "x"})
    assert table.changes() == []


def test_replace_and_delete_are_logged_cell_by_cell(client: Client, table: Table) -> None:
    record = table.add({"locationId": "a", "client_id": "b"})
    client.update(record, {"locationId": "a"}, replace=True)
    client.delete(record)
    seen = [(change.column, change.after) for change in table.changes(by="pat-test")]
    assert seen == [("client_id", None), ("locationId", "a"), ("locationId", None)]


def test_direct_edits_obey_the_column_types(table: Table) -> None:
    with pytest.raises(Exception, match="INVALID_MULTIPLE_CHOICE_OPTIONS"):
        table.add({"status": "paused"})
    assert len(table) == 0


def test_direct_edits_take_datetimes(server: AirtableServer) -> None:
    table = server.create_table("Times", [columns.date_time("At", "Europe/Berlin")])
    east = timezone(timedelta(hours=3))
    assert table.cell(table.add({"At": datetime(2026, 3, 1, 12, tzinfo=east)}), "At") == "2026-03-01T09:00:00.000Z"
    assert table.cell(table.add({"At": datetime.fromisoformat("2026-03-01T12:00")}), "At") == "2026-03-01T11:00:00.000Z"


def test_duplicate_copies_every_cell_under_a_new_id(table: Table) -> None:
    record = table.add({"locationId": "a", "access_token_expiry": "2026-03-01T10:00:00Z"})
    copy = table.duplicate(record)
    assert copy != record
    assert table.cells(copy) == table.cells(record)
    assert table.find(locationId="a") == [record, copy]


def test_renamed_column_is_unknown_by_its_old_name_and_known_by_its_id(client: Client, table: Table) -> None:
    record = table.add({"client_id": "a"})
    key = table.column("client_id").id
    table.rename_column("client_id", "Client")
    with pytest.raises(HTTPError) as error:
        client.all(fields=["client_id"])
    assert refusal(error)[2] == 'Unknown field name: "client_id"'
    assert client.all(fields=[key])[0]["fields"] == {"Client": "a"}
    table.remove_column("Client")
    assert client.get(record)["fields"] == {}


def test_credential_tables_have_the_columns_of_their_names(server: AirtableServer) -> None:
    full = [column.name for column in server.credentials_table("full").columns.values()]
    six = [column.name for column in server.six_column_table("six").columns.values()]
    assert full[:6] == six
    assert len(six) == 6
    assert {"provider", "status", "refreshed_by", "refresh_token_expiry"} < set(full)


def test_calls_are_counted_by_kind(client: Client, table: Table, server: AirtableServer) -> None:
    record = client.create({"locationId": "a"})["id"]
    client.update(record, {})
    client.batch_update([{"id": record, "fields": {}}])
    client.get(record)
    client.all()
    client.schema()
    client.delete(record)
    assert server.calls == {"create": 1, "update": 2, "get": 1, "list": 1, "schema": 1, "delete": 1}
    assert server.answers == {200: 7}
    assert len(server.requests) == 7
