"""What monitors are told: without a key as little as possible."""

from __future__ import annotations

import time

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows
from tests.service.server import ServiceServer
from tests.world.raw import silent_server
from token_refresh.service import health

pytestmark = pytest.mark.by_turns("server")


def test_a_service_that_can_work_is_ready(server: ServiceServer) -> None:
    server.connect()
    for path in ("/health", "/ready"):
        assert server.call("GET", path).status_code == 200


@pytest.mark.parametrize("cells", [{"encrypted_refresh": ""}, {"encrypted_refresh": "pasted"}, {"provider": "nobody"}])
def test_what_is_wrong_with_one_row_alone_leaves_it_ready(world: World, cells: dict[str, str]) -> None:
    with ServiceServer(world) as server:
        server.connect()
        SqliteRows(world).edit("loc", **cells)
        assert server.call("GET", "/ready").status_code == 200


def test_a_wrong_key_makes_it_not_ready_and_only_who_may_read_learns_why(server: ServiceServer) -> None:
    server.connect()
    server.world.program.settings["ENCRYPTION_KEY"] = "A" * 42 + "8="
    with ServiceServer(server.world) as other:
        assert other.call("GET", "/health").status_code == 200
        said, told = other.call("GET", "/ready"), other.call("GET", "/ready", server.key("read"))
        assert (
            (said.status_code, said.json()["code"]) == (told.status_code, told.json()["code"]) == (503, "retry_later")
        )
        assert "part" not in said.json()
        assert (told.json()["part"], "key" in told.json()["message"]) == ("key", True)
        assert "key" not in said.json()["message"]
        assert other.call("GET", "/ready", server.key("tokens")).json() == said.json()
        assert other.call("GET", "/tokens/loc", server.admin).json()["code"] == "unreadable_cell"


def test_with_the_store_away_it_starts_and_says_so_at_once(world: World) -> None:
    world.program.settings["DATABASE_URL"] = "postgresql://user:hunter2hunter2@127.0.0.1:9/tokens"
    with ServiceServer(world) as server:
        server.secrets.add("hunter2hunter2")
        for path, key in (("/health", ""), ("/ready", ""), ("/tokens/loc", f"trk_{'0' * 16}_{'0' * 64}")):
            answer = server.call("GET", path, key)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert server.call("GET", "/tokens/loc").status_code == 401
        assert server.call("GET", "/docs").status_code == 200


def test_a_store_that_is_silent_makes_it_not_ready_in_time_and_is_asked_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health.ANSWER_SECONDS + health.KEY_SECONDS <= 5
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(health, "KEY_SECONDS", 0.1)
    with silent_server() as silent:
        world.program.settings["DATABASE_URL"] = f"postgresql://user@127.0.0.1:{silent.port}/tokens"
        with ServiceServer(world) as server:
            start = time.monotonic()
            for path in ("/ready", "/health", "/ready"):
                assert server.call("GET", path).status_code == 503
            assert silent.accepted == 1
            assert server.call("GET", "/ready", f"trk_{'0' * 16}_{'0' * 64}").json()["code"] == "retry_later"
            assert time.monotonic() - start < 3


def test_at_airtable_health_costs_a_call_every_ten_minutes(airtable_world: World) -> None:
    airtable = airtable_world.airtable
    assert airtable is not None
    with ServiceServer(airtable_world) as server:
        calls = []
        for seconds in (0, 5, 300, 290, 10):
            airtable_world.clock.advance(seconds)
            assert server.call("GET", "/health").status_code == 200
            calls.append(len(airtable.requests))
        assert calls[0] == calls[3] < calls[4]


def test_metrics_are_those_of_the_file_and_hold_no_location(server: ServiceServer) -> None:
    server.connect("loc-that-nobody-may-see")
    assert server.world.program.run().code == 0
    server.world.clock.advance(7)
    answer = server.call("GET", "/metrics", server.key("read"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = dict(line.rpartition(" ")[::2] for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(lines['token_refresh_tokens{provider="google",state="valid"}']) == 1
    assert float(lines["token_refresh_run_timestamp_seconds"]) == server.world.clock.timestamp() - 7
    assert float(lines["token_refresh_run_exit_code"]) == 0
    assert 'token_refresh_store_connections{state="idle"}' in lines
    assert "loc-that-nobody-may-see" not in answer.text


def test_metrics_say_how_long_a_provider_took_for_a_login_and_a_refresh(server: ServiceServer) -> None:
    server.connect("loc")
    server.world.clock.advance(7200)
    assert server.call("GET", "/tokens/loc", server.key("tokens")).status_code == 200
    text = server.call("GET", "/metrics", server.key("read")).text
    assert [line for line in text.splitlines() if "provider_seconds_count" in line] == [
        'token_refresh_provider_seconds_count{provider="google"} 2.0'
    ]
