"""The end of a credential: dead at its provider, out of the table, and never half of it unnoticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from providers.base import Answer, Verdict
from tests import exits
from tests.callers import Meanwhile, log_in, manager_of, revocable
from tests.commands.test_cli import change_row
from tests.conftest import World
from tests.library.test_manager import claim, host_of, shop_of
from tests.refresh.nothing_lost.struck import Fate, Point, refresh, struck
from tests.refresh.runs.faults_world import STEPS, TABLES, Rows, SqliteRows, table_of
from tests.refresh.runs.test_faults_inside import OtherStore, on, run_context_of
from tests.world.http import Hangup, HTTPServer, Request, Response
from tests.world.oauth import faults
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.clients.removal import Removal
from token_refresh.library import (
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    TokenManager,
)
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Change, Store, StoreUnavailableError, WriteResult, Written


@pytest.fixture(params=["sqlite", "airtable"])
def stored(request: pytest.FixtureRequest, world: World) -> tuple[World, TokenManager]:
    """One login at a provider that can revoke, kept in either store."""
    if request.param == "airtable":
        world = request.getfixturevalue("airtable_world")
    revocable(world)
    manager = manager_of(world)
    log_in(world, manager)
    return world, manager


def cells_of(world: World) -> dict[str, Any]:
    if world.table is not None:
        [record] = world.table.records()
        return dict(record["fields"])
    return world.rows()["loc1"]


def assert_emptied(world: World) -> None:
    cells = cells_of(world)
    for name in ("encrypted_secret", "encrypted_refresh", "last_access_token", "access_token_expiry", "last_error"):
        assert not cells.get(name), name
    assert cells["status"] == "disabled"
    assert cells["client_id"] == "app-acme"


class Revocations:
    """An endpoint at a host of its own that answers what it is told to, in order; the last answer stays."""

    def __init__(self) -> None:
        self.answers: list[Response | Exception] = []
        self.requests: list[Request] = []

    def serve(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def endpoint() -> Iterator[tuple[Revocations, HTTPServer]]:
    made = Revocations()
    with HTTPServer(made.serve) as server:
        yield made, server


@pytest.fixture
def elsewhere(world: World, endpoint: tuple[Revocations, HTTPServer]) -> tuple[World, TokenManager, Revocations]:
    """One login at a provider that revokes at another host."""
    revocations, server = endpoint
    revocable(world, f"{server.url}/revoke")
    manager = manager_of(world)
    log_in(world, manager)
    return world, manager, revocations


# At the provider


def test_a_revoked_grant_is_dead_and_its_row_is_empty(stored: tuple[World, TokenManager]) -> None:
    world, manager = stored
    access, token = world.oauth.current_access("loc1"), world.oauth.current("loc1")
    manager.revoke_tokens(" loc1 ", "acme")
    assert world.oauth.tokens[token].revoked_why == "revoked by its client"
    assert not world.oauth.is_live(access)
    assert_emptied(world)
    assert (world.oauth.violations, world.journalled()) == ([], [])
    view = manager.get("loc1")
    assert (view.has_credential, view.status, view.expires_at) == (False, "disabled", None)
    with pytest.raises(LoginAgainError, match="it has no credential yet"):
        manager.get_valid_access_token("loc1")
    with pytest.raises(NoSuchTokenError, match="it has no credential"):
        manager.revoke_tokens("loc1")
    assert manager.refresh_due().due == 0


def test_a_new_login_brings_a_revoked_row_back_to_life(stored: tuple[World, TokenManager]) -> None:
    world, manager = stored
    manager.revoke_tokens("loc1")
    access = log_in(world, manager)
    assert manager.get_valid_access_token("loc1") == access
    assert manager.get("loc1").status == "active"


def test_a_grant_that_was_dead_already_is_no_error(stored: tuple[World, TokenManager]) -> None:
    world, manager = stored
    world.oauth.revoke("loc1")
    manager.revoke_tokens("loc1")
    assert_emptied(world)


def test_a_row_whose_grant_was_found_dead_can_be_revoked(world: World) -> None:
    revocable(world)
    manager = manager_of(world)
    log_in(world, manager)
    change_row(world, "loc1", status="reauthorize")
    manager.revoke_tokens("loc1")
    assert_emptied(world)


def test_a_provider_that_is_failing_has_left_the_grant_alive(
    elsewhere: tuple[World, TokenManager, Revocations],
) -> None:
    world, manager, revocations = elsewhere
    revocations.answers = [Response(503, b"", {"Retry-After": "3600"})]
    before = world.rows()
    with pytest.raises(
        RetryLaterError, match="loc1 acme: not revoked, so its tokens may still work: HTTP 503"
    ) as caught:
        manager.revoke_tokens("loc1")
    assert "Repeat it later; the row is as it was." in caught.value.action
    assert len(revocations.requests) == 3
    assert world.clock.slept == 2 * 10
    assert world.rows() == {"loc1": before["loc1"] | {"claim_generation": 1}}
    revocations.answers = [Response(503), Response(200)]
    manager.revoke_tokens("loc1")
    assert_emptied(world)
    [form] = {request.body for request in revocations.requests}
    assert parse_qs(form.decode())["token"] == [world.oauth.current("loc1")]


def test_an_answer_that_does_not_come_is_asked_for_again(elsewhere: tuple[World, TokenManager, Revocations]) -> None:
    _, manager, revocations = elsewhere
    revocations.answers = [Hangup()]
    with pytest.raises(RetryLaterError, match="not revoked, so its tokens may still work"):
        manager.revoke_tokens("loc1")
    assert len(revocations.requests) == 3
    assert manager.get("loc1").has_credential


@pytest.mark.parametrize(
    "answer",
    [
        Response.of_json(401, {"error": "invalid_client"}),
        Response.of_json(400, {"error": "unsupported_token_type"}),
        Response(404),
        Response(302, b"", {"Location": "https://elsewhere.example/"}),
    ],
    ids=lambda answer: str(answer.status),
)
def test_a_refusal_is_reported_and_the_row_stays(
    elsewhere: tuple[World, TokenManager, Revocations], answer: Response
) -> None:
    _, manager, revocations = elsewhere
    revocations.answers = [answer]
    with pytest.raises(MisconfiguredError, match=f"not revoked, the provider refuses: HTTP {answer.status}"):
        manager.revoke_tokens("loc1")
    assert len(revocations.requests) == 1
    assert manager.get("loc1").has_credential


def test_what_the_provider_says_is_masked(elsewhere: tuple[World, TokenManager, Revocations]) -> None:
    world, manager, revocations = elsewhere
    token = world.oauth.current("loc1")
    revocations.answers = [Response.of_json(400, {"error": "odd", "error_description": f"no {token}"})]
    with pytest.raises(MisconfiguredError) as caught:
        manager.revoke_tokens("loc1")
    assert token not in str(caught.value)


def test_without_an_endpoint_in_the_catalogue_nothing_is_done(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    with pytest.raises(MisconfiguredError, match="loc1 acme: no revocation endpoint of acme is known") as caught:
        manager.revoke_tokens("loc1")
    assert "the provider's own pages" in caught.value.action
    assert manager.get("loc1").has_credential


def test_a_row_that_does_not_open_is_not_revoked(world: World) -> None:
    revocable(world)
    manager = manager_of(world)
    log_in(world, manager)
    change_row(world, "loc1", encrypted_secret="sealed:v1:broken")
    with pytest.raises(MisconfiguredError, match="loc1 acme: encrypted_secret"):
        manager.revoke_tokens("loc1")


def test_an_access_token_alone_is_not_revoked_from_here_and_stays(world: World) -> None:
    world.program.settings["ACME_CLIENT_ID"] = "app-acme"
    revocable(world)
    manager = manager_of(world)
    manager.store_tokens("gh", "acme", access_token="gho_an-access-token")
    with pytest.raises(NoSuchTokenError, match="gh acme: it has only an access token") as caught:
        manager.revoke_tokens("gh")
    assert "the provider's own pages" in caught.value.action
    assert manager.get_valid_access_token("gh") == "gho_an-access-token"
    assert world.oauth.requests == []


@pytest.fixture
def access_alone(world: World) -> TokenManager:
    """An access token alone, of a provider that revokes access tokens, and a client secret in the settings."""
    revocable(world)
    own = Path(world.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]\n", '[acme]\nrevoke_token = "access"\n'))
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    manager = manager_of(world)
    world.oauth.grant("acme", "app-acme", location_id="gh")
    manager.store_tokens("gh", "acme", access_token=world.oauth.current_access("gh"))
    return manager


def test_an_access_token_alone_is_revoked_where_the_provider_takes_it(world: World, access_alone: TokenManager) -> None:
    token = world.oauth.current_access("gh")
    access_alone.revoke_tokens("gh", "acme")
    assert not world.oauth.is_live(token)
    assert (access_alone.get("gh").has_credential, access_alone.get("gh").status) == (False, "disabled")
    assert world.oauth.violations == []


def test_an_access_token_alone_stays_where_its_client_does_not_open(world: World, access_alone: TokenManager) -> None:
    change_row(world, "gh", encrypted_secret="sealed:v1:broken")
    with pytest.raises(MisconfiguredError, match="gh acme: encrypted_secret"):
        access_alone.revoke_tokens("gh", "acme")
    assert access_alone.get("gh").has_credential
    assert world.oauth.requests == []


# Out of the table


def test_deleted_tokens_are_out_of_the_table_and_the_provider_is_not_asked(
    stored: tuple[World, TokenManager],
) -> None:
    world, manager = stored
    access = world.oauth.current_access("loc1")
    manager.delete_tokens("loc1")
    assert_emptied(world)
    assert world.oauth.is_live(access)
    assert len(world.oauth.requests) == 0
    manager.delete_tokens("loc1")  # safe to repeat


def test_a_row_that_no_run_takes_is_emptied_all_the_same(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    change_row(world, "loc1", is_active=0)
    manager.delete_tokens("loc1")
    assert_emptied(world)


def test_only_the_named_provider_of_a_location_is_touched(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    log_in(world, manager, provider="google")
    manager.delete_tokens("loc1", "google")
    assert {view.provider: view.has_credential for view in manager.list_tokens()} == {"acme": True, "google": False}
    claimed = [row["claim_owner"] for row in world.rows().values()]
    assert claimed == [None]


# Others at the same row


def test_who_is_refreshing_the_row_is_waited_for_and_the_newest_token_revoked(world: World) -> None:
    revocable(world)
    log_in(world, manager_of(world))
    world.clock.advance(3700)
    claim(world, f"{host_of(world)}/9/other")

    def finish() -> None:
        claim(world, None)
        manager_of(world).get_valid_access_token("loc1")

    manager_of(world, Meanwhile(world.clock, finish)).revoke_tokens("loc1")
    assert all(not world.oauth.is_live(token) for token in world.oauth.access_tokens)
    assert_emptied(world)


@pytest.mark.parametrize(
    "cells",
    [{"status": "active"}, {"status": "reauthorize"}, {"provider": "A.C.M.E."}],
    ids=["active", "reauthorize", "in another spelling"],
)
def test_who_is_refreshing_the_row_is_waited_for_only_so_long(world: World, cells: dict[str, str]) -> None:
    """A row whose grant was found dead is tried once a day; and one may spell its provider in any way."""
    manager = manager_of(world)
    log_in(world, manager)
    change_row(world, "loc1", **cells)
    claim(world, "another-host/1/run")
    with pytest.raises(RetryLaterError, match="loc1 acme: another-host claimed it and has not finished") as caught:
        manager.delete_tokens("loc1")
    assert "refresh --takeover" in caught.value.action
    assert manager.get("loc1").has_credential


def test_tokens_that_an_earlier_run_left_are_stored_first(world: World) -> None:
    """The token in the row is spent by then: revoked, it would leave its successor alive."""
    revocable(world)
    manager = manager_of(world)
    log_in(world, manager)
    world.clock.advance(3700)
    with pytest.raises(RetryLaterError):
        deaf(world, manager, lambda _: Written.UNDONE).get_valid_access_token("loc1")
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    newest = world.oauth.current("loc1")
    manager.revoke_tokens("loc1")
    assert dict(world.oauth._http.requests[-1].form())["token"] == newest
    assert all(not world.oauth.is_live(token) for token in world.oauth.access_tokens)
    assert (world.journalled(), len(world.oauth.replayed())) == ([], 0)


def test_while_what_an_earlier_run_left_cannot_be_stored_nothing_is_revoked(world: World) -> None:
    revocable(world)
    manager = manager_of(world)
    log_in(world, manager)
    world.clock.advance(3700)
    with pytest.raises(RetryLaterError):
        deaf(world, manager, lambda _: Written.UNDONE).get_valid_access_token("loc1")
    with pytest.raises(RetryLaterError, match="the store is away"):
        deaf(world, manager, lambda _: Written.UNDONE).revoke_tokens("loc1")
    cell = world.rows()["loc1"]["encrypted_secret"]
    change_row(world, "loc1", encrypted_secret="sealed:v1:broken")
    with pytest.raises(RetryLaterError, match="newer tokens of it wait in the journal"):
        manager.revoke_tokens("loc1")
    change_row(world, "loc1", encrypted_secret=cell)
    manager.revoke_tokens("loc1")
    assert all(not world.oauth.is_live(token) for token in world.oauth.access_tokens)


def test_a_lost_answer_of_a_row_that_is_emptied_concerns_nobody_any_more(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    world.clock.advance(3700)
    world.oauth.fail(faults.reset(), times=100)
    with pytest.raises(RetryLaterError):
        manager.get_valid_access_token("loc1")
    assert [entry["step"] for entry in world.journalled()] == ["lost"]
    manager.delete_tokens("loc1")
    assert world.journalled() == []


def deaf(world: World, manager: TokenManager, verdict: Callable[[int], Written]) -> TokenManager:
    """A manager whose store answers writes so and does nothing."""
    runtime = shop_of(world)

    @contextmanager
    def run_context_around(store: Any) -> Iterator[Any]:
        def write(changes: list[Any]) -> list[WriteResult]:
            written = verdict(len(changes))
            error = StoreUnavailableError("the store is away", "Wait.") if written is Written.UNDONE else None
            return [WriteResult(written, error) for _ in changes]

        store.store.write = write
        with runtime.run_context_around(store) as context:
            yield context

    return TokenManager(runtime._replace(run_context_around=run_context_around))


@pytest.mark.parametrize(
    ("written", "why"), [(Written.UNDONE, "the store is away"), (Written.CHANGED, "somebody changed the row meanwhile")]
)
def test_a_row_that_cannot_be_emptied_after_its_grant_is_dead_is_reported(
    world: World, written: Written, why: str
) -> None:
    revocable(world)
    manager = manager_of(world)
    log_in(world, manager)
    with pytest.raises(RetryLaterError, match=f"is revoked at its provider, but its row could not be emptied: {why}"):
        deaf(world, manager, lambda _: written).revoke_tokens("loc1")
    with pytest.raises(RetryLaterError, match="loc1 acme was not deleted"):
        deaf(world, manager, lambda _: written).delete_tokens("loc1")
    manager.revoke_tokens("loc1")
    assert_emptied(world)


class ChangedStore(OtherStore):
    """Somebody changes a row just before it is written."""

    def __init__(self, usual: Store, happens: Callable[[], None]) -> None:
        super().__init__(usual)
        self._happens = happens

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        self._happens()
        return self.usual.write(changes)


@pytest.mark.parametrize("verb", ["disable", "enable"])
def test_a_client_that_somebody_changes_meanwhile_keeps_its_status_and_theirs(world: World, verb: str) -> None:
    rows = SqliteRows(world)
    status = {"disable": "active", "enable": "disabled"}[verb]
    rows.add("acme", "loc1", status=status)
    before = rows.row("loc1").encrypted_refresh
    with run_context_of(rows) as context:
        changed = on(context, ChangedStore(context.store.store, lambda: put_another(rows)))
        with pytest.raises(RetryLaterError, match="loc1 acme: somebody changed the row meanwhile; theirs stays"):
            getattr(Removal(changed, lambda _: None, 0.0), verb)("loc1", None)
    assert rows.row("loc1").status == status
    assert rows.row("loc1").encrypted_refresh != before


# What the journal holds of it, at any step


def unreadable() -> faults.Fault:
    return faults.acted_then(faults.raw(b'{"oauth_token": "in a form that nobody knows"}'))


def without_access_token() -> faults.Fault:
    return faults.amended(lambda content: json.dumps({"refresh_token": content["refresh_token"]}).encode())


def put_another(rows: Rows) -> None:
    """Somebody's own grant."""
    rows.edit("loc1", encrypted_refresh=rows.world.cells("acme", "loc1")["encrypted_refresh"])


class Left:
    """Leaves an entry at a step behind, of a refresh or of a credential on its way."""

    def __init__(self, rows: Rows, by: str) -> None:
        self.rows, self.world, self.by = rows, rows.world, by
        if by != "refresh":
            self.entered = NewCredential(*self.world.csv_line("acme", "loc1"))
        self.login = Answer(Verdict.GRANTED, received_at=self.world.clock.now())

    def kill(self, point: Point) -> None:
        struck(self.world, point, Fate.KILL, refresh if self.by == "refresh" else self.bring)

    def bring(self, context: RunContext) -> tuple[()]:
        Admission(context).admit(self.entered, Terms(replace=True), self.login if self.by == "login" else None)
        return ()

    def act(self) -> None:
        if self.by == "refresh":
            self.world.program.run()
        else:
            fields = ("location_id", "provider", "client_id", "client_secret", "refresh_token")
            line = [getattr(self.entered, name) for name in fields]
            self.world.program.onboard("--from-csv", self.world.program.csv(line), "--replace")

    def sent(self) -> None:
        self.kill(Point.SENT)

    def answered(self) -> None:
        self.kill(Point.KEPT)

    def lost(self) -> None:
        self.world.oauth.fail(faults.reset(), times=2)
        self.act()

    def superseded(self) -> None:
        self.kill(Point.KEPT)
        put_another(self.rows)
        self.world.program.run()

    def unread(self) -> None:
        self.world.oauth.fail(unreadable())
        self.act()

    def unproven(self) -> None:
        self.world.oauth.fail(without_access_token())
        self.world.oauth.fail(faults.too_many_requests(3600), times=9)
        self.act()
        self.world.oauth.behave()


STEPS_LEFT = [
    *(("refresh", step) for step in STEPS),
    *(("onboarding", step) for step in STEPS),
    *(("login", step) for step in ("answered", "superseded")),
]


@pytest.mark.parametrize("store", TABLES)
@pytest.mark.parametrize(("by", "step"), STEPS_LEFT)
@pytest.mark.by_turns("store", "by")
def test_nothing_in_the_journal_brings_back_what_was_revoked(
    store: str, by: str, step: str, request: pytest.FixtureRequest
) -> None:
    rows = table_of(store, request)
    world = rows.world
    revocable(world)
    if world.airtable is not None:
        world.airtable.requests_per_second = None
    rows.add("acme", "loc1", world.clock.now())
    getattr(Left(rows, by), step)()
    assert [entry["step"] for entry in world.journalled()] == [step]
    revoked = world.program.run("revoke", "loc1", "--yes")
    if step == "sent" or (step, by) == ("lost", "onboarding"):
        assert revoked.code == exits.FAILED, revoked.said
        assert "on its way; nothing was changed" in revoked.err
        assert rows.row("loc1").encrypted_refresh
        world.clock.advance(100)
        revoked = world.program.run("revoke", "loc1", "--yes")
    assert revoked.code == exits.DONE, revoked.said
    assert world.journalled() == []
    if step != "superseded" and (step, by) != ("unread", "onboarding"):  # whose grant is another than the row's
        assert world.oauth.family("loc1").revoked_at is not None
    for command in ((), ("recover", "--replay"), ()):
        world.clock.advance(100)
        world.program.run(*command)
        row = rows.row("loc1")
        assert (row.encrypted_refresh, row.last_access_token, row.status) == ("", "", "disabled")


@pytest.mark.parametrize(("by", "step"), [("onboarding", "sent"), ("onboarding", "answered"), ("login", "answered")])
def test_a_client_that_is_on_its_way_into_the_table_can_be_revoked(world: World, by: str, step: str) -> None:
    """It has no row yet; one that the next run makes would hold a grant that lives."""
    revocable(world)
    rows = SqliteRows(world)
    world.program.run("recover")
    getattr(Left(rows, by), step)()
    assert world.rows() == {}
    revoked = world.program.run("revoke", "loc1", "--yes")
    if step == "sent":
        assert (revoked.code, "its onboarding is on its way" in revoked.err) == (exits.FAILED, True)
        world.clock.advance(100)
        revoked = world.program.run("revoke", "loc1", "--yes")
    assert revoked.code == exits.DONE, revoked.said
    assert world.oauth.family("loc1").revoked_at is not None
    assert_emptied(world)
    assert world.journalled() == []


def test_what_was_superseded_is_forgotten_also_where_the_row_is_empty_already(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc1", world.clock.now())
    Left(rows, "onboarding").superseded()
    rows.edit("loc1", encrypted_refresh="", last_access_token="")
    with pytest.raises(NoSuchTokenError, match="it has no credential"):
        manager_of(world).revoke_tokens("loc1")
    assert world.journalled() == []
