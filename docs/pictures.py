"""`make pictures`: the program at work, as a person sees it at a terminal, for the README.

It runs as in `make demo`, against a fake of the providers on this machine; what it prints goes into an SVG as it comes.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

import crypto
from tests.world.oauth import OAuthServer

FOLDER = Path(__file__).with_name("images")
_ROOT = Path(__file__).resolve().parents[1]
_WIDTH = 128  # columns
_CLIENTS = {"acme-berlin": "google", "acme-lisbon": "google", "k3Jx9QmT2vWp8LrN4sYd": "gohighlevel"}
_GONE = "acme-lisbon"  # who disconnects the app after the first step
_STEPS = (
    ("onboard_client.py", "--from-csv", "clients.csv"),
    ("token_manager.py", "refresh", "--all"),
    ("token_manager.py", "status"),
)
# No font is fetched from anywhere: a picture on a page asks no other host.
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def terminal() -> str:
    """Clients are added, a run comes, and the table is shown: an SVG."""
    console = Console(record=True, width=_WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    with tempfile.TemporaryDirectory() as folder, OAuthServer() as oauth:
        environment, tokens = _prepared(Path(folder), oauth)
        for number, step in enumerate(_STEPS):
            if number == 1:
                oauth.revoke(tokens[_GONE])
            console.print(Text("$ .venv/bin/python " + " ".join(step), style="bold"))
            words = [str(Path(folder, word)) if word.endswith(".csv") else word for word in step]
            console.print(Text.from_ansi(_shown(words, environment)))
    return _FONT_FACE.sub("", console.export_svg(title="token-refresh", unique_id="terminal"))


def _prepared(folder: Path, oauth: OAuthServer) -> tuple[dict[str, str], dict[str, str]]:
    """A file of clients; the settings, and the refresh token of each client."""
    lines, tokens = ["location_id,provider,client_id,client_secret,refresh_token"], {}
    for location, provider in _CLIENTS.items():
        oauth.add_client(provider, f"{provider}-app", "for the picture")
        tokens[location] = oauth.grant(provider, f"{provider}-app", location_id=location)
        lines.append(f"{location},{provider},{provider}-app,for the picture,{tokens[location]}")
    (folder / "clients.csv").write_text("\n".join(lines) + "\n")
    (folder / "clients.csv").chmod(0o600)
    settings = {
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
    return settings, tokens


def _shown(words: list[str], environment: dict[str, str]) -> str:
    """What a terminal in the clone's folder shows in the end; of a line that was written over, the last state."""
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=_ROOT, env=environment, stdin=writer, stdout=writer, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    output = b""
    while chunk := _read(reader):
        output += chunk
    os.close(reader)
    if process.wait() not in (0, 1):  # 1: a client needs somebody
        raise SystemExit(output.decode())
    lines = re.sub(r"\x1b\[\?25[lh]", "", output.decode()).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines).rstrip()


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # the program has ended
        return b""


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "terminal.svg").write_text(terminal(), encoding="utf-8")
