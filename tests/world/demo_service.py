"""`make demo-service`: the HTTP service with the demo's clients, against a local OAuth server, until Ctrl-C.

A dozen clients have their tokens already; one more waits for a login through a one-time link.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from tests.world.demo import LATENCY_SECONDS, ROOT, clients_file, demo_settings
from tests.world.oauth import OAuthServer

START_SECONDS = 60.0
CUSTOMER = "your-first-customer"


def main() -> int:
    """Serve until Ctrl-C; returns the exit code of the first step that fails."""
    port = os.environ.get("PORT", "8002")
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, OAuthServer(latency=LATENCY_SECONDS, jitter=0.1) as oauth:
        home = Path(folder)
        environment = demo_settings(home, oauth) | {
            "PORT": port,
            "PUBLIC_URL": url,
            "DEFAULT_PROVIDER": "google",
            "GOOGLE_AUTH_URL": oauth.endpoint("google", "authorize"),
        }

        def run(*command: str) -> str:
            """What it prints."""
            done = subprocess.run(
                [sys.executable, *command], cwd=ROOT, env=environment, text=True, check=True, stdout=subprocess.PIPE
            )
            return done.stdout.strip()

        run("onboard_client.py", "--from-csv", str(clients_file(home, oauth)))
        key = run("token_manager.py", "api-key", "create", "demo", "--scope", "admin")
        with subprocess.Popen([sys.executable, "-m", "token_refresh.service"], cwd=ROOT, env=environment) as service:
            try:
                _wait_for(f"{url}/ready", service)
                _register(url, key, oauth)
                link = run("token_manager.py", "onboard-link", CUSTOMER)
                _say(url, key, link)
                return service.wait()
            except KeyboardInterrupt:
                return service.wait()
            finally:
                service.terminate()


def _wait_for(address: str, service: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_SECONDS
    while service.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(address, timeout=10).ok:
                return
        time.sleep(0.1)
    sys.exit("the service does not begin")


def _register(url: str, key: str, oauth: OAuthServer) -> None:
    """The client of a customer who has still to log in."""
    callback = f"{url}/auth/callback"
    oauth.add_client("google", "demo-app", "demo secret", [callback])
    oauth.consent("google", location_id=CUSTOMER)
    client = {
        "client_id": "demo-app",
        "client_secret": "demo secret",
        "redirect_uri": callback,
        "branch_id": CUSTOMER,
        "workspace_email": "first@customer.example",
        "workspace_name": "Your first customer",
    }
    requests.post(
        f"{url}/clients", json=client, headers={"Authorization": f"Bearer {key}"}, timeout=10
    ).raise_for_status()


def _say(url: str, key: str, link: str) -> None:
    print(
        f"""
The service is at {url}
  a key for everything:   {key}
  the page for operators: {url}/ (sign in with that key)
  a customer's link:      {link}
  its documentation:      {url}/docs

  curl -H "Authorization: Bearer {key}" {url}/tokens/google-client-1

Ctrl-C ends it.""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
