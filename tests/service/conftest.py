"""Fixtures of the service's tests."""

from tests.service.server import server

__all__ = ["server"]
