"""Who may import whom. The house is readable only as long as its arrows go one way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("commands", "refresher", "providers", "stores", "token_refresh", "examples")
LEAVES = ("crypto", "settings", "clock", "tls")

# Longest name first: `stores.sealed` is a rule of its own, `stores` is for the plain stores.
ALLOWED = {
    "crypto": set(),
    "token_refresh": set(),
    "token_refresh.base": {"token_refresh.base"},
    "settings": {"token_refresh.base"},
    "clock": set(),
    "tls": set(),
    "providers.base": {"token_refresh.base"},
    "providers": {"providers.base", "token_refresh.base"},
    "stores.base": {"token_refresh.base", "clock"},
    "stores.sealed": {"token_refresh.base", "stores.base", "crypto"},
    "stores": {"token_refresh.base", "stores.base", "clock"},
    "stores.source": {"token_refresh.base", "stores.base", "stores.database.postgres"},
    "stores.airtable": {"token_refresh.base", "stores.airtable", "stores.base", "clock", "tls"},
    "stores.database": {"token_refresh.base", "stores.database", "stores.base", "clock"},
    "stores.database.migrations": set(),
    "refresher.journal_file": {"token_refresh.base", "refresher.lock"},
    "refresher.failures": {"token_refresh.base", "refresher.journal_file", "crypto", "clock", "stores.base"},
    "refresher.journal": {
        "token_refresh.base",
        "refresher.journal_file",
        "refresher.failures",
        "crypto",
        "clock",
        "providers.base",
        "stores.base",
    },
    "refresher": {
        "token_refresh.base",
        "refresher",
        "providers.base",
        "stores.base",
        "stores.sealed",
        "clock",
        "crypto",
        "tls",
    },
    "commands": {"token_refresh", "commands", "refresher", "providers", "stores", "crypto", "settings", "clock"},
    "token_manager": {"commands"},
    "onboard_client": {"commands", "clock", "settings"},
    "examples": {"examples", "token_manager"},
}
# crypto is for those who hold keys or their errors; in the refresher that is the journal and its users.
KNOWS_CRYPTO = {"refresher.journal", "refresher.failures", "refresher.loop", "refresher.enrol", "refresher.recovery"}


def _modules() -> Iterator[tuple[str, Path]]:
    for path in [*ROOT.glob("*.py"), *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _ours(name: str) -> bool:
    return name.partition(".")[0] in (*ROOMS, *LEAVES, "token_manager", "onboard_client", "tests", "bench")


def _covers(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


@pytest.mark.parametrize(("module", "path"), [pytest.param(name, path, id=name) for name, path in _modules()])
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    rule = max((one for one in ALLOWED if _covers(module, {one})), key=len)
    # The registry itself is the one place that knows every provider.
    allowed = {"providers", "token_refresh.base"} if module == "providers" else ALLOWED[rule]
    strays = {name for name in _imports(path) if _ours(name) and not _covers(name, allowed)}
    assert not strays, f"{module} may not import {sorted(strays)}"
    if rule == "refresher" and "crypto" in set(_imports(path)):
        assert module in KNOWS_CRYPTO


def test_every_room_is_under_a_rule() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert folders == set(ROOMS)


def test_nothing_but_settings_reads_the_environment() -> None:
    readers = {name for name, path in _modules() if re.search(r"os\.(environ|getenv)", path.read_text())}
    # The entry points, for people and for programs, hand it over to settings; examples are programs of their own.
    assert readers == {"commands.cli", "commands.programs", "onboard_client", "examples.api"}


def test_only_databases_import_sqlalchemy() -> None:
    users = {name for name, path in _modules() if any(one.startswith("sqlalchemy") for one in _imports(path))}
    assert {".".join(name.split(".")[:2]) for name in users} == {"stores.database", "stores.source"}


def test_sqlite_goes_on_without_what_postgresql_needs() -> None:
    """Nothing of ours imports it before an address of PostgreSQL is opened."""
    code = "import sys, commands.cli, stores.database.sqlite; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "sqlalchemy" in loaded.split()
    assert not {"psycopg", "alembic", "stores.database.postgres"} & set(loaded.split())


def test_an_idle_start_imports_nothing_heavy() -> None:
    """The lock is taken before the heavy libraries: fifty starts at once must cost next to nothing."""
    code = "import sys, token_manager, commands.refresh; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"requests", "pyairtable", "sqlalchemy", "rich", "urllib3", "pydantic", "asyncio"} & set(loaded.split())
