"""A credential on its way into the table that is cut off anywhere: the newest grant ends up in the row, by itself or by
a documented command, whatever somebody does to the row meanwhile and whatever follows."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.base import Answer, Verdict
from tests.callers import log_in, manager_of
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, refresh, struck
from tests.refresh.runs.faults_world import STEPS, TABLES, AirtableRows, Rows, entries, journal, table_of
from tests.refresh.runs.test_faults_inside import OtherStore, on, run_context_of
from tests.world.airtable import faults as airtable_faults
from tests.world.http import Request, Response
from tests.world.oauth import RefreshToken, faults
from token_refresh.base.events import Outcome
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.library import RetryLaterError
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Store, StoreUnavailableError

pytestmark = pytest.mark.by_turns("rows")

LOGIN, ONBOARDING = "login", "onboarding"
KINDS = ("acme", "acme-family", "acme-never")
AWAY = StoreUnavailableError("the store is away", "Wait.")


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """An empty table of each kind of store."""
    made = table_of(request.param, request)
    made.world.program.settings |= {"REFRESH_INTERVAL": "300", "CONCURRENCY": "1"}
    if made.world.airtable is not None:
        made.world.airtable.requests_per_second = None  # a struck process has a clock of its own
    return made


class Faulty(OtherStore):
    """A store whose writes fail, carried out or not."""

    def __init__(self, usual: Store, *, is_applied: bool) -> None:
        super().__init__(usual)
        self._is_applied = is_applied

    def write(self, changes: Sequence[Any]) -> Any:
        """See `Store.write`."""
        if self._is_applied:
            self.usual.write(changes)
        raise AWAY

    def create(self, values: Any) -> Any:
        """See `Store.create`."""
        if self._is_applied:
            self.usual.create(values)
        raise AWAY


@dataclass
class Story:
    """One credential of one location, and what becomes of it."""

    rows: Rows
    kind: str
    brought_by: str
    location: str = "loc"
    former: str | None = None  # the refresh cell of before

    def __post_init__(self) -> None:
        self.world = self.rows.world
        self.line = self.world.csv_line(self.kind, self.location)
        self.token = self.line[-1]
        self.family = self.world.oauth.tokens[self.token].family
        self.access = self.world.oauth.current_access(self.family)

    @property
    def entered(self) -> NewCredential:
        location, provider, client_id, secret, token = self.line
        return NewCredential(location, provider, client_id, secret, token)

    def bring(self, context: RunContext) -> tuple[()]:
        """As `store_tokens` does, or onboarding."""
        login = Answer(
            Verdict.GRANTED,
            access_token=self.access,
            expires_at=context.clock.now() + timedelta(hours=1),
            received_at=context.clock.now(),
        )
        terms = Terms(replace=True)
        Admission(context).admit(self.entered, terms, login if self.brought_by == LOGIN else None)
        return ()

    def cut_by_kill(self, point: Point) -> None:
        with reached():
            struck(self.world, point, Fate.KILL, self.bring)

    def cut_by_store(self, *, is_applied: bool) -> None:
        with run_context_of(self.rows) as context:
            self.bring(on(context, Faulty(context.store.store, is_applied=is_applied)))

    def again(self) -> None:
        """The same once more: the command, or the program's call."""
        if self.brought_by == ONBOARDING:
            self.world.program.onboard("--from-csv", self.world.program.csv(self.line), "--replace")
        else:
            with contextlib.suppress(Exception), run_context_of(self.rows) as context:
                self.bring(context)

    def run(self) -> None:
        self.world.program.run()

    def recover(self) -> None:
        self.world.program.run("recover", "--replay")

    def killed_run(self, point: Point) -> None:
        with reached():
            struck(self.world, point, Fate.KILL, refresh)

    def sent(self) -> list[RefreshToken]:
        """The tokens of its grant."""
        return self.world.oauth.family(self.family).refresh_tokens

    renew = __post_init__  # where a grant of before is to be the older one

    def clear(self) -> None:
        """Nothing of it is left for the next story."""
        with contextlib.suppress(ValueError):
            self.rows.remove(self.location)
        with contextlib.suppress(ValueError), journal(self.world) as opened:
            opened.finish([entry.id for entry in opened.entries(*STEPS)])

    def later(self, seconds: float = 100) -> None:
        self.world.clock.advance(seconds)

    def cell(self) -> str | None:
        """The refresh cell of the row; None where there is no row."""
        with contextlib.suppress(ValueError):
            return self.rows.row(self.location).encrypted_refresh
        return None

    def newest_in_row(self) -> str | None:
        """The family of the grant in the row, where the row holds the token of it that its provider accepts."""
        cell, oauth = self.cell(), self.world.oauth
        if not cell:
            return None
        token = self.world.open_refresh(self.location, cell)
        family = oauth.tokens[token].family
        return family if token == oauth.current(family) else None

    def former_family(self) -> str | None:
        """The grant of before, where there was one."""
        if self.former is None:
            return None
        return self.world.oauth.tokens[self.world.open_refresh(self.location, self.former)].family

    def is_stored(self) -> bool:
        """The row holds the grant that was entered."""
        return self.newest_in_row() == self.family

    def steps(self) -> list[str]:
        """Of the journal's entries that are about it."""
        return [entry.step for entry in entries(self.world) if entry.location_id == self.location]


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """A process need not come to the point where it was to be killed."""
    try:
        yield
    except AssertionError as error:
        if "never came" not in str(error):
            raise


# What somebody does to the row between the cut and what follows; returns the family that they put in


def put_another(story: Story) -> str:
    """A grant of their own."""
    cells = story.world.cells(story.kind, story.location)
    family = story.world.oauth.family(story.location).family
    if story.cell() is None:
        story.rows.put(cells)
    else:
        story.rows.edit(story.location, encrypted_refresh=cells["encrypted_refresh"])
    return family


def empty(story: Story) -> None:
    """The cell."""
    if story.cell():
        story.rows.edit(story.location, encrypted_refresh="")


def delete(story: Story) -> None:
    """The row."""
    if story.cell() is not None:
        story.rows.remove(story.location)


# Single stories


@pytest.mark.by_turns("brought_by")
@pytest.mark.parametrize("brought_by", [LOGIN, ONBOARDING])
@pytest.mark.parametrize("has_row", [True, False])
def test_a_write_that_was_killed_before_it_was_noted_is_recognised_by_the_next_run(
    rows: Rows, has_row: bool, brought_by: str
) -> None:
    if has_row:
        rows.add("acme", "loc", rows.world.clock.now())
    story = Story(rows, "acme", brought_by)
    story.cut_by_kill(Point.WRITTEN)
    asked = len(rows.world.oauth.requests)
    story.run()
    assert story.is_stored()
    assert (story.steps(), len(rows.world.oauth.requests)) == ([], asked)
    if brought_by == LOGIN:
        assert rows.access("loc") == story.access


@pytest.mark.parametrize("has_row", [True, False])
def test_a_login_that_airtable_took_and_answered_with_failures_is_stored_and_its_entry_ends(
    airtable_world: World, has_row: bool
) -> None:
    world, rows = airtable_world, AirtableRows(airtable_world)
    if has_row:
        rows.add("acme", "loc1", world.clock.now() + timedelta(hours=9))
    assert world.airtable is not None
    kind = "update" if has_row else "create"

    def applied(request: Request, act: airtable_faults.Act) -> Response:
        act()
        return airtable_faults.status(500)(request, act)

    first = world.airtable.inject(applied, kind=kind, nth=1 + has_row)  # the first update proves that there can be one
    world.airtable.inject(airtable_faults.status(503), when=lambda _: first.hits > 0, times=None)
    manager = manager_of(world)
    with pytest.raises(RetryLaterError):
        log_in(world, manager)
    world.airtable.faults.clear()
    assert len(world.journalled()) == 1
    manager.refresh_due()
    assert rows.is_current("loc1")
    assert (world.journalled(), world.oauth.requests) == ([], [])
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_a_login_that_the_store_did_not_take_is_stored_whole_and_its_provider_is_not_asked(rows: Rows) -> None:
    story = Story(rows, "acme", LOGIN)
    story.cut_by_store(is_applied=False)
    assert story.cell() is None
    story.run()
    assert story.is_stored()
    assert (rows.access("loc"), story.steps(), rows.world.oauth.requests) == (story.access, [], [])


def test_of_two_logins_that_the_store_did_not_take_the_newer_one_wins(rows: Rows) -> None:
    rows.add("acme", "loc", rows.world.clock.now())
    older = Story(rows, "acme", LOGIN)
    older.cut_by_store(is_applied=False)
    older.later(1)
    newer = Story(rows, "acme", LOGIN)
    newer.cut_by_store(is_applied=False)
    older.run()
    assert newer.is_stored()
    assert newer.steps() == ["superseded"]


def test_a_login_ends_what_waits_of_an_earlier_one(rows: Rows) -> None:
    """Also where it could never be brought to its end."""
    older = Story(rows, "acme", ONBOARDING)
    older.cut_by_kill(Point.SENT)
    newer = Story(rows, "acme", LOGIN)
    newer.again()
    assert newer.is_stored()
    assert newer.steps() == ["superseded"]
    older.later()
    older.run()
    assert newer.is_stored()


def test_a_row_that_is_refreshed_while_its_onboarding_waits_gets_the_newer_grant_all_the_same(rows: Rows) -> None:
    rows.add("acme", "loc", rows.world.clock.now())
    before = rows.row("loc").encrypted_refresh
    story = Story(rows, "acme", ONBOARDING)
    story.cut_by_kill(Point.SENT)
    story.run()  # its request may still be on its way
    assert rows.row("loc").encrypted_refresh != before
    assert not story.is_stored()
    story.later()
    story.run()
    assert story.is_stored()
    assert story.steps() == []
    assert [token for token in story.sent() if token.replays] == []


def test_a_proved_credential_that_was_superseded_is_stored_when_it_is_entered_again_and_not_sent_again(
    rows: Rows,
) -> None:
    story = Story(rows, "acme", ONBOARDING)
    story.cut_by_kill(Point.KEPT)
    theirs = put_another(story)
    story.run()
    assert (story.steps(), story.newest_in_row()) == (["superseded"], theirs)
    story.recover()
    assert story.newest_in_row() == theirs
    asked = len(rows.world.oauth.requests)
    story.again()
    assert story.is_stored()
    assert (story.steps(), len(rows.world.oauth.requests)) == ([], asked)


@pytest.mark.parametrize("point", [Point.WRITTEN, Point.CONFIRMED])
def test_what_a_killed_call_stored_does_not_go_over_what_was_made_of_it_since(rows: Rows, point: Point) -> None:
    story = Story(rows, "acme", ONBOARDING)
    story.cut_by_kill(Point.KEPT)
    put_another(story)
    story.run()
    story.cut_by_kill(point)  # entered again
    for _ in range(2):
        rows.world.clock.advance(7200)
        story.run()
    assert story.is_stored()
    story.again()
    assert story.is_stored()
    assert story.steps() == []


def test_what_a_killed_call_stored_and_runs_used_is_not_put_back_where_the_row_has_no_credential_any_more(
    rows: Rows,
) -> None:
    story = Story(rows, "acme", ONBOARDING)
    story.cut_by_kill(Point.KEPT)
    put_another(story)
    story.run()
    story.cut_by_kill(Point.CONFIRMED)  # entered again
    rows.world.clock.advance(7200)
    story.run()
    empty(story)
    story.recover()
    assert not story.cell()
    assert story.steps() == []


@pytest.mark.parametrize("brought_by", [LOGIN, ONBOARDING])
def test_a_credential_that_was_superseded_before_there_was_an_answer_is_stored_when_it_comes_again(
    rows: Rows, brought_by: str
) -> None:
    """A login brings its tokens itself; an entered token is sent."""
    story = Story(rows, "acme", brought_by)
    story.cut_by_kill(Point.SENT)
    theirs = put_another(story)
    story.later()
    story.run()
    assert (story.steps(), story.newest_in_row()) == (["superseded"], theirs)
    asked = len(rows.world.oauth.requests)
    story.again()
    assert story.is_stored()
    assert (story.steps(), len(rows.world.oauth.requests) - asked) == ([], 0 if brought_by == LOGIN else 1)


@pytest.mark.parametrize("doing", ["empty", "delete"])
def test_what_was_superseded_is_stored_by_recover_once_its_row_has_no_credential_and_by_no_run(
    rows: Rows, doing: str
) -> None:
    story = Story(rows, "acme", ONBOARDING)
    story.cut_by_kill(Point.KEPT)
    put_another(story)
    story.run()
    {"empty": empty, "delete": delete}[doing](story)
    story.run()
    assert not story.cell()
    story.recover()
    assert story.is_stored()
    assert story.steps() == []


def test_an_onboarding_beside_a_row_that_cannot_be_used_waits_until_it_can(rows: Rows) -> None:
    story = Story(rows, "acme", ONBOARDING)
    story.cut_by_kill(Point.KEPT)
    theirs = put_another(story)
    rows.edit("loc", provider_params="{")
    said = rows.world.program.run().err
    assert "its onboarding waits in the journal, for provider_params is not a JSON object of texts" in said
    assert story.steps() == ["answered"]
    rows.edit("loc", provider_params="")
    story.run()
    assert (story.steps(), story.newest_in_row()) == (["superseded"], theirs)


def test_what_an_earlier_version_left_of_a_login_that_is_in_its_row_is_ended_by_recover(rows: Rows) -> None:
    """It took its own write for somebody else's."""
    story = Story(rows, "acme", LOGIN)
    story.again()
    rows.edit("loc", access_token_expiry=rows.world.clock.now())
    entered = story.entered
    with journal(rows.world) as opened:
        opened.mark(
            opened.admit("loc", "acme", rows.world.oauth.url, "", opened.fingerprint(story.token), entered.to_json()),
            "superseded",
        )
    story.later()
    assert "recover --replay" in rows.world.program.run().err
    story.recover()
    story.run()
    assert story.is_stored()
    assert (story.steps(), len(rows.world.oauth.requests)) == ([], 1)


def test_a_pair_behind_a_failure_is_stored_once_the_entered_token_is_refused(rows: Rows) -> None:
    """Between the two requests of an onboarding its provider was failing, and had acted all the same."""
    story = Story(rows, "acme", ONBOARDING)
    rows.world.oauth.fail(failing_with_pair())
    story.again()
    story.later()
    story.run()
    assert story.is_stored()


def test_a_credential_that_is_not_to_be_proved_and_not_stored_leaves_nothing(rows: Rows) -> None:
    story = Story(rows, "acme", ONBOARDING)
    with run_context_of(rows) as context:
        away = on(context, Faulty(context.store.store, is_applied=False))
        result = Admission(away).admit(story.entered, Terms(check=False))
    assert (result.outcome, result.error) == (Outcome.TRANSIENT, str(AWAY))
    assert (story.cell(), story.steps(), rows.world.oauth.requests) == (None, [], [])


class Deleting(OtherStore):
    """A store in which somebody deletes each row as soon as it is made."""

    def __init__(self, usual: Store, rows: Rows) -> None:
        super().__init__(usual)
        self._rows = rows

    def create(self, values: Any) -> None:
        """See `Store.create`."""
        self.usual.create(values)
        self._rows.remove(values["locationId"])


def test_a_row_that_is_deleted_at_once_leaves_nobody_to_prove_its_token(rows: Rows) -> None:
    """The answer brought no access token: the next run was to prove the new refresh token."""
    story = Story(rows, "acme", ONBOARDING)
    rows.world.oauth.fail(faults.amended(lambda content: json.dumps(content | {"access_token": None}).encode()))
    with run_context_of(rows) as context:
        result = Admission(on(context, Deleting(context.store.store, rows))).admit(story.entered, Terms())
    assert (result.outcome, story.cell(), story.steps()) == (Outcome.REFRESHED, None, [])
    story.run()
    assert len(rows.world.oauth.requests) == 1


def failing_with_pair() -> faults.Fault:
    """The provider acts, and the pair comes with a 503."""

    def apply(call: faults.Call, act: faults.Act) -> Response:
        return replace(act(), status=503)

    return faults.Fault("failing, with the pair", apply)


def restore(story: Story) -> str | None:
    """The cell of before, where there was one."""
    if story.former is None or story.cell() is None:
        return None
    story.rows.edit(story.location, encrypted_refresh=story.former)
    return story.former_family()


KILLS = [point for point in Point if point is not Point.REPLAY]
CUTS = st.sampled_from([*KILLS, "applied", "not applied"])
FOLLOWING = st.lists(st.sampled_from(["run", "recover", "again", "later", "killed run"]), max_size=4)
RUN_POINTS = st.sampled_from([Point.SENT, Point.KEPT, Point.WRITE, Point.WRITTEN, Point.CONFIRMED])


def cut(story: Story, how: str | Point) -> None:
    if isinstance(how, Point):
        story.cut_by_kill(how)
    else:
        story.cut_by_store(is_applied=how == "applied")


def is_lost_in_the_window(story: Story, how: str | Point) -> bool:
    """The provider acted on a request whose answer never reached the disk."""
    return how is Point.ACTED and story.brought_by == ONBOARDING and story.kind != "acme-never"


@pytest.mark.long
@pytest.mark.parametrize("brought_by", [LOGIN, ONBOARDING])
@settings(max_examples=settings().max_examples * 2 // 5, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_newest_grant_is_in_the_row_or_put_there_by_a_command(
    rows: Rows, brought_by: str, data: st.DataObject
) -> None:
    world = rows.world
    story = Story(rows, data.draw(st.sampled_from(KINDS)), brought_by, f"loc{next(NUMBERS)}")
    before = data.draw(st.sampled_from(["no row", "another grant", "no grant"]), label="before")
    if before != "no row":
        more = {} if before == "another grant" else {"encrypted_refresh": ""}
        expiry = world.clock.now() + timedelta(hours=data.draw(st.integers(0, 1)))
        rows.add(story.kind, story.location, expiry, **more)
        if before == "another grant":
            story.renew()
            story.former = story.cell()
    try:
        how = data.draw(CUTS, label="cut")
        cut(story, how)
        doings: list[Callable[[Story], str | None]] = [lambda _: None, put_another, restore, empty, delete]
        doing = data.draw(st.sampled_from(doings), label="meanwhile")
        theirs = doing(story)
        follow(story, data)
        check(story, how, doing, theirs)
    finally:
        story.clear()


NUMBERS = itertools.count()


def follow(story: Story, data: st.DataObject) -> None:
    for step in data.draw(FOLLOWING, label="following"):
        if step == "killed run":
            story.killed_run(data.draw(RUN_POINTS))
        else:
            getattr(story, step)()


def check(story: Story, how: str | Point, doing: Callable[[Story], str | None], theirs: str | None) -> None:
    for _ in range(2):
        story.later()
        story.run()
    story.recover()
    if is_lost_in_the_window(story, how):
        assert sum(token.replays for token in story.sent()) <= 4
        return
    assert [token for token in story.sent() if token.replays] == [] or story.kind == "acme-never"
    is_over = how is Point.CLEARED and doing in (
        put_another,
        restore,
        empty,
        delete,
    )  # they replaced it when it was there
    if is_over:
        assert story.newest_in_row() in (theirs, story.family)
        return
    if theirs is None and how is not Point.INTENT:
        assert story.is_stored(), story.steps()
    if not story.is_stored():
        assert story.newest_in_row() in (theirs, story.former_family())
        story.later()
        story.again()
        assert story.is_stored(), story.steps()
    waiting = [entry.step for entry in entries(story.world) if entry.location_id == story.location and entry.admission]
    assert waiting == []
