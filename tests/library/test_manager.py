"""The library as programs use it: tokens, logins, runs and rounds, against real servers."""

from __future__ import annotations

import errno
import io
import logging
import math
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import crypto
from tests.callers import Meanwhile, log_in, manager_of, once
from tests.commands.test_cli import change_row, state_folder
from tests.conftest import World
from tests.refresh.runs.faults_world import TABLES, AirtableRows, refuse_answers, spare_files, table_of
from tests.refresh.runs.test_faults import outage
from tests.world.airtable import errors
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from token_refresh.base.events import Event
from token_refresh.journal.lock import run_lock
from token_refresh.library import (
    AsyncTokenManager,
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    SeveralTokensError,
    TokenError,
    TokenManager,
)
from token_refresh.library.log import log_not_saved, log_outage
from token_refresh.library.tokens import Tokens
from token_refresh.settings import load
from token_refresh.stores.base import StoreRefusedError, StoreUnavailableError
from token_refresh.wiring import Runtime, assemble
from token_refresh.wiring import runtime as runtime_of

PATIENCE_SECONDS = 60


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the library tells a program's log; the command line turns logging off for good."""
    logging.disable(logging.NOTSET)
    caplog.set_level(logging.INFO, "token_refresh")
    return caplog


@pytest.fixture
def manager(world: World) -> TokenManager:
    return manager_of(world)


@pytest.fixture(params=["sqlite", "airtable"])
def stored(request: pytest.FixtureRequest, world: World) -> tuple[World, TokenManager]:
    """One login, kept in either store."""
    if request.param == "airtable":
        world = request.getfixturevalue("airtable_world")
    manager = manager_of(world)
    log_in(world, manager)
    return world, manager


def asked(world: World) -> int:
    """How many requests reached the providers."""
    return len(world.oauth.requests)


def claim(world: World, owner: str | None) -> None:
    change_row(world, "loc1", claim_owner=owner)


# A valid token


def test_a_token_that_lasts_is_given_without_asking_anybody(stored: tuple[World, TokenManager]) -> None:
    world, manager = stored
    assert manager.get_valid_access_token(" loc1 ") == world.oauth.current_access("loc1")
    assert manager.get_valid_access_token("loc1", "acme", min_valid=3500) == world.oauth.current_access("loc1")
    assert asked(world) == 0


def test_a_token_that_would_not_last_is_refreshed_once(stored: tuple[World, TokenManager]) -> None:
    world, manager = stored
    world.clock.advance(3400)
    token = manager.get_valid_access_token("loc1")
    assert token == world.oauth.current_access("loc1") == manager.get_valid_access_token("loc1")
    assert (asked(world), world.oauth.replayed()) == (1, [])


def test_while_an_early_refresh_fails_the_old_token_is_served_and_the_failure_logged(
    stored: tuple[World, TokenManager], log: pytest.LogCaptureFixture
) -> None:
    world, manager = stored
    old = world.oauth.current_access("loc1")
    world.clock.advance(3400)
    world.oauth.fail(faults.wrong_secret(), times=100)
    assert manager.get_valid_access_token("loc1") == old
    [warning] = [record for record in log.records if record.levelno == logging.WARNING]
    assert warning.name == "token_refresh"
    assert "loc1 acme: operator, " in warning.getMessage()
    assert "the stored token is still valid" in warning.getMessage()


def test_after_a_failed_early_refresh_the_provider_is_left_alone_for_a_while(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture
) -> None:
    old = log_in(world, manager)
    world.clock.advance(3400)
    world.oauth.fail(faults.wrong_secret(), times=100)
    for _ in range(3):
        assert manager.get_valid_access_token("loc1") == old
    tried = asked(world)
    world.clock.advance(30)
    world.oauth.behave()
    assert manager.get_valid_access_token("loc1") != old
    assert asked(world) == tried + 1
    assert len([record for record in log.records if record.levelno == logging.WARNING]) == 1


def test_a_pause_ends_with_the_token(world: World, manager: TokenManager) -> None:
    log_in(world, manager, expires_in=310)
    world.clock.advance(20)
    world.oauth.fail(faults.wrong_secret())
    manager.get_valid_access_token("loc1", min_valid=305)
    change_row(world, "loc1", access_token_expiry="2026-03-01T11:00:00.000Z")
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_of_fifty_threads_one_asks_the_provider_and_all_are_served(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.clock.advance(3700)
    gate, together, served = threading.Event(), threading.Barrier(51), list[str]()

    def late(call: faults.Call, act: faults.Act) -> Any:
        gate.wait(PATIENCE_SECONDS)
        return act()

    def ask() -> None:
        together.wait(PATIENCE_SECONDS)
        served.append(manager.get_valid_access_token("loc1"))

    world.oauth.fail(faults.Fault("late", late))
    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    together.wait(PATIENCE_SECONDS)
    gate.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert served == [world.oauth.current_access("loc1")] * 50
    assert asked(world) == 1


def test_threads_that_want_different_tokens_do_not_wait_for_each_other(world: World, manager: TokenManager) -> None:
    """Two at a provider at once: each refresh has a journal of its own."""
    for location in ("a", "b"):
        log_in(world, manager, location)
    world.clock.advance(3700)
    both, served = threading.Barrier(2), dict[str, str]()

    def meet(call: faults.Call, act: faults.Act) -> Any:
        both.wait(PATIENCE_SECONDS)
        return act()

    world.oauth.fail(faults.Fault("meet", meet), times=2)

    def ask(location: str) -> None:
        served[location] = manager.get_valid_access_token(location)

    threads = [threading.Thread(target=ask, args=(location,)) for location in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert served == {location: world.oauth.current_access(location) for location in ("a", "b")}
    assert asked(world) == 2


# None to be had


class Sends(logging.Handler):
    """A handler that sends each line with a token of the manager that logs it."""

    def __init__(self, manager: TokenManager) -> None:
        super().__init__()
        self.got: list[str | TokenError] = []
        self._manager = manager

    def emit(self, _: logging.LogRecord) -> None:
        """The token it would send the line with."""
        try:
            self.got.append(self._manager.get_valid_access_token("loc1"))
        except TokenError as error:
            self.got.append(error)


@pytest.mark.parametrize("lives", [True, False])
def test_a_log_handler_that_needs_the_token_that_is_being_fetched_does_not_wait_for_itself(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture, lives: bool
) -> None:
    token = log_in(world, manager)
    world.clock.advance(3400 if lives else 3700)
    if lives:
        world.oauth.fail(faults.wrong_secret(), times=100)
    handler = Sends(manager)
    logger = logging.getLogger("token_refresh")
    logger.addHandler(handler)
    asking = threading.Thread(target=manager.get_token, args=("loc1",), daemon=True)
    try:
        asking.start()
        asking.join(PATIENCE_SECONDS)
    finally:
        logger.removeHandler(handler)
    assert not asking.is_alive()
    assert handler.got[-1] == (token if lives else world.oauth.current_access("loc1"))


def test_who_asks_for_the_very_token_that_it_fetches_is_to_ask_again_where_none_lives(
    world: World, manager: TokenManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(world, manager)
    world.clock.advance(3700)
    serve = manager._tokens.serve

    def asking(*what: Any) -> Any:
        with pytest.raises(RetryLaterError, match="this thread itself"):
            manager.get_token("loc1")
        return serve(*what)

    monkeypatch.setattr(manager._tokens, "serve", asking)
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_errors_say_whether_to_wait_to_log_in_or_to_fix(world: World, manager: TokenManager) -> None:
    for location in ("later", "dead", "mend"):
        log_in(world, manager, location)
    log_in(world, manager, "later", "google")
    world.clock.advance(3700)
    world.oauth.revoke("dead")
    world.oauth.fail(faults.too_many_requests(), times=100, token="later")
    with pytest.raises(RetryLaterError, match="later acme: transient, HTTP 429") as later:
        manager.get_valid_access_token("later", "acme")
    assert later.value.action.startswith("Nothing to do if it passes")
    for _ in range(2):  # found at the provider, then known from the row
        with pytest.raises(LoginAgainError, match="dead acme: reauthorize, HTTP 400, invalid_grant") as dead:
            manager.get_valid_access_token("dead")
        assert "log in again" in dead.value.action
    change_row(world, "mend", status="disabled")
    with pytest.raises(MisconfiguredError, match="its status is disabled"):
        manager.get_valid_access_token("mend")
    with pytest.raises(NoSuchTokenError, match="there is no row of 'nowhere'"):
        manager.get_valid_access_token("nowhere")
    with pytest.raises(SeveralTokensError, match="several rows: acme, google") as several:
        manager.get_valid_access_token("later")
    assert "provider=" in several.value.action


def test_a_row_that_nobody_logged_in_for_wants_a_login(airtable_world: World) -> None:
    airtable_world.table.add({"locationId": "loc1", "provider": "acme"})
    with pytest.raises(LoginAgainError, match="it has no credential yet"):
        manager_of(airtable_world).get_valid_access_token("loc1")


def test_a_cell_that_does_not_open_is_to_be_fixed(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    with pytest.raises(MisconfiguredError, match="is encrypted with key") as error:
        manager_of(world).get_valid_access_token("loc1")
    assert "ENCRYPTION_KEY_FALLBACKS" in error.value.action


def test_a_dead_grant_is_remembered_where_the_table_has_no_column_for_it(airtable_world: World) -> None:
    world = airtable_world
    columns = ("status", "last_error", "failure_count")
    manager = manager_of(world)
    log_in(world, manager)
    for name in columns:
        world.table.remove_column(name)
    world.clock.advance(3700 + 86400)
    world.oauth.revoke("loc1")
    for _ in range(2):
        with pytest.raises(LoginAgainError, match="invalid_grant"):
            manager.get_valid_access_token("loc1")
    assert asked(world) == 1
    assert manager.get("loc1").status == "reauthorize"


def test_no_word_of_a_failure_holds_a_secret(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.clock.advance(3700)
    world.oauth.fail(faults.wrong_secret(), times=100)
    with pytest.raises(MisconfiguredError) as caught:
        manager.get_valid_access_token("loc1")
    key = world.program.settings["ENCRYPTION_KEY"]
    assert_frames_silent(caught.value, (*world.oauth.tokens, *world.oauth.access_tokens, key))
    assert all(token not in repr(manager.list_tokens()) for token in (*world.oauth.tokens, *world.oauth.access_tokens))


def assert_frames_silent(error: BaseException, secrets: Iterable[str]) -> None:
    """Error trackers send the locals of every frame; the first is the test's own, as it would be the program's."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    words = f"{error!r} {[frame.locals for frame in told.stack[1:]]}"
    assert (error.__cause__, error.__context__) == (None, None)
    assert [secret for secret in secrets if secret in words] == []


@pytest.mark.parametrize("made", [TokenManager, AsyncTokenManager])
@pytest.mark.parametrize("is_own", [True, False])
def test_settings_that_cannot_be_used_show_no_key_in_any_frame(
    made: type[TokenManager] | type[AsyncTokenManager], is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"ENCRYPTION_KEY": crypto.generate_key(), "ACME_CLIENT_SECRET": "acme-secret-1", "CONCURRENCY": "none"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MisconfiguredError, match="CONCURRENCY cannot be used") as caught:
        made.from_settings(environ) if is_own else made.from_settings()
    assert_frames_silent(caught.value, [environ["ENCRYPTION_KEY"], environ["ACME_CLIENT_SECRET"]])


def test_a_login_that_cannot_be_stored_shows_no_secret_in_any_frame(manager: TokenManager) -> None:
    login: dict[str, Any]
    login = {"client_secret": "their-secret-1", "refresh_token": "their-refresh-1", "access_token": "their-access-1"}
    more: dict[str, Any]
    for provider, more in (("nobody", {}), ("acme", {"client_id": ""}), ("acme-instance", {"provider_params": {}})):
        with pytest.raises(TokenError) as caught:
            manager.store_tokens("loc1", provider, **login, **more)
        assert_frames_silent(caught.value, login.values())


def test_a_token_that_was_copied_with_something_around_it_is_not_stored(manager: TokenManager) -> None:
    usual: dict[str, Any] = {"client_id": "app", "client_secret": "their-secret-1", "refresh_token": "their-refresh-1"}
    for more in ({"refresh_token": "Bearer their-refresh-1"}, {"client_secret": "gAAAAAB" + 93 * "x"}):
        login = usual | more
        with pytest.raises(MisconfiguredError, match="it was not sent"):
            manager.store_tokens("loc1", "acme", **login)
    assert manager.list_tokens() == []


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(("text", "stored"), [("half \ud83d", "half"), ("zero\0byte", "zero byte")])
def test_a_profile_that_no_database_takes_keeps_no_login_from_the_table(
    request: pytest.FixtureRequest, kind: str, text: str, stored: str
) -> None:
    """A provider's answer may hold either, and the login would wait for ever."""
    rows = table_of(kind, request)
    world = rows.world
    manager = manager_of(world)
    access = log_in(world, manager, workspace_name=text, scope="one")
    assert manager.get_valid_access_token("loc1") == access
    assert [one.workspace_name for one in manager.list_tokens()] == [stored]
    assert world.journalled() == []


def test_what_nobody_sees_around_a_location_id_is_no_part_of_it(manager: TokenManager) -> None:
    manager.store_tokens("\u200b loc1\ufeff", "acme", client_id="app", refresh_token="their-refresh-1")
    assert [token.location_id for token in manager.list_tokens()] == ["loc1"]


# Others at the same row


def test_what_another_process_is_refreshing_is_waited_for(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    claim(world, "this-host/9/other")

    def finish() -> None:
        claim(world, None)
        other.get_valid_access_token("loc1")

    other = manager_of(world)
    waiting = manager_of(world, Meanwhile(world.clock, finish))
    assert waiting.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert (asked(world), world.rows()["loc1"]["claim_generation"]) == (1, 1)  # who waited has not claimed it


def test_a_row_whose_process_died_meanwhile_is_refreshed_by_who_waits_for_it(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    runtime = shop_of(world)
    with ExitStack() as other:
        store = other.enter_context(runtime.open_store())
        claim(world, other.enter_context(runtime.run_context_around(store)).claimant.owner)
        waiting = manager_of(world, Meanwhile(world.clock, other.close))
        assert waiting.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert asked(world) == 1


@pytest.mark.long
def test_another_process_is_waited_for_only_so_long(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.clock.advance(3700)
    claim(world, "another-host/1/run")
    before = world.clock.monotonic()
    with pytest.raises(RetryLaterError, match=r"another-host claimed it and has not finished with it$") as caught:
        manager.get_valid_access_token("loc1")
    assert "--takeover" in caught.value.action
    assert 30 <= world.clock.monotonic() - before <= 31
    assert asked(world) == 0


@pytest.mark.long
def test_another_process_of_this_host_is_named_as_the_reason(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.clock.advance(3700)
    claim(world, f"{host_of(world)}/77/run")
    with pytest.raises(RetryLaterError, match=r"loc1 acme: transient, another process is refreshing it$"):
        manager.get_valid_access_token("loc1")


def host_of(world: World) -> str:
    runtime = shop_of(world)
    with runtime.open_store() as store, runtime.run_context_around(store) as context:
        return context.claimant.installation


def shop_of(world: World) -> Runtime:
    settings = load(world.program.settings, crypto.parse_key)
    return runtime_of(assemble(settings, world.clock, log_not_saved, log_outage, "library"))


def silent(event: Event) -> None:
    raise AssertionError(event)


def test_a_row_that_was_refreshed_between_look_and_claim_is_not_refreshed_again(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    other = manager_of(world)
    tokens = Tokens(shop_of(world), silent, guard=once(lambda: other.get_valid_access_token("loc1")))
    served = tokens.serve("loc1", None, 300)
    assert served.token.text == world.oauth.current_access("loc1")
    assert (asked(world), served.warning) == (1, "")


def test_a_row_that_lost_its_token_between_look_and_claim_is_reported(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    other = manager_of(world)
    tokens = Tokens(shop_of(world), silent, guard=once(lambda: log_in(world, other, access_token="")))
    with pytest.raises(RetryLaterError, match="loc1 acme: the row has no valid access token"):
        tokens.serve("loc1", None, 300)
    assert other.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_a_row_that_was_disabled_between_look_and_claim_is_not_refreshed(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    tokens = Tokens(shop_of(world), silent, guard=once(lambda: change_row(world, "loc1", status="disabled")))
    with pytest.raises(MisconfiguredError, match="loc1 acme: operator, it is disabled"):
        tokens.serve("loc1", None, 300)


def test_a_refresh_that_is_stopped_before_it_begins_can_be_repeated(world: World) -> None:
    log_in(world, manager_of(world))
    world.clock.advance(3700)

    @contextmanager
    def at_once(stop: Callable[[str], None]) -> Iterator[None]:
        stop("SIGTERM was received")
        yield

    with pytest.raises(RetryLaterError, match="transient, SIGTERM was received"):
        Tokens(shop_of(world), silent, guard=at_once).serve("loc1", None, 300)


def test_a_program_that_is_ending_begins_no_refresh_and_serves_what_lives(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture
) -> None:
    token = log_in(world, manager)
    manager.end_refreshes()
    world.clock.advance(3500)
    assert manager.get_valid_access_token("loc1", min_valid=300) == token
    assert "the program is ending; the stored token is still valid" in log.text
    world.clock.advance(200)
    with pytest.raises(RetryLaterError, match="transient, the program is ending"):
        manager.get_valid_access_token("loc1")
    assert manager_of(world).get_valid_access_token("loc1") == world.oauth.current_access("loc1") != token


def test_a_provider_that_takes_no_early_refresh_is_waited_for_with_the_stored_token(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture
) -> None:
    own = Path(world.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]\n", "[acme]\nearliest = 30\n"))
    manager = manager_of(world)
    access = log_in(world, manager)
    world.clock.advance(3400)
    assert manager.get_valid_access_token("loc1") == access
    assert "transient, acme accepts a refresh only 30 s before the access token ends; the stored" in log.text
    change_row(world, "loc1", last_access_token="")
    with pytest.raises(RetryLaterError):
        manager.get_valid_access_token("loc1")
    assert asked(world) == 0


def test_a_lock_that_another_run_holds_on_airtable_is_waited_for(airtable_world: World) -> None:
    world = airtable_world
    manager = manager_of(world)
    old = log_in(world, manager)
    folder = state_folder(world)
    world.clock.advance(3400)
    with run_lock(folder, world.clock):
        assert manager.get_valid_access_token("loc1") == old
        world.clock.advance(600)
        with pytest.raises(RetryLaterError, match="another run is active: process"):
            manager.get_valid_access_token("loc1")
        with pytest.raises(RetryLaterError, match="another run is active: process"):
            manager.refresh_due()
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_between_two_calls_nothing_is_held(stored: tuple[World, TokenManager]) -> None:
    """Cron, or another program, finds lock and journal free while the manager lives."""
    world, manager = stored
    world.clock.advance(3700)
    manager.get_valid_access_token("loc1")
    with run_lock(state_folder(world), world.clock):
        pass
    assert [path.name for path in state_folder(world).glob("journal-*.lock")] == ["journal-1.lock"]
    assert world.program.run("refresh", "--all").code == 0


# Trouble below


@contextmanager
def away(*_: object) -> Iterator[Any]:
    raise StoreUnavailableError("the store is away", "Wait.")
    yield


def test_a_store_that_goes_away_does_not_cost_a_token_that_lives(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture
) -> None:
    access = log_in(world, manager)
    world.clock.advance(3400)
    broken = manager_of(world, run_context_around=away)
    assert broken.get_valid_access_token("loc1") == access
    assert "the store is away; the stored token is still valid. Wait." in log.text
    world.clock.advance(600)
    with pytest.raises(RetryLaterError, match="the store is away"):
        broken.get_valid_access_token("loc1")


def test_a_store_that_cannot_be_read_is_reported_by_every_call(world: World) -> None:
    broken = manager_of(world, open_store=away)
    for call in (broken.list_tokens, broken.refresh_due, lambda: broken.get("loc1"), lambda: broken.delete_tokens("a")):
        with pytest.raises(RetryLaterError, match="the store is away"):
            call()


@pytest.fixture
def full(airtable_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A stored login that is due, a full disk under the journal, and a table that takes no new tokens."""
    log_in(airtable_world, manager_of(airtable_world))
    airtable_world.clock.advance(3400)
    refuse_answers(monkeypatch)
    outage(AirtableRows(airtable_world), airtable_faults.refuse(errors.model_not_found()))
    return airtable_world


@pytest.mark.parametrize("is_logging", [True, False])
def test_an_answer_that_nothing_took_is_printed_sealed_on_stderr_whether_or_not_the_program_logs(
    full: World,
    log: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_logging: bool,
) -> None:
    full.program.settings["STATE_DIR_SPARE"] = "/dev/null"
    if not is_logging:
        logging.disable(logging.CRITICAL)
    manager = manager_of(full)
    assert manager.get_valid_access_token("loc1")  # the stored one still lives
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert "loc1: its provider's answer, which may hold new tokens, could not be saved anywhere." in line
    assert said.out == ""
    critical = [record.getMessage() for record in log.records if record.levelno == logging.CRITICAL]
    assert critical == [line] * is_logging
    monkeypatch.undo()
    assert full.airtable is not None
    full.airtable.faults.clear()
    file = full.program.home / "line"
    file.write_text(line)
    assert full.program.run("recover", "--cell", str(file)).code == 0
    assert manager.get_valid_access_token("loc1") == full.oauth.current_access("loc1")
    assert asked(full) == 1


def test_a_program_whose_log_and_stderr_fail_goes_on(full: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    full.program.settings["STATE_DIR_SPARE"] = "/dev/null"
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(logging.getLogger("token_refresh"), "critical", Gone().write)
    assert manager_of(full).get_valid_access_token("loc1")


def test_an_answer_in_the_spare_folder_is_named_in_the_log_and_stored_by_the_next_call(
    full: World, log: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manager_of(full)
    assert manager.get_valid_access_token("loc1")
    [file] = spare_files(full)
    [told] = [record.getMessage() for record in log.records if record.levelno == logging.CRITICAL]
    assert str(file) in told
    assert "sealed:" not in told + capsys.readouterr().err
    monkeypatch.undo()
    assert full.airtable is not None
    full.airtable.faults.clear()
    assert set(manager.refresh_due().counts()) == {"refreshed"}
    assert manager.get_valid_access_token("loc1") == full.oauth.current_access("loc1")
    assert (asked(full), spare_files(full)) == (1, [])


def test_a_token_that_only_the_store_took_is_served(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one may have died with the refresh."""
    log_in(world, manager)
    world.clock.advance(3400)
    refuse_answers(monkeypatch)
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert "the journal cannot be written (disk full); the stored token is still valid. Free disk space." in log.text


def test_a_token_that_can_never_last_that_long_is_served_with_a_word(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture
) -> None:
    log_in(world, manager)
    assert manager.get_valid_access_token("loc1", min_valid=7200) == world.oauth.current_access("loc1")
    assert manager.get_valid_access_token("loc1", min_valid=7200) == world.oauth.current_access("loc1")
    assert asked(world) == 1
    assert "does not live as long as was asked for" in log.text


@pytest.mark.parametrize(("left", "requests"), [(890, 1), (910, 0)])
def test_a_token_lives_as_long_as_the_settings_want_where_nobody_says_otherwise(
    world: World, left: int, requests: int
) -> None:
    world.program.settings["TOKEN_EXPIRY_BUFFER"] = "900"
    manager = manager_of(world)
    log_in(world, manager, expires_in=left)
    manager.get_valid_access_token("loc1")
    assert asked(world) == requests


def test_get_wants_a_token_to_live_as_long_as_the_settings_say(world: World, manager: TokenManager) -> None:
    log_in(world, manager, expires_in=600)
    world.program.settings["TOKEN_EXPIRY_BUFFER"] = "900"
    assert world.program.run("get", "loc1", "--min-valid", "500").code == 0
    assert asked(world) == 0
    assert world.program.run("get", "loc1").code == 0
    assert asked(world) == 1


@pytest.mark.parametrize("min_valid", [-math.inf, -60, -1])
def test_a_token_that_is_out_is_never_served(world: World, manager: TokenManager, min_valid: float) -> None:
    log_in(world, manager)
    world.clock.advance(3601)
    assert manager.get_valid_access_token("loc1", min_valid=min_valid) == world.oauth.current_access("loc1")
    assert asked(world) == 1


@pytest.mark.parametrize("min_valid", [1e30, math.inf, math.nan])
def test_a_life_that_no_token_has_is_logged(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture, min_valid: float
) -> None:
    log_in(world, manager)
    assert manager.get_valid_access_token("loc1", min_valid=min_valid) == world.oauth.current_access("loc1")
    assert "does not live as long as was asked for. Ask for less." in log.text


# Views


def test_a_view_tells_all_but_secrets(world: World, manager: TokenManager) -> None:
    params = {"scope": "calendar mail"}
    log_in(world, manager, provider="google", provider_params=params)
    view = manager.get("loc1")
    assert (view.location_id, view.provider, view.client_id) == ("loc1", "google", "app-google")
    assert (view.status, view.has_credential, view.failure_count) == ("active", True, 0)
    assert view.expires_at == world.clock.now() + timedelta(seconds=3600)
    assert view.scopes == ["calendar", "mail"]
    assert manager.list_tokens() == [view]


def test_a_row_that_somebody_must_fix_is_shown_all_the_same(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    change_row(world, "loc1", provider_params="no JSON")
    assert manager.get("loc1").params == {}
    assert manager.get("loc1").scopes == []


# Logins


def test_a_login_is_kept_sealed_and_served_without_asking_the_provider(stored: tuple[World, TokenManager]) -> None:
    world, manager = stored
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert (asked(world), world.journalled()) == (0, [])


def test_a_new_login_replaces_the_old_and_clears_what_was_wrong(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    change_row(world, "loc1", status="reauthorize", last_error="dead", failure_count=3)
    access = log_in(world, manager, expires_in=None, expires_at=world.clock.now() + timedelta(hours=1))
    view = manager.get("loc1")
    assert (view.status, view.last_error, view.failure_count) == ("active", "", 0)
    assert manager.get_valid_access_token("loc1") == access


def test_a_login_without_an_access_token_is_completed_by_the_next_run(world: World, manager: TokenManager) -> None:
    log_in(world, manager, access_token="")
    assert manager.get("loc1").expires_at is None
    report = manager.refresh_due()
    assert report.counts() == {"refreshed": 1}
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


@pytest.mark.parametrize(("expires_in", "requests"), [("3600", 0), ("soon", 1), (math.nan, 1), (1e30, 1), (-5, 1)])
def test_the_end_of_a_login_may_be_any_word_of_its_provider(
    world: World, manager: TokenManager, expires_in: Any, requests: int
) -> None:
    """As text, like Exact Online sends it; what is no number of seconds costs a refresh, never the login."""
    log_in(world, manager, expires_in=expires_in)
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert asked(world) == requests


def test_the_client_of_the_settings_is_used_where_none_is_handed_in(world: World) -> None:
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    manager = manager_of(world)
    log_in(world, manager, client_id="", client_secret="")
    world.clock.advance(3700)
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ({"refresh_token": " "}, "refresh_token must not be empty"),
        ({"refresh_token": None}, "refresh_token must not be empty"),
        ({"location_id": " ", "provider": ""}, "location_id and provider must not be empty"),
        ({"provider": "nobody"}, "there is no provider 'nobody'"),
        ({"client_id": ""}, "client_id is empty"),
        ({"access_token": "at", "expires_at": datetime(2026, 3, 1)}, "expires_at has no time zone"),  # noqa: DTZ001
        ({"connected_at": "yesterday"}, "connected_at is no time"),
        ({"provider_params": {"tenant": object()}}, "provider_params are no names with texts"),
        ({"provider_params": [1]}, "provider_params are no names with texts"),
        ({"provider": "acme-instance"}, None),
    ],
)
def test_a_login_that_cannot_be_used_is_refused_and_nothing_stored(
    world: World, manager: TokenManager, login: dict[str, Any], says: str | None
) -> None:
    values = {"location_id": "loc1", "provider": "acme", "client_id": "app", "refresh_token": "grant-1"} | login
    if says is None:
        values |= {"provider_params": {"instance": "evil.example"}}
        says = "its secrets would go to http"
        own = world.program.settings["PROVIDERS_FILE"]
        Path(own).write_text(Path(own).read_text().replace("http://{instance}", "https://{instance}"))
        manager = manager_of(world)
    with pytest.raises(MisconfiguredError, match=says):
        manager.store_tokens(**values)
    assert (manager.list_tokens(), world.journalled()) == ([], [])


def test_a_host_of_the_login_that_the_program_allows_is_taken(world: World, manager: TokenManager) -> None:
    host = world.oauth.url.partition("://")[2]
    params = {"instance": host}
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = host
    manager = manager_of(world)
    token = world.oauth.grant("acme", "app-acme", location_id="loc1")
    client: dict[str, Any] = {"client_id": "app-acme", "client_secret": "acme secret"}
    manager.store_tokens(
        "loc1", "acme-instance", refresh_token=token, provider_params=params, allow_hosts=[host.upper()], **client
    )
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


@pytest.mark.parametrize("is_new", [True, False])
def test_a_login_wins_over_what_others_write_into_its_row_meanwhile(
    world: World, manager: TokenManager, is_new: bool
) -> None:
    if not is_new:
        log_in(world, manager)
    runtime = shop_of(world)

    @contextmanager
    def slow(store: Any) -> Iterator[Any]:
        write, create = store.store.write, store.store.create

        def meanwhile(act: Callable[..., Any]) -> Callable[..., Any]:
            def late(*arguments: Any) -> Any:
                store.store.write, store.store.create = write, create
                log_in(world, manager)
                return act(*arguments)

            return late

        store.store.write, store.store.create = meanwhile(write), meanwhile(create)
        with runtime.run_context_around(store) as context:
            yield context

    access = log_in(world, TokenManager(runtime._replace(run_context_around=slow)))
    assert manager.get_valid_access_token("loc1") == access
    assert (len(world.rows()), world.journalled()) == (1, [])


def test_a_login_that_the_store_does_not_take_waits_sealed_for_the_next_run(
    world: World, manager: TokenManager
) -> None:
    runtime = shop_of(world)

    @contextmanager
    def deaf(store: Any) -> Iterator[Any]:
        def create(values: object) -> str:
            raise StoreUnavailableError("the store is away", "Wait.")

        store.store.create = create
        with runtime.run_context_around(store) as context:
            yield context

    with pytest.raises(RetryLaterError, match="wait, encrypted, in the journal, and the next run stores them"):
        log_in(world, TokenManager(runtime._replace(run_context_around=deaf)))
    assert manager.list_tokens() == []
    world.clock.advance(100)
    manager.refresh_due()
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert world.journalled() == []


# Runs and rounds


def test_one_run_refreshes_what_is_due_and_tells_the_log(
    stored: tuple[World, TokenManager], log: pytest.LogCaptureFixture
) -> None:
    world, manager = stored
    assert manager.refresh_due().due == 0
    world.clock.advance(3000)
    report = manager.refresh_due()
    assert (report.counts(), report.due) == ({"refreshed": 1}, 1)
    assert "loc1 acme: refreshed" in log.messages


def test_what_fails_behind_a_run_is_in_the_log(world: World, log: pytest.LogCaptureFixture) -> None:
    world.program.settings["METRICS_FILE"] = str(world.program.home / "nowhere/metrics.prom")
    report = manager_of(world).refresh_due()
    assert (report.counts(), report.store_error) == ({}, None)
    assert "METRICS_FILE" in log.text


def test_a_run_warns_of_what_is_new_and_of_what_was_not_tried(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture
) -> None:
    log_in(world, manager)
    log_in(world, manager, "odd")
    change_row(world, "odd", status="odd")
    world.clock.advance(3000)
    world.oauth.fail(faults.refused("invalid_grant"), times=100, token="loc1")
    manager.refresh_due()
    warnings = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert any(words.startswith("loc1 acme: reauthorize. HTTP 400, invalid_grant") for words in warnings)
    assert "odd: status 'odd' is not known and counts as active" in warnings


class Gated:
    """A clock on which the rounds' thread waits until the test lets it go on."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self._asleep, self._go = threading.Semaphore(0), threading.Semaphore(0)
        self.is_open = False

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        if threading.current_thread().name != "token-refresh":
            self._clock.sleep(seconds)
            return
        self._asleep.release()
        assert self.is_open or self._go.acquire(timeout=PATIENCE_SECONDS)

    def await_sleep(self) -> None:
        """Until a round is over."""
        assert self._asleep.acquire(timeout=PATIENCE_SECONDS)

    def pass_by(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self._go.release()

    def open(self) -> None:
        self.is_open = True
        self._go.release()


@pytest.fixture
def gated(world: World) -> Iterator[Gated]:
    made = Gated(world)
    yield made
    made.open()


def test_rounds_go_on_after_one_that_failed_until_they_are_stopped(
    world: World, manager: TokenManager, gated: Gated, log: pytest.LogCaptureFixture
) -> None:
    log_in(world, manager)
    rounds = manager_of(world, gated)
    rounds.start(600)
    gated.await_sleep()
    assert asked(world) == 0
    path = world.program.home / "state/tokens.sqlite3"
    path.chmod(0o644)  # refused: others can read it
    gated.pass_by(600)
    gated.await_sleep()
    assert "this round failed: other users can read the database" in log.text
    path.chmod(0o600)
    gated.pass_by(2400)
    gated.await_sleep()
    assert asked(world) == 1
    gated.open()
    assert rounds.stop(PATIENCE_SECONDS) is True
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_a_second_start_changes_nothing_and_after_a_stop_it_goes_on(
    world: World, gated: Gated, log: pytest.LogCaptureFixture
) -> None:
    manager = manager_of(world, gated)
    assert manager.stop() is True
    manager.start(600)
    manager.start(600)
    gated.await_sleep()
    assert [one.name for one in threading.enumerate()].count("token-refresh") == 1
    assert manager.stop(timeout=0.01) is False
    gated.open()
    assert manager.stop(PATIENCE_SECONDS) is True
    manager.start()
    assert manager.stop(PATIENCE_SECONDS) is True


def test_a_stop_in_the_middle_of_a_round_finishes_what_is_open_and_begins_nothing(
    world: World, manager: TokenManager, gated: Gated
) -> None:
    world.program.settings["CONCURRENCY"] = "1"
    for location in ("a", "b"):
        log_in(world, manager, location)
    world.clock.advance(3000)
    rounds = manager_of(world, gated)
    reached = threading.Event()

    def meanwhile(call: faults.Call, act: faults.Act) -> Any:
        assert rounds.stop(timeout=0) is False
        reached.set()
        return act()

    world.oauth.fail(faults.Fault("meanwhile", meanwhile))
    rounds.start(600)
    assert reached.wait(PATIENCE_SECONDS)
    assert rounds.stop(PATIENCE_SECONDS) is True
    assert (asked(world), world.journalled()) == (1, [])
    assert sorted(row["claim_owner"] or "" for row in world.rows().values()) == ["", ""]


def test_a_round_that_the_store_fails_is_logged(world: World, gated: Gated, log: pytest.LogCaptureFixture) -> None:
    runtime = shop_of(world)
    log_in(world, manager_of(world))
    world.clock.advance(3000)

    @contextmanager
    def deaf(store: Any) -> Iterator[Any]:
        def write(changes: object) -> Any:
            raise StoreRefusedError("it takes nothing", "Mend it.")

        store.store.write = write
        with runtime.run_context_around(store) as context:
            yield context

    manager = TokenManager(runtime._replace(run_context_around=deaf, clock=gated))
    manager.start(600)
    gated.await_sleep()
    gated.open()
    manager.stop(PATIENCE_SECONDS)
    assert "this round failed: it takes nothing. Mend it." in log.text


@pytest.mark.parametrize("interval", [9, math.inf, math.nan])
def test_rounds_that_come_too_often_or_never_are_refused(manager: TokenManager, interval: float) -> None:
    with pytest.raises(MisconfiguredError, match=f"an interval of {interval} s cannot be used"):
        manager.start(interval)
    assert "token-refresh" not in [one.name for one in threading.enumerate()]


@pytest.mark.parametrize(("interval", "requests"), [(None, 1), (600, 0)])
def test_the_interval_of_the_rounds_decides_what_is_due(
    world: World, gated: Gated, interval: float | None, requests: int
) -> None:
    """With REFRESH_INTERVAL (3600 s) the token would not outlast the next round, with 600 s it does."""
    manager = manager_of(world, gated)
    log_in(world, manager)
    world.clock.advance(600)
    manager.start(interval)
    gated.await_sleep()
    gated.open()
    manager.stop(PATIENCE_SECONDS)
    assert asked(world) == requests


ENDS = """
from token_manager import TokenManager
tokens = TokenManager.from_settings()
tokens.start(600)
import sys
sys.stdin.readline()
"""


STOPS = "tokens.stop(timeout=0)"


@pytest.mark.long
@pytest.mark.parametrize(
    "last", ["", *(pytest.param(last, marks=pytest.mark.long) for last in (STOPS, f"{STOPS}; tokens.start(600)"))]
)
def test_a_program_that_ends_without_a_whole_stop_waits_for_the_open_round(world: World, last: str) -> None:
    log_in(world, manager_of(world))  # its token has been out for months by the real clock
    arrived, go = threading.Event(), threading.Event()

    def hold(call: faults.Call, act: faults.Act) -> Any:
        answer = act()
        arrived.set()
        go.wait(PATIENCE_SECONDS)
        return answer

    world.oauth.fail(faults.Fault("hold", hold))
    process = subprocess.Popen(
        [sys.executable, "-c", ENDS + last],
        cwd=world.program.installed(),
        env=world.program.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert arrived.wait(PATIENCE_SECONDS)
        assert process.stdin is not None
        process.stdin.write("end\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        go.set()
        _, words = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        go.set()
        process.kill()
        process.wait()
    assert (process.returncode, "Traceback" in words) == (0, False), words
    assert world.token_of("loc1") == world.oauth.current("loc1")
    assert world.journalled() == []


# From settings


def test_settings_that_are_wrong_are_reported_all_at_once(world: World) -> None:
    wrong = world.program.settings | {"ENCRYPTION_KEY": "short", "CONCURRENCY": "many"}
    with pytest.raises(MisconfiguredError, match=r"ENCRYPTION_KEY.*CONCURRENCY") as error:
        TokenManager.from_settings(wrong)
    assert error.value.__context__ is None


def test_a_default_provider_that_is_not_known_is_reported(world: World) -> None:
    with pytest.raises(MisconfiguredError, match="DEFAULT_PROVIDER: there is no provider 'nobody'"):
        TokenManager.from_settings(world.program.settings | {"DEFAULT_PROVIDER": "nobody"})


def test_the_environment_of_the_program_is_read_and_left_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in world.program.settings.items():
        monkeypatch.setenv(name, value)
    log_in(world, TokenManager.from_settings(clock=world.clock))
    assert TokenManager.from_settings(clock=world.clock).get("loc1").location_id == "loc1"


def test_a_warning_of_the_settings_goes_to_the_log(world: World, log: pytest.LogCaptureFixture) -> None:
    key = world.program.home / "key"
    key.write_text(world.program.settings["ENCRYPTION_KEY"])
    key.chmod(0o644)
    values = {name: value for name, value in world.program.settings.items() if name != "ENCRYPTION_KEY"}
    TokenManager.from_settings(values | {"ENCRYPTION_KEY_FILE": str(key)})
    assert "other users can read" in log.text


def test_after_a_call_nothing_is_claimed(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.clock.advance(3700)
    manager.get_valid_access_token("loc1")
    with closing(sqlite3.connect(world.program.home / "state/tokens.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM credentials WHERE claim_owner IS NOT NULL").fetchone() == (0,)
