"""The library under an event loop: the loop goes on, and a caller that is cancelled cuts nothing in two."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.callers import log_in, manager_of, revocable
from tests.conftest import World
from tests.library.test_manager import assert_frames_silent
from tests.refresh.runs.faults_world import AirtableRows
from tests.world.oauth import faults
from token_refresh.base.events import Outcome
from token_refresh.library import AsyncTokenManager, MisconfiguredError, NoSuchTokenError, RetryLaterError, TokenError
from token_refresh.stores.base import StoreUnavailableError
from token_refresh.stores.database import DatabaseStore

PATIENCE_SECONDS = 60
TICKS = 100


class Slow:
    """A provider that answers when the test says so."""

    def __init__(self, world: World, times: int = 1) -> None:
        self.arrived, self.go = threading.Event(), threading.Event()
        self.was_released = False
        world.oauth.fail(faults.Fault("slow", self._apply), times=times)

    def _apply(self, call: faults.Call, act: faults.Act) -> Any:
        self.arrived.set()
        self.was_released = self.go.wait(PATIENCE_SECONDS)
        return act()


@pytest.fixture
def slow(world: World) -> Iterator[Slow]:
    """One login whose token is out, at a slow provider."""
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    made = Slow(world)
    yield made
    made.go.set()


def made(world: World, threads: int = 4) -> AsyncTokenManager:
    return AsyncTokenManager(manager_of(world), threads)


async def until(event: threading.Event) -> None:
    """Wait for another thread, by letting the loop turn."""
    while not event.is_set():
        await asyncio.sleep(0)


def test_the_loop_ticks_while_a_slow_provider_answers(world: World, slow: Slow) -> None:
    """The provider answers only after a hundred ticks: a loop that stands still would wait for ever."""

    async def tick() -> None:
        await until(slow.arrived)
        for _ in range(TICKS):
            await asyncio.sleep(0)
        slow.go.set()

    async def main() -> str:
        async with made(world) as manager:
            token, _ = await asyncio.gather(manager.get_valid_access_token("loc1"), tick())
            return token

    assert asyncio.run(main()) == world.oauth.current_access("loc1")
    assert slow.was_released


def test_five_hundred_tasks_share_one_refresh_and_one_thread(world: World, slow: Slow) -> None:
    async def main() -> list[str]:
        async with made(world, threads=1) as manager:
            tasks = [asyncio.create_task(manager.get_valid_access_token("loc1")) for _ in range(500)]
            await until(slow.arrived)
            slow.go.set()
            return await asyncio.gather(*tasks)

    assert set(asyncio.run(main())) == {world.oauth.current_access("loc1")}
    assert len(world.oauth.requests) == 1


def test_a_cancelled_caller_cuts_no_refresh_and_costs_the_others_nothing(world: World, slow: Slow) -> None:
    async def main() -> str:
        async with made(world) as manager:
            first = asyncio.create_task(manager.get_valid_access_token("loc1"))
            await until(slow.arrived)
            second = asyncio.create_task(manager.get_valid_access_token("loc1"))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            slow.go.set()
            return await second

    assert asyncio.run(main()) == world.oauth.current_access("loc1")
    assert world.token_of("loc1") == world.oauth.current("loc1")
    assert (len(world.oauth.requests), world.journalled()) == (1, [])


def test_a_refresh_whose_only_caller_is_gone_is_stored_all_the_same(world: World, slow: Slow) -> None:
    async def main() -> None:
        async with made(world) as manager:
            caller = asyncio.create_task(manager.get_valid_access_token("loc1"))
            await until(slow.arrived)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            slow.go.set()

    asyncio.run(main())
    assert world.token_of("loc1") == world.oauth.current("loc1")
    assert world.journalled() == []


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_stored_token_is_handed_out_while_every_other_thread_waits_for_a_provider(
    world: World, slow: Slow, is_noted: bool
) -> None:
    async def main() -> str:
        async with made(world, threads=1) as manager:
            refreshed = asyncio.create_task(manager.get_valid_access_token("loc1"))
            await until(slow.arrived)
            stored = await asyncio.wait_for(manager.get_valid_access_token("loc2"), PATIENCE_SECONDS)
            assert not refreshed.done()
            slow.go.set()
            await refreshed
            return stored

    log_in(world, manager_of(world), "loc2")
    if is_noted:
        manager_of(world).get_valid_access_token("loc2")
    assert asyncio.run(main()) == world.oauth.current_access("loc2")
    assert slow.was_released
    assert manager_of(world).get("loc2").last_used_at == world.clock.now()


def test_that_many_stored_tokens_were_handed_out_together_is_noted_in_one_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[Any] = []
    note_use = DatabaseStore.note_use

    def note(store: DatabaseStore, keys: Any, now: Any) -> None:
        notes.append(list(keys))
        note_use(store, keys, now)

    async def main() -> None:
        async with made(world) as manager:
            for _ in range(2):
                await asyncio.gather(*map(manager.get_valid_access_token, ("loc1", "loc2", "loc2")))

    for location in ("loc1", "loc2"):
        log_in(world, manager_of(world), location)
    monkeypatch.setattr(DatabaseStore, "note_use", note)
    asyncio.run(main())
    assert [len(keys) for keys in notes] == [2]


def test_clients_and_logins_do_not_wait_for_threads_that_wait_for_a_provider(world: World, slow: Slow) -> None:
    token = world.oauth.grant("acme", "app-acme", location_id="loc2")
    login = {"client_id": "app-acme", "client_secret": "acme secret", "refresh_token": token}

    async def calls(manager: AsyncTokenManager) -> None:
        await manager.store_tokens("loc2", "acme", **login)
        row = await manager.get("loc2")
        await manager.find(row.row_id)
        await manager.update(row.row_id, workspace_name="Theirs")
        assert len((await manager.page(10))[0]) == len(await manager.list_tokens()) == 2
        await manager.counts()
        await manager.delete(row.row_id)

    async def main() -> None:
        async with made(world, threads=1) as manager:
            refreshed = asyncio.create_task(manager.get_valid_access_token("loc1"))
            await until(slow.arrived)
            await asyncio.wait_for(calls(manager), PATIENCE_SECONDS)
            assert not refreshed.done()
            slow.go.set()
            await refreshed

    asyncio.run(main())
    assert slow.was_released


def test_rows_of_another_provider_are_refreshed_while_many_of_one_wait_for_it(world: World) -> None:
    go, arrived = threading.Event(), threading.Semaphore(0)
    rows = [f"loc{number}" for number in range(6)]

    def hold(call: faults.Call, act: faults.Act) -> Any:
        if call.location_id in rows:
            arrived.release()
            go.wait(PATIENCE_SECONDS)
        return act()

    async def main() -> str:
        async with made(world, threads=4) as manager:
            waiting = [asyncio.create_task(manager.get_valid_access_token(row)) for row in rows]
            for _ in range(2):
                await asyncio.to_thread(arrived.acquire)
            other = await asyncio.wait_for(manager.get_valid_access_token("other"), PATIENCE_SECONDS)
            assert not any(task.done() for task in waiting)
            go.set()
            await asyncio.gather(*waiting)
            return other

    for row in rows:
        log_in(world, manager_of(world), row)
    log_in(world, manager_of(world), "other", "acme-basic")
    world.clock.advance(3700)
    world.oauth.fail(faults.Fault("hold", hold), times=len(rows) + 1)
    assert asyncio.run(main()) == world.oauth.current_access("other")
    assert len(world.oauth.requests) == len(rows) + 1


def test_a_row_that_cannot_be_read_costs_those_who_ask_at_the_same_time_nothing(world: World) -> None:
    async def main() -> list[object]:
        async with made(world) as manager:
            both = map(manager.get_valid_access_token, ("loc1", "loc2"))
            return await asyncio.gather(*both, return_exceptions=True)

    for location in ("loc1", "loc2"):
        log_in(world, manager_of(world), location)
        manager_of(world).get_valid_access_token(location)  # its use is noted
    with contextlib.closing(sqlite3.connect(world.program.home / "state/tokens.sqlite3")) as database, database:
        database.execute("UPDATE credentials SET provider_params = '{' WHERE location_id = 'loc2'")
    good, bad = asyncio.run(main())
    assert good == world.oauth.current_access("loc1")
    assert isinstance(bad, TokenError)
    assert "provider_params" in str(bad)


def test_that_a_stored_token_was_handed_out_is_noted_in_its_row_and_in_the_security_log(world: World) -> None:
    async def main() -> None:
        async with made(world) as manager:
            await asyncio.gather(*[manager.get_valid_access_token("loc1") for _ in range(3)])

    log_in(world, manager_of(world))
    asyncio.run(main())
    assert manager_of(world).get("loc1").last_used_at == world.clock.now()
    [log] = (world.program.home / "state").rglob("security.log")
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()].count("get") == 1


def test_where_the_store_is_away_all_who_ask_at_the_same_time_learn_it_and_the_security_log_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[object]:
        async with made(world) as manager:
            both = map(manager.get_valid_access_token, ("loc1", "loc2"))
            return await asyncio.gather(*both, return_exceptions=True)

    def away(*_: object) -> None:
        raise StoreUnavailableError("the database is away", "Wait.")

    log_in(world, manager_of(world))
    monkeypatch.setattr(DatabaseStore, "find", away)
    one, other = asyncio.run(main())
    assert isinstance(one, RetryLaterError)
    assert str(one) == str(other) == "the database is away"
    [log] = (world.program.home / "state").rglob("security.log")
    uses = [json.loads(line) for line in log.read_text().splitlines()]
    assert [use["outcome"] for use in uses if use["event"] == "get"] == ["store_unavailable"] * 2


def test_a_name_that_no_store_takes_costs_those_who_ask_at_the_same_time_nothing(world: World) -> None:
    async def main() -> list[object]:
        async with made(world) as manager:
            names = ("loc1", "\udcff", "loc1", "nobody")
            return await asyncio.gather(*map(manager.get_valid_access_token, names), return_exceptions=True)

    log_in(world, manager_of(world))
    first, refused, third, unknown = asyncio.run(main())
    assert first == third == world.oauth.current_access("loc1")
    assert isinstance(refused, TokenError)
    assert isinstance(unknown, NoSuchTokenError)


def test_a_name_that_airtable_does_not_take_costs_those_who_ask_at_the_same_time_nothing(airtable_world: World) -> None:
    world = airtable_world
    end = world.clock.now() + timedelta(hours=9)
    AirtableRows(world).add("acme", "loc1", end, last_access_token="access-of-loc1")

    async def main() -> list[object]:
        async with made(world) as manager:
            names = ("loc1", "\udcff")
            return await asyncio.gather(*map(manager.get_valid_access_token, names), return_exceptions=True)

    stored, refused = asyncio.run(main())
    assert stored == "access-of-loc1"
    assert isinstance(refused, TokenError)


@pytest.mark.parametrize("wrong", [(b"loc1", None), ("loc1", 5)])
def test_a_name_that_is_no_text_costs_those_who_ask_at_the_same_time_nothing(world: World, wrong: Any) -> None:
    async def main() -> list[object]:
        async with made(world) as manager:
            calls = [manager.get_valid_access_token("loc1"), manager.get_valid_access_token(*wrong)]
            return await asyncio.gather(*calls, return_exceptions=True)

    log_in(world, manager_of(world))
    good, refused = asyncio.run(main())
    assert good == world.oauth.current_access("loc1")
    assert isinstance(refused, TokenError)


def test_a_login_whose_caller_is_gone_is_stored_all_the_same(world: World) -> None:
    """A callback's client may hang up while its tokens wait for a thread."""
    token = world.oauth.grant("acme", "app-acme", location_id="loc1")
    busy = threading.Event()

    async def main() -> None:
        async with made(world, threads=1) as manager:
            manager._threads.writes.begin(partial(busy.wait, PATIENCE_SECONDS))
            login = {"client_id": "app-acme", "client_secret": "acme secret", "refresh_token": token}
            task = asyncio.create_task(manager.store_tokens("loc1", "acme", **login))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            busy.set()

    asyncio.run(main())
    assert world.token_of("loc1") == token


@pytest.mark.parametrize("name", ["token-refresh_", "token-refresh-reader_"])
def test_where_no_thread_can_be_started_who_asks_is_to_ask_again_and_then_gets_the_token(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def may_fail(thread: threading.Thread) -> None:
        if failures and thread.name.startswith(name):
            raise failures.pop()
        start(thread)

    async def main() -> str:
        async with made(world) as manager:
            monkeypatch.setattr(threading.Thread, "start", may_fail)
            with pytest.raises(RetryLaterError, match="the system starts no more threads"):
                await manager.get_valid_access_token("loc1")
            return await asyncio.wait_for(manager.get_valid_access_token("loc1"), PATIENCE_SECONDS)

    log_in(world, manager_of(world))
    world.clock.advance(3700)
    assert asyncio.run(main()) == world.oauth.current_access("loc1")
    assert len(world.oauth.requests) == 1


def test_a_login_that_no_thread_can_be_started_for_is_not_stored_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def may_fail(thread: threading.Thread) -> None:
        if failures and thread.name.startswith("token-refresh"):
            raise failures.pop()
        start(thread)

    async def main() -> int:
        async with made(world) as manager:
            monkeypatch.setattr(threading.Thread, "start", may_fail)
            login = {"client_id": "app-acme", "client_secret": "acme secret", "refresh_token": "one-of-theirs"}
            with pytest.raises(RetryLaterError):
                await manager.store_tokens("loc1", "acme", **login)
            return len(await manager.list_tokens())

    assert asyncio.run(main()) == 0


def test_every_function_is_there_and_does_the_same(world: World) -> None:
    revocable(world)
    manager = made(world)
    sync = manager.manager
    token = world.oauth.grant("acme", "app-acme", location_id="loc1")
    client = {"client_id": "app-acme", "client_secret": "acme secret"}

    async def main() -> None:
        async with manager:
            await manager.store_tokens("loc1", "acme", refresh_token=token, **client)
            assert [one.outcome for one in (await manager.refresh_due()).results] == [Outcome.REFRESHED]
            assert await manager.get("loc1") == sync.get("loc1")
            assert await manager.list_tokens() == sync.list_tokens()
            await manager.revoke_tokens("loc1", "acme")
            await manager.delete_tokens("loc1")
            with pytest.raises(NoSuchTokenError):
                await manager.get_valid_access_token("nowhere")
            manager.start(600)
            assert await manager.stop(PATIENCE_SECONDS) is True

    asyncio.run(main())
    assert not sync.get("loc1").has_credential


def test_each_task_gets_an_error_of_its_own(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    world.oauth.fail(faults.too_many_requests(), times=100)

    async def main() -> list[BaseException | str]:
        async with made(world) as manager:
            calls = [manager.get_valid_access_token("loc1") for _ in range(3)]
            return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(main())
    assert {type(error) for error in errors} == {RetryLaterError}
    assert len({id(error) for error in errors}) == 3


def test_whoever_asked_in_the_turn_before_it_was_closed_gets_an_error(world: World) -> None:
    log_in(world, manager_of(world))

    async def main() -> None:
        manager = made(world)
        asking = asyncio.ensure_future(manager.get_valid_access_token("loc1"))
        await asyncio.sleep(0)  # it waits to be looked up together with others
        await manager.aclose()
        with pytest.raises(MisconfiguredError, match="this manager is closed"):
            await asking

    asyncio.run(main())


def test_a_closed_manager_says_so_and_leaves_nobody_waiting(world: World) -> None:
    log_in(world, manager_of(world))
    closed = made(world)

    async def main() -> None:
        async with closed:
            pass
        for call in (closed.get_valid_access_token("loc1"), closed.get("loc1")):
            with pytest.raises(MisconfiguredError, match="this manager is closed"):
                await call
        with pytest.raises(MisconfiguredError, match="this manager is closed"):
            closed.start(600)
        await closed.aclose()

    asyncio.run(main())
    assert closed.manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_a_close_that_was_cut_off_can_be_repeated(world: World, slow: Slow) -> None:
    async def main() -> str:
        manager = made(world)
        call = asyncio.create_task(manager.get_valid_access_token("loc1"))
        await until(slow.arrived)
        closing = asyncio.create_task(manager.aclose())
        while not manager._is_closed:
            await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        slow.go.set()
        await manager.aclose()
        return await call

    assert asyncio.run(main()) == world.oauth.current_access("loc1")


def test_a_child_that_was_forked_has_threads_of_its_own(world: World) -> None:
    log_in(world, manager_of(world))
    manager = made(world)
    expected = asyncio.run(manager.get_valid_access_token("loc1"))  # now the parent has a thread, and it is idle
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            token = asyncio.run(asyncio.wait_for(manager.get_valid_access_token("loc1"), PATIENCE_SECONDS))
            os.write(writing, token.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == expected
    os.waitpid(child, 0)


def test_it_is_made_from_the_same_settings(world: World) -> None:
    log_in(world, manager_of(world))

    async def main() -> str:
        async with AsyncTokenManager.from_settings(world.program.settings, world.clock) as manager:
            return await manager.get_valid_access_token("loc1")

    assert asyncio.run(main()) == world.oauth.current_access("loc1")


def test_a_login_that_cannot_be_stored_shows_no_secret_in_any_frame(world: World) -> None:
    async def main() -> None:
        login = {
            "client_secret": "their-secret-1",
            "refresh_token": "their-refresh-1",
            "access_token": "their-access-1",
        }
        async with made(world) as manager:
            with pytest.raises(MisconfiguredError) as caught:
                await manager.store_tokens("loc1", "nobody", client_id="app", **login)
        assert_frames_silent(caught.value, login.values())

    asyncio.run(main())
