"""A person who logs in, by a script: what they are asked and shown, what they type, and what their browser does."""

from __future__ import annotations

import html
import json
import re
import select
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from providers.base import Credential, Endpoint, Provider
from tests.conftest import PARAMS, World
from tests.world.program import Result
from token_refresh.clients.credential import Candidate, NewCredential
from token_refresh.commands import onboard
from token_refresh.terminal.prompts import Terminal

Act = Callable[[str], str | None]  # at the address that is shown; the line that is pasted then, None: nothing is typed
PASTED = "https://app.example/callback"
_ADDRESS = re.compile(r"https?://\S+\?\S*response_type=\S+")


class Person(Terminal):
    """See `Terminal`.

    Args:
        acts: what they do each time that they are waited for.
        answers: to the questions that begin so; `yes` where not named: no.

    Attributes:
        asked, said: every question and every line shown.
    """

    def __init__(self, acts: Sequence[Act], answers: dict[str, str]) -> None:
        self._acts = list(acts)
        self._answers = answers
        self.asked: list[str] = []
        self.said: list[str] = []

    def __enter__(self) -> Person:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def text(self, question: str, default: str = "") -> str:
        self.asked.append(question)
        return next((text for begin, text in self._answers.items() if question.startswith(begin)), default)

    def secret(self, question: str) -> str:
        return self.text(question)

    def yes(self, question: str) -> bool:
        return self.text(question) == "yes" or any(begin in question for begin in self._answers.get("yes", ()))

    def say(self, text: str) -> None:
        self.said.append(text)

    def secret_until(self, question: str, wake: int, seconds: float) -> str | None:
        self.asked.append(question)
        assert self._acts, f"nobody does any more; they were asked {self.asked}, and shown {self.said}"
        act = self._acts.pop(0)
        line = act(self.address)
        is_awake = bool(select.select([wake], [], [], 0)[0])
        assert is_awake or line is not None or act is not browse, "a callback that was taken wakes nobody"
        return line

    @property
    def address(self) -> str:
        """The newest that was shown; empty where none was."""
        found = _ADDRESS.findall("\n".join(self.said))
        return str(found[-1]) if found else ""

    @property
    def state(self) -> str:
        """Of the login."""
        return parse_qs(urlsplit(self.address).query)["state"][0]


def candidate_of(
    provider: Provider, client_id: str, client_secret: str = "", params: Mapping[str, str] | None = None
) -> Candidate:
    """Whose login it is, for tests of the login alone."""
    entered = NewCredential("loc", provider.slug, client_id, client_secret, "", json.dumps(params or {}))
    credential = Credential(client_id, client_secret, "", params or {})
    endpoint = Endpoint("https://token.example/token", "https://token.example", is_fixed=True)
    return Candidate(entered, provider, endpoint, credential, row=None)


def browse(address: str) -> None:
    """Their browser is on this machine, and follows every redirect."""
    page = requests.get(address, timeout=10)
    assert "code" not in urlsplit(page.url).query
    assert "You are logged in" in html.unescape(page.text), page.text


def sent_back(address: str) -> str:
    """The address that the provider sends their browser back to, wherever it runs."""
    return requests.get(address, timeout=10, allow_redirects=False).headers["Location"]


def away(_: str) -> None:
    """They do nothing."""


def client_of(slug: str) -> str:
    """The id of the app; HighLevel's begin with that of the app itself."""
    return f"{PARAMS[slug].get('app_id', 'app')}-{slug}" if slug in PARAMS else f"app-{slug}"


def set_up(world: World, slug: str, *redirect_uris: str, location: str = "loc", **facts: Any) -> None:
    """A provider's login at the fake, for this account."""
    name = slug.upper().replace("-", "_")
    world.program.settings[f"{name}_TOKEN_URL"] = world.oauth.endpoint(slug, "code")
    world.program.settings[f"{name}_AUTH_URL"] = world.oauth.endpoint(slug, "authorize")
    world.oauth.add_client(slug, client_of(slug), f"{slug} secret", redirect_uris or [PASTED])
    world.oauth.consent(slug, location_id=location, **facts)


class LoggedIn:
    """`onboard_client.py --authorize` in this process, with a person at its terminal.

    What it prints and keeps is searched for the login's code, state, verifier and tokens.

    Attributes:
        flags: of each login with a browser.
    """

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.world, self._patch = world, patch
        self.person = Person([], {})
        self.flags = ["--no-browser"]
        self._states: list[str] = []
        before = world.program.planted
        world.program.planted = lambda: [*before(), *self.secrets()]

    def __call__(
        self, slug: str, *acts: Act, argv: Sequence[str] = (), location: str = "loc", **answers: str
    ) -> Result:
        client = {"Client id": client_of(slug), "Client secret": f"{slug} secret"}
        given = {**client, "Redirect URI": PASTED, **{name.replace("_", " "): text for name, text in answers.items()}}
        self.person = Person(acts, given)
        self._patch.setattr(onboard, "Terminal", lambda: self.person)
        where = [*(["--location", location] if location else []), "--provider", slug]
        browser = [] if "--device" in argv else self.flags
        result = self.world.program.onboard("--authorize", *browser, *where, *argv)
        if self.person.address:
            self._states.append(self.person.state)
        shown = "\n".join([*self.person.said, *self.person.asked]).replace(self.person.address or "\0", "")
        for secret in self.secrets():
            assert secret not in result.said + shown, "a code, state, verifier or token was shown"
        return result

    def secrets(self) -> list[str]:
        """What may be nowhere but in the address, the callback and the request."""
        fields = [request.form() for request in self.posts() if request.body[:1] != b"{"]
        sent = [text for form in fields for name, text in form if name in ("code_verifier", "device_code")]
        return [*self.world.oauth._world._codes.codes, *self._states, *sent]

    def posts(self) -> list[Any]:
        """The requests for tokens."""
        requests_ = self.world.oauth.requests
        return [one for one in requests_ if "/authorize" not in one.path and "response_type" not in dict(one.query)]

    def token_calls(self) -> int:
        """How many there were."""
        return len(self.posts())

    def files(self) -> bytes:
        """All that the program keeps."""
        folder = Path(self.world.program.settings["STATE_DIR"])
        return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def logged_in(world: World, monkeypatch: pytest.MonkeyPatch) -> LoggedIn:
    """See `LoggedIn`."""
    return LoggedIn(world, monkeypatch)
