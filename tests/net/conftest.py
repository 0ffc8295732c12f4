"""Transports, with a limit that is never reached or one that soon is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.net.loopback import PATIENT_SECONDS, SECONDS, MakeTransport
from tests.world.clock import FakeClock
from token_refresh.net.transport import HTTPTransport


@pytest.fixture
def transport_with() -> Iterator[MakeTransport]:
    """Makes transports, of a limit that a busy machine does not reach, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> HTTPTransport:
            made = HTTPTransport(FakeClock(), **{"connections": 4, "exchange_seconds": PATIENT_SECONDS, **options})
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def transport(transport_with: MakeTransport) -> HTTPTransport:
    return transport_with()


@pytest.fixture
def hasty(transport_with: MakeTransport) -> HTTPTransport:
    """One whose limit is to be reached."""
    return transport_with(exchange_seconds=SECONDS)
