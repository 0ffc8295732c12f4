"""How the service ends: what holds a token is waited for, what only reads is not."""

from __future__ import annotations

import asyncio

import pytest

import crypto
from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows
from tests.refresh.runs.test_faults_processes import Gate, gate
from tests.world.raw import silent_server
from token_refresh.library.log import log_not_saved, log_outage
from token_refresh.service import context
from token_refresh.service.context import OPEN_REFRESHES_SECONDS, Service
from token_refresh.settings import load
from token_refresh.wiring import assemble

__all__ = ["gate"]  # a fixture
PATIENCE_SECONDS = 10


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which what only reads may still end."""
    monkeypatch.setattr(context, "_READERS_SECONDS", 0.05)


def service_of(world: World) -> Service:
    loaded = load(world.program.settings, crypto.parse_key, world.program.home)
    return Service(assemble(loaded, world.clock, log_not_saved, log_outage, "service"))


async def ended(closing: asyncio.Task[None]) -> bool:
    """Whether it has, after some time."""
    done, _ = await asyncio.wait([closing], timeout=0.3)
    return bool(done)


async def begin_refresh(service: Service, gate: Gate) -> None:
    """Its caller has gone, and the provider has spent the token; its answer is to come."""
    asking = asyncio.create_task(service.manager.get_token("loc0"))
    await asyncio.to_thread(gate.wait_for, 1)
    asking.cancel()


@pytest.fixture
def rows(world: World, gate: Gate) -> SqliteRows:
    made = SqliteRows(world)
    made.add("acme", "loc0")
    world.oauth.fail(gate.after_acting())
    return made


def test_a_refresh_whose_caller_has_gone_is_waited_for(rows: SqliteRows, gate: Gate) -> None:
    async def act() -> None:
        service = service_of(rows.world)
        await begin_refresh(service, gate)
        closing = asyncio.create_task(service.close())
        assert not await ended(closing)
        gate.open.set()
        await asyncio.wait_for(closing, PATIENCE_SECONDS)

    asyncio.run(act())
    assert rows.is_current("loc0")


def test_a_refresh_is_waited_for_no_longer_than_its_time_from_the_wish_for_the_end(
    rows: SqliteRows, gate: Gate
) -> None:
    async def act() -> None:
        service = service_of(rows.world)
        await begin_refresh(service, gate)
        service.expect_end()
        rows.world.clock.advance(OPEN_REFRESHES_SECONDS - 1)
        closing = asyncio.create_task(service.close())
        assert not await ended(closing)
        rows.world.clock.advance(1)
        assert await ended(closing)
        gate.open.set()

    asyncio.run(act())


def test_what_only_reads_from_a_store_that_is_silent_is_not_waited_for(world: World) -> None:
    async def act() -> None:
        with silent_server() as silent:
            world.program.settings["DATABASE_URL"] = f"postgresql://user@127.0.0.1:{silent.port}/tokens"
            service = service_of(world)
            asking = asyncio.create_task(service.manager.get("loc0"))
            while not silent.accepted:
                await asyncio.sleep(0.01)
            assert await ended(asyncio.create_task(service.close()))
            asking.cancel()

    asyncio.run(act())
