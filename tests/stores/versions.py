"""The embedded database as earlier versions of the program made it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

_FIRST = """
CREATE TABLE credentials (
    id INTEGER NOT NULL, location_id TEXT NOT NULL, provider TEXT DEFAULT '' NOT NULL,
    client_id TEXT DEFAULT '' NOT NULL, encrypted_secret TEXT DEFAULT '' NOT NULL,
    encrypted_refresh TEXT DEFAULT '' NOT NULL, last_access_token TEXT DEFAULT '' NOT NULL,
    access_token_expiry VARCHAR, provider_params TEXT DEFAULT '' NOT NULL, status TEXT DEFAULT 'active' NOT NULL,
    last_error TEXT DEFAULT '' NOT NULL, last_refreshed VARCHAR, refreshed_by TEXT DEFAULT '' NOT NULL,
    failure_count INTEGER DEFAULT '0' NOT NULL, refresh_token_expiry VARCHAR, redirect_uri TEXT,
    workspace_email TEXT, workspace_name TEXT, scopes TEXT, token_type TEXT, id_token TEXT,
    is_active BOOLEAN DEFAULT 1 NOT NULL, created_at VARCHAR, updated_at VARCHAR, last_used_at VARCHAR,
    claim_owner TEXT, claim_generation INTEGER DEFAULT '0' NOT NULL,
    PRIMARY KEY (id), UNIQUE (location_id, provider)
);
CREATE INDEX ix_credentials_access_token_expiry ON credentials (access_token_expiry);
PRAGMA user_version = 1;
"""
_SECOND = """
ALTER TABLE credentials ADD COLUMN claimed_at VARCHAR;
CREATE INDEX ix_credentials_claim_owner ON credentials (claim_owner) WHERE claim_owner IS NOT NULL;
PRAGMA user_version = 2;
"""
_THIRD = """
DROP INDEX ix_credentials_access_token_expiry;
CREATE INDEX ix_credentials_due ON credentials (access_token_expiry) WHERE is_active IS 1;
CREATE INDEX ix_credentials_unreadable ON credentials (CASE WHEN access_token_expiry GLOB
 '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9]Z'
 THEN strftime('%Y-%m-%dT%H:%M:%fZ', access_token_expiry, '+0 days') IS NOT access_token_expiry ELSE 1 END);
CREATE TABLE provider_pauses (provider TEXT NOT NULL, until VARCHAR NOT NULL, is_broken BOOLEAN DEFAULT 0 NOT NULL,
    PRIMARY KEY (provider));
PRAGMA user_version = 3;
"""
_FOURTH = """
CREATE TABLE store_identity (id TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO store_identity VALUES (lower(hex(randomblob(16))));
CREATE INDEX ix_credentials_last_refreshed ON credentials (last_refreshed) WHERE is_active IS 1;
PRAGMA user_version = 4;
"""
_FIFTH = """
CREATE INDEX ix_credentials_refresh_token_expiry ON credentials (refresh_token_expiry) WHERE is_active IS 1;
PRAGMA user_version = 5;
"""
_SIXTH = """
ALTER TABLE credentials ADD COLUMN username TEXT;
ALTER TABLE credentials ADD COLUMN email TEXT;
ALTER TABLE credentials ADD COLUMN connected_at VARCHAR;
ALTER TABLE credentials ADD COLUMN previous_refresh TEXT;
UPDATE credentials SET is_active = 0 WHERE status = 'disabled';
PRAGMA user_version = 6;
"""
_SEVENTH = """
CREATE INDEX ix_credentials_alarming ON credentials (status)
 WHERE (failure_count > 0 OR last_error <> '' OR status = 'reauthorize');
PRAGMA user_version = 7;
"""
_EIGHTH = """
CREATE TABLE notes (name TEXT NOT NULL, content TEXT DEFAULT '' NOT NULL, held_until VARCHAR, PRIMARY KEY (name));
PRAGMA user_version = 8;
"""
_NINTH = """
CREATE TABLE api_keys (id TEXT NOT NULL, name TEXT NOT NULL, secret_hash TEXT NOT NULL, scopes TEXT NOT NULL,
    created_at VARCHAR NOT NULL, last_used_at VARCHAR, PRIMARY KEY (id), UNIQUE (name));
CREATE TABLE links (id INTEGER NOT NULL, token_hash TEXT NOT NULL, row_id TEXT NOT NULL, location_id TEXT NOT NULL,
    provider TEXT NOT NULL, expires_at VARCHAR NOT NULL, created_by TEXT NOT NULL,
    PRIMARY KEY (id), UNIQUE (token_hash));
CREATE TABLE pending_logins (state_hash TEXT NOT NULL, browser_hash TEXT NOT NULL, link_id INTEGER,
    content TEXT NOT NULL, ends_at VARCHAR NOT NULL, PRIMARY KEY (state_hash));
PRAGMA user_version = 9;
"""
_TENTH = "PRAGMA user_version = 10;"  # the history, which has a file of its own
_SCRIPTS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH, _NINTH, _TENTH)


def make_sqlite(file: Path, version: int, *rows: Mapping[str, object]) -> None:
    """A file of that version with these rows; of version 0, one with nothing in it."""
    file.touch(mode=0o600)
    with closing(sqlite3.connect(file, isolation_level=None)) as shell:
        for number in range(version):
            shell.executescript(_SCRIPTS[number])
        for row in rows:
            marks = ", ".join("?" for _ in row)
            shell.execute(f"INSERT INTO credentials ({', '.join(row)}) VALUES ({marks})", list(row.values()))
