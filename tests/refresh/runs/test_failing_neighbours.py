"""Rows that fail, day in, day out, beside rows that are well: these never go without a living token."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator

import pytest

from crypto import Context
from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows
from tests.world.oauth import faults
from tests.world.oauth.faults import Call

QUARTER = 900.0
RUNS = 96  # a day of */15
DEAD, HEALTHY, INSTANCE = 30, 20, 5

pytestmark = pytest.mark.long


@pytest.fixture
def rows(world: World) -> SqliteRows:
    world.program.settings |= {"REFRESH_INTERVAL": str(int(QUARTER)), "CONCURRENCY": "8"}
    return SqliteRows(world)


@pytest.fixture
def dead_host() -> Iterator[str]:
    """A host and port where nobody accepts a connection."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def add_instance(rows: SqliteRows, location: str, host: str) -> None:
    """A row on a host of its own, sealed for it."""
    world = rows.world
    rows.add("acme-instance", location, provider_params=json.dumps({"instance": host}))
    if host not in world.oauth.url:
        for column in ("encrypted_secret", "encrypted_refresh"):
            context = Context(column, location, f"http://{host}")
            rows.edit(location, **{column: world.program.keyring.seal(f"a grant of {location}", context)})


def calls_of(rows: SqliteRows, location: str) -> int:
    """How many token requests the provider got for a row."""
    return sum(token.times_sent for token in rows.world.oauth.family(location).refresh_tokens)


def test_healthy_rows_live_through_a_day_beside_dead_rows_a_dead_instance_and_a_row_that_is_asked_to_wait(
    rows: SqliteRows, dead_host: str
) -> None:
    world = rows.world
    living = world.oauth.url.removeprefix("http://")
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = f"{living},{dead_host}"
    healthy = [f"healthy {number}" for number in range(HEALTHY)]
    for name in healthy:
        rows.add("acme", name)
    for number in range(INSTANCE):
        add_instance(rows, f"instance {number}", living)
        healthy.append(f"instance {number}")
    assert world.program.run("--json").code == 0
    world.clock.advance(QUARTER)
    for number in range(DEAD):
        rows.add("acme", f"dead {number}")
    for number in range(INSTANCE):
        add_instance(rows, f"gone {number}", dead_host)
    rows.add("acme", "asked to wait")

    def of(call: Call, *names: str) -> bool:
        return str(call.location_id).startswith(names)

    world.oauth.fail(faults.status(500), times=math.inf, when=lambda call: of(call, "dead"))
    world.oauth.fail(faults.too_many_requests(3600), times=math.inf, when=lambda call: of(call, "asked to wait"))
    for _ in range(RUNS):
        begun = world.clock.timestamp()
        result = world.program.run("--json")
        assert result.code == 1
        gone = {row["error"] for row in result.json()["results"] if row["location_id"].startswith("gone")}
        assert gone <= {"no connection to the provider"}
        access = rows.access_of_all()
        for name in healthy:
            assert world.oauth.is_live(access[name]), name
        world.clock.advance(QUARTER - (world.clock.timestamp() - begun))
        for name in healthy:
            assert world.oauth.is_live(access[name]), name
    assert calls_of(rows, "asked to wait") <= RUNS
    dead = sum(calls_of(rows, f"dead {number}") for number in range(DEAD))
    assert dead <= 22 * RUNS  # ten until the breaker looks for a row that is well, and so on; a resend here and there
    # A token of an hour is due when 35 minutes are left: each second run refreshes it, and nothing else does.
    assert {calls_of(rows, name) for name in healthy} == {1 + RUNS // 2}
