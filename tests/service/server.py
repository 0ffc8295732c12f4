"""The service over real HTTP, in this process, on the store and the clock of a test's world."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import Any

import pytest
import requests
import uvicorn

import crypto
from tests.conftest import World
from tests.world.program import SHORTEST_SECRET
from token_refresh.library.log import log_not_saved, log_outage
from token_refresh.service.app import create_app
from token_refresh.service.context import Service
from token_refresh.service.server import configure
from token_refresh.settings import load
from token_refresh.wiring import assemble

START_SECONDS = 10.0
_TOKEN = re.compile(r'"access_token": ?"[^"]*"')  # what an answer may hold that is asked for one
_NUMBERS = itertools.count(1)


class ServiceServer:
    """The service, while used as a context manager. Every answer is searched for secrets.

    Args:
        world: its providers, its store and its clock.
        settings: beside the world's.

    Attributes:
        secrets: that no answer may hold, besides those of the world.
        seen: every answer, as text, with its headers.
    """

    def __init__(self, world: World, **settings: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.world = world
        google = {"GOOGLE_AUTH_URL": world.oauth.endpoint("google", "authorize"), "DEFAULT_PROVIDER": "google"}
        environ = {**google, **world.program.settings, "PUBLIC_URL": self.url, **settings}
        loaded = load(environ, crypto.parse_key, world.program.home)
        self.service = Service(assemble(loaded, world.clock, log_not_saved, log_outage, "service"))
        self._server = uvicorn.Server(configure(create_app(self.service), loaded.service))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self.secrets: set[str] = set()
        self.seen: list[str] = []
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> ServiceServer:
        self._thread.start()
        ends = time.monotonic() + START_SECONDS
        while not self._server.started:
            assert self._thread.is_alive(), "the service ended while it began"
            assert time.monotonic() < ends, "the service does not begin"
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(START_SECONDS)
        self._session.close()
        self._socket.close()

    def key(self, *scopes: str) -> str:
        """A new key."""
        key = self.service.keys.create(f"key {next(_NUMBERS)}", scopes)
        self.secrets.add(key.rpartition("_")[2])
        return key

    def register(self, location: str = "loc", **more: Any) -> dict[str, Any]:
        """A client of the fake Google, which waits for its login."""
        self.world.oauth.add_client("google", "app-google", "google secret", [f"{self.url}/auth/callback"])
        self.world.oauth.consent("google", location_id=location)
        client = {
            "client_id": "app-google",
            "client_secret": "google secret",
            "redirect_uri": f"{self.url}/auth/callback",
            "branch_id": location,
            "workspace_email": f"{location}@company.example",
            "workspace_name": f"Company {location}",
            "provider": "google",
        }
        made = self.call("POST", "/clients", self.admin, json=client | more)
        assert made.status_code == 201, made.text
        answer: dict[str, Any] = made.json()
        return answer

    def link(self, location: str = "loc", **more: Any) -> str:
        """A one-time link for its login."""
        made = self.call("POST", "/links", self.admin, json={"branch_id": location, **more})
        assert made.status_code == 201, made.text
        return str(made.json()["url"])

    def connect(self, location: str = "loc") -> dict[str, Any]:
        """A client that somebody has logged in for."""
        made = self.register(location)
        query = self.link(location).partition("?")[2]
        done = Browser(self).log_in(f"/oauth/login/{made['client_id']}?{query}")
        assert done.status_code == 200, done.text
        return made

    @cached_property
    def admin(self) -> str:
        """A key for everything."""
        return self.key("admin")

    def call(self, method: str, path: str, key: str = "", **parts: Any) -> requests.Response:
        """Ask, as a program does."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= parts.pop("headers", {})
        session = parts.pop("session", self._session)
        answer: requests.Response = session.request(
            method, self.url + path, headers=headers, timeout=30, **{"allow_redirects": False, **parts}
        )
        self.search(answer)
        return answer

    def search(self, answer: requests.Response) -> None:
        """The promise of every test: no secret and no traceback in an answer, and nobody keeps it."""
        text = "\n".join([*(f"{name}: {value}" for name, value in answer.headers.items()), answer.text])
        self.seen.append(text)
        shown = _TOKEN.sub("", text)
        for secret in (self.world.program.settings["ENCRYPTION_KEY"], *self.world.program.planted(), *self.secrets):
            assert len(secret) < SHORTEST_SECRET or secret not in shown, f"an answer holds a secret: {answer.url}"
        assert "Traceback" not in text
        assert answer.headers["Cache-Control"] == "no-store" or "/assets/" in answer.url or "/static/" in answer.url


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[ServiceServer]:
    """The service on either database."""
    world = request.getfixturevalue("world" if request.param == "sqlite" else "postgres_world")
    with ServiceServer(world) as made:
        yield made


class Browser:
    """A customer's: it keeps cookies, and follows redirects as far as it is told."""

    def __init__(self, server: ServiceServer) -> None:
        self._server = server
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Accept"] = "text/html"

    def get(self, address: str, **parts: Any) -> requests.Response:
        """Open an address of the service."""
        return self._server.call("GET", address.removeprefix(self._server.url), session=self.session, **parts)

    def to_provider(self, address: str) -> str:
        """Begin a login; the provider's address that it leads to."""
        begun = self.get(address)
        assert begun.status_code == 303, begun.text
        return begun.headers["Location"]

    def consent(self, address: str) -> str:
        """Agree at the provider; the callback that it sends the browser back to."""
        return self.session.get(address, timeout=10, allow_redirects=False).headers["Location"]

    def log_in(self, address: str, **parts: Any) -> requests.Response:
        """All the way; what the login came to."""
        back = self.get(self.consent(self.to_provider(address)))
        assert (back.status_code, back.headers["Location"], back.text) == (303, "/auth/done", "")
        return self.get("/auth/done", **parts)
