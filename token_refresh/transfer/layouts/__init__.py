"""What people have today: a module for each layout of an earlier program's table says what its columns mean.

A new layout is a module with `read`, and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping

LAYOUTS: Mapping[str, str] = {
    "airtable-gcm": "a table of the configured Airtable base: six columns, AES-GCM in bare base64",
    "user-tokens": "a database with the table user_tokens: Microsoft, Fernet",
    "git-connections": "a database with the table git_connections: GitHub, GitLab and others, Fernet",
    "clients-and-tokens": "a database with the tables clients and tokens: Google, in the clear",
    "workspace-tokens": "a database with the table tokens: Google and Microsoft, base64 of Fernet",
}
