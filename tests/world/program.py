"""The program as a user runs it: as a process of its own, or in this one where a test moves the clock."""

from __future__ import annotations

import atexit
import compileall
import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import crypto
from tests.world.terminal import TerminalProcess
from tests.world.warm import WarmProcess
from token_refresh import commands as cli
from token_refresh.base.clock import Clock, SystemClock
from token_refresh.clients.csv_file import CSV_HEADER, CSV_OPTIONAL
from token_refresh.commands import onboard
from token_refresh.journal.file import BALLAST_FILE
from token_refresh.journal.installation import FILE, InstallationFile

SHORTEST_SECRET = 12
PATIENCE_SECONDS = 60
ROOT = Path(__file__).resolve().parents[2]
FILES = ("token_manager.py", "onboard_client.py", "crypto.py")
ROOMS = ("providers", "token_refresh")
_PART_OF_A_RUN = {"--dry-run", "--location", "--provider", "--help", "-h", "--version"}


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it printed."""
        return self.out + self.err

    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)

    def lines(self) -> list[dict[str, Any]]:
        """What it said on stderr, with `LOG_FORMAT=json`."""
        return [json.loads(line) for line in self.err.splitlines()]

    def codes(self) -> list[str]:
        """The codes of the notices and errors among them."""
        return [line["code"] for line in self.lines() if "code" in line]

    def outcomes(self) -> dict[str, str | None]:
        """Of `refresh --json`: the outcome of each location."""
        return {row["location_id"]: row["outcome"] for row in self.json()["results"]}


@dataclass
class Program:
    """A configured installation.

    Args:
        home: a private folder; holds the state.
        settings: the program's environment, nothing else is inherited.
        planted: the secrets of this test's world; whatever a command prints, in any test, is searched for them.
        before_process: called before a process of its own starts: that one is on the machine's clock.
    """

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    planted: Callable[[], Iterable[str]] = field(default=tuple)
    before_process: Callable[[], None] = field(default=lambda: None)
    undone: Callable[[datetime], list[str]] = field(default=lambda _: [])  # rows that a run since then left undone
    in_clear: set[str] = field(default_factory=set)  # access tokens that the test itself put into a table unsealed

    def __post_init__(self) -> None:
        self.settings = {
            "ENCRYPTION_KEY": crypto.generate_key(),
            "STATE_DIR": str(self.home / "state"),
            "STATE_DIR_SPARE": str(self.home / "spare"),
            "LOG_LEVEL": "DEBUG",  # what it says is searched for secrets
            **self.settings,
        }

    @property
    def keyring(self) -> crypto.Keyring:
        """The keys in force, with what this installation recognises tokens by, once there is one."""
        key, state = self.settings["ENCRYPTION_KEY"], Path(self.settings["STATE_DIR"])
        with contextlib.suppress(FileNotFoundError):
            now = (state / FILE).stat()
            return _keyring_kept(key, state, (now.st_ino, now.st_size, now.st_mtime_ns))
        return crypto.Keyring(crypto.parse_key(key))

    def run(self, *argv: str) -> Result:
        """`token_manager.py` in this process, on this test's clock."""
        is_run = not _PART_OF_A_RUN.intersection(argv) and (not argv or argv[0][:1] == "-")
        since = self.clock.now() if is_run else None
        result = self._searched(argv, _captured(lambda: cli.main(argv, self.settings, self.clock)))
        if since is not None and result.code == 0 and "changed" not in result.said:  # somebody else's is not ours
            left = self.undone(since)
            assert not left, f"exit 0, and yet there is no living token in {left}"
        return result

    def onboard(self, *argv: str) -> Result:
        """`onboard_client.py` in this process, on this test's clock."""
        return self._searched(argv, _captured(lambda: onboard.main(argv, self.settings, self.clock)))

    def _searched(self, argv: Sequence[str], result: Result) -> Result:
        """The promise of every test: no secret in what was printed (but the one that `get` is asked for)."""
        printed = result.err if argv[:1] == ("get",) else result.said
        for secret in (self.settings.get("ENCRYPTION_KEY", ""), *self.planted()):
            # Words that a test chose as a secret may be too short to tell from others.
            assert len(secret) < SHORTEST_SECRET or secret not in printed, f"{argv} printed a secret"
        return result

    def assert_state_silent(self) -> None:
        """The promise of every test, at its end: no secret in any file that the program made, but sealed."""
        folders = (self.home / "state", self.home / "spare")
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        files = (path for path in files if path.name != BALLAST_FILE)
        kept = {path: path.read_bytes() for path in files}
        for secret in {self.settings.get("ENCRYPTION_KEY", ""), *self.planted()} - self.in_clear:
            needle = secret.encode(errors="surrogatepass")
            found = [path.name for path, content in kept.items() if needle in content]
            assert len(secret) < SHORTEST_SECRET or not found, f"{found} hold a secret"

    def csv(self, *lines: Sequence[str], params: bool = False) -> str:
        """A private CSV file with these clients; returns its name."""
        header = [*CSV_HEADER, *(CSV_OPTIONAL if params else ())]
        path = self.home / "clients.csv"
        path.write_text("\n".join(",".join(line) for line in [header, *lines]) + "\n")
        path.chmod(0o600)
        return str(path)

    def install(self) -> Path:
        """A copy of the program that the test may change; `.env` may be put beside it."""
        target = self.home / "program"
        if not target.exists():
            copy_program(target)
        return target

    def installed(self) -> Path:
        """The program as a user has it: the copy that this test made, else one that all tests share."""
        own = self.home / "program"
        return own if own.exists() else _shared_copy()

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a spawned process sees: an empty home and the settings."""
        self.before_process()
        basics = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        return basics | self.settings | dict(extra or {})

    def spawn(self, *argv: str, script: str = "token_manager.py", stdin: str = "", **extra: str) -> Result:
        """The installed program as a process of its own."""
        run = _run_warm if self.installed() == _shared_copy() else _run_cold
        code, out, err = run([str(self.installed() / script), *argv], self.home, self.environment(extra), stdin)
        return self._searched(argv, Result(code, out, err))

    def at_terminal(
        self, *argv: str, script: str = "token_manager.py", output: Path | None = None, **extra: str
    ) -> TerminalProcess:
        """The installed program as a process on a terminal of its own; its stdout may go to a file instead."""
        return TerminalProcess([str(self.installed() / script), *argv], self.environment(extra), self.home, output)


@functools.lru_cache(maxsize=4)
def _keyring_kept(key: str, state: Path, _as_of: tuple[int, ...]) -> crypto.Keyring:
    """What the file says as it is now: a test asks for each cell that it seals or opens."""
    return InstallationFile(state).keyring(crypto.parse_key(key), [])


Run = tuple[int, str, str]


def _run_cold(argv: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str) -> Run:
    """A copy that the test has changed, or that it wants to see start."""
    command = [sys.executable, *argv]
    process = subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    return process.returncode, process.stdout, process.stderr


def _run_warm(argv: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str) -> Run:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = WarmProcess(argv, environment, folder, [file.fileno() for file in (given, out, err)])
        try:
            code = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return code, out.read().decode(), err.read().decode()


def copy_program(target: Path) -> None:
    """The files of the program into a folder that is not there yet."""
    target.mkdir()
    for name in FILES:
        shutil.copy2(ROOT / name, target / name)
    for name in ROOMS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


@functools.cache
def _shared_copy() -> Path:
    """Compiled once, not by each of hundreds of processes; deleted when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="program-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy_program(folder / "program")
    compileall.compile_dir(folder / "program", quiet=1)
    return folder / "program"


def _captured(act: Any) -> Result:
    out, err = io.StringIO(), io.StringIO()
    before = os.umask(0o022)  # the program sets its own, which must not reach the other tests
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = act()
        except SystemExit as error:  # help
            code = int(error.code or 0)
        finally:
            os.umask(before)
    return Result(code, out.getvalue(), err.getvalue())
