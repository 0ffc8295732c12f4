"""Tables as five earlier programs keep them, made as their documents say, with grants that the fake providers know."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.conftest import World
from tests.world.airtable.templates import six_columns
from tests.world.clock import START

HOUR = timedelta(hours=1)
USER_TOKENS = """
CREATE TABLE user_tokens (
    id UUID PRIMARY KEY,
    user_id VARCHAR UNIQUE NOT NULL,
    encrypted_access_token TEXT NOT NULL,
    encrypted_refresh_token TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);"""
GIT_CONNECTIONS = """
CREATE TABLE git_connections (
    id VARCHAR(32) PRIMARY KEY,
    provider VARCHAR(20) NOT NULL,
    instance_url VARCHAR(255),
    username VARCHAR(255),
    email VARCHAR(255),
    access_token_encrypted TEXT NOT NULL,
    refresh_token_encrypted TEXT,
    token_expires_at TIMESTAMP WITH TIME ZONE,
    scopes JSON,
    connected_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    is_active BOOLEAN NOT NULL DEFAULT TRUE
);"""
CLIENTS_AND_TOKENS = """
CREATE TABLE clients (
    id INTEGER PRIMARY KEY,
    client_id VARCHAR NOT NULL,
    client_secret VARCHAR NOT NULL,
    redirect_uri VARCHAR NOT NULL,
    branch_id VARCHAR UNIQUE NOT NULL,
    workspace_email VARCHAR,
    workspace_name VARCHAR,
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    created_at TIMESTAMP,
    updated_at TIMESTAMP
);
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    client_id INTEGER NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    access_token TEXT NOT NULL,
    refresh_token TEXT,
    expires_at {time} NOT NULL,
    is_valid BOOLEAN NOT NULL DEFAULT TRUE,
    is_revoked BOOLEAN NOT NULL DEFAULT FALSE,
    token_type VARCHAR NOT NULL DEFAULT 'Bearer',
    scope TEXT,
    last_refreshed_at {time},
    created_at {time},
    updated_at {time}
);"""
WORKSPACE_TOKENS = """
CREATE TABLE IF NOT EXISTS tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL,
    user_id TEXT NOT NULL,
    access_token_encrypted TEXT NOT NULL,
    refresh_token_encrypted TEXT,
    expires_at TIMESTAMP NOT NULL,
    scopes TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    UNIQUE(provider, user_id)
);"""


@dataclass
class Earlier:
    """What an earlier program left: its table, its key, the clients in it.

    Attributes:
        tokens: the refresh token of each location.
        access: the access token of each location.
    """

    world: World
    layout: str
    name: str = ""
    fernet: Fernet = field(default_factory=lambda: Fernet(Fernet.generate_key()))
    tokens: dict[str, str] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The SQLite file of a database layout."""
        return self.world.program.home / f"{self.layout}.db"

    def take_key(self) -> None:
        """Seal with the key that the program knows."""
        key = self.world.program.settings.setdefault("IMPORT_KEY", Fernet.generate_key().decode())
        self.fernet = Fernet(key)

    def make(self, ddl: str) -> None:
        """The empty database."""
        with closing(sqlite3.connect(self.file)) as database:
            database.executescript(ddl)
        self.name = f"sqlite:///{self.file}"

    def grant(self, provider: str, location: str, client_id: str = "", **facts: Any) -> tuple[str, str]:
        """A consent: its access and refresh token."""
        refresh = self.world.oauth.grant(provider, client_id or f"app-{provider}", location_id=location, **facts)
        self.tokens[location], self.access[location] = refresh, self.world.oauth.current_access(refresh)
        return self.access[location], refresh

    def insert(self, table: str, **values: Any) -> None:
        """One record."""
        with closing(sqlite3.connect(self.file)) as database, database:
            marks = ", ".join("?" * len(values))
            database.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    def edit(self, table: str, **values: Any) -> None:
        """The same values in every record."""
        with closing(sqlite3.connect(self.file)) as database, database:
            cells = ", ".join(f"{name} = ?" for name in values)
            database.execute(f"UPDATE {table} SET {cells}", tuple(values.values()))

    def cell(self, text: str) -> str:
        """Fernet."""
        return self.fernet.encrypt(text.encode()).decode()

    def twice_encoded(self, text: str) -> str:
        """Base64 of Fernet."""
        return base64.urlsafe_b64encode(self.fernet.encrypt(text.encode())).decode()


def stored_time(moment: datetime) -> str:
    """A time as SQLAlchemy's DateTime and Python's old adapter leave it in SQLite: the zone is dropped."""
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def point_at(world: World, *providers: str) -> None:
    """These providers of the catalogue answer on loopback, with their usual client there."""
    for provider in providers:
        world.program.settings[f"{provider.upper().replace('-', '_')}_TOKEN_URL"] = world.oauth.token_url(provider)
        world.oauth.add_client(provider, f"app-{provider}", f"{provider} client secret")


def default_client(world: World, provider: str) -> None:
    """The settings know the provider's usual client."""
    name = provider.upper().replace("-", "_")
    world.program.settings |= {
        f"{name}_CLIENT_ID": f"app-{provider}",
        f"{name}_CLIENT_SECRET": f"{provider} client secret",
    }


# Of each layout one, with two clients in it


def user_tokens(world: World) -> Earlier:
    """Two users of one Microsoft app."""
    earlier = Earlier(world, "user-tokens")
    point_at(world, "microsoft")
    world.program.settings |= {
        "TENANT_ID": "contoso.example",
        "CLIENT_ID": "app-microsoft",
        "CLIENT_SECRET": "microsoft client secret",
        "GRAPH_REDIRECT_URI": "https://mail.example/auth/callback",
    }
    earlier.take_key()
    earlier.make(USER_TOKENS)
    for number, user in enumerate(("tom", "ann"), 1):
        add_user(earlier, user, number)
    return earlier


def add_user(earlier: Earlier, user: str, number: int, **values: Any) -> None:
    """One login."""
    access, refresh = earlier.grant("microsoft", user)
    record: dict[str, Any] = {
        "id": f"{number:032x}",
        "user_id": user,
        "encrypted_access_token": earlier.cell(access),
        "encrypted_refresh_token": earlier.cell(refresh),
        "expires_at": stored_time(START + HOUR),
    }
    earlier.insert("user_tokens", **record | values)


def git_connections(world: World, *, is_described: bool = True) -> Earlier:
    """A GitHub login and one at a GitLab of the company's own.

    `is_described`: the settings know that GitLab, as a provider of its own.
    """
    earlier = Earlier(world, "git-connections")
    point_at(world, "github-app")
    default_client(world, "github-app")
    if is_described:
        described_gitlab(world)
    else:
        own_gitlab(world)
    earlier.take_key()
    earlier.make(GIT_CONNECTIONS)
    add_connection(earlier, "5f1c", "github", scopes=json.dumps(["repo", "read:user"]), username="tom")
    add_connection(earlier, "9ab2", "gitlab", instance_url=world.oauth.url, email="tom@acme.example")
    return earlier


def described_gitlab(world: World) -> None:
    """The company's GitLab as a provider of its own, with its app in the settings."""
    address = world.oauth.token_url("gitlab")
    own = world.program.settings.setdefault("PROVIDERS_FILE", str(world.program.home / "providers.toml"))
    with Path(own).open("a") as file:
        file.write(
            f'[gitlab-acme]\nname = "GitLab of Acme"\ntoken_url = "{address}"\n'
            'params = { redirect_uri = "{redirect_uri}" }\nplaceholders = { redirect_uri = "" }\nlifetime = 7200\n'
        )
    world.oauth.add_client("gitlab", "app-gitlab", "gitlab client secret")
    world.program.settings |= {
        "GITLAB_ACME_CLIENT_ID": "app-gitlab",
        "GITLAB_ACME_CLIENT_SECRET": "gitlab client secret",
        "GITLAB_CLIENT_ID": "app-gitlab-com",
        "GITLAB_CLIENT_SECRET": "secret of the app at gitlab.com",
    }


def own_gitlab(world: World) -> None:
    """GitLab with the fake's path; its default host is another than the fake's."""
    path = urlsplit(world.oauth.token_url("gitlab")).path
    with Path(world.program.settings["PROVIDERS_FILE"]).open("a") as file:
        file.write(
            f'[gitlab]\nname = "GitLab"\ntoken_url = "http://{{instance}}{path}"\n'
            'params = { redirect_uri = "{redirect_uri}" }\n'
            'placeholders = { instance = "localhost:9", redirect_uri = "" }\nlifetime = 7200\n'
        )
    world.oauth.add_client("gitlab", "app-gitlab", "gitlab client secret")
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = urlsplit(world.oauth.url).netloc


def add_connection(earlier: Earlier, name: str, provider: str, **values: Any) -> None:
    """One login."""
    issuer = "gitlab" if provider == "gitlab" else "github-app"
    facts = {"redirect_uri": "https://app.example/callback"} if issuer == "gitlab" else {}
    access, refresh = earlier.grant(issuer, name, **facts)
    record: dict[str, Any] = {
        "id": name,
        "provider": provider,
        "access_token_encrypted": earlier.cell(access),
        "refresh_token_encrypted": earlier.cell(refresh),
        "token_expires_at": stored_time(START + HOUR),
        "connected_at": stored_time(START - HOUR),
    }
    earlier.insert("git_connections", **record | values)


def clients_and_tokens(world: World, time: str = "TIMESTAMP WITH TIME ZONE") -> Earlier:
    """Two branches, each with a Google app of its own, all in the clear."""
    earlier = Earlier(world, "clients-and-tokens")
    earlier.make(CLIENTS_AND_TOKENS.format(time=time))
    for number, branch in enumerate(("uuid-12345", "uuid-67890"), 1):
        add_branch(earlier, branch, number)
    return earlier


def add_branch(earlier: Earlier, branch: str, number: int, **values: Any) -> None:
    """A client without tokens, then its token; `values` are for the token."""
    app = f"{number}-app.apps.googleusercontent.com"
    earlier.world.oauth.add_client("google", app, f"secret of branch {number}")
    earlier.insert(
        "clients",
        id=number,
        client_id=app,
        client_secret=f"secret of branch {number}",
        redirect_uri="http://localhost:8002/auth/callback",
        branch_id=branch,
        workspace_email="workspace@company.example",
        workspace_name="Company Workspace, Zürich",
        is_active=True,
    )
    access, refresh = earlier.grant("google", branch, app)
    add_token(earlier, number, **{"access_token": access, "refresh_token": refresh} | values)


def add_token(earlier: Earlier, client: int, **values: Any) -> None:
    """One more token of a client."""
    record: dict[str, Any] = {
        "client_id": client,
        "expires_at": (START + HOUR).isoformat(),
        "is_valid": True,
        "is_revoked": False,
        "scope": "https://www.googleapis.com/auth/business.manage",
        "last_refreshed_at": START.isoformat(),
    }
    earlier.insert("tokens", **record | values)


def workspace_tokens(world: World) -> Earlier:
    """A user with a login at Google and one at Microsoft."""
    earlier = Earlier(world, "workspace-tokens")
    for provider in ("google", "microsoft"):
        point_at(world, provider)
        default_client(world, provider)
    earlier.take_key()
    earlier.make(WORKSPACE_TOKENS)
    for provider, user in (("google", "dr-g"), ("microsoft", "dr-m")):
        access, refresh = earlier.grant(provider, user)
        earlier.insert(
            "tokens",
            provider=provider,
            user_id=user,
            access_token_encrypted=earlier.twice_encoded(access),
            refresh_token_encrypted=earlier.twice_encoded(refresh),
            expires_at=stored_time(START + HOUR),
            scopes="calendar mail",
        )
    return earlier


def airtable_gcm(world: World, table: str = "Earlier") -> Earlier:
    """Two HighLevel locations in another table of the base, or in the program's own."""
    earlier = Earlier(world, "airtable-gcm", table)
    key = os.urandom(32)
    world.program.settings["IMPORT_KEY"] = base64.b64encode(key).decode()
    assert world.airtable is not None
    made = world.airtable.six_column_table(table) if table == "Earlier" else world.table
    for location in ("loc-1", "loc-2"):
        made.add(six_cells(earlier, location, key))
    return earlier


def six_cells(earlier: Earlier, location: str, key: bytes) -> Mapping[str, Any]:
    """One record: nonce, ciphertext and tag in base64; the access token in the clear."""

    def bare(text: str) -> str:
        nonce = os.urandom(12)
        return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text.encode(), None)).decode()

    access, refresh = earlier.grant("gohighlevel", location, "app-highlevel")
    earlier.world.program.in_clear.add(access)
    cells = {
        "locationId": location,
        "client_id": "app-highlevel",
        "encrypted_secret": bare("highlevel secret"),
        "encrypted_refresh": bare(refresh),
        "last_access_token": access,
        "access_token_expiry": "2026-03-01T13:00:00.000Z",
    }
    assert list(cells) == [column.name for column in six_columns()]
    return cells
