"""WEBHOOK_URL: events that the reference library verifies; what is not accepted comes later, id and body unchanged."""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.conftest import World
from tests.world.clock import FakeClock
from tests.world.http import HTTPServer, Request, Response
from tests.world.oauth import faults
from token_refresh.base.events import Outcome, RowFinished, RunFinished
from token_refresh.notifiers import watch, webhook
from token_refresh.notifiers.ledger import locked, transact_in
from token_refresh.notifiers.summary import Code, Item, RunSummary

standardwebhooks = pytest.importorskip("standardwebhooks")

DAY = 86_400


@pytest.fixture
def clock() -> FakeClock:
    """The reference library looks at the machine's own."""
    return FakeClock(datetime.now(UTC).replace(microsecond=0))


def secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Receiver:
    """Verifies what comes, and accepts it while it is up."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.status = 204
        self.events: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.times: list[int] = []

    def __call__(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/json"
        self.times.append(int(request.headers["webhook-timestamp"]))
        # The library does not verify what is older than five minutes by the machine's clock, which a test moves on.
        now = {**request.headers, "webhook-timestamp": str(self.times[-1])}
        verified = standardwebhooks.Webhook(self.key)
        expected = verified.sign(now["webhook-id"], datetime.fromtimestamp(self.times[-1], UTC), request.body.decode())
        assert expected in now["webhook-signature"].split(" ")
        if abs(datetime.now(UTC).timestamp() - self.times[-1]) < 200:
            verified.verify(request.body, now)
        self.ids.append(request.headers["webhook-id"])
        self.events.append(request.json())
        return Response(self.status)

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver(secret())


@pytest.fixture
def hooked(world: World, receiver: Receiver) -> Iterator[World]:
    with HTTPServer(receiver) as server:
        world.program.settings |= {
            "WEBHOOK_URL": f"{server.url}/hook?key=of-the-receiver",
            "WEBHOOK_SECRET": receiver.key,
        }
        yield world


def test_a_run_is_one_event_and_what_it_refreshed_comes_only_where_it_is_asked_for(
    hooked: World, receiver: Receiver
) -> None:
    hooked.program.onboard("--no-check", "--from-csv", hooked.program.csv(hooked.csv_line("acme", "loc-1")))
    assert hooked.program.run().code == 0
    [event] = receiver.events
    assert (event["type"], event["data"]["counts"], event["data"]["exit_code"]) == ("run.finished", {"refreshed": 1}, 0)
    assert event["data"]["run_id"]
    assert datetime.fromisoformat(event["timestamp"]) == hooked.clock.now()
    hooked.program.settings["WEBHOOK_EVENTS"] = "token.refreshed"
    hooked.clock.advance(3600)
    assert hooked.program.run().code == 0
    data = receiver.events[1]["data"]
    hooked.clock.advance(3600)
    hooked.oauth.fail(faults.refused("invalid_scope"))
    assert hooked.program.run().code == 1
    assert receiver.types()[1:] == ["token.refreshed"]
    assert list(data) == ["location_id", "provider", "outcome", "error", "action", "expires_at"]
    assert (data["location_id"], data["provider"], data["outcome"], data["error"]) == (
        "loc-1",
        "acme",
        "refreshed",
        None,
    )


def test_while_secrets_are_changed_both_sign(hooked: World, receiver: Receiver) -> None:
    hooked.program.settings["WEBHOOK_SECRET"] = f"{secret()} {receiver.key}"
    result = hooked.program.run()
    assert (result.code, receiver.types()) == (0, ["run.finished"])
    assert "WEBHOOK" not in result.said


def test_what_was_not_accepted_comes_with_the_next_run_as_it_was_with_a_new_signature(
    hooked: World, receiver: Receiver
) -> None:
    receiver.status = 503
    result = hooked.program.run()
    assert result.code == 0
    assert result.err.count("WEBHOOK_URL: 1 event waits for the next run (it answered HTTP 503)") == 1
    assert "of-the-receiver" not in result.said
    receiver.status = 204
    hooked.clock.advance(600)
    assert hooked.program.run().code == 0
    [first, _, again] = receiver.ids
    assert first == again
    assert receiver.events[0] == receiver.events[2] != receiver.events[1]
    assert receiver.times[2] - receiver.times[0] == 600
    assert hooked.program.run().code == 0
    assert len(receiver.ids) == 4


def test_one_event_that_is_refused_for_ever_keeps_no_other_back(hooked: World, receiver: Receiver) -> None:
    receiver.status = 400
    hooked.program.run()
    poison = receiver.ids[0]
    receiver.status = 204
    refuse_poison(receiver, poison)
    assert [hooked.program.run().code for _ in range(3)] == [0, 0, 0]
    assert len(set(receiver.ids)) == 4


def refuse_poison(receiver: Receiver, poison: str) -> None:
    accept = type(receiver).__call__

    class Refusing(Receiver):
        def __call__(self, request: Request) -> Response:
            accept(self, request)
            return Response(400 if request.headers["webhook-id"] == poison else 204)

    receiver.__class__ = Refusing


def test_a_receiver_that_is_down_is_asked_three_times_a_run(hooked: World, receiver: Receiver) -> None:
    receiver.status = 500
    for _ in range(5):
        hooked.program.run()
    before = len(receiver.ids)
    hooked.program.run()
    assert len(receiver.ids) - before == 3


def test_a_run_that_ends_while_another_process_sends_news_is_an_event_all_the_same(
    hooked: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooked.program.run()
    [lock] = (hooked.program.home / "state").glob("news-*.lock")
    monkeypatch.setattr(watch, "ALL_SECONDS", 1.4)
    with locked(lock, 1):
        result = hooked.program.run()
    assert (result.code, receiver.types()) == (0, ["run.finished"] * 2)


def test_what_nobody_accepts_for_three_days_is_dropped_and_that_is_said(hooked: World, receiver: Receiver) -> None:
    receiver.status = 500
    hooked.program.run()
    hooked.clock.advance(3 * DAY + 60)
    result = hooked.program.run()
    assert (
        "WEBHOOK_URL: 1 event waits for the next run (it answered HTTP 500); dropped, too old or too many: 1"
        in result.err
    )
    assert outbox(hooked) == 1


def test_a_file_that_is_damaged_is_said_once_and_made_again(hooked: World, receiver: Receiver) -> None:
    hooked.program.run()
    [file] = (hooked.program.home / "state").glob("webhooks-*.sqlite3")
    file.write_bytes(b"x" * 10_000)
    result = hooked.program.run()
    assert result.code == 0
    assert result.err.count("cannot be read any more; it was moved to ") == 1
    assert "WEBHOOK_URL" not in hooked.program.run().said
    assert receiver.types() == ["run.finished"] * 3


def test_a_full_disk_is_said(hooked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(webhook, "keep", refuse)
    result = hooked.program.run()
    assert result.code == 0
    assert "cannot be written (database or disk is full). Free disk space" in result.err


def outbox(world: World) -> int:
    [file] = (world.program.home / "state").glob("webhooks-*.sqlite3")
    assert file.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(file)) as database:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])


def test_ten_thousand_are_kept_and_no_more(tmp_path: Any, clock: FakeClock) -> None:
    from token_refresh.notifiers.webhook import MOST_KEPT, SCHEMA, keep

    now, outbox = clock.now(), transact_in(tmp_path / "outbox", SCHEMA, lambda what, _: pytest.fail(what))
    events: list[Any] = [
        ("run.finished", now + timedelta(seconds=number), {}, f"msg_{number}") for number in range(MOST_KEPT + 5)
    ]
    dropped, waiting = outbox(partial(keep, events, now))
    assert (dropped, len(waiting), waiting[0][0]) == (5, MOST_KEPT, "msg_5")
    assert outbox(partial(keep, events[-1:], now))[0] == 0


def summary_of(clock: FakeClock, *results: RowFinished) -> RunSummary:
    run = RunFinished("run-1", clock.now(), finished_at=clock.now(), results=list(results))
    return RunSummary(run, is_scheduled=True, interval=3600, exit_code=1)


def test_each_kind_of_news_of_a_row_has_its_type_and_the_names_of_the_report(clock: FakeClock) -> None:
    from token_refresh.notifiers.webhook import events_of

    codes = (Code.FAILING, Code.UNREADABLE_CELL, Code.NEEDS_FIXING, Code.LOGIN_NEEDED, Code.ENDING, Code.RECOVERED)
    items = [Item(code, "what", "Do.", f"loc-{code}", "acme", since="2026-11-28T10:00:00.000Z") for code in codes]
    events = list(events_of(items, summary_of(clock)))
    assert [(kind, data.get("location_id"), data.get("outcome")) for kind, _, data, _ in events] == [
        ("token.failed", "loc-failing", "transient"),
        ("token.failed", "loc-unreadable_cell", "operator"),
        ("token.failed", "loc-needs_fixing", "operator"),
        ("token.login_needed", "loc-login_needed", "reauthorize"),
        ("token.ending", "loc-ending", None),
        ("token.recovered", "loc-recovered", "refreshed"),
        ("run.finished", None, None),
    ]
    assert [data.get("error") for _, _, data, _ in events] == ["what"] * 5 + [None, None]
    assert json.dumps([data for _, _, data, _ in events])


def test_the_digest_and_what_is_of_no_row_are_no_events(clock: FakeClock) -> None:
    from token_refresh.notifiers.webhook import events_of

    items = [Item(Code.FAILING, "what", "", "loc", "acme", is_lasting=True), Item(Code.STORE, "away")]
    assert [kind for kind, *_ in events_of(items, summary_of(clock))] == ["run.finished"]


def test_one_event_has_one_id_and_two_have_two(clock: FakeClock) -> None:
    from token_refresh.notifiers.webhook import events_of

    def ids(*items: Item) -> set[str]:
        results = [RowFinished(name, "acme", Outcome.REFRESHED) for name in "ab"]
        return {name for _, _, _, name in events_of(items, summary_of(clock, *results))}

    begun = Item(Code.ENDING, "what", "", "loc", "acme", since="2026-11-28T10:00:00.000Z")
    again = Item(Code.ENDING, "what", "", "loc", "acme", since="2027-11-28T10:00:00.000Z")
    worse = Item(Code.ENDING, "other words", "", "loc", "acme", since="2026-11-28T10:00:00.000Z", step=2)
    assert ids(begun) == ids(Item(**{**begun.__dict__, "message": "other words"}))
    assert len(ids(begun, again, worse)) == 3 + 2 + 1


def test_redirects_are_not_followed(hooked: World) -> None:
    with HTTPServer(lambda _: Response(204)) as other:
        moved = HTTPServer(lambda _: Response(307, headers={"Location": other.url}))
        with moved:
            hooked.program.settings["WEBHOOK_URL"] = moved.url
            result = hooked.program.run()
    assert other.requests == []
    assert "it answered HTTP 307" in result.err


def test_without_the_library_one_warning_says_how_to_install_it(hooked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from token_refresh.notifiers import messages

    monkeypatch.setattr(messages, "find_spec", lambda _: None)
    result = hooked.program.run()
    assert result.code == 0
    assert result.err.count("WEBHOOK_URL: the package standardwebhooks is missing. Run: ") == 1
