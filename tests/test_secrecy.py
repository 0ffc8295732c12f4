"""Planted secrets are looked for everywhere that anybody may read: none is found, whatever succeeds or fails."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import crypto
from tests.conftest import CLIENTS, World
from tests.world.airtable import faults as airtable_faults
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.program import ROOT, Result
from tests.world.terminal import python
from token_refresh import settings
from token_refresh.base.errors import ActionableError

SHORTEST_PIECE = 12  # so much of a secret in a row is no chance


@dataclass
class Vault:
    """The secrets that were planted, and all that was printed."""

    world: World
    settings: dict[str, str] = field(default_factory=dict)
    said: list[Result] = field(default_factory=list)
    served: list[Result] = field(default_factory=list)  # of `get`: its stdout is the access token by design

    def run(self, *argv: str) -> Result:
        self._speak()
        result = self.world.program.run(*argv)
        (self.served if argv[:1] == ("get",) else self.said).append(result)
        return result

    def onboard(self, *argv: str) -> Result:
        self._speak()
        result = self.world.program.onboard(*argv)
        self.said.append(result)
        return result

    def _speak(self) -> None:
        """As talkative as it can be, every other time in the words of a log collector."""
        commands = len(self.said) + len(self.served)
        self.world.program.settings |= {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": ("text", "json")[commands % 2]}

    def planted(self) -> dict[str, str]:
        """Every secret by what it is: the configured ones, and each token that any provider ever issued."""
        oauth = self.world.oauth
        clients = {f"client secret of {name}": secret for name, (_, secret) in CLIENTS.items()}
        tokens = {f"refresh token {number}": token for number, token in enumerate(oauth.tokens)}
        access = {f"access token {number}": token for number, token in enumerate(oauth.access_tokens)}
        return self.settings | clients | tokens | access

    def assert_silent(self) -> None:
        """No secret in anything that was printed or lies in a file."""
        places = {f"output {number}": result.said for number, result in enumerate(self.said)}
        places |= {f"words of get {number}": result.err for number, result in enumerate(self.served)}
        texts = {name: text.encode(errors="surrogateescape") for name, text in places.items()}
        files = [path for path in (self.world.program.home / "state").rglob("*") if path.is_file()]
        assert any(path.name.startswith("journal") for path in files)
        self.search(texts | {str(path): path.read_bytes() for path in files})

    def assert_table_silent(self) -> None:
        """No secret in any cell that was ever written, but for the access token in its own column."""
        assert self.world.airtable is not None
        cells: dict[str, bytes] = {}
        for number, change in enumerate(self.world.airtable.changes):
            if change.column != "last_access_token":
                cells[f"{change.column} {number}"] = str(change.after).encode()
        self.search(cells)

    def search(self, places: dict[str, bytes]) -> None:
        filled = {place: content.strip(b"\0") for place, content in places.items()}  # the ballast is megabytes of those
        everything = b"\n".join(filled.values())
        hits = {
            f"{what} in {place}"
            for what, secret in self.planted().items()
            for spelling in spellings(secret)
            if spelling in everything
            for place, content in filled.items()
            if spelling in content
        }
        assert not hits, sorted(hits)


def spellings(secret: str) -> Iterator[bytes]:
    """A secret as it may look in a log, and its longest tell-tale pieces."""
    whole = {secret, quote(secret, safe=""), quote_plus(secret), secret.encode().hex(), json.dumps(secret)[1:-1]}
    whole.add(base64.b64encode(secret.encode()).decode().rstrip("=")[:-1])
    if len(secret) > 3 * SHORTEST_PIECE:  # a message may be cut anywhere
        middle = len(secret) // 2
        whole |= {secret[middle : middle + SHORTEST_PIECE], secret[-SHORTEST_PIECE:]}
    return (text.encode() for text in whole)


@pytest.fixture
def vault(world: World) -> Vault:
    """The program with a secret in every setting that takes one."""
    planted = {
        "ENCRYPTION_KEY": world.program.settings["ENCRYPTION_KEY"],
        "ENCRYPTION_KEY_FALLBACKS": crypto.generate_key(),
        "GOOGLE_CLIENT_SECRET": f"canary-google-{secrets.token_hex(16)}",
        "ACME_CLIENT_SECRET": f"canary-acme-{secrets.token_hex(16)}",
        "WEBHOOK_SECRET": f"canary-webhook-{secrets.token_hex(16)}",
        "PING_URL": f"https://ping.example/{secrets.token_hex(16)}",
        "NOTIFY_URLS": f"mailto://bot:{secrets.token_hex(16)}@mail.example",
    }
    world.program.settings |= planted | {"ACME_CLIENT_ID": "app-default"}
    world.add_client("acme", "app-default", planted["ACME_CLIENT_SECRET"])
    return Vault(world, planted)


@pytest.fixture
def airtable_vault(vault: Vault, airtable_world: World) -> Vault:
    secret = f"pat{secrets.token_hex(7)}.{secrets.token_hex(32)}"
    server = airtable_world.airtable
    assert server is not None
    server.add_token(secret)
    airtable_world.program.settings["AIRTABLE_API_KEY"] = vault.settings["AIRTABLE_API_KEY"] = secret
    return vault


def echoing(status: int, body: str = "") -> faults.Fault:
    """A provider that repeats all it was sent, in every field that is ever read."""

    def apply(call: faults.Call, act: faults.Act) -> Response:
        sent = " ".join(value for _, value in call.request.form())
        header = call.request.headers.get("authorization", "")
        said = f"{sent} {header} {call.request.body.decode()}"
        content = {"error": sent, "error_description": said, "message": said, "statusCode": status}
        return Response(status, body.encode() or json.dumps(content).encode(), {"Content-Type": "application/json"})

    return faults.Fault(f"echoing {status}", apply)


def redirecting() -> faults.Fault:
    """A provider that repeats what it was sent in the address of a login page."""

    def apply(call: faults.Call, act: faults.Act) -> Response:
        sent = "/".join(value for _, value in call.request.form())
        return Response(302, b"", {"Location": f"https://elsewhere.example/{sent}"})

    return faults.Fault("redirecting", apply)


LIKE_OTHERS = {"echoing 401", "echoing 422", "cut", "redirect 308"}


def rude_faults() -> list[faults.Fault]:
    return [
        echoing(400),
        echoing(401),
        echoing(422),
        echoing(500),
        echoing(200),
        faults.amended(lambda answer: json.dumps({**answer, "access_token": None}).encode()),
        faults.amended(lambda answer: json.dumps({**answer, "access_token": answer["access_token"] + "\n"}).encode()),
        faults.amended(lambda answer: json.dumps({**answer, "refresh_token": [answer["refresh_token"]]}).encode()),
        faults.amended(lambda answer: json.dumps(answer).encode()[:-20]),
        faults.acted_then_dropped(),
        faults.cut(120),
        faults.redirect("https://elsewhere.example/token", 308),
        redirecting(),
        faults.wrong_secret(),
        faults.html(502),
    ]


def test_successes_leave_no_secret_behind(vault: Vault) -> None:
    world = vault.world
    lines = [world.csv_line(provider, f"{provider}-1") for provider in ("gohighlevel", "google", "acme", "acme-basic")]
    default = world.oauth.grant("acme", "app-default", location_id="default")
    file = world.program.csv(*lines, ("default", "acme", "", "", default))
    assert vault.onboard("--from-csv", file, "--json").code == 0
    assert vault.onboard("--from-csv", file).code == 0
    assert vault.run("--all", "--json").code == 0
    assert vault.run("--all", "--dry-run").code == 0
    assert vault.run("status", "--json").code == 0
    assert vault.run("status").code == 0
    for flags in ([], ["--json"], ["--min-valid", "999999"]):
        assert vault.run("get", "acme-1", *flags).code == 0
    assert len(vault.planted()) > 20
    vault.assert_silent()


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=pytest.mark.long if fault.name in LIKE_OTHERS else ())
        for fault in rude_faults()
    ],
)
def test_failures_leave_no_secret_behind(airtable_vault: Vault, fault: faults.Fault) -> None:
    vault = airtable_vault
    world = vault.world
    for provider in ("gohighlevel", "google", "acme", "acme-basic", "acme-family"):
        world.table.add(world.cells(provider, f"{provider}-1"))
        world.table.add(world.cells(provider, f"{provider}-2"))
    world.oauth.fail(fault, times=math.inf)
    vault.run("--json")
    new = [world.csv_line(provider, f"{provider}-3") for provider in ("gohighlevel", "acme", "acme-basic")]
    vault.onboard("--from-csv", world.program.csv(*new), "--json")
    vault.onboard("--from-csv", world.program.csv(*new), "--replace")
    vault.run("get", "gohighlevel-1")
    vault.run("get", "acme-1", "--json")
    world.clock.advance(7200)
    vault.run()
    world.oauth.behave()
    world.clock.advance(7200)
    vault.run("--all", "--json")
    vault.run("status", "--json")
    assert sum(result.code != 0 for result in vault.said) >= 1
    vault.assert_silent()
    vault.assert_table_silent()


def airtable_failures() -> list[tuple[str, airtable_faults.Fault]]:
    def echo(request, act):  # a refusal that repeats the request, as "Cannot parse date value" does
        said = f"{request.body.decode()} {request.headers.get('authorization')}"
        return Response.of_json(422, {"error": {"type": "INVALID_VALUE_FOR_COLUMN", "message": said}})

    return [
        ("echo", echo),
        ("down", airtable_faults.status(503)),
        ("html", airtable_faults.html()),
        ("reset", airtable_faults.reset()),
        ("lost", airtable_faults.unacknowledged()),
        ("cut", airtable_faults.cut()),
    ]


@pytest.mark.long
@pytest.mark.parametrize("failure", airtable_failures(), ids=lambda failure: failure[0])
def test_store_that_fails_makes_no_secret_show(
    airtable_vault: Vault, failure: tuple[str, airtable_faults.Fault]
) -> None:
    vault = airtable_vault
    world = vault.world
    assert world.airtable is not None
    for provider in ("gohighlevel", "acme"):
        world.table.add(world.cells(provider, f"{provider}-1"))
    new = world.program.csv(world.csv_line("acme", "acme-2"))

    def after_the_proof(request) -> bool:
        return "encrypted_refresh" in request.body.decode()

    world.airtable.inject(failure[1], when=after_the_proof, times=math.inf)
    vault.run("--json")
    vault.onboard("--from-csv", new, "--json")
    assert len(world.oauth.access_tokens) > 4
    vault.assert_silent()
    world.airtable.faults.clear()
    world.clock.advance(100)
    vault.run()
    vault.assert_silent()
    vault.assert_table_silent()


@pytest.mark.long
def test_wrong_settings_are_reported_without_what_they_hold(vault: Vault) -> None:
    program = vault.world.program
    given = dict(program.settings)
    for name in list(vault.settings):
        for wrong in (f"canary {secrets.token_hex(16)}", f"http://user:{secrets.token_hex(16)}@host:port/"):
            vault.settings[f"wrong {name} {wrong[:6]}"] = wrong.rpartition(" ")[2]
            program.settings = given | {name: wrong}
            vault.run()
            vault.run("status", "--json")
    password = secrets.token_hex(16)
    vault.settings["password"] = password
    unreachable = "postgresql://u:{}@127.0.0.1:1/x"
    for url in (
        unreachable,
        "postgres://u:{}@db:x/x",
        "mysql://u:{}@db/x",
        "{}",
        "sqlite:///nowhere/../{}/",
    ):
        program.settings = given | {"DATABASE_URL": url.format(password)}
        code = 3 if url == unreachable else 2
        assert vault.run().code == code
        assert vault.onboard("--from-csv", "/nowhere").code == 2
    program.settings = given | {"GOOGLE_CLIENT_SECRET_FILE": str(program.home / "secret")}
    (program.home / "secret").write_text(vault.settings["GOOGLE_CLIENT_SECRET"])
    assert vault.run().code == 2
    program.settings = given
    assert vault.run().code == 0
    vault.assert_silent()


@pytest.mark.long
def test_wrong_key_and_broken_cells_are_reported_without_their_content(airtable_vault: Vault) -> None:
    vault = airtable_vault
    world = vault.world
    cells = world.cells("acme", "acme-1")
    token = world.oauth.current("acme-1")
    world.table.add(cells)
    world.table.add(world.cells("acme", "plain") | {"encrypted_refresh": token})
    world.table.add(world.cells("acme", "params") | {"provider_params": token})
    world.table.add(world.cells("acme", "provider") | {"encrypted_refresh": f"sealed:v1:{token}"})
    before = len(world.airtable.changes) if world.airtable else 0
    assert vault.run("--json").code == 1
    vault.run("get", "plain")
    vault.run("get", "params")
    vault.settings["new key"] = world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    assert vault.run("--all").code in (1, 2)
    vault.assert_silent()
    assert world.airtable is not None
    written = [change for change in world.airtable.changes[before:] if change.column != "last_access_token"]
    vault.search({f"{change.column} {number}": str(change.after).encode() for number, change in enumerate(written)})


@pytest.fixture
def library_logs() -> Iterator[list[logging.LogRecord]]:
    """Whatever libraries log, with every logger as talkative as it can be."""
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    root, collector = logging.getLogger(), Collector()
    root.addHandler(collector)
    named = [logging.getLogger(name) for name in ("urllib3", "requests", "pyairtable", "sqlalchemy.engine")]
    before = [(logger, logger.level) for logger in (root, *named)]
    for logger, _ in before:
        logger.setLevel(logging.DEBUG)
    logging.disable(logging.NOTSET)
    yield records
    for logger, level in before:
        logger.setLevel(level)
    root.removeHandler(collector)


@pytest.mark.parametrize("store", ["airtable", "database"])
def test_libraries_that_were_made_talkative_log_nothing(
    airtable_vault: Vault, library_logs: list[logging.LogRecord], store: str
) -> None:
    """Their words hold addresses, statements and answers, whatever LOG_LEVEL says of ours."""
    vault, program = airtable_vault, airtable_vault.world.program
    logging.getLogger("urllib3").debug("is heard")
    assert len(library_logs) == 1
    program.settings["TOKEN_STORE"] = store
    if store == "database":
        program.settings["DATABASE_URL"] = f"sqlite:///{program.home}/state/own.sqlite3"
    assert vault.run("status").code == 0
    assert vault.onboard("--from-csv", program.csv(vault.world.csv_line("acme", "acme-1"))).code == 0
    assert vault.run("--all").code == 0
    assert [record.getMessage() for record in library_logs[1:]] == []
    vault.assert_silent()


def everything_in(error: BaseException | None, depth: int = 4) -> Iterator[str]:
    """What a logger or an error tracker may show of an error and of all that it is chained to, requests and all."""
    if error is None:
        return
    yield from (str(error), repr(error), *getattr(error, "__notes__", ()))
    for value in (*error.args, *vars(error).values()):
        yield repr(value)
        yield repr(getattr(value, "__dict__", ""))
        for part in getattr(value, "__dict__", {}).values():
            yield repr(getattr(part, "__dict__", ""))
    for chained in {error.__cause__, error.__context__} - {None}:
        yield from everything_in(chained, depth - 1) if depth else ()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Every exception of ours that is made meanwhile, whoever catches it."""
    found: list[Exception] = []
    usual = ActionableError.__init__

    def record(self: ActionableError, *args: Any, **more: Any) -> None:
        usual(self, *args, **more)
        found.append(self)

    monkeypatch.setattr(ActionableError, "__init__", record)
    return found


@pytest.mark.long
@pytest.mark.by_turns("broken")
@pytest.mark.parametrize("broken", ["store", "provider", "cells"])
def test_no_exception_of_ours_is_chained_to_one_with_a_secret(
    airtable_vault: Vault, made: list[Exception], broken: str
) -> None:
    """An error tracker shows `__cause__` and `__context__` too, even behind `from None`."""
    vault = airtable_vault
    world = vault.world
    assert world.airtable is not None
    for number in range(3):
        world.table.add(world.cells("acme", f"acme-{number}"))
    new = world.csv_line("acme", "acme-new")
    if broken == "store":
        for _, failure in airtable_failures():
            world.airtable.inject(failure, when=lambda request: b"encrypted_refresh" in request.body, times=2)
    if broken == "cells":
        token = world.oauth.current("acme-0")
        for number, text in enumerate((token, f"sealed:v1:{token}", world.seal("other", "encrypted_refresh", token))):
            world.table.edit(world.table.find(locationId=f"acme-{number}")[0], {"encrypted_refresh": text})
        world.table.add(world.cells("acme", "params") | {"provider_params": token})
        world.table.add(world.cells("acme-instance", "host") | {"provider_params": json.dumps({"instance": token})})
    for fault in rude_faults() if broken == "provider" else [None]:
        if fault is not None:
            world.oauth.fail(fault, times=2)
        vault.run("--all", "--json")
        vault.onboard("--from-csv", world.program.csv(new), "--replace")
        vault.run("get", "acme-0", "--min-valid", "999999")
        world.clock.advance(7200)
    assert made or broken == "provider"
    vault.search({f"{type(error).__name__} {number}": shown(error) for number, error in enumerate(made)})


def shown(error: Exception) -> bytes:
    return "\n".join(everything_in(error)).encode(errors="surrogateescape")


@pytest.mark.long
def test_children_inherit_no_secret(vault: Vault) -> None:
    """`doctor` asks git; what git runs (hooks, aliases, helpers) has no business with our keys."""
    program = vault.world.program
    tools = program.home / "tools"
    tools.mkdir()
    git = tools / "git"
    git.write_text(f'#!/bin/sh\nenv >>"{program.home}/seen"\n')
    git.chmod(0o700)
    (program.install() / ".env").write_text("")
    (program.install() / ".env").chmod(0o600)
    vault.said.append(program.spawn("doctor", PATH=f"{tools}:/usr/bin:/bin"))
    seen = (program.home / "seen").read_bytes()
    assert b"STATE_DIR=" in seen
    for name in (*vault.settings, "GOOGLE_CLIENT_SECRET"):
        assert name.encode() not in seen
    vault.search({"a child's environment": seen})


def test_every_secret_setting_is_taken_out_of_the_environment() -> None:
    """.env.example marks them; what is not marked stays for children that need it."""
    text = (ROOT / ".env.example").read_text()
    marked = set(re.findall(r"^# Secret\..*\n(?:#.*\n)*([A-Z_]+)=", text, re.MULTILINE))
    named = set(re.findall(r"^#? ?([A-Z_]+)=", text, re.MULTILINE))
    assert len(marked) >= 8
    environ = dict.fromkeys(named | {"PATH"}, "x")
    assert settings.strip_secrets(environ) == dict.fromkeys(named | {"PATH"}, "x")
    assert set(environ) == (named | {"PATH"}) - marked


def test_a_secret_in_the_state_folder_would_be_found(world: World) -> None:
    """What every other test relies on."""
    token = world.oauth.grant("acme", "app-acme", location_id="acme-1")
    folder = world.program.home / "state" / "somewhere"
    folder.mkdir(parents=True)
    (folder / "cache").write_bytes(b"\0" + token.encode())
    with pytest.raises(AssertionError, match="hold a secret"):
        world.program.assert_state_silent()
    (folder / "cache").unlink()


def test_running_and_killed_processes_show_no_secret(vault: Vault) -> None:
    """While a request is out: the process list, and what lies on the disk when it is killed then."""
    world = vault.world
    program = world.program
    lines = [world.csv_line("acme", f"acme-{number}") for number in (1, 2)]
    seen: list[bytes] = []

    def look(call: faults.Call, act: faults.Act) -> Response:
        process = running[0]
        seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        assert b"Max core file size        0                    0" in Path(f"/proc/{process.pid}/limits").read_bytes()
        act()
        process.kill()
        process.wait()
        return Response(200, b"{}")

    running: list[subprocess.Popen[str]] = []
    world.oauth.fail(faults.Fault("look around", look))
    script = program.installed() / "onboard_client.py"
    with subprocess.Popen(
        python(script, "--from-csv", program.csv(*lines), "--json"),
        env=program.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        running.append(process)
        out, err = process.communicate(timeout=60)
    vault.said.append(Result(process.returncode, out, err))
    assert process.returncode == -9
    assert len(seen) == 1
    assert [entry["step"] for entry in world.journalled()] == ["sent"]
    vault.search({"the process list": seen[0]})
    vault.assert_silent()
