"""docs/troubleshooting.md: each wrong set-up is brought about, and what three commands say then is what the page says.

After a change of a message or of a check: `WRITE_PAGE=1 .venv/bin/python -m pytest tests/test_troubleshooting.py`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

import crypto
from tests.base.test_program import earlier, own_python
from tests.conftest import World
from tests.refresh.runs.test_identity import state
from tests.world.airtable import faults
from tests.world.clock import FakeClock
from tests.world.disk import fill, small_disk
from tests.world.program import ROOT, Result, copy_program
from token_refresh.base.clock import iso
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.journal.lock import run_lock

PAGE = ROOT / "docs/troubleshooting.md"
COMMANDS = {"the run": (), "`status --check`": ("status", "--check"), "`doctor`": ("doctor",)}
SOMEBODY = 12345  # a user without a name
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", re.MULTILINE)
Run = Callable[..., Result]


@dataclass(frozen=True)
class Situation:
    """A wrong set-up.

    Attributes:
        reads: what a person sees, the heading; one of the commands says it.
        cause: what is wrong.
        bring_about: does it; what it enters ends with the test. It may return another way to run the program.
    """

    reads: str
    cause: str
    bring_about: Callable[[World, ExitStack], Run | None]


class Ahead(FakeClock):
    """The world's clock, as a machine shows it that is two hours ahead."""

    def __init__(self, world_clock: FakeClock) -> None:
        self._world = world_clock

    def now(self) -> datetime:
        return self._world.now() + timedelta(hours=2)

    def monotonic(self) -> float:
        return self._world.monotonic()

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


def _set(world: World, **settings: str) -> None:
    world.program.settings.update(settings)


def _setting(name: str, value: str) -> Callable[[World, ExitStack], None]:
    return lambda world, _: _set(world, **{name: value})


def _row(world: World) -> str:
    record: str = world.table.find(locationId="loc1")[0]
    return record


def _refused_client(world: World, _: ExitStack) -> None:
    world.table.edit(_row(world), {"encrypted_secret": world.seal("loc1", "encrypted_secret", "another secret")})


def _dead_grant(world: World, _: ExitStack) -> None:
    cell = world.table.cells(_row(world))["encrypted_refresh"]
    world.oauth.revoke(world.open_refresh("loc1", cell))


def _clock_off(world: World, _: ExitStack) -> None:
    world.program.clock = Ahead(world.clock)


def _airtable_down(world: World, _: ExitStack) -> None:
    assert world.airtable is not None
    world.airtable.inject(faults.status(503), times=None)


def _other_user(world: World, _: ExitStack) -> None:
    state(world).mkdir(mode=0o700)
    os.chown(state(world), SOMEBODY, SOMEBODY)


def _open_folder(world: World, _: ExitStack) -> None:
    state(world).mkdir()
    state(world).chmod(0o770)


def _full_disk(world: World, end: ExitStack) -> None:
    disk = small_disk(world.program.home / "disk", "16k", end)
    (disk / "state").mkdir(mode=0o700)
    fill(disk)
    world.program.settings["STATE_DIR"] = str(disk / "state")


def _full_disk_of_sqlite(world: World, end: ExitStack) -> None:
    disk = small_disk(world.program.home / "disk", "400k", end)
    for name in [name for name in world.program.settings if name.startswith("AIRTABLE_")]:
        del world.program.settings[name]
    world.program.settings["STATE_DIR"] = str(disk / "state")
    assert world.program.run("setup").code == 0
    fill(disk)


def _refreshed_by(name: str) -> Callable[[World, ExitStack], None]:
    """`name` of the machine; empty: this one."""

    def act(world: World, _: ExitStack) -> None:
        recently = iso(world.clock.now() - timedelta(minutes=10))
        edit = {"last_refreshed": recently, "refreshed_by": f"{name or os.uname().nodename}-0123456789abcdef-1"}
        world.table.edit(_row(world), edit)

    return act


def _copied_folder(world: World, _: ExitStack) -> None:
    assert world.program.run().code == 0
    shutil.copytree(state(world), world.program.home / "copy")
    world.program.settings["STATE_DIR"] = str(world.program.home / "copy")
    world.clock.advance(2000)


def _dotenv(mode: int, *lines: str) -> Callable[[World, ExitStack], None]:
    def act(world: World, _: ExitStack) -> None:
        home = world.program.home / "home"
        home.mkdir()
        known = [f"{name}={value}" for name, value in world.program.settings.items() if name != "LOG_LEVEL"]
        (home / ".env").write_text("\n".join([*sorted(known), *lines]) + "\n")
        (home / ".env").chmod(mode)
        world.program.settings.clear()
        world.program.settings["TOKEN_REFRESH_HOME"] = str(home)

    return act


def _old_python(world: World, _: ExitStack) -> Run:
    clone = world.program.home / "program"
    copy_program(clone)
    own_python(clone)

    def run(*argv: str) -> Result:
        ended = earlier(["token_manager.py", *argv], clone)
        return Result(ended.returncode, ended.stdout, ended.stderr)

    return run


def _another_run(world: World, end: ExitStack) -> None:
    assert world.program.run("--dry-run").code == 0
    [folder] = [path for path in state(world).iterdir() if path.is_dir()]
    end.enter_context(run_lock(folder, world.clock))


SITUATIONS = (
    Situation("Use .venv/bin/python instead", "The wrong Python: the system's, or one that is too old.", _old_python),
    Situation(
        "ENCRYPTION_KEY is not set", "There is no `.env`, or it is in another folder.", _setting("ENCRYPTION_KEY", "")
    ),
    Situation(
        "ENCRYPTION_KEY stands in quotes",
        "Quotes that belong to a shell were kept, as `docker run --env-file` does.",
        lambda world, _: _set(world, ENCRYPTION_KEY=f'"{world.program.settings["ENCRYPTION_KEY"]}"'),
    ),
    Situation(
        "ENCRYPTION_KEY decrypts no value",
        "The key is a valid one, but not the one that the rows were encrypted with. A run notices once a row is due.",
        lambda world, _: _set(world, ENCRYPTION_KEY=crypto.generate_key()),
    ),
    Situation(
        "encrypted_refresh is not an encrypted value",
        "Somebody pasted a token into the table.",
        lambda world, _: world.table.edit(_row(world), {"encrypted_refresh": "pasted"}),
    ),
    Situation("there is no setting REFRESH_INTERVALL", "A setting is misspelt.", _setting("REFRESH_INTERVALL", "600")),
    Situation("there is no setting GOGLE_SCOPE", "A setting's provider is misspelt.", _setting("GOGLE_SCOPE", "x")),
    Situation(
        "sets CONCURRENCY twice", "A name stands twice in `.env`, with two values.", _dotenv(0o600, "CONCURRENCY=8")
    ),
    Situation("Other users can read /opt/token-refresh/.env", "`.env` was made without `chmod 600`.", _dotenv(0o644)),
    Situation(
        "Airtable does not accept AIRTABLE_API_KEY",
        "The Airtable token was deleted, has expired or is misspelt.",
        _setting("AIRTABLE_API_KEY", "pat-nobody"),
    ),
    Situation(
        "there is no such base or table",
        "The base is another one, or the Airtable token may not use it.",
        _setting("AIRTABLE_BASE_ID", "appNobodyHasThis"),
    ),
    Situation(
        "the base has no table",
        "The table is not there yet, or its name is misspelt.",
        _setting("AIRTABLE_TABLE_NAME", "APISecret"),
    ),
    Situation("Airtable does not answer", "Airtable is down.", _airtable_down),
    Situation(
        "A person must log in again", "The grant is dead: the account's owner disconnected the app.", _dead_grant
    ),
    Situation("invalid_client", "The client's secret is wrong, or was changed at the provider.", _refused_client),
    Situation("the clock here says", "This machine's clock is two hours ahead.", _clock_off),
    Situation(
        "the state folder /opt/token-refresh/state belongs to",
        "The program was run by another user before: by root, with `sudo`.",
        _other_user,
    ),
    Situation("other users can read the state folder", "The state folder is open to others.", _open_folder),
    Situation("the journal cannot be written", "The disk of the state folder is full.", _full_disk),
    Situation(
        "the disk of /opt/token-refresh/state/tokens.sqlite3 may be full",
        "The disk of the SQLite database is full.",
        _full_disk_of_sqlite,
    ),
    Situation("another run is active", "A run is under way.", _another_run),
    Situation("another installation refreshes this table", "A second machine is at work.", _refreshed_by("other-host")),
    Situation("perhaps STATE_DIR was lost or moved", "The state folder was lost or moved.", _refreshed_by("")),
    Situation("was copied or restored", "The state folder is a copy, or came from a backup.", _copied_folder),
)


def _section(world: World, situation: Situation, end: ExitStack) -> str:
    """What the page says of it."""
    run = situation.bring_about(world, end) or world.program.run
    said: dict[str, str] = {}
    for name, words in COMMANDS.items():
        result = run(*words, "--json")
        assert "Traceback" not in result.said
        said[name] = f"{_plain(world, _said(result))} | {result.code} |"
    if len(set(said.values())) == 1:
        said = {"all three": said["the run"]}
    table = [f"| {name} | {text}" for name, text in said.items()]
    return "\n".join([f"{situation.cause}\n", "| command | says | exit |", "|---|---|---|", *table]) + "\n"


def _said(result: Result) -> str:
    """What needs attention, in the words of the command; each sentence of its own line."""
    answer = json.loads(result.out)
    said = [re.sub(r"^(error|warning): ", "", line) for line in TIME.sub("", result.err).splitlines()]
    said = [line for line in said if not line.startswith("info: ")]
    if "findings" in answer:
        said += [
            f"{one['part']}: {one['text']}. {one['action']}"
            for one in answer["findings"]
            if one["state"] != "ok" and one["part"] != "spare folder"  # a test's is on the disk of its state folder
        ]
    if "state" in answer:
        said.append(f"{answer['state']}: {answer['message']}" + (f". {answer['action']}" if answer["action"] else ""))
    return "<br>".join(line.strip() for line in said) or "nothing"


def _plain(world: World, text: str) -> str:
    """Without what is another one in each test, and on each machine."""
    home = str(world.program.home)
    assert world.airtable is not None
    for found, shown in (
        (f"{home}/home/state", "/opt/token-refresh/state"),
        (f"{home}/home", "/opt/token-refresh"),
        (f"{home}/program", "/opt/token-refresh"),
        (f"{home}/disk", "/opt/token-refresh"),
        (f"{home}/copy", "/opt/token-refresh/state"),
        (home, "/opt/token-refresh"),
        (str(ROOT), "/opt/token-refresh"),
        (ONBOARD_CLIENT, ".venv/bin/python onboard_client.py"),
        (TOKEN_MANAGER, ".venv/bin/python token_manager.py"),
        (sys.executable, "/usr/bin/python3"),
        (world.airtable.url, "https://api.airtable.com"),
        (world.airtable.base_id, "appYOURBASE"),
        (world.oauth.url, "https://oauth2.googleapis.com"),
        (os.uname().nodename, "this-machine"),
        (getpass.getuser(), "root"),
        ("|", "\\|"),
    ):
        text = text.replace(found, shown)
    text = re.sub(r"process \d+, since [^ ]+Z", "process 4711, since 12:00:00Z", text)
    text = re.sub(r"\b720\d s off", "7200 s off", text)
    text = re.sub(r"last-run-[0-9a-f]{16}", "last-run-0123456789abcdef", text)
    return re.sub(r"\bkey [0-9a-f]{8,}", "key 0123abcd", text)


def _documented() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n\n", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (text.rstrip("\n") + "\n" for text in parts[2::2]), strict=True))


def _write(title: str, text: str) -> None:
    """Put a section into the page, in the order of `SITUATIONS`; what is no situation any more goes."""
    sections = _documented() | {title: text}
    head = PAGE.read_text().partition("\n## ")[0].rstrip("\n")
    kept = [f"## {one.reads}\n\n{sections[one.reads]}" for one in SITUATIONS if one.reads in sections]
    PAGE.write_text("\n".join([head + "\n", *kept]))


def test_every_section_of_the_page_is_a_situation() -> None:
    assert list(_documented()) == [one.reads for one in SITUATIONS]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.cause)
def test_what_each_command_says_of_a_wrong_set_up_is_on_the_page(airtable_world: World, situation: Situation) -> None:
    world = airtable_world
    world.table.add(world.cells("google", "loc1"))
    _set(world, REFRESH_INTERVAL="900", CONCURRENCY="4")
    with ExitStack() as end:
        text = _section(world, situation, end)
    assert situation.reads in text, text
    if os.environ.get("WRITE_PAGE"):
        _write(situation.reads, text)
    assert _documented()[situation.reads] == text, "WRITE_PAGE=1 with this test writes the page"
