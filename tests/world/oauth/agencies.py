"""HighLevel's two endpoints for agencies, strictly: the list of installed locations, and the pair of one of them.

https://github.com/GoHighLevel/highlevel-api-docs: apps/oauth.json
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.world.http import Request, Response
from tests.world.oauth.tokens import Grant, TokenBook

VERSION = "2021-07-28"
MAX_PAGE = 100
CALLS, SECONDS = 100, 10.0


@dataclass
class Agencies:
    """The agencies' locations, and whether each has the app.

    Args:
        book: the tokens.
        clock: Unix seconds.
        refuse: notes what no client should send, and answers it.

    Attributes:
        installed: by company id, the name of each location that has the app.
        inactive: locations that get no tokens for now.
        without_refresh_token: answers bring none, as v2's own description has it.
        max_page: pages are cut to so many.
    """

    book: TokenBook
    clock: Callable[[], float] = time.time
    installed: dict[str, dict[str, str]] = field(default_factory=dict)
    inactive: set[str] = field(default_factory=set)
    without_refresh_token: bool = False
    max_page: int = MAX_PAGE
    violations: list[str] = field(default_factory=list)
    _calls: deque[float] = field(default_factory=deque)

    def install(self, company_id: str, *location_ids: str) -> None:
        """Give locations the app."""
        self.installed.setdefault(company_id, {}).update({one: f"Name of {one}" for one in location_ids})

    def uninstall(self, company_id: str, location_id: str) -> None:
        """Take it away; the tokens of the location die."""
        del self.installed[company_id][location_id]
        for grant in self.book.grants.values():
            if grant.location_id == location_id:
                grant.uninstalled = True
                self.book.end_grant(grant, "the app was uninstalled")

    def list_installed(self, request: Request) -> Response:
        """`GET /oauth/installedLocations`."""
        wrong = self._refusal(request, "GET")
        query = dict(request.query)
        if wrong is not None:
            return wrong
        if set(query) != {"companyId", "appId", "isInstalled", "skip", "limit"} or len(query) != len(request.query):
            return self._violated(422, f"the query has {sorted(query)}")
        grant = self._grant(request)
        if grant is None or grant.facts.get("company_id") != query["companyId"]:
            return _error(401, "Invalid JWT")
        if query["appId"] != grant.client_id.partition("-")[0]:
            return _error(400, "appId is not of this token's app")
        skip, limit = int(query["skip"]), min(int(query["limit"]), self.max_page)
        page = list(self.installed.get(query["companyId"], {}).items())[skip : skip + limit]
        locations = [{"_id": one, "name": name, "address": "", "isInstalled": True} for one, name in page]
        return Response.of_json(200, {"locations": locations, "count": 5000, "installToFutureLocations": False})

    def mint(self, request: Request, dialect: Any) -> Response:
        """`POST /oauth/locationToken`."""
        wrong = self._refusal(request, "POST")
        if wrong is not None:
            return wrong
        pairs = parse_qsl(request.body.decode(), strict_parsing=True)
        form = dict(pairs)
        if sorted(name for name, _ in pairs) != ["companyId", "locationId"]:
            return self._violated(422, f"the form has {[name for name, _ in pairs]}")
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return self._violated(415, "locationToken takes a form")
        agency = self._grant(request)
        if agency is None or agency.facts.get("company_id") != form["companyId"]:
            return _error(401, "Invalid JWT")
        location_id = form["locationId"]
        if location_id not in self.installed.get(form["companyId"], {}):
            return _error(400, "Location not found or the app is not installed")
        if location_id in self.inactive:
            return _error(400, "Location is not active")
        facts = {"location_id": location_id, "user_type": "Location", "company_id": form["companyId"]}
        grant = self.book.new_grant(dialect, agency.client_id, facts)
        pair = self.book.issue(dialect, grant)
        content = {
            "access_token": pair.access_token,
            "token_type": "Bearer",
            "expires_in": dialect.lifetime,
            "refresh_token": pair.refresh_token,
            "scope": "contacts.readonly",
            "userType": "Location",
            "companyId": form["companyId"],
            "locationId": location_id,
            "userId": "user-1",
        }
        if self.without_refresh_token:
            del content["refresh_token"]
            self.book.refresh_tokens[pair.refresh_token or ""].revoked_at = self.clock()
        return Response.of_json(200, content)

    def _refusal(self, request: Request, method: str) -> Response | None:
        if request.method != method:
            return self._violated(404, f"{request.path} was asked with {request.method}")
        if request.headers.get("version") != VERSION:
            return self._violated(400, f"{request.path}: the header Version is {request.headers.get('version')}")
        now = self.clock()
        while self._calls and now - self._calls[0] >= SECONDS:
            self._calls.popleft()
        if len(self._calls) >= CALLS:
            return Response.of_json(429, {"statusCode": 429, "message": "Too Many Requests"}, {"Retry-After": "10"})
        self._calls.append(now)
        return None

    def _grant(self, request: Request) -> Grant | None:
        """The agency whose access token this is; None where it is no living one of an agency."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        token = self.book.access_tokens.get(value) if scheme == "Bearer" else None
        if token is None or not self.book.is_live(value):
            return None
        grant = self.book.grants[token.family]
        return grant if grant.facts.get("user_type") == "Company" else None

    def _violated(self, status: int, what: str) -> Response:
        self.violations.append(f"gohighlevel: {what}")
        return _error(status, what)


def _error(status: int, message: str) -> Response:
    return Response.of_json(status, {"statusCode": status, "message": message})
