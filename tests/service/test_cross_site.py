"""What other web pages, caches and frames can make of the service: nothing."""

from __future__ import annotations

import pytest

from tests.service.server import Browser, ServiceServer

pytestmark = pytest.mark.by_turns("server")

EVIL = "https://evil.example"
PATHS = ("/health", "/docs", "/connect?link=x", "/auth/done", "/openapi.json", "/tokens/loc", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_is_kept_framed_sniffed_or_shared(server: ServiceServer, path: str) -> None:
    headers = server.call("GET", path, headers={"Origin": EVIL}).headers
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_page_of_another_site_gets_no_answer_to_what_it_asks_for_first(server: ServiceServer) -> None:
    preflight = {
        "Origin": EVIL,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = server.call("OPTIONS", "/clients", headers=preflight)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example:80", ""]
)
def test_a_request_for_another_host_is_not_served(server: ServiceServer, host: str) -> None:
    answer = server.call("GET", "/tokens/loc", server.admin, headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (400, "host")


def test_no_address_that_is_answered_is_made_of_what_a_request_says(server: ServiceServer) -> None:
    server.register()
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    made = server.call("POST", "/links", server.admin, json={"branch_id": "loc"}, headers=headers)
    assert made.json()["url"].startswith(f"{server.url}/connect?link=")
    begun = Browser(server).get(made.json()["url"].replace("/connect", "/oauth/login/1"), headers=headers)
    assert "evil.example" not in begun.headers["Location"]


def test_a_form_of_another_site_changes_nothing(server: ServiceServer) -> None:
    """A form sends no JSON, and no key."""
    server.register()
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        body = '{"branch_id": "loc"}'
        answer = server.call("POST", "/links", server.admin, data=body, headers={"Content-Type": kind, "Origin": EVIL})
        assert answer.status_code == 422


def test_a_path_with_a_slash_at_its_end_leads_nowhere_else(server: ServiceServer) -> None:
    answer = server.call("GET", "/clients/", server.admin)
    assert (answer.status_code, "Location" in answer.headers) == (404, False)
