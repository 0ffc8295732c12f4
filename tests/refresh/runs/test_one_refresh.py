"""One refresh, however many callers, threads and processes ask for one token at the same moment."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.world.airtable import AirtableServer
from tests.world.oauth import OAuthServer
from tests.world.postgres import PostgresServer, mapped, plain
from tests.world.program import Program
from token_refresh.base.clock import SystemClock
from token_refresh.library import TokenManager

pytestmark = pytest.mark.long


PROCESSES, THREADS = 4, 50
LATENCY_SECONDS = 0.5
PATIENCE_SECONDS = 90

CALLERS = f"""
import json, sys, threading
from token_manager import TokenError, TokenManager

manager, together, served = TokenManager.from_settings(), threading.Barrier({THREADS}), []

def ask():
    together.wait()
    try:
        served.append(manager.get_valid_access_token("loc1"))
    except TokenError as error:
        served.append(repr(error))

threads = [threading.Thread(target=ask) for _ in range({THREADS})]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(served))
"""


@dataclass
class Shared:
    """Providers by the real clock, and a program whose processes share one store."""

    oauth: OAuthServer
    program: Program

    def log_in(self, expires_at: datetime, location: str = "loc1") -> None:
        """A login whose access token ends then."""
        self.oauth.add_client("acme", "app", "hush")
        token = self.oauth.grant("acme", "app", location_id=location)
        manager = TokenManager.from_settings(self.program.settings)
        access = self.oauth.current_access(token)
        login: dict[str, Any] = {"client_id": "app", "client_secret": "hush", "expires_at": expires_at}
        manager.store_tokens(location, "acme", refresh_token=token, access_token=access, **login)


@pytest.fixture(params=["sqlite", "postgres", "airtable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings of a store that several processes share. Another kind gets its name here, and its fixture below."""
    return dict(request.getfixturevalue(f"{request.param}_store"))


@pytest.fixture
def sqlite_store(tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{tmp_path / 'shared.sqlite3'}"}


@pytest.fixture
def postgres_store(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    address = postgres.database()
    yield {"DATABASE_URL": plain(address)}
    postgres.drop(address)


@pytest.fixture
def airtable_store() -> Iterator[dict[str, str]]:
    with AirtableServer() as server:
        server.requests_per_second = None
        server.credentials_table()
        yield {
            "AIRTABLE_API_KEY": server.token,
            "AIRTABLE_BASE_ID": server.base_id,
            "AIRTABLE_ENDPOINT_URL": server.url,
            "AIRTABLE_REQUESTS_PER_SECOND": "50",
        }


@pytest.fixture
def shared(tmp_path: Path, store: dict[str, str]) -> Iterator[Shared]:
    with OAuthServer(latency=LATENCY_SECONDS) as oauth:
        own = tmp_path / "providers.toml"
        own.write_text(f'[acme]\nname = "Acme"\ntoken_url = "{oauth.token_url("acme")}"\nreplay = "once"\n')
        program = Program(tmp_path, {"PROVIDERS_FILE": str(own), **store}, SystemClock())
        program.planted = lambda: [*oauth.tokens, *oauth.access_tokens]
        yield Shared(oauth, program)


@pytest.mark.parametrize("left", [-60, 60], ids=["expired", "ends soon"])
def test_of_two_hundred_callers_in_four_processes_one_asks_the_provider_and_all_are_served(
    shared: Shared, left: int
) -> None:
    shared.log_in(datetime.now(UTC) + timedelta(seconds=left))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CALLERS],
            cwd=shared.program.installed(),
            env=shared.program.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ended = [process.communicate(timeout=PATIENCE_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [words for _, words in ended] == [""] * PROCESSES
    served = [token for out, _ in ended for token in json.loads(out)]
    assert served == [shared.oauth.current_access("loc1")] * (PROCESSES * THREADS)
    assert len(shared.oauth.requests) == 1
    assert shared.oauth.sent_twice() == []


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_callers_beyond_the_connections_that_a_server_grants_wait_for_one(
    shared: Shared, store: dict[str, str], postgres: PostgresServer
) -> None:
    """Each asks for another token, and holds a connection for as long as its refresh takes."""
    locations = [f"loc{number}" for number in range(12)]
    for location in locations:
        shared.log_in(datetime.now(UTC) - timedelta(seconds=60), location)
    with closing(postgres.connect(mapped(store["DATABASE_URL"]))) as shell:
        shell.execute("DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN CONNECTION LIMIT 4")
        shell.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO modest")
    shared.program.settings["DATABASE_URL"] = store["DATABASE_URL"].replace("postgres:@", "modest@")
    manager, together = TokenManager.from_settings(shared.program.settings), threading.Barrier(len(locations))

    def ask(location: str) -> str:
        together.wait()
        return manager.get_valid_access_token(location)

    with ThreadPoolExecutor(len(locations)) as pool:
        served = list(pool.map(ask, locations))
    assert served == [shared.oauth.current_access(location) for location in locations]
    assert shared.oauth.sent_twice() == []
