"""`make pictures`: the program at work, as a person sees it at a terminal, for the README and for its first steps.

It runs as in `make demo`, against fakes of the providers and of Airtable on this machine; what it prints goes into an
SVG as it comes.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

import crypto
from tests.world.airtable import AirtableServer
from tests.world.oauth import OAuthServer

FOLDER = Path(__file__).with_name("images")
_ROOT = Path(__file__).resolve().parents[1]
_WIDTH = 128  # columns
_CLIENTS = {"acme-berlin": "google", "acme-lisbon": "google", "k3Jx9QmT2vWp8LrN4sYd": "gohighlevel"}
_GONE = "acme-lisbon"  # who disconnects the app after the first step
_MADE_UP = "for the picture"
_STEPS = (
    ("onboard_client.py", "--from-csv", "clients.csv"),
    ("token_manager.py", "refresh", "--all"),
    ("token_manager.py", "status"),
)
_LOGIN = ("onboard_client.py", "--authorize", "--provider", "google", "--location", "loc1")
_ADDRESS = re.compile(r"http://\S+\?response_type=code\S+")
# No font is fetched from anywhere: a picture on a page asks no other host.
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_Answers = Sequence[tuple[str, Callable[[str], str]]]
"""What is waited for, and what is then typed, by all that was to be seen so far."""


class _Screen:
    """A terminal on which commands are run one after the other.

    Args:
        environment: theirs.
        fake: the address of the fake, and the provider's own that is shown instead.
    """

    def __init__(self, environment: Mapping[str, str], fake: tuple[str, str] = ("", "")) -> None:
        self._environment = environment
        self._fake = fake
        self._console = Console(record=True, width=_WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123

    def run(self, *words: str, given: Sequence[str] | None = None, answers: _Answers = ()) -> None:
        """Run a command, whose words are others than those shown where they are `given`."""
        self._console.print(Text("$ .venv/bin/python " + " ".join(words), style="bold"))
        shown = _shown(given or words, self._environment, answers).replace(*self._fake)
        self._console.print(Text.from_ansi(shown))

    def svg(self) -> str:
        """All of it."""
        return _FONT_FACE.sub("", self._console.export_svg(title="token-refresh", unique_id="terminal"))


def terminal() -> str:
    """Clients are added, a run comes, and the table is shown: an SVG."""
    with tempfile.TemporaryDirectory() as folder, OAuthServer() as oauth:
        tokens = _clients(Path(folder), oauth)
        screen = _Screen(_settings(Path(folder), oauth))
        for number, step in enumerate(_STEPS):
            if number == 1:
                oauth.revoke(tokens[_GONE])
            screen.run(*step, given=[str(Path(folder, word)) if word.endswith(".csv") else word for word in step])
    return screen.svg()


def airtable() -> str:
    """From an empty base to the first client, by a login: an SVG."""
    with tempfile.TemporaryDirectory() as folder, OAuthServer() as oauth, AirtableServer() as server:
        oauth.add_client("google", "acme-app", _MADE_UP, ["http://127.0.0.1/callback"])
        oauth.consent("google", location_id="loc1")
        settings = _settings(Path(folder), oauth) | {
            "GOOGLE_AUTH_URL": oauth.endpoint("google", "authorize"),
            "AIRTABLE_ENDPOINT_URL": server.url,
            "AIRTABLE_API_KEY": server.token,
            "AIRTABLE_BASE_ID": server.base_id,
        }
        screen = _Screen(settings, (f"{oauth.url}/google/", "https://accounts.google.com/"))
        screen.run("token_manager.py", "setup")
        screen.run(*_LOGIN, answers=_login_answers())
        screen.run("token_manager.py")
        screen.run("token_manager.py", "status")
    return screen.svg()


def _login_answers() -> _Answers:
    def log_in(seen: str) -> str:
        [address] = _ADDRESS.findall(seen)
        with urllib.request.urlopen(address) as page:  # noqa: S310 - the fake agrees, and sends the browser back
            page.read()
        return ""

    return (
        ("Client id", lambda _: "acme-app\r"),
        ("Client secret", lambda _: _MADE_UP + "\r"),
        ("Scopes", lambda _: "https://www.googleapis.com/auth/business.manage\r"),
        ("Paste the address", log_in),
    )


def _clients(folder: Path, oauth: OAuthServer) -> dict[str, str]:
    """A file of clients; the refresh token of each."""
    lines, tokens = ["location_id,provider,client_id,client_secret,refresh_token"], {}
    for location, provider in _CLIENTS.items():
        oauth.add_client(provider, f"{provider}-app", _MADE_UP)
        tokens[location] = oauth.grant(provider, f"{provider}-app", location_id=location)
        lines.append(f"{location},{provider},{provider}-app,{_MADE_UP},{tokens[location]}")
    (folder / "clients.csv").write_text("\n".join(lines) + "\n")
    (folder / "clients.csv").chmod(0o600)
    return tokens


def _settings(folder: Path, oauth: OAuthServer) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLUMNS": str(_WIDTH),
        "TOKEN_REFRESH_HOME": str(folder),
        "ENCRYPTION_KEY": crypto.generate_key(),
        "GOHIGHLEVEL_TOKEN_URL": oauth.token_url("gohighlevel"),
        "GOOGLE_TOKEN_URL": oauth.token_url("google"),
        "REFRESH_INTERVAL": "900",
    }


def _shown(words: Sequence[str], environment: Mapping[str, str], answers: _Answers = ()) -> str:
    """What a terminal in the clone's folder shows in the end; of a line that was written over, the last state."""
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=_ROOT, env=environment, stdin=writer, stdout=writer, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    output, waiting = b"", list(answers)
    while chunk := _read(reader):
        output += chunk
        if waiting and waiting[0][0].encode() in output:
            os.write(reader, waiting.pop(0)[1](output.decode()).encode())
    os.close(reader)
    if process.wait() not in (0, 1):  # 1: a client needs somebody
        raise SystemExit(output.decode())
    lines = re.split(r"\r*\n", re.sub(r"\x1b\[\?\d+[lh]", "", output.decode()))
    return "\n".join(line.rpartition("\r")[2] for line in lines).rstrip()


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # the program has ended
        return b""


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in (("terminal", terminal), ("airtable", airtable)):
        (FOLDER / f"{name}.svg").write_text(picture(), encoding="utf-8")
