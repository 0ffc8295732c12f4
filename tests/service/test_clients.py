"""Clients over HTTP: registered, listed, changed, deleted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.server import ServiceServer

pytestmark = pytest.mark.by_turns("server")

CLIENT = {
    "client_id": "app-google",
    "client_secret": "google secret",
    "redirect_uri": "https://app.example/callback",
    "branch_id": "loc",
}


def test_a_client_that_exists_is_a_conflict(server: ServiceServer) -> None:
    server.register()
    again = server.call("POST", "/clients", server.admin, json=CLIENT | {"provider": "google"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


def test_every_mistake_is_named_at_once_and_no_value_is_repeated(server: ServiceServer) -> None:
    sent = {
        "client_id": "",
        "client_secret": "hunter2hunter2",
        "redirect_uri": 7,
        "branch_id": "loc\x00",
        "provider_params": {"tenant": []},
        "workspace": "Company",
        "GOCSPX-xxxxxxxxxxxxx": 1,
    }
    answer = server.call("POST", "/clients", server.admin, json=sent)
    content = answer.json()
    assert (answer.status_code, content["code"], content["success"]) == (422, "invalid", False)
    fields = {error["field"] for error in content["errors"]}
    assert fields == {"client_id", "redirect_uri", "branch_id", "provider_params.tenant", "workspace", "?"}
    assert not [text for text in ("hunter2", "Company", "GOCSPX", "loc") if text in answer.text]


@pytest.mark.parametrize(
    "uri",
    [
        "http://elsewhere.example/callback",
        "https://user@elsewhere.example/callback",
        "https://elsewhere.example/callback#fragment",
        "javascript:alert(1)",
        "/callback",
    ],
)
def test_a_redirect_uri_that_is_not_safe_is_refused(server: ServiceServer, uri: str) -> None:
    answer = server.call("POST", "/clients", server.admin, json=CLIENT | {"provider": "google", "redirect_uri": uri})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert [error["field"] for error in answer.json()["errors"]] == ["redirect_uri"]
    assert uri not in answer.text


@pytest.mark.parametrize(
    "uri", ["https://elsewhere.example/callback", "http://127.0.0.1:8000/x", "http://localhost/callback"]
)
def test_a_redirect_uri_with_tls_or_on_this_machine_is_taken(server: ServiceServer, uri: str) -> None:
    answer = server.call("POST", "/clients", server.admin, json=CLIENT | {"provider": "google", "redirect_uri": uri})
    assert (answer.status_code, answer.json()["redirect_uri"]) == (201, uri)


def test_a_token_host_that_a_request_chooses_must_be_allowed(server: ServiceServer) -> None:
    sent = CLIENT | {"provider": "acme-instance", "provider_params": {"instance": "attacker.example"}}
    answer = server.call("POST", "/clients", server.admin, json=sent)
    assert answer.status_code == 422, answer.text
    assert server.call("GET", "/clients", server.admin).json()["clients"] == []


def test_clients_are_listed_page_by_page(server: ServiceServer) -> None:
    for number in range(5):
        server.register(f"loc{number}")
    found, after = [], ""
    while after is not None:
        page = server.call("GET", f"/clients?limit=2{f'&after={after}' if after else ''}", server.admin).json()
        found += [client["branch_id"] for client in page["clients"]]
        after = page["next"]
    assert found == [f"loc{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("provider=google", ["loc", "other"]),
        ("provider=Google", ["loc", "other"]),
        ("provider=xero", []),
        ("status=valid", ["other"]),
        ("status=waiting", ["loc"]),
        ("status=failing", []),
        ("q=oth", ["other"]),
        ("q=COMPANY", ["loc", "other"]),
        ("q=%25", []),
    ],
)
def test_a_list_holds_what_was_asked_for(server: ServiceServer, query: str, found: list[str]) -> None:
    server.register()
    server.connect("other")
    for path in ("clients", "tokens"):
        rows = server.call("GET", f"/{path}?{query}", server.key("read")).json()[path]
        assert [row["branch_id"] for row in rows] == found


def test_what_is_shown_of_a_client_is_all_but_its_secrets(server: ServiceServer) -> None:
    server.connect()
    shown = server.call("GET", "/clients/1", server.key("read")).json()["client"]
    assert shown == server.call("GET", "/clients", server.key("read")).json()["clients"][0]
    assert {name: shown[name] for name in ("client_id", "branch_id", "email", "state", "is_active")} == {
        "client_id": 1,
        "branch_id": "loc",
        "email": "loc@company.example",
        "state": "valid",
        "is_active": True,
    }
    assert not [name for name in shown if "secret" in name or name in ("access_token", "refresh_token")]


def test_a_client_is_changed_in_what_is_named_alone(server: ServiceServer) -> None:
    server.connect()
    sent = {"workspace_name": "Renamed", "client_secret": "another secret"}
    server.secrets.add("another secret")
    server.world.add_client("google", "app-google", "another secret")
    changed = server.call("PATCH", "/clients/1", server.admin, json=sent).json()["client"]
    assert (changed["workspace_name"], changed["email"]) == ("Renamed", "loc@company.example")
    assert server.call("POST", "/tokens/refresh", server.admin, json={"branch_id": "loc"}).status_code == 200


@pytest.mark.parametrize("field", ["branch_id", "provider", "access_token", "status"])
def test_what_cannot_be_changed_is_no_field(server: ServiceServer, field: str) -> None:
    server.register()
    answer = server.call("PATCH", "/clients/1", server.admin, json={field: "x"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_a_disabled_client_has_no_token_until_it_is_enabled_again(server: ServiceServer) -> None:
    server.connect()
    assert (
        server.call("PATCH", "/clients/1", server.admin, json={"is_active": False}).json()["client"]["state"]
        == "disabled"
    )
    for method, path, body in (
        ("GET", "/tokens/loc", None),
        ("GET", "/auth/token?location=loc", None),
        ("POST", "/tokens/refresh", {"branch_id": "loc"}),
    ):
        answer = server.call(method, path, server.admin, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "disabled")
    assert server.call("PATCH", "/clients/1", server.admin, json={"is_active": True}).status_code == 200
    assert server.call("GET", "/tokens/loc", server.admin).status_code == 200


def test_a_deleted_client_is_gone_with_its_tokens(server: ServiceServer) -> None:
    server.connect()
    assert server.call("DELETE", "/clients/1", server.admin).json()["success"]
    for path in ("/clients/1", "/tokens/loc"):
        assert server.call("GET", path, server.admin).json()["code"] == "not_found"
    assert server.world.oauth.family("loc").revoked_at is None


@pytest.mark.by_turns("server", "row_id")
@pytest.mark.parametrize("row_id", ["2", "99999999999999999999", "x", "rec0123456789abcd", "-1", "1.0", "%00", "0"])
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"workspace_name": "x"}), ("DELETE", None)])
def test_a_client_that_there_is_not(server: ServiceServer, method: str, body: Any, row_id: str) -> None:
    server.register()
    answer = server.call(method, f"/clients/{row_id}", server.admin, json=body)
    assert (answer.status_code, answer.json()["code"]) in ((404, "not_found"), (422, "invalid"))
