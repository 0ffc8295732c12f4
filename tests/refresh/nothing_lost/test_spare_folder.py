"""The journal's disk refuses an answer: it is in the spare folder before the store is asked, until the store has it."""

from __future__ import annotations

import copy
import os
import signal
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from tests import exits
from tests.refresh.nothing_lost.struck import Act, Fate, Point, refresh, struck
from tests.refresh.nothing_lost.test_matrix import STORES, Story
from tests.refresh.runs.faults_world import Rows, entries, kept_token, meanwhile, spare_files, table_of
from tests.world.oauth import faults
from token_refresh.base.errors import Kind
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Change, StoreRefusedError

pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture(params=STORES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """An empty table; its service has no limit, for the struck process has a clock of its own."""
    rows = table_of(request.param, request)
    if rows.world.airtable is not None:
        rows.world.airtable.requests_per_second = None
    rows.world.program.settings["CONCURRENCY"] = "1"
    return rows


@pytest.fixture
def story(rows: Rows) -> Story:
    """One row that is due."""
    rows.add("acme", "loc")
    return Story(rows)


class _Store:
    """A store that does something else where it is to write."""

    def __init__(self, store: Any, write: Callable[[Callable[[], Any]], Any]) -> None:
        self._store = store
        self._write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, changes: Sequence[Change]) -> Any:
        return self._write(lambda: self._store.write(changes))

    def create(self, values: Any) -> Any:
        return self._write(lambda: self._store.create(values))


def refuse(_: Callable[[], Any]) -> Any:
    raise StoreRefusedError("the table takes no writes", "Wait.")


def die(_: Callable[[], Any]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def write_and_die(act: Callable[[], Any]) -> Any:
    act()
    os.kill(os.getpid(), signal.SIGKILL)


def writing(write: Callable[[Callable[[], Any]], Any], act: Act = refresh) -> Act:
    """`act` on a store that writes in that way."""

    def changed(context: RunContext) -> Iterable[Kind]:
        sealed = copy.copy(context.store)
        plain: Any = _Store(sealed.store, write)
        sealed.store = plain
        return act(context._replace(store=sealed))

    return changed


def assert_stored_by_the_next_run(story: Story, outcomes: dict[str, str | None]) -> None:
    """Out of the file, without a request; then nothing is left anywhere."""
    story.requests()
    result = story.later(1)
    assert (result.code, result.outcomes()) == (exits.DONE, outcomes)
    assert "unsaved" not in result.json()
    assert story.requests() == 0
    assert story.is_good()
    assert spare_files(story.world) == []


def test_what_neither_journal_nor_store_took_is_stored_by_the_next_run_out_of_its_file(story: Story) -> None:
    end = struck(story.world, Point.ACTED, Fate.READ_ONLY, writing(refuse))
    assert end.code == exits.USAGE
    [file] = spare_files(story.world)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"is neither in the journal nor in the table, but in {file}. Keep that file" in end.said
    assert f"the new tokens wait, encrypted, in {file}" in end.said
    assert "sealed:v1:" not in end.said
    assert [entry["step"] for entry in story.world.journalled()] == ["sent"]
    assert_stored_by_the_next_run(story, {"loc": "refreshed"})


def test_a_kill_between_the_file_and_the_store_s_write_loses_nothing(story: Story) -> None:
    struck(story.world, Point.ACTED, Fate.READ_ONLY, writing(die), is_killed=True)
    assert len(spare_files(story.world)) == 1
    assert_stored_by_the_next_run(story, {"loc": "refreshed"})


def test_a_kill_between_the_store_s_write_and_the_end_of_the_file_is_recognised(story: Story) -> None:
    struck(story.world, Point.ACTED, Fate.READ_ONLY, writing(write_and_die), is_killed=True)
    assert len(spare_files(story.world)) == 1
    assert_stored_by_the_next_run(story, {})


def test_recover_takes_the_file_over_and_lists_it(story: Story) -> None:
    struck(story.world, Point.ACTED, Fate.READ_ONLY, writing(die), is_killed=True)
    [entry] = story.world.program.run("recover", "--json").json()["entries"]
    assert (entry["location_id"], entry["step"]) == ("loc", "answered")
    assert spare_files(story.world) == []
    result = story.world.program.run("recover", "--replay", "--json")
    assert (result.code, result.outcomes()) == (exits.DONE, {"loc": "refreshed"})
    assert story.is_good()


def test_of_a_row_that_was_onboarded_meanwhile_theirs_stays_and_ours_is_kept_in_the_journal(story: Story) -> None:
    rows = story.rows
    theirs = story.world.cells("acme", "loc")["encrypted_refresh"]
    story.world.oauth.fail(meanwhile(lambda: rows.edit("loc", encrypted_refresh=theirs)))
    struck(story.world, Point.ACTED, Fate.READ_ONLY)
    assert len(spare_files(story.world)) == 1
    story.later(1)
    assert spare_files(story.world) == []
    [aside] = entries(story.world)
    assert (aside.step, kept_token(story.world, aside)) == ("superseded", story.world.oauth.current(story.first))


def test_a_refusal_is_kept_no_longer_than_it_says_something(story: Story) -> None:
    """It brings no token: the row says all that it said, and the next run asks anew."""
    story.world.oauth.fail(faults.too_many_requests(1000))
    end = struck(story.world, Point.ACTED, Fate.READ_ONLY)
    assert (end.code, spare_files(story.world)) == (exits.USAGE, [])
    assert "sealed" not in end.said


@pytest.mark.parametrize(("write", "is_killed"), [(refuse, False), (die, True), (write_and_die, True)])
def test_an_onboarding_goes_the_same_way(rows: Rows, write: Callable[..., Any], is_killed: bool) -> None:
    world = rows.world
    entered = NewCredential(*world.csv_line("acme", "loc"))

    def onboard(context: RunContext) -> Iterable[Kind]:
        result = Admission(context).admit(entered, Terms())
        expected = f"the proved tokens wait, encrypted, in {spare_files(world)[0]}, and the next run"
        assert expected in (result.error or "")
        return (Kind.ROW,)

    end = struck(world, Point.ACTED, Fate.READ_ONLY, writing(write, onboard), is_killed=is_killed)
    if not is_killed:
        assert end.code == exits.USAGE, end.said
    assert len(spare_files(world)) == 1
    world.clock.advance(1)
    assert world.program.run().code == exits.DONE
    assert rows.is_current("loc")
    assert (len(world.oauth.requests), world.journalled(), spare_files(world)) == (1, [], [])


def test_files_of_others_do_not_stop_a_run(story: Story) -> None:
    struck(story.world, Point.ACTED, Fate.READ_ONLY, writing(die), is_killed=True)
    [file] = spare_files(story.world)
    link = file.with_name(file.name.replace("token-refresh-2026", "token-refresh-2027"))
    link.symlink_to("/etc/passwd")
    pipe = file.with_name(file.name.replace("token-refresh-2026", "token-refresh-2028"))
    os.mkfifo(pipe)
    story.requests()
    assert story.later(1).outcomes() == {"loc": "refreshed"}
    assert spare_files(story.world) == [link, pipe]
