"""A year on SQLite, by a clock that the test moves: each message that is needed came, and once.

After every run it is checked that no token has expired without a message about its row, or about the table. At the end
every grant that lives is the one in the table, and the state folder is small. docs/alerts.md shows the messages.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import crypto
from tests.conftest import World
from tests.notifiers.test_command import keeping
from tests.refresh.runs.faults_world import Rows, SqliteRows
from tests.world.clock import FakeClock
from tests.world.oauth import faults
from token_refresh.base.clock import parse_time

pytestmark = pytest.mark.long

DAY = 86_400
MOST_BYTES = 16 * 1024 * 1024  # most of it is the security log, which has a limit of its own
# Those whose tokens live for weeks.
DAILY = ("basecamp", "clio", "discord", "figma", "pinterest", "sentry", "square")


class Skewed(FakeClock):
    """The program's own clock: that of the world, but for what it is off."""

    def __init__(self, world: FakeClock) -> None:
        self._world = world
        self.off = timedelta(0)

    def now(self) -> datetime:
        return self._world.now() + self.off

    def monotonic(self) -> float:
        return self._world.monotonic()

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class Life:
    """A table and its messages, run after run.

    Attributes:
        begun: how often a message said that something began, by code and location (empty: of no row).
        over: the same for what is over, by location.
        open: what began and is not over yet, by location.
        messages: their titles, with their times.
        codes: how often the program ended with which exit code.
    """

    def __init__(self, rows: Rows, folder: Path, interval: float) -> None:
        self.rows, self.world, self.interval = rows, rows.world, interval
        self.clock = Skewed(self.world.clock)
        self.begun: Counter[tuple[str, str]] = Counter()
        self.over: Counter[str] = Counter()
        self.open: dict[str, set[str]] = {}
        self.messages: list[str] = []
        self.codes: Counter[int] = Counter()
        self.program = self.world.program
        self.program.clock = self.clock
        self.program.planted = tuple  # tens of thousands of tokens; other tests search for them
        self.program.settings |= {
            "NOTIFY_COMMAND": keeping(folder),
            "TOKEN_REFRESH_HOME": str(folder),
            "REFRESH_INTERVAL": str(int(interval)),
            "LOG_LEVEL": "ERROR",
        }
        self._inbox = folder / "got.txt"

    @property
    def settings(self) -> dict[str, str]:
        """The program's."""
        return self.program.settings

    def run(self, *argv: str) -> int:
        """The next run of cron."""
        self.world.clock.advance(self.interval - self.world.clock.timestamp() % self.interval)
        code = self.program.run(*argv).code
        self.codes[code] += 1
        self._hear()
        return code

    def run_for(self, days: float) -> list[str]:
        """So many days of them; the titles of their messages."""
        before = len(self.messages)
        for _ in range(round(days * DAY / self.interval)):
            self.run()
            self.check()
        return [message[12:] for message in self.messages[before:]]

    def _hear(self) -> None:
        if not self._inbox.exists():
            return
        lines = [line for line in self._inbox.read_text().splitlines() if line]
        self._inbox.unlink()
        for message in map(json.loads, lines):
            self.messages.append(f"{self.world.clock.now():%m-%d %H:%M} {message['title']}")
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        for item in message["items"]:
            location, code = item["location_id"] or "", item["code"]
            if code == "recovered":
                self.over[location] += 1
                self.open.pop(location, None)
            elif code not in self.open.setdefault(location, set()) or code == "ending":
                self.begun[code, location] += 1
                self.open[location].add(code)

    def check(self) -> None:
        """No token has expired without a message about its row, or about the table."""
        now = self.world.clock.now()
        expired = {location for location, end in self.ends().items() if end is not None and end < now}
        silent = expired - self.open.keys()
        assert not silent or "" in self.open, (now, sorted(silent)[:5], self.messages[-3:])

    def ends(self) -> dict[str, datetime | None]:
        """When each access token does."""
        rows = self.world._rows()
        names = [(row.get("location_id", row.get("locationId")), row.get("access_token_expiry")) for row in rows]
        return {str(name): parse_time(end) for name, end in names}

    def log_in_again(self, location: str, provider: str) -> None:
        """What a person does about a dead grant."""
        client = (
            ("app-highlevel", "highlevel secret")
            if provider == "gohighlevel"
            else (f"app-{provider}", f"{provider} secret")
        )
        token = self.world.oauth.grant(provider, client[0], location_id=location)
        line = (location, provider, *client, token)
        assert self.program.onboard("--replace", "--from-csv", self.program.csv(line)).code == 0

    def assert_nothing_lost(self) -> None:
        """Each grant is the one in the table, and nothing waits."""
        assert [location for location in self.ends() if not self.rows.is_current(location)] == []
        assert self.world.journalled() == []

    def state_bytes(self) -> int:
        """Of the state folder, without the room that is kept free for answers, and the table itself."""
        files = [path for path in Path(self.settings["STATE_DIR"]).rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files if not path.name.startswith(("ballast", "tokens.sqlite3")))

    def rotate_key(self) -> None:
        """A new key, the old one beside it."""
        old = self.settings["ENCRYPTION_KEY"]
        self.settings.update(ENCRYPTION_KEY=crypto.generate_key(), ENCRYPTION_KEY_FALLBACKS=old)

    def move(self, folder: Path) -> None:
        """Another machine, with a copy of the state folder."""
        shutil.copytree(self.settings["STATE_DIR"], folder)
        self.settings["STATE_DIR"] = str(folder)


def test_a_year_of_thirty_clients_on_sqlite(every_provider: World, tmp_path: Path) -> None:
    rows = SqliteRows(every_provider)
    life = Life(rows, tmp_path, DAY)
    for number in range(30):
        rows.put(every_provider.consented(DAILY[number % len(DAILY)], f"loc{number}"))
    oauth = every_provider.oauth
    ends = f"{every_provider.clock.now() + timedelta(days=200):%Y-%m-%d}"
    rows.put(
        every_provider.consented("pinterest", "secret-ends") | {"provider_params": json.dumps({"secret_ends": ends})}
    )
    rows.put(every_provider.consented("linkedin", "year-of-consent"))  # 306 days, whatever is refreshed

    assert life.run_for(30) == []
    oauth.revoke("loc1")
    life.run_for(40)
    assert life.open == {"loc1": {"login_needed"}}
    life.log_in_again("loc1", DAILY[1])
    life.run_for(2)
    oauth.fail(faults.status(503), times=math.inf, provider="discord")
    life.run_for(5)
    oauth.behave()
    life.run_for(3)
    assert life.open == {}
    life.rotate_key()
    life.run_for(3)
    assert life.program.run("rotate-key").code == 0
    life.run_for(2)
    del life.settings["ENCRYPTION_KEY_FALLBACKS"]
    life.move(tmp_path / "moved")
    assert life.run() == 2
    assert life.program.run("refresh", "--takeover").code == 0
    life.run_for(325 - 86)
    assert life.open.pop("year-of-consent") == {"ending", "login_needed"}
    life.log_in_again("year-of-consent", "linkedin")
    life.run_for(365 - 325)

    print("\n".join(life.messages))
    print(f"state folder: {life.state_bytes()} bytes; exit codes: {dict(life.codes)}; requests: {len(oauth.requests)}")
    assert life.begun["login_needed", "loc1"] == 1
    assert life.begun["ending", "secret-ends"] == 3
    assert life.begun["ending", "year-of-consent"] == 3  # before the login was needed
    assert life.state_bytes() < MOST_BYTES
    life.assert_nothing_lost()
