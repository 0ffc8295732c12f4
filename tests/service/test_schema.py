"""What OpenAPI promises, held against the service by whatever Schemathesis makes up from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.service.server import ServiceServer

pytestmark = [pytest.mark.long, pytest.mark.by_turns("server")]

EXAMPLES = 10  # of each endpoint and kind


def test_whatever_is_sent_is_answered_as_the_schema_says(server: ServiceServer) -> None:
    """What is left out, and why.

    `positive_data_acceptance`: rules that no schema says refuse most of what is made up: that a provider exists, that a
    redirect URI is safe, that a row is named in one of two ways, and that a callback belongs to a login.
    The stateful phase: for the first of these no client comes about, so of its 37 links none is followed.

    What the service answers to wrong keys is counted, and stays the same for twenty of them.
    """
    server.connect()
    server.world.clock.advance(60)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {server.admin}", "--max-examples", str(EXAMPLES), "--seed", "1"),
        *("--phases", "examples,coverage,fuzzing", "--checks", "all"),
        *("--exclude-checks", "positive_data_acceptance", "--no-color", "--request-timeout", "30"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=server.world.program.home)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
