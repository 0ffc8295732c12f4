"""What an earlier run left in the journal is stored when a program says so, and nothing is refreshed by that."""

from __future__ import annotations

import logging

import pytest

from tests.callers import log_in, manager_of
from tests.clients.test_removal import deaf
from tests.commands.test_cli import state_folder
from tests.conftest import World
from token_refresh.journal.lock import run_lock
from token_refresh.library import RetryLaterError
from token_refresh.stores.base import Written


def test_what_an_earlier_run_left_is_stored_without_a_request(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    world.clock.advance(3700)
    with pytest.raises(RetryLaterError):
        deaf(world, manager, lambda _: Written.UNDONE).get_valid_access_token("loc1")
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    asked = len(world.oauth.requests)
    manager.store_leftovers()
    assert (world.journalled(), len(world.oauth.requests)) == ([], asked)
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_a_mistake_in_a_programs_own_logging_keeps_nothing_from_the_store(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    world.clock.advance(3700)
    with pytest.raises(RetryLaterError):
        deaf(world, manager, lambda _: Written.UNDONE).get_valid_access_token("loc1")

    def clumsy(_: logging.LogRecord) -> bool:
        raise RuntimeError

    log = logging.getLogger("token_refresh")
    log.addFilter(clumsy)
    try:
        with caplog.at_level(logging.INFO, "token_refresh"):
            manager.store_leftovers()
    finally:
        log.removeFilter(clumsy)
    assert world.journalled() == []


def test_while_another_run_is_active_it_has_to_wait(airtable_world: World) -> None:
    with manager_of(airtable_world) as manager:
        log_in(airtable_world, manager)
        with run_lock(state_folder(airtable_world), airtable_world.clock), pytest.raises(RetryLaterError):
            manager.store_leftovers()
