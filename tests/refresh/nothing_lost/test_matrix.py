"""Every fault at every point of a refresh, for every kind of provider and store: what is left, and what becomes of it.

The oracle: after at most three more runs the row holds the one refresh token that its provider accepts. Where that
cannot be, because the provider had acted and its answer was not yet on the disk, the loss is told as one, with its
date; and never is a token sent again that must not be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows, spare_files
from tests.world.clock import FakeClock
from tests.world.oauth import DIALECTS, OAuthServer
from tests.world.program import Result

KINDS = ("acme-never", "acme", "acme-family", "acme-grace", "acme-until-used")
STORES = ("airtable", "sqlite")
LOSING = ("acme", "acme-family")  # have neither a grace nor tokens that last
KILL, RAISE, FULL, READ_ONLY, IO_ERROR = Fate
GRACE_SECONDS = 1800.0  # Xero's; one shorter than the wait after a kill is none

ANEW = "refreshes the row as if nothing had been"
AGAIN = "sends the token again, where and when its provider's replay rule allows"
STORES_IT = "stores the answer and asks nobody"
FORGETS = "finds the token stored, forgets the entry and asks nobody"
LATER = "leaves the entry until the row is due, then forgets it and refreshes the row"
NOTHING = "has nothing to do"
RECOVER = "stores the answer that was printed, sealed, once `recover` has it"


@dataclass(frozen=True)
class Left:
    """What a fault leaves.

    Attributes:
        entry: the step of the journal's entry; empty where there is none.
        asked: the provider has acted on the request.
        stored: the row holds the new tokens.
        next: what the next run does.
    """

    fates: tuple[Fate, ...]
    point: Point
    entry: str
    asked: bool
    stored: bool
    next: str
    stores: tuple[str, ...] = STORES


# The one table. A first line: faults, point; then what lies in the journal, at the provider, in the store.
REFRESH = (
    Left(tuple(Fate), Point.INTENT, "", False, False, ANEW),
    Left((KILL, RAISE), Point.SENT, "sent", False, False, AGAIN),
    Left((KILL,), Point.ACTED, "sent", True, False, AGAIN),  # the window that nobody can close
    Left((RAISE, FULL), Point.ACTED, "", True, True, NOTHING),  # written a second time; the ballast made room
    Left((READ_ONLY,), Point.ACTED, "sent", True, True, LATER),  # straight to the store
    Left((IO_ERROR,), Point.ACTED, "sent", True, True, LATER, ("airtable",)),
    Left((IO_ERROR,), Point.ACTED, "sent", True, False, RECOVER, ("sqlite",)),  # journal and store share the disk
    Left((KILL,), Point.KEPT, "answered", True, False, STORES_IT),
    Left((RAISE,), Point.KEPT, "", True, True, NOTHING),
    Left((KILL, RAISE), Point.WRITE, "answered", True, False, STORES_IT),
    Left((READ_ONLY, IO_ERROR), Point.WRITE, "answered", True, False, STORES_IT, ("sqlite",)),
    Left((KILL, RAISE), Point.WRITTEN, "answered", True, True, FORGETS),
    Left(tuple(Fate), Point.CONFIRMED, "answered", True, True, FORGETS),
    Left((KILL, RAISE), Point.CLEARED, "", True, True, NOTHING),
)
# The next run after a kill at KEPT is struck itself: the answer is in the journal and nobody is asked any more.
REPLAY = (
    Left((KILL, RAISE), Point.REPLAY, "answered", True, False, STORES_IT),
    Left((KILL, RAISE), Point.WRITE, "answered", True, False, STORES_IT),
    Left((READ_ONLY, IO_ERROR), Point.WRITE, "answered", True, False, STORES_IT, ("sqlite",)),
    Left((KILL, RAISE), Point.WRITTEN, "answered", True, True, FORGETS),
    Left(tuple(Fate), Point.CONFIRMED, "answered", True, True, FORGETS),
    Left((KILL, RAISE), Point.CLEARED, "", True, True, NOTHING),
)
# The run that sends the token again after a kill at ACTED is killed itself.
RESEND = (Point.REPLAY, Point.INTENT, Point.SENT, Point.ACTED, Point.KEPT, Point.WRITE, Point.WRITTEN, Point.CONFIRMED)


def cases(table: tuple[Left, ...]) -> list[Any]:
    """Every fault of a table at every store."""
    return [
        pytest.param(store, fate, left, id=f"{fate.name}-{left.point.name}-{store}".lower())
        for left in table
        for fate in left.fates
        for store in left.stores
    ]


@pytest.fixture
def oauth(clock: FakeClock) -> Iterator[OAuthServer]:
    """Providers, of which one has a grace that is worth the name."""
    dialects = [replace(one, grace_seconds=GRACE_SECONDS) if one.grace_seconds else one for one in DIALECTS]
    with OAuthServer(dialects, clock=clock.timestamp) as server:
        yield server


@pytest.fixture
def rows(request: pytest.FixtureRequest, store: str, kind: str) -> Rows:
    """One row that is due and not yet in its last minute: runs come every five minutes."""
    rows: Rows
    if store == "sqlite":
        rows = SqliteRows(request.getfixturevalue("world"))
    else:
        rows = AirtableRows(request.getfixturevalue("airtable_world"))
        assert rows.world.airtable is not None
        rows.world.airtable.requests_per_second = None  # the struck process has a clock of its own
    rows.world.program.settings |= {"REFRESH_INTERVAL": "300", "CONCURRENCY": "1"}
    rows.add(kind, "loc", rows.world.clock.now() + timedelta(seconds=1000))
    return rows


class Story:
    """One row's way through a fault and the runs after it."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.world = rows.world
        self.first = rows.stored("loc")
        self.asked = 0

    def requests(self) -> int:
        """How often the provider was asked since the last look."""
        before, self.asked = self.asked, len(self.world.oauth.requests)
        return self.asked - before

    def assert_left(self, left: Left) -> None:
        """Journal, provider and store are as the table says."""
        steps = [entry["step"] for entry in self.world.journalled()]
        assert steps == ([left.entry] if left.entry else [])
        assert self.requests() == left.asked
        has_cell_of_grant = self.rows.row("loc").last_access_token != ""
        assert has_cell_of_grant is left.stored
        assert spare_files(self.world) == []  # what went there is gone once the store has the tokens

    def later(self, seconds: float) -> Result:
        """The next run, so many seconds on."""
        self.world.clock.advance(seconds)
        return self.world.program.run("--json")

    def is_good(self) -> bool:
        """Whether the row holds the provider's token, nothing waits and nobody has to log in."""
        row = self.rows.row("loc")
        try:
            is_current = self.rows.is_current("loc")
        except LookupError:
            return False
        return (
            is_current and row.last_access_token != "" and row.status in ("", "active") and not self.world.journalled()
        )

    def times_sent(self) -> int:
        """How often the first token was sent."""
        return self.world.oauth.tokens[self.first].times_sent

    def assert_reported_as_lost(self) -> None:
        """Provider committed, answer not durable, no grace: told as what it is."""
        row = self.rows.row("loc")
        assert row.status == "reauthorize"
        assert row.last_error.startswith("the answer was lost on 2026-03-01 12:"), row.last_error
        assert self.rows.stored("loc") == self.first  # the cell stays: a backup may know more
        assert [entry["step"] for entry in self.world.journalled()] == ["lost"]  # remembered until a login


@pytest.mark.by_turns("fate", "kind", "store")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("store", "fate", "left"), cases(REFRESH))
def test_a_refresh_that_is_struck_anywhere_loses_nothing(rows: Rows, store: str, kind: str, fate: Fate, left: Left):
    story = Story(rows)
    end = struck(rows.world, left.point, fate)
    story.assert_left(left)
    if left.next is RECOVER:
        recover(story, end.said)
    follow(story, kind, left)


def follow(story: Story, kind: str, left: Left) -> None:
    """The runs after a fault, and what they come to."""
    if left.next is AGAIN:
        follow_resend(story, kind, is_lost=left.asked)
        return
    story.later(2500 if left.next is LATER else 1)
    assert story.requests() == (left.next in (ANEW, LATER))
    assert story.is_good()
    assert story.times_sent() == 1 or kind == "acme-never"  # whose token stays the same
    for _ in range(2):  # and so it stays
        assert story.later(100).json()["results"] == []
    assert story.requests() == 0


def follow_resend(story: Story, kind: str, *, is_lost: bool) -> None:
    """A request left and its end is not known: what each kind of provider allows."""
    early = story.later(1)
    if kind != "acme-never":
        assert "may still be on its way" in early.err
        assert story.requests() == 0
        story.later(100)
    if kind == "acme-family":  # replay would end the access token, too, which still lives
        assert story.requests() == 0
        story.later(500)
    assert story.requests() == 1
    assert story.times_sent() == 1 + is_lost
    if is_lost and kind in LOSING:
        story.assert_reported_as_lost()
    else:
        assert story.is_good()


def recover(story: Story, said: str) -> None:
    """Give the printed answer back."""
    lines = {line for line in said.splitlines() if "recover --cell -" in line}
    [line] = lines  # the same on stdout and on stderr
    file = story.world.program.home / "answer"
    file.write_text(line)
    result = story.world.program.run("recover", "--cell", str(file))
    assert result.code == 0, result.err


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("store", "fate", "left"), cases(REPLAY))
def test_a_replay_that_is_struck_anywhere_loses_nothing(rows: Rows, store: str, kind: str, fate: Fate, left: Left):
    story = Story(rows)
    struck(rows.world, Point.KEPT, Fate.KILL)
    assert story.requests() == 1
    struck(rows.world, left.point, fate)
    story.assert_left(replace(left, asked=False))
    follow(story, kind, left)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("point", RESEND, ids=lambda point: point.name.lower())
def test_a_resend_that_is_killed_anywhere_loses_no_more_and_the_loss_is_still_reported(
    rows: Rows, store: str, kind: str, point: Point
):
    story = Story(rows)
    struck(rows.world, Point.ACTED, Fate.KILL)
    rows.world.clock.advance(601)
    struck(rows.world, point, Fate.KILL)
    story.later(100)
    if kind in LOSING:
        story.assert_reported_as_lost()
    else:
        assert story.is_good()
    assert story.times_sent() <= 3
