"""One refresh, however many callers, threads and processes ask for one token at the same moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clock import SystemClock
from commands.programs import TokenManager
from tests.world.airtable import AirtableServer
from tests.world.oauth import OAuthServer
from tests.world.program import Program

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

    def log_in(self, expires_at: datetime) -> None:
        """A login whose access token ends then."""
        self.oauth.add_client("acme", "app", "hush")
        token = self.oauth.grant("acme", "app", location_id="loc1")
        manager = TokenManager.from_settings(self.program.settings)
        access = self.oauth.current_access(token)
        client: dict[str, Any] = {"client_id": "app", "client_secret": "hush"}
        manager.store_tokens("loc1", "acme", refresh_token=token, access_token=access, expires_at=expires_at, **client)


@pytest.fixture(params=["sqlite", "airtable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings of a store that several processes share. Another kind gets its name here, and its fixture below."""
    return dict(request.getfixturevalue(f"{request.param}_store"))


@pytest.fixture
def sqlite_store(tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{tmp_path / 'shared.sqlite3'}"}


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
            cwd=shared.program.install(),
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
