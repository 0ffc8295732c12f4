"""Callers as they were written for the two services that this one stands in for, with a key added and nothing else."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests

from tests.service.server import Browser, ServiceServer

pytestmark = pytest.mark.by_turns("server")

# Document 003: "Core Endpoints"


def test_a_caller_registers_a_client_and_gets_its_token_after_the_login(server: ServiceServer) -> None:
    key = server.key("clients", "tokens")
    server.world.oauth.add_client(
        "google", "1034.apps.example", "GOCSPX-xxxxxxxxxxxxx", [f"{server.url}/auth/callback"]
    )
    server.world.oauth.consent("google", location_id="uuid-12345")
    registered = server.call(
        "POST",
        "/clients",
        key,
        json={
            "client_id": "1034.apps.example",
            "client_secret": "GOCSPX-xxxxxxxxxxxxx",
            "redirect_uri": f"{server.url}/auth/callback",
            "branch_id": "uuid-12345",
            "workspace_email": "workspace@company.com",
            "workspace_name": "Company Workspace",
        },
    )
    created = registered.json()
    assert registered.status_code == 201, created
    moment = datetime.fromisoformat(created.pop("created_at"))
    assert moment == server.world.clock.now()
    assert created == {
        "success": True,
        "message": "Client created successfully",
        "client_id": 1,
        "client_oauth_id": "1034.apps.example",
        "branch_id": 1,
        "branch_identifier": "uuid-12345",
        "email": "workspace@company.com",
        "workspace_name": "Company Workspace",
        "redirect_uri": f"{server.url}/auth/callback",
        "provider": "google",
    }
    link = server.call("POST", "/links", key, json={"client_id": 1}).json()["url"]
    done = Browser(server).log_in(f"/oauth/login/1?{link.partition('?')[2]}", headers={"Accept": "application/json"})
    ends_at = server.world.clock.now() + timedelta(seconds=3599)
    assert _timed(done.json()) == {
        "success": True,
        "message": "OAuth flow completed successfully",
        "client_id": "1034.apps.example",
        "branch_id": "uuid-12345",
        "provider": "google",
        "expires_at": ends_at,
    }
    token = _timed(server.call("GET", "/tokens/uuid-12345", key).json())
    assert server.world.oauth.is_live(token.pop("access_token"))
    assert token == {
        "success": True,
        "message": "Token retrieved successfully",
        "client_id": 1,
        "branch_id": "uuid-12345",
        "refresh_token": None,
        "expires_at": ends_at,
        "token_type": "Bearer",
    }


def test_the_python_of_step_5_gets_a_token(server: ServiceServer) -> None:
    """Its httpx is requests here; the key in a header is what it lacked."""
    server.connect("branch")
    key = server.key("tokens:branch")

    async def get_valid_token(branch_id: str) -> str:
        headers = {"Authorization": f"Bearer {key}"}
        response = await asyncio.to_thread(
            requests.get, f"{server.url}/tokens/{branch_id}", headers=headers, timeout=10
        )
        data = response.json()

        if data["success"]:
            return str(data["access_token"])
        raise Exception(f"Failed to get token: {data.get('message')}")

    assert server.world.oauth.is_live(asyncio.run(get_valid_token("branch")))


def test_a_token_near_its_end_is_refreshed_before_it_is_handed_out(server: ServiceServer) -> None:
    server.connect()
    first = server.call("GET", "/tokens/loc", server.admin).json()["access_token"]
    assert server.call("GET", "/tokens/loc", server.admin).json()["access_token"] == first
    server.world.clock.advance(3599 - 299)
    second = server.call("GET", "/tokens/loc", server.admin).json()["access_token"]
    assert second != first
    assert server.world.oauth.is_live(second)


def test_a_token_is_refreshed_by_hand(server: ServiceServer) -> None:
    made, key = server.connect(), server.key("tokens")
    tokens = {
        server.call("POST", "/tokens/refresh", key, json=named).json()["access_token"]
        for named in ({"branch_id": "loc"}, {"client_id": made["client_id"]}, {"client_id": str(made["client_id"])})
    }
    assert len(tokens) == 3


def test_monitoring_needs_no_key(server: ServiceServer) -> None:
    assert server.call("GET", "/health").json() == {"success": True, "message": "Healthy"}


# Document 001: one user, whom its requests do not name; his key does


def test_a_caller_with_one_user_asks_for_his_token_and_revokes_it(server: ServiceServer) -> None:
    server.connect("tom")
    key = server.key("tokens:tom", "clients")
    status = _timed(server.call("GET", "/auth/token", key).json())
    ends_at = server.world.clock.now() + timedelta(seconds=3599)
    assert status == {
        "success": True,
        "message": "Authenticated",
        "authenticated": True,
        "expires_at": ends_at,
        "needs_login": False,
    }


def test_a_caller_whose_user_has_to_log_in_learns_where(server: ServiceServer) -> None:
    server.register("tom")
    answer = server.call("GET", "/auth/token?location=tom", server.key("tokens:tom"))
    content = answer.json()
    assert (answer.status_code, content["code"]) == (401, "login_needed")
    assert (content["authenticated"], content["needs_login"]) == (False, True)
    assert content["login_url"] == f"{server.url}/auth/login?location=tom"
    assert "WWW-Authenticate" not in answer.headers


def test_a_caller_whose_tokens_were_revoked_learns_of_it(server: ServiceServer) -> None:
    server.world.program.settings["GOOGLE_REVOKE_URL"] = server.world.oauth.endpoint("google", "revoke")
    server.connect("tom")
    key = server.key("tokens:tom", "clients")
    assert server.call("POST", "/auth/revoke?location=tom", key).json()["success"]
    assert server.world.oauth.family("tom").revoked_at is not None
    assert server.call("GET", "/auth/token?location=tom", key).status_code in (401, 409)


def _timed(content: dict[str, Any]) -> dict[str, Any]:
    """An answer with its time as one, which has a zone."""
    moment = datetime.fromisoformat(content["expires_at"])
    assert moment.tzinfo is not None
    return content | {"expires_at": moment}
