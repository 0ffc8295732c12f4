"""`make demo`: the main job, end to end, on the embedded database against a local OAuth server.

A dozen clients of three providers are onboarded and refreshed; then there is nothing left to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import crypto
from tests.world.oauth import OAuthServer

ROOT = Path(__file__).resolve().parents[2]
CLIENTS_A_PROVIDER = 4
PROVIDERS = ("gohighlevel", "google", "acme")
LATENCY_SECONDS = 0.2  # so that the progress bar can be seen


def main() -> int:
    """Run the demo in a folder that is thrown away; returns the exit code of the first step that fails."""
    with tempfile.TemporaryDirectory() as folder, OAuthServer(latency=LATENCY_SECONDS, jitter=0.1) as oauth:
        home = Path(folder)
        environment = demo_settings(home, oauth)
        clients = clients_file(home, oauth)
        steps = (
            ("Onboard a dozen clients, each proved by a refresh", ["onboard_client.py", "--from-csv", str(clients)]),
            ("Refresh all of them once more", ["token_manager.py", "refresh", "--all"]),
            ("The table", ["token_manager.py", "status"]),
            ("What cron would do now", ["token_manager.py"]),
        )
        for title, command in steps:
            _say(f"\n== {title}\n$ python {' '.join(command)}")
            code = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment).returncode
            if code != 0:
                return code
        return _check(oauth)


def demo_settings(home: Path, oauth: OAuthServer) -> dict[str, str]:
    """The demo's environment."""
    own = home / "providers.toml"
    own.write_text(f'[acme]\nname = "Acme"\ntoken_url = "{oauth.token_url("acme")}"\nlifetime = 3600\n')
    return {
        **os.environ,
        "ENCRYPTION_KEY": crypto.generate_key(),
        "STATE_DIR": str(home / "state"),
        "GOHIGHLEVEL_TOKEN_URL": oauth.token_url("gohighlevel"),
        "GOOGLE_TOKEN_URL": oauth.token_url("google"),
        "PROVIDERS_FILE": str(own),
    }


def clients_file(home: Path, oauth: OAuthServer) -> Path:
    """A CSV file of its clients."""
    lines = ["location_id,provider,client_id,client_secret,refresh_token"]
    for provider in PROVIDERS:
        client_id, secret = f"{provider}-app", f"{provider}-demo"
        oauth.add_client(provider, client_id, secret)
        for number in range(1, CLIENTS_A_PROVIDER + 1):
            location = f"{provider}-client-{number}"
            token = oauth.grant(provider, client_id, location_id=location)
            lines.append(f"{location},{provider},{client_id},{secret},{token}")
    path = home / "clients.csv"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def _check(oauth: OAuthServer) -> int:
    """The server's own opinion: whether a spent token came back, or something was asked in a wrong way."""
    if not oauth.violations and not oauth.replayed():
        return 0
    _say("the OAuth server saw something wrong")
    return 1


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
