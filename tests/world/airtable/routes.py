"""Who may ask, and what they ask for."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import unquote

from tests.world.airtable import errors
from tests.world.http import Request

READ, WRITE = "data.records:read", "data.records:write"
SCHEMA_READ, SCHEMA_WRITE = "schema.bases:read", "schema.bases:write"
ALL_SCOPES = frozenset({READ, WRITE, SCHEMA_READ, SCHEMA_WRITE})
ROLES = ("none", "read", "comment", "edit", "create")

# Kind of call -> the scope and the role that it needs.
NEEDS = {
    "whoami": ("", "none"),
    "bases": (SCHEMA_READ, "none"),
    "schema": (SCHEMA_READ, "read"),
    "create_table": (SCHEMA_WRITE, "create"),
    "create_field": (SCHEMA_WRITE, "create"),
    "list": (READ, "read"),
    "get": (READ, "read"),
    "create": (WRITE, "edit"),
    "update": (WRITE, "edit"),
    "delete": (WRITE, "edit"),
}
KINDS = frozenset(NEEDS)
METERED = frozenset({"list", "get", "create", "update", "delete"})


@dataclass(frozen=True)
class Token:
    """A personal access token. `bases` is `None` where it reaches all; `role` is its user's."""

    secret: str
    name: str
    scopes: frozenset[str] = ALL_SCOPES
    bases: frozenset[str] | None = None
    role: str = "create"
    user: str = "usrTestUser000001"

    def reaches(self, base_id: str) -> bool:
        """Whether the token was given this base."""
        return self.bases is None or base_id in self.bases


@dataclass(frozen=True)
class Route:
    """What a request asks for. `kind` is one of `KINDS`, or `unknown`."""

    kind: str
    base: str = ""
    table: str = ""
    record: str = ""

    @classmethod
    def of(cls, request: Request) -> Route:
        """Read the method and the path alone."""
        root, *parts = [unquote(part) for part in request.path.removeprefix("/").split("/")]
        if root != "v0" or not all(parts):
            return cls("unknown")
        return cls._meta(request.method, parts[1:]) if parts[:1] == ["meta"] else cls._data(request.method, parts)

    @classmethod
    def _meta(cls, method: str, parts: list[str]) -> Route:
        match (method, parts):
            case ("GET", ["whoami"]):
                return cls("whoami")
            case ("GET", ["bases"]):
                return cls("bases")
            case ("GET", ["bases", base, "tables"]):
                return cls("schema", base)
            case ("POST", ["bases", base, "tables"]):
                return cls("create_table", base)
            case ("POST", ["bases", base, "tables", table, "fields"]):
                return cls("create_field", base, table)
        return cls("unknown")

    @classmethod
    def _data(cls, method: str, parts: list[str]) -> Route:
        match (method, parts):
            case ("GET", [base, table]) | ("POST", [base, table, "listRecords"]):
                return cls("list", base, table)
            case ("POST", [base, table]):
                return cls("create", base, table)
            case ("PATCH" | "PUT", [base, table]):
                return cls("update", base, table)
            case ("DELETE", [base, table]):
                return cls("delete", base, table)
            case ("GET", [base, table, record]):
                return cls("get", base, table, record)
            case ("PATCH" | "PUT", [base, table, record]):
                return cls("update", base, table, record)
            case ("DELETE", [base, table, record]):
                return cls("delete", base, table, record)
        return cls("unknown")


def authorize(route: Route, token: Token, bases: Container[str]) -> None:
    """Raises `ApiError`: 404 for no such route or base, 403 for a missing scope, base or role."""
    if route.kind not in KINDS or (route.base and route.base not in bases):
        raise errors.not_found()
    scope, role = NEEDS[route.kind]
    if (scope and scope not in token.scopes) or (route.base and not token.reaches(route.base)):
        raise errors.model_not_found()
    if ROLES.index(token.role) < ROLES.index(role):
        raise errors.not_permitted()
