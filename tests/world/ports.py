"""Ports that a program under test is to listen at, chosen before it starts."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path

LOWEST = 10_000
# What the system hands out by itself, to servers that ask for any port and to each connection, begins here.
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_START = 32_768


def free_port() -> int:
    """One that nobody listens at, and that the system gives to nobody until the program has started.

    Drawn without `random`, which Hypothesis seeds alike in each process of the tests.
    """
    start = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _USUAL_START
    while True:
        port = LOWEST + secrets.randbelow(max(start, 2 * LOWEST) - LOWEST)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
