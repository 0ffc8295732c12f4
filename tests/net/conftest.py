"""Transports with a short limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.net.loopback import SECONDS, MakeTransport
from tests.world.clock import FakeClock
from token_refresh.net.transport import HTTPTransport


@pytest.fixture
def transport_with() -> Iterator[MakeTransport]:
    """Makes transports with a short limit and closes them."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> HTTPTransport:
            made = HTTPTransport(FakeClock(), **{"connections": 4, "exchange_seconds": SECONDS, **options})
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def transport(transport_with: MakeTransport) -> HTTPTransport:
    return transport_with()
