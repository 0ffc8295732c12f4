"""A login that is killed anywhere: the next run stores what it brought, or nothing was granted, or the person is told
to log in again. A run beside it is not held up, nor what an earlier one left."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.clients.login.person import LoggedIn, Person, client_of, logged_in, sent_back, set_up
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, refresh, struck
from tests.refresh.runs.faults_world import Rows, SqliteRows, refuse_answers, spare_files, table_of
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from token_refresh.base.errors import Kind
from token_refresh.clients.admission import Terms
from token_refresh.clients.csv_file import CSV_HEADER
from token_refresh.refresh.run_context import RunContext
from token_refresh.terminal.flags import onboarding_flags, onboarding_parser
from token_refresh.terminal.login import log_in
from token_refresh.wiring import Installation, resume_admission

__all__ = ["logged_in"]

APP = {"Redirect URI": "https://app.example/callback"}


@dataclass(frozen=True)
class Left:
    """What a kill leaves: the journal's step, whether the provider acted, whether the next run has the grant."""

    point: Point
    entry: str
    is_granted: bool
    is_kept: bool


TABLE = (
    Left(Point.INTENT, "", False, False),
    Left(Point.SENT, "sent", False, False),
    Left(Point.ACTED, "sent", True, False),
    Left(Point.KEPT, "answered", True, True),
    Left(Point.WRITE, "answered", True, True),
    Left(Point.WRITTEN, "answered", True, True),
    Left(Point.CONFIRMED, "answered", True, True),
    Left(Point.CLEARED, "", True, True),
)


@dataclass(frozen=True)
class Story:
    """A login: of a new client, of one whose location it names itself, or over the credential of one."""

    name: str
    slug: str
    location: str = "loc"
    is_again: bool = False
    is_by_device: bool = False


NEW, NAMED = Story("new", "google"), Story("named by the answer", "gohighlevel", location="")
AGAIN = Story("again", "gohighlevel", is_again=True)
DEVICE = Story("by device", "google", is_by_device=True)
STORIES = (NEW, NAMED, AGAIN, DEVICE)


class Agreeing(Person):
    """They agree on another device as soon as they read where."""

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith("Or open: "):
            requests.get(text.removeprefix("Or open: "), timeout=10)


def flags(story: Story) -> argparse.Namespace:
    """Of the login."""
    way = ["--device"] if story.is_by_device else ["--no-browser", "--redirect-uri", APP["Redirect URI"]]
    where = [*(["--location", story.location] if story.location else []), "--provider", story.slug]
    return onboarding_flags(onboarding_parser(CSV_HEADER), ["--authorize", *where, *way, "--scope", "email"])


@pytest.fixture(params=["sqlite", "airtable"])
def rows(request: pytest.FixtureRequest) -> Rows:
    """An empty table."""
    made = table_of(request.param, request)
    if made.world.airtable is not None:
        made.world.airtable.requests_per_second = None  # the struck process has a clock of its own
    return made


def prepared(rows: Rows, story: Story) -> str:
    """The provider's login; returns the token that the row holds before, if any."""
    world = rows.world
    set_up(world, story.slug)
    if not story.is_again:
        return ""
    world.add_client(story.slug, client_of(story.slug), f"{story.slug} secret")
    set_up(world, story.slug)
    cells = world.cells(story.slug, "loc") | {"access_token_expiry": world.clock.now()}
    cells["client_id"] = client_of(story.slug)
    cells["encrypted_secret"] = world.seal("loc", "encrypted_secret", f"{story.slug} secret")
    token = world.oauth.grant(story.slug, client_of(story.slug), location_id="loc")
    rows.put(cells | {"encrypted_refresh": world.seal("loc", "encrypted_refresh", token)})
    return token


def login(
    story: Story, act: Callable[[str], str | None] = sent_back, **answers: str
) -> Callable[[RunContext], tuple[Kind, ...]]:
    """What `onboard_client.py --authorize` does."""

    def doing(context: RunContext) -> tuple[Kind, ...]:
        client = {"Client id": client_of(story.slug), "Client secret": f"{story.slug} secret"}
        person = Agreeing([act], {**client, **APP, "loc already": "yes", **answers})
        entry_id = log_in(context, person, flags(story), Terms())
        [entry] = [one for one in context.journal.entries() if one.id == entry_id]
        resume_admission(context, entry)
        return ()

    return doing


@pytest.mark.long
@pytest.mark.parametrize("story", STORIES, ids=lambda one: one.name)
@pytest.mark.parametrize("left", TABLE, ids=lambda one: one.point.name.lower())
def test_a_login_that_is_killed_anywhere_is_stored_by_the_next_run_or_granted_nothing(
    rows: Rows, left: Left, story: Story
) -> None:
    world = rows.world
    before = prepared(rows, story)
    known = len(world.oauth.tokens)
    struck(world, left.point, Fate.KILL, login(story))
    assert [entry["step"] for entry in world.journalled()] == ([left.entry] if left.entry else [])
    assert (len(world.oauth.tokens) > known) == left.is_granted
    asked = len(world.oauth.requests)
    world.clock.advance(1)
    told = world.program.run().err
    assert world.journalled() == []
    if left.is_kept:
        assert rows.is_current("loc")
        assert rows.stored("loc") != before
        assert len(world.oauth.requests) == asked  # the exchange was the proof
        assert "not stored" not in told
    elif before:
        assert world.oauth.tokens[rows.stored("loc")].family == world.oauth.tokens[before].family
    if left.entry == "sent":
        assert "Log in again" in told
    for secret in sent_secrets(world):
        assert secret.encode() not in kept_files(world)


def sent_secrets(world: World) -> list[str]:
    """The codes of logins and devices, and the verifiers."""
    fields = [field for request in world.oauth.requests for field in request.form()]
    sent = [text for name, text in fields if name in ("code", "code_verifier", "device_code")]
    return [*world.oauth._world._codes.codes, *world.oauth._world.devices.codes, *sent]


def kept_files(world: World) -> bytes:
    return b"".join(path.read_bytes() for path in (world.program.home / "state").rglob("*") if path.is_file())


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_while_the_person_is_asked_whether_another_account_may_replace_the_row_replaces_nothing(
    rows: Rows,
) -> None:
    """The yes never came: the grant is kept, and said to be."""
    world = rows.world
    story = Story("named", "gohighlevel", location="")
    before = prepared(rows, AGAIN)

    class Killing(Person):
        def yes(self, question: str) -> bool:
            killed()
            return False

    def doing(context: RunContext) -> tuple[Kind, ...]:
        client = {"Client id": client_of("gohighlevel"), "Client secret": "gohighlevel secret"}
        log_in(context, Killing([sent_back], {**client, **APP}), flags(story), Terms())
        return ()

    # It never comes to the store.
    with pytest.raises(AssertionError, match="never came"):
        struck_by_itself(world, doing)
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    told = world.program.run().err
    assert world.oauth.tokens[rows.stored("loc")].family == world.oauth.tokens[before].family
    assert "a login was not stored: loc has another credential" in told
    assert [entry["step"] for entry in world.journalled()] == ["superseded"]


def struck_by_itself(world: World, doing: Callable[[RunContext], tuple[Kind, ...]]) -> None:
    end = struck(world, Point.CLEARED, Fate.KILL, doing)
    assert end.code != -signal.SIGKILL, "never came: it killed itself"


def test_a_login_that_is_killed_before_its_token_is_traded_stores_none(world: World) -> None:
    """Instagram's code brings a token of an hour, which no run could refresh."""
    story = Story("short-lived", "instagram")
    prepared(SqliteRows(world), story)
    struck(world, Point.KEPT, Fate.KILL, login(story))
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    told = world.program.run().err
    assert "was traded" in told, (told, world.rows(), world.oauth.violations)
    assert "Log in again" in told
    assert (world.rows(), world.journalled()) == ({}, [])


@pytest.mark.parametrize("slug", ["google", "github-oauth-app"])
def test_a_refusal_that_nobody_read_before_the_kill_leaves_nothing(world: World, slug: str) -> None:
    story = Story("refused", slug)
    prepared(SqliteRows(world), story)
    world.oauth.fail(faults.refused("invalid_grant"))
    struck(world, Point.KEPT, Fate.KILL, login(story))
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    told = world.program.run().err
    assert ("did not complete the login" in told, "Log in again" in told) == (True, True)
    assert (world.rows(), world.journalled()) == ({}, [])


def test_a_run_that_refreshes_the_row_while_the_login_waits_costs_the_login_nothing(world: World) -> None:
    """Killed right behind the answer, before anybody looked at the row again."""
    rows = SqliteRows(world)
    before = prepared(rows, AGAIN)

    def run_then_paste(address: str) -> str:
        assert world.program.run().code == 0
        return sent_back(address)

    struck(world, Point.KEPT, Fate.KILL, login(AGAIN, run_then_paste))
    assert rows.stored("loc") != before  # the run's
    assert world.oauth.tokens[rows.stored("loc")].family == world.oauth.tokens[before].family
    world.program.run()
    assert rows.is_current("loc")
    assert world.oauth.tokens[rows.stored("loc")].family != world.oauth.tokens[before].family
    assert world.journalled() == []


def test_a_run_beside_a_login_is_not_held_up_nor_what_an_earlier_one_left(rows: Rows, logged_in: LoggedIn) -> None:
    world = rows.world
    world.program.settings["LOG_LEVEL"] = "INFO"
    rows.add("acme", "other", world.clock.now())
    struck(world, Point.KEPT, Fate.KILL, refresh)
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    set_up(world, "google")
    seen: list[object] = []

    def run_then_paste(address: str) -> str:
        slept = world.clock.slept
        seen.append(world.program.run().code)
        seen.append((world.clock.slept - slept < 5, [entry["location_id"] for entry in world.journalled()]))
        assert rows.is_current("other")
        return sent_back(address)

    result = logged_in("google", run_then_paste, argv=["--redirect-uri", APP["Redirect URI"]])
    assert (result.code, seen) == (0, [0, (True, [])])
    assert rows.is_current("loc")
    assert world.journalled() == []


def test_a_run_between_the_login_and_its_row_does_not_take_it_away(
    logged_in: LoggedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = logged_in.world
    set_up(world, "google")
    lock = Installation.lock
    codes: list[int] = []

    def after_a_run(*given: Any) -> Any:
        if not codes:
            codes.append(0)
            codes.append(world.program.run().code)
        return lock(*given)

    monkeypatch.setattr(Installation, "lock", after_a_run)
    result = logged_in("google", sent_back, argv=["--redirect-uri", APP["Redirect URI"]])
    assert (result.code, codes) == (0, [0, 0])
    assert world.token_of("loc") == world.oauth.current("loc")
    assert world.journalled() == []


def test_an_answer_that_the_journals_disk_refuses_is_kept_beside_it_and_stored_by_the_next_run(
    logged_in: LoggedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = logged_in.world
    set_up(world, "google")
    with monkeypatch.context() as patch:
        refuse_answers(patch)
        result = logged_in("google", sent_back, argv=["--redirect-uri", APP["Redirect URI"]])
    assert (result.code, "the journal cannot be written (disk full). Free disk space." in result.err) == (2, True)
    assert len(spare_files(world)) == 1
    assert world.program.run().code == 0
    assert world.token_of("loc") == world.oauth.current("loc")
    assert (world.journalled(), spare_files(world)) == ([], [])


def test_a_login_whose_table_is_away_behind_the_exchange_is_stored_by_the_next_run(
    airtable_world: World, logged_in: LoggedIn
) -> None:
    world = airtable_world
    assert world.airtable is not None
    airtable = world.airtable
    set_up(world, "google")

    def away_then_paste(address: str) -> str:
        airtable.inject(airtable_faults.status(503), times=None)
        return sent_back(address)

    result = logged_in("google", away_then_paste, argv=["--redirect-uri", APP["Redirect URI"]])
    assert result.code not in (0, 2)
    airtable.faults.clear()
    world.program.run()
    [record] = world.table.find(locationId="loc")
    cell = world.table.cells(record)["encrypted_refresh"]
    assert world.open_refresh("loc", cell) == world.oauth.current("loc")
    assert world.journalled() == []
