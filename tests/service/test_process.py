"""The service as a process: how it starts, what it refuses, and that its end costs no token and no request."""

from __future__ import annotations

import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

import crypto
from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, PostgresRows, SqliteRows, entries
from tests.refresh.runs.test_faults_processes import Gate, end, gate, processes, table
from tests.service.test_server import until
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth.faults import Act, Call, Fault
from tests.world.ports import free_port
from tests.world.postgres import PostgresServer, name_of
from tests.world.program import Result

pytestmark = pytest.mark.long

__all__ = ["gate", "processes", "table"]  # fixtures

PATIENCE_SECONDS = 60
BRIEF_SECONDS = 12  # a key is looked up for five
CALLERS = 8
SERVICE = ("-m", "token_refresh.service")
# The same, that takes a request for lost after two seconds.
HASTY = """
from token_refresh.refresh import replay
from token_refresh.service.__main__ import command

replay.EXCHANGE_SECONDS = 2
command()
"""


def start(
    processes: list[subprocess.Popen[str]], world: World, words: Sequence[str] = SERVICE, **settings: str
) -> subprocess.Popen[str]:
    """The installed service, beginning."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=world.program.installed(),
        env=world.program.environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    return process


class Served:
    """A service that listens, and a key for everything: a new one, or another replica's."""

    words: Sequence[str] = SERVICE

    def __init__(
        self, processes: list[subprocess.Popen[str]], world: World, key: str | None = None, **settings: str
    ) -> None:
        self.key = key or world.program.run("api-key", "create", "ci", "--scope", "admin").out.strip()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = start(processes, world, self.words, PORT=str(port), **settings)
        self._pool = ThreadPoolExecutor(4)
        self._wait(port)

    def _wait(self, port: int) -> None:
        ends = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < ends and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(self.process.communicate()[1])

    def get(self, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return requests.get(self.url + path, headers=headers, timeout=PATIENCE_SECONDS, **options)

    def refresh(self, location: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        named = {"branch_id": location}
        return requests.post(f"{self.url}/tokens/refresh", headers=headers, json=named, timeout=PATIENCE_SECONDS)

    def begin(self, path: str) -> Future[requests.Response]:
        """A request in a thread of its own."""
        return self._pool.submit(self.get, path)

    def end(self, number: signal.Signals = signal.SIGTERM) -> Result:
        self.process.send_signal(number)
        return end(self.process)


class Replica(Served):
    """One of several."""

    words = ("-c", HASTY)


def start_all(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.start()


@pytest.fixture
def rows(world: World) -> SqliteRows:
    return SqliteRows(world)


def test_an_end_while_the_store_is_silent_answers_what_is_open_and_waits_for_nobody(
    postgres: PostgresServer, postgres_world: World, processes: list[subprocess.Popen[str]]
) -> None:
    rows, settings = PostgresRows(postgres_world), postgres_world.program.settings
    rows.add("acme", "loc0")
    name = name_of(settings["DATABASE_URL"])
    with postgres.gate() as gate:
        address = f"postgresql://postgres@127.0.0.1:{gate.port}/{name}"
        served = Served(processes, postgres_world, DATABASE_URL=address)
        first = served.get("/tokens/loc0")
        assert first.ok, first.text
        gate.is_silent.set()
        asked = [served.begin(path) for path in ("/tokens/loc0", "/ready", "/metrics")]
        time.sleep(0.5)  # they have arrived
        start = time.monotonic()
        result = served.end()
        assert time.monotonic() - start < BRIEF_SECONDS
        gate.is_silent.clear()
    assert [one.result().status_code for one in asked] == [503] * len(asked)
    assert result.code == exits.DONE, result.err
    assert rows.is_current("loc0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_while_a_request_waits_for_a_provider_fails_no_request_and_loses_nothing(
    rows: SqliteRows, gate: Gate, processes: list[subprocess.Popen[str]], number: signal.Signals
) -> None:
    world = rows.world
    rows.add("acme", "loc0")
    world.oauth.fail(gate.after_acting())
    served = Served(processes, world)
    answer = served.begin("/tokens/loc0")
    gate.wait_for(1)
    for _ in range(2):  # a second one cuts nothing off
        os.kill(served.process.pid, number)
        time.sleep(0.3)
    with pytest.raises(requests.ConnectionError):
        served.get("/health")
    gate.open.set()
    result = end(served.process)
    assert (answer.result().status_code, result.code) == (200, exits.DONE), result.err
    assert answer.result().json()["access_token"] == rows.access("loc0")
    assert rows.is_current("loc0")
    assert entries(world) == []
    assert f"{number.name} was received: no new requests" in result.err
    assert "Traceback" not in result.said


def test_what_an_earlier_run_left_is_stored_before_the_service_listens(
    table: AirtableRows, processes: list[subprocess.Popen[str]]
) -> None:
    world = table.world
    table.add("acme", "loc0")
    assert world.airtable is not None
    world.airtable.inject(airtable_faults.status(503), kind="update", nth=2, times=None)
    assert world.program.run("--json").code == exits.STORE
    assert [entry.step for entry in entries(world)] == ["answered"]
    world.airtable.faults.clear()
    served = Served(processes, world)
    assert table.is_current("loc0")
    assert entries(world) == []
    assert served.end().code == exits.DONE


def test_it_starts_with_a_wrong_key_and_is_not_ready(rows: SqliteRows, processes: list[subprocess.Popen[str]]) -> None:
    rows.add("acme", "loc0")
    served = Served(processes, rows.world, ENCRYPTION_KEY=crypto.generate_key())
    assert served.get("/ready").status_code == 503
    result = served.end()
    assert result.code == exits.DONE
    assert "Traceback" not in result.err


def test_no_query_string_is_in_the_log(world: World, processes: list[subprocess.Popen[str]]) -> None:
    served = Served(processes, world, LOG_LEVEL="DEBUG")
    for path in ("/connect?link=canary-link", "/nowhere?canary-link", "/tokens/x?canary-link=1"):
        served.get(path)
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"GET /canary-link HTTP/9\r\n\r\n")
        connection.recv(1000)
    result = served.end()
    assert "the service listens at" in result.err
    assert "canary-link" not in result.said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HOST": "0.0.0.0"}, "HOST lets other machines reach the service without encryption"),
        ({"HOST": "::"}, "HOST lets other machines reach the service without encryption"),
        ({"PORT": "0"}, "PORT cannot be used"),
        ({"ENCRYPTION_KEY": ""}, "ENCRYPTION_KEY is not set"),
        ({"TLS_CERT_FILE": "nowhere.pem", "TLS_KEY_FILE": "nowhere.pem"}, "TLS_CERT_FILE and TLS_KEY_FILE cannot"),
        ({"HOST": "192.0.2.1", "ALLOW_PLAIN_HTTP": "yes"}, "the service cannot listen at 192.0.2.1"),
    ],
)
def test_what_it_cannot_start_with_is_named(
    world: World, processes: list[subprocess.Popen[str]], settings: dict[str, str], said: str
) -> None:
    result = end(start(processes, world, **settings))
    assert (result.code, result.out) == (exits.USAGE, "")
    assert said in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bogus"], "there is no flag --bogus"),
        (["--port", "9123"], "there is no flag --port"),
        (["foo"], "there are more arguments than expected"),
    ],
)
def test_words_that_it_does_not_know_start_nothing(
    world: World, processes: list[subprocess.Popen[str]], words: list[str], said: str
) -> None:
    result = end(start(processes, world, [*SERVICE, *words], PORT="0"))
    assert (result.code, result.out) == (exits.USAGE, "")
    assert f"{said}; secrets are never arguments. See: " in result.err
    assert "-m token_refresh.service --help" in result.err


@pytest.mark.parametrize(
    ("word", "said"), [("--help", "docs/service.md"), ("-h", "docs/service.md"), ("--version", "token-refresh 0.")]
)
def test_help_and_version_are_printed_without_a_setting(
    world: World, processes: list[subprocess.Popen[str]], word: str, said: str
) -> None:
    result = end(start(processes, world, [*SERVICE, word], PORT="0", ENCRYPTION_KEY=""))
    assert (result.code, said in result.out, result.err) == (0, True, "")


def test_other_machines_may_reach_it_behind_a_proxy(world: World, processes: list[subprocess.Popen[str]]) -> None:
    served = Served(processes, world, HOST="0.0.0.0", TRUSTED_PROXIES="127.0.0.1")
    assert served.get("/tokens").status_code == 200
    assert served.end().code == exits.DONE


def test_callers_at_the_end_get_an_answer_or_no_connection(
    rows: SqliteRows, processes: list[subprocess.Popen[str]]
) -> None:
    """Many at once, while it stops: none gets half an answer."""
    rows.add("acme", "loc0")
    served = Served(processes, rows.world)
    assert served.get("/tokens/loc0").status_code == 200
    stopped, answers = threading.Event(), list[int]()

    def ask() -> None:
        while not stopped.is_set():
            try:
                answers.append(served.get("/tokens/loc0").status_code)
            except requests.ConnectionError:
                stopped.set()

    callers = [threading.Thread(target=ask) for _ in range(4)]
    start_all(callers)
    time.sleep(0.5)
    result = served.end()
    for caller in callers:
        caller.join(PATIENCE_SECONDS)
    assert set(answers) == {200}
    assert result.code == exits.DONE


def test_a_replica_that_is_killed_under_load_loses_no_token(
    postgres_world: World, processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Providers have spent tokens whose answers it never read. It starts again, as whoever runs it sees to."""
    rows, world = PostgresRows(postgres_world), postgres_world
    locations = [f"loc{number}" for number in range(24)]
    for location in locations:
        rows.add("acme-grace", location)
    go_on, out = threading.Event(), threading.Semaphore(0)

    def hold(_: Call, act: Act) -> Any:
        answer = act()
        if not go_on.is_set():
            out.release()
            go_on.wait(PATIENCE_SECONDS)
        return answer

    go_on.set()
    world.oauth.fail(Fault("hold", hold), times=math.inf)
    one = Replica(processes, world)
    other = Replica(processes, world, one.key, STATE_DIR=str(tmp_path / "other"))
    replicas, is_over, answers = [one, other], threading.Event(), list[int]()

    def ask(number: int) -> None:
        for location in itertools.cycle(locations[number::CALLERS]):
            if is_over.is_set():
                return
            with suppress(requests.ConnectionError):  # of the one that is killed
                answers.append(replicas[number % 2].refresh(location).status_code)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
    start_all(callers)
    until(lambda: len(answers) > 2 * len(locations))
    go_on.clear()
    assert all(out.acquire(timeout=PATIENCE_SECONDS) for _ in callers)
    one.process.kill()
    go_on.set()
    replicas[0] = Replica(processes, world, one.key)
    answered = len(answers)
    until(lambda: len(answers) > answered + len(locations))
    is_over.set()
    for caller in callers:
        caller.join(PATIENCE_SECONDS)
    assert set(answers) <= {200, 503}  # of those that were under way it says 503 at first
    until(lambda: all(replicas[0].refresh(location).status_code == 200 for location in locations))
    assert [other.refresh(location).status_code for location in locations] == [200] * len(locations)
    assert all(map(rows.is_current, locations))
    assert world.oauth.violations == []
