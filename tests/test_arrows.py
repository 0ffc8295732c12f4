"""Who may import whom. The house is readable only as long as its arrows go one way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("token_refresh", "providers", "examples")
SCRIPTS = ("crypto", "token_manager", "onboard_client")

_BASE = {"token_refresh.base"}
_OPEN = {f"providers.{name}" for name in ("base", "times", "addresses", "index")} | {"crypto"}
_CLOSED = _OPEN | _BASE  # what every room may know
_STORED = {"token_refresh.stores.base", "token_refresh.stores.sealed", "token_refresh.journal", "token_refresh.net"}
_RUN = {"token_refresh.refresh"} | _STORED | _CLOSED
_WIRED = {f"token_refresh.{name}" for name in ("transfer", "keys", "clients", "diagnosis", "notifiers")} | _RUN
_BUILT = {"token_refresh.wiring"} | _WIRED
_SERVED = {f"token_refresh.{name}" for name in ("service", "library", "access", "settings", "wiring")} | {
    *_BASE,
    "token_refresh.clients.login.attempt",
}

# Longest name first: `token_refresh.stores.sealed` is a rule of its own, `token_refresh.stores` is for plain stores.
ALLOWED: dict[str, set[str]] = {
    "crypto": set(),
    "providers.answer_words": _BASE,
    "providers.times": _BASE,
    "providers.addresses": _BASE,
    "providers.login": set(),
    "providers.base": {"providers.answer_words", "providers.times", "providers.addresses", "providers.login"} | _BASE,
    "providers.authorization": {"providers.base", "providers.addresses"},
    "providers.discovery": {"providers.addresses"} | _BASE,
    "providers.introspection": {"providers.base"},
    "providers.revocation": {"providers.base", "providers.addresses"} | _BASE,
    "providers.index": {"providers.base"},
    "providers.entries": {"providers.base", "providers.login", "providers.times", "providers.addresses"} | _BASE,
    "providers.registry": {f"providers.{name}" for name in ("base", "login", "addresses", "entries", "index")} | _BASE,
    "providers": {f"providers.{name}" for name in ("base", "addresses", "login", "times", "by_words")},  # each quirk
    "token_refresh.base": _BASE,
    "token_refresh.settings": _BASE,
    "token_refresh.net": {"token_refresh.net"} | _CLOSED - {"crypto"},
    "token_refresh.journal": {"token_refresh.journal"} | _CLOSED,
    "token_refresh.stores.base": _BASE,
    "token_refresh.stores.sealed": {"token_refresh.stores.base", "crypto"} | _BASE,
    "token_refresh.stores": {"token_refresh.stores.base"} | _BASE,
    "token_refresh.stores.airtable": {"token_refresh.stores.airtable", "token_refresh.stores.base"} | _BASE,
    "token_refresh.stores.database": {"token_refresh.stores.database", "token_refresh.stores.base"} | _BASE,
    "token_refresh.stores.database.migrations": set(),
    "token_refresh.refresh": _RUN,
    "token_refresh.clients": {
        *("token_refresh.clients", "providers.introspection", "providers.revocation", "providers.authorization"),
        *("providers.long_lived", "providers.gohighlevel"),
    }
    | _RUN,
    "token_refresh.diagnosis": {"token_refresh.diagnosis"} | _RUN,
    "token_refresh.notifiers": {"token_refresh.notifiers", "token_refresh.diagnosis", "token_refresh.settings"} | _RUN,
    "token_refresh.keys": {"token_refresh.keys"} | _RUN,
    "token_refresh.transfer": {"token_refresh.transfer", "token_refresh.keys", "token_refresh.stores.database.postgres"}
    | {"providers"}
    | _RUN,
    "token_refresh.access": {
        *("token_refresh.access", "token_refresh.stores.base", "token_refresh.stores.database"),
    }
    | _BASE,
    "token_refresh.wiring": {"token_refresh.settings", "token_refresh.stores", "providers"} | _BUILT,
    "token_refresh.library": {"token_refresh.library", "token_refresh.settings"} | _BUILT,
    "token_refresh.service": _SERVED,
    "token_refresh.service.__main__": {"token_refresh.terminal", "crypto"} | _SERVED,  # it is a program
    "token_refresh.terminal.completion": {"providers.registry"} | _BASE,  # shells complete the names of providers
    "token_refresh.terminal": {"token_refresh.terminal", "token_refresh.settings", "providers.authorization"} | _WIRED,
    "token_refresh.commands": {
        *("token_refresh.commands", "token_refresh.terminal", "token_refresh.library", "token_refresh.settings"),
        *("token_refresh.stores", "token_refresh.access", "token_refresh.service.report", "providers"),
    }
    | _BUILT,
    "token_manager": {"token_refresh.commands", "token_refresh.library", "token_refresh.terminal"} | _BASE,
    "onboard_client": {"token_refresh.commands"} | _BASE,
    "examples": {"examples", "token_manager"},
}  # fmt: skip
# Arrows that still run upwards. This list only gets shorter.
KNOTS: set[tuple[str, str]] = set()


def _modules() -> Iterator[tuple[str, Path]]:
    paths = [path for name in SCRIPTS for path in ROOT.glob(f"{name}.py")]
    for path in [*paths, *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file names, also inside its functions; of `from room import module` the module itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / alias.name
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def _ours(name: str) -> bool:
    return name.partition(".")[0] in (*FOLDERS, *SCRIPTS, "tests", "bench", "docs")


def _covers(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


@pytest.mark.parametrize(("module", "path"), [pytest.param(name, path, id=name) for name, path in _modules()])
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    if module == "token_refresh":
        assert not any(map(_ours, _imports(path))), "the package itself is empty"
        return
    rule = max((one for one in ALLOWED if _covers(module, {one})), key=len)
    # The room's face hands on what is public in it.
    allowed = {"providers"} if module == "providers" else ALLOWED[rule]
    strays = {name for name in _imports(path) if _ours(name) and not _covers(name, allowed)}
    strays -= {name for name in strays if (module, name) in KNOTS}
    assert not strays, f"{module} may not import {sorted(strays)}"


def test_every_room_is_under_a_rule_of_its_own() -> None:
    rooms = {f"token_refresh.{path.parent.name}" for path in (ROOT / "token_refresh").glob("*/__init__.py")}
    assert rooms <= set(ALLOWED)


def test_nothing_but_settings_reads_the_environment() -> None:
    readers = {name for name, path in _modules() if re.search(r"os\.(environ(?!\[.+\] = )|getenv)", path.read_text())}
    # The entry points, for people and for programs, hand it over to settings; examples are programs of their own.
    assert readers == {
        "token_refresh.commands",
        "token_refresh.library.manager",
        "token_refresh.service.__main__",
        "token_refresh.notifiers.apprise_child",  # a process of its own, which sets a proxy there
        "examples.api",
    }


@pytest.mark.long
def test_only_databases_import_sqlalchemy() -> None:
    users = {name for name, path in _modules() if any(one.startswith("sqlalchemy") for one in _imports(path))}
    assert {".".join(name.split(".")[:3]) for name in users} == {
        "token_refresh.stores.database",
        "token_refresh.transfer.source_database",
    }


@pytest.mark.long
def test_a_run_on_sqlite_loads_nothing_that_only_another_store_needs(world: World) -> None:
    assert world.program.onboard("--no-check", "--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == 0
    code = "import sys, token_manager; token_manager.main(['--all']); print(*sorted(sys.modules))"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, env=world.program.environment(), capture_output=True, text=True)
    assert "loc acme: refreshed" in ended.stderr
    loaded = set(ended.stdout.split())
    assert {"sqlalchemy", "token_refresh.stores.database.sqlite"} <= loaded
    assert not {"psycopg", "alembic", "token_refresh.stores.database.postgres", "pyairtable"} & loaded


def test_an_idle_start_imports_nothing_heavy() -> None:
    """The lock is taken before the heavy libraries: fifty starts at once must cost next to nothing."""
    code = "import sys, token_manager, token_refresh.commands.refresh; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"requests", "pyairtable", "sqlalchemy", "rich", "urllib3", "pydantic", "asyncio"} & set(loaded.split())


def test_no_arrow_is_listed_as_a_knot_that_nobody_draws() -> None:
    drawn = {(name, imported) for name, path in _modules() for imported in _imports(path)}
    assert drawn >= KNOTS
