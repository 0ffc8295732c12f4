"""What the service says of itself, for programs and for people, without another host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.service.server import ServiceServer
from tests.world.browser import Browser, missing

pytestmark = pytest.mark.by_turns("server")

PUBLIC = {"/connect", "/oauth/login/{client_id}", "/auth/login", "/auth/callback", "/auth/done", "/health", "/ready"}


def operations(server: ServiceServer) -> dict[tuple[str, str], Any]:
    """Every endpoint that is described."""
    paths = server.call("GET", "/openapi.json").json()["paths"]
    return {(method, path): one for path, item in paths.items() for method, one in item.items()}


def test_every_endpoint_says_which_key_it_needs_and_what_an_error_holds(server: ServiceServer) -> None:
    described = operations(server)
    assert {path for (_, path), one in described.items() if "security" not in one} == PUBLIC
    for one in described.values():
        content = one["responses"]["default"]["content"]
        assert content["application/problem+json"] == {"schema": {"$ref": "#/components/schemas/Problem"}}
        assert "422" not in one["responses"]
        assert one["description"]


def test_what_is_written_only_is_marked(server: ServiceServer) -> None:
    schemas = server.call("GET", "/openapi.json").json()["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert schemas["NewClient"]["properties"]["client_secret"]["writeOnly"]
    assert schemas["NewClient"]["additionalProperties"] is False
    assert {"success", "message", "action", "code", "type", "title", "status"} <= set(schemas["Problem"]["properties"])


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_loads_what_it_needs_from_here(server: ServiceServer, path: str) -> None:
    page = server.call("GET", path)
    assert page.headers["Content-Type"].startswith("text/html")
    addresses = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert address.startswith("/")
        assert server.call("GET", address).status_code == 200
    assert not re.search(r"<script>|<style>| style=| on\w+=", page.text)


def test_styles_inside_are_for_redoc_alone(server: ServiceServer) -> None:
    policies = {
        path: server.call("GET", path).headers["Content-Security-Policy"] for path in ("/docs", "/redoc", "/health")
    }
    assert {path for path, policy in policies.items() if "unsafe-inline" in policy} == {"/redoc"}
    assert not [policy for policy in policies.values() if re.search(r"script-src[^;]*unsafe", policy)]


@pytest.mark.long
@pytest.mark.parametrize(("path", "words"), [("/docs", "/auth/revoke"), ("/redoc", "Register an app")])
def test_a_browser_shows_every_endpoint_under_these_rules(
    server: ServiceServer, tmp_path: Path, path: str, words: str
) -> None:
    if told := missing():
        pytest.skip(told)
    with Browser(tmp_path / "profile") as browser:
        browser.open(server.url + path)
        browser.wait_for(words)
