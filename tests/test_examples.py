"""The examples, each run as a user runs it, against strict fakes of the APIs that they call."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from examples.api import ATTEMPTS, Api, ApiError
from tests.conftest import World, providers_file
from tests.test_docs import blocks
from tests.transfer.sources import own_gitlab, point_at
from tests.world.apis import BUSINESS, GITLAB, GRAPH, ApiServer
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer
from tests.world.program import ROOT, Program, Result

pytestmark = pytest.mark.long


CALLBACK = "https://app.example/callback"
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem not in ("__init__", "api"))


@dataclass
class Stage:
    """A program with a client at each of the three providers, and the APIs; its processes live in real time."""

    program: Program
    oauth: OAuthServer
    apis: ApiServer

    def run(self, example: str, *argv: str, **environment: str) -> Result:
        """`python -m examples.NAME …` from the program's folder."""
        addresses = {
            "GRAPH_URL": self.apis.url(GRAPH),
            "BUSINESS_PROFILE_URL": self.apis.url(BUSINESS),
            "GITLAB_URL": self.apis.url(GITLAB).removesuffix("/api/v4"),
        }
        folder = self.program.install()
        shutil.copytree(ROOT / "examples", folder / "examples", dirs_exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", f"examples.{example}", *argv],
            cwd=folder,
            env=self.program.environment(addresses | environment),
            capture_output=True,
            text=True,
            timeout=60,
        )
        for token in (*self.oauth.tokens, *self.oauth.access_tokens):
            assert token not in done.stdout + done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def refresh(self) -> None:
        """What cron does meanwhile."""
        assert self.program.run("--all").code == 0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with OAuthServer() as oauth, ApiServer(oauth) as apis:
        own = tmp_path / "providers.toml"
        own.write_text(providers_file(oauth))
        world = World(cast("FakeClock", None), oauth, Program(tmp_path, {"PROVIDERS_FILE": str(own)}))
        point_at(world, "microsoft", "google")
        own_gitlab(world)
        params = {"instance": urlsplit(oauth.url).netloc, "redirect_uri": CALLBACK}
        lines = []
        for provider, cell in (("microsoft", ""), ("google", ""), ("gitlab", json.dumps(params).replace('"', '""'))):
            facts = {"redirect_uri": CALLBACK} if cell else {}
            token = oauth.grant(provider, f"app-{provider}", location_id="tom", **facts)
            secret = f"{provider} client secret"
            lines.append(("tom", provider, f"app-{provider}", secret, token, f'"{cell}"'))
        csv = world.program.csv(*lines, params=True)
        saved = world.program.onboard("--from-csv", csv, "--allow-host", urlsplit(oauth.url).netloc)
        assert saved.code == 0, saved.err
        yield Stage(world.program, oauth, apis)


def event(subject: str, start: datetime) -> dict[str, Any]:
    """As Graph writes it: UTC, seven digits, the zone beside it."""

    def moment(time: datetime) -> dict[str, str]:
        return {"dateTime": f"{time:%Y-%m-%dT%H:%M:%S}.0000000", "timeZone": "UTC"}

    return {"subject": subject, "start": moment(start), "end": moment(start + timedelta(minutes=30))}


def message(subject: str, sender: str, **more: Any) -> dict[str, Any]:
    return {
        "subject": subject,
        "from": {"emailAddress": {"name": sender, "address": f"{sender}@acme.example"}},
        "importance": "normal",
        "flag": {"flagStatus": "notFlagged"},
        "isRead": False,
    } | more


def review(number: int, **more: Any) -> dict[str, Any]:
    return {
        "reviewId": f"review-{number}",
        "reviewer": {"displayName": "Ann"},
        "starRating": "FIVE",
        "createTime": "2026-03-01T12:00:00Z",
        "updateTime": "2026-03-01T12:00:00Z",
    } | more


def fill(apis: ApiServer) -> None:
    """Three pages of everything."""
    now = datetime.now(UTC)
    apis.events = [event(f"call {hours}", now + timedelta(hours=hours)) for hours in (20, 1, 3, 5, 8, 30, -1)]
    apis.messages = [
        message("Sale!", "newsletter"),
        message("Lunch", "ann"),
        message("Contract", "bob", importance="high"),
        message("Old", "ann", isRead=True),
        message("Invoice", "eve", flag={"flagStatus": "flagged"}),
        message("Hello", "tim"),
    ]
    answer = {"comment": "Thanks"}
    apis.reviews = [
        review(n, **({"reviewReply": answer} if n % 2 else {}), comment="Good, very good") for n in range(5)
    ]
    apis.projects = [
        {"id": n, "path_with_namespace": f"acme/p{n}", "last_activity_at": "2026-03-01T12:00:00Z"} for n in range(1, 6)
    ]


def test_the_next_24_hours_are_listed_soonest_first_from_all_pages(stage: Stage) -> None:
    fill(stage.apis)
    shown = stage.run("graph_day", "calendar", "tom")
    assert (shown.code, shown.err) == (0, "")
    assert re.findall(r"call -?\d+", shown.out) == ["call 1", "call 3", "call 5", "call 8", "call 20"]
    assert len(stage.apis.requests) == 3


def test_unread_mail_is_sorted_what_is_marked_first_and_machines_last(stage: Stage) -> None:
    fill(stage.apis)
    shown = stage.run("graph_day", "triage", "tom")
    assert [line.split()[0] + " " + line.split()[-1] for line in shown.out.splitlines()] == [
        "now Contract", "now Invoice", "today Lunch", "today Hello", "later Sale!",
    ]  # fmt: skip


def test_a_draft_is_made_and_nothing_is_sent(stage: Stage) -> None:
    fill(stage.apis)
    shown = stage.run("graph_day", "draft", "tom")
    assert (shown.code, shown.out) == (0, "draft AAMk1\n")
    [draft] = stage.apis.drafts
    assert draft["body"]["content"] == (
        "Waiting for an answer:\n- bob@acme.example: Contract\n- eve@acme.example: Invoice"
    )
    assert not [request for request in stage.apis.requests if "send" in request.path.lower()]


def test_all_reviews_come_as_csv_that_no_spreadsheet_calculates(stage: Stage) -> None:
    fill(stage.apis)
    stage.apis.reviews[0] |= {"comment": "=1+1", "reviewer": {"isAnonymous": True}, "starRating": "ONE"}
    shown = stage.run("business_reviews", "tom", "accounts/1/locations/2")
    lines = shown.out.splitlines()
    assert (shown.code, len(lines)) == (0, 6)
    assert lines[1] == "review-0,1,2026-03-01T12:00:00Z,2026-03-01T12:00:00Z,,no,'=1+1"
    assert shown.err == "5 reviews, 4.20 stars on average, 3 without an answer\n"


def test_no_reviews_are_none(stage: Stage) -> None:
    shown = stage.run("business_reviews", "tom", "accounts/1/locations/2")
    assert (shown.code, len(shown.out.splitlines())) == (0, 1)
    assert "0 reviews" in shown.err


def test_an_instance_of_ones_own_lists_its_projects(stage: Stage) -> None:
    fill(stage.apis)
    shown = stage.run("gitlab_projects", "tom", HTTP_PROXY="http://127.0.0.1:9")
    assert (shown.code, shown.err) == (0, "as tom\n")
    assert re.findall(r"acme/p(\d)", shown.out) == list("12345")
    assert stage.apis.requests[0].path == "/git/api/v4/user"


def test_a_token_that_a_refresh_ends_between_two_pages_is_asked_for_again(stage: Stage) -> None:
    """GitLab's old access token dies with the refresh, and cron does not ask who is using it."""
    fill(stage.apis)
    stage.apis.before = lambda: stage.refresh() if len(stage.apis.requests) == 3 else None
    shown = stage.run("gitlab_projects", "tom")
    assert shown.code == 0, shown.err
    assert re.findall(r"acme/p(\d)", shown.out) == list("12345")
    assert len(stage.apis.requests) == 5


def test_a_token_that_is_refused_although_it_is_the_newest_is_reported(stage: Stage) -> None:
    stage.oauth.revoke(stage.oauth.current_access(next(iter(stage.oauth.tokens))))
    shown = stage.run("graph_day", "triage", "tom")
    assert (shown.code, shown.out) == (1, "")
    assert "HTTP 401" in shown.err
    assert len(stage.apis.requests) == 1


def test_a_location_without_a_token_is_reported(stage: Stage) -> None:
    shown = stage.run("graph_day", "triage", "nobody")
    assert (shown.code, shown.out) == (1, "")
    assert "nobody" in shown.err
    assert "Traceback" not in shown.err


def test_an_api_that_is_not_there_is_reported(stage: Stage) -> None:
    shown = stage.run("graph_day", "triage", "tom", GRAPH_URL="http://127.0.0.1:9/v1.0")
    assert (shown.code, shown.out) == (1, "")
    assert "Traceback" not in shown.err


# Patience, without waiting


@pytest.fixture
def called(stage: Stage) -> Callable[..., tuple[Api, list[float]]]:
    """An API of Graph's with a token of the store; and how long it waited."""

    def make() -> tuple[Api, list[float]]:
        waited: list[float] = []
        token = stage.program.run("get", "tom", "--provider", "microsoft").out.strip()
        return Api(stage.apis.url(GRAPH), lambda: token, waited.append), waited

    return make


def test_an_api_that_asks_for_patience_is_given_it(
    stage: Stage, called: Callable[..., tuple[Api, list[float]]]
) -> None:
    stage.apis.throttled, stage.apis.retry_after = 2, "17"
    api, waited = called()
    assert api.get("me/mailFolders/inbox/messages", {"$select": "subject"}).ok
    assert waited == [17.0, 17.0]


@pytest.mark.parametrize(("asked", "waits"), [("soon", 1.0), ("999999", 300.0)])
def test_patience_has_bounds(
    stage: Stage, called: Callable[..., tuple[Api, list[float]]], asked: str, waits: float
) -> None:
    stage.apis.throttled, stage.apis.retry_after = 99, asked
    api, waited = called()
    with pytest.raises(ApiError, match="HTTP 429"):
        api.get("me/messages")
    assert waited == [waits] * ATTEMPTS
    assert len(stage.apis.requests) == ATTEMPTS


def test_a_next_page_elsewhere_gets_no_token(stage: Stage) -> None:
    fill(stage.apis)
    with ApiServer(stage.oauth) as elsewhere:
        stage.apis.next_page = elsewhere.url("")
        shown = stage.run("graph_day", "triage", "tom")
        assert (shown.code, elsewhere.requests) == (1, [])
    assert "another address" in shown.err


# Size and pages


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_is_short_and_has_a_page_that_shows_how_it_is_called(example: str) -> None:
    source = (ROOT / "examples" / f"{example}.py").read_text()
    assert len(source.splitlines()) <= 80
    [page] = [path for path in (ROOT / "docs/examples").glob("*.md") if f"examples.{example}" in path.read_text()]
    assert blocks(page, "sh") or blocks(page, "")
