"""The APIs that the examples call: Microsoft Graph, Google Business Profile and GitLab, as far as they are called.

Strict: a bearer token that is live and of the right provider, and only the parameters that the real ones know.
Sources: learn.microsoft.com/graph (user-list-calendarview, user-list-messages, user-post-messages),
developers.google.com/my-business/reference/rest/v4 (accounts.locations.reviews.list), docs.gitlab.com/api/rest.
Unconfirmed, from use: the bodies of their 401 and 429.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.world.http import HTTPServer, Request, Response
from tests.world.oauth import OAuthServer

Query = Mapping[str, str]
GRAPH, BUSINESS, GITLAB = "/graph/v1.0/", "/business/v4/", "/git/api/v4/"
_PROVIDERS = {GRAPH: "microsoft", BUSINESS: "google", GITLAB: "gitlab"}


class ApiServer:
    """Serves the three on loopback while used as a context manager.

    Args:
        oauth: knows which access tokens are live.

    Attributes:
        events, messages, reviews, projects: what is listed.
        drafts: what was posted.
        page: how many a page has, whatever is asked for.
        throttled: how many of the next requests are answered 429.
        retry_after: the header of those.
        before: called before each request.
        next_page: the address of next pages, where it is another.
    """

    def __init__(self, oauth: OAuthServer) -> None:
        self._oauth = oauth
        self._http = HTTPServer(self._answer)
        self.events: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.reviews: list[dict[str, Any]] = []
        self.projects: list[dict[str, Any]] = []
        self.drafts: list[dict[str, Any]] = []
        self.page = 2
        self.throttled = 0
        self.retry_after = "0"
        self.before: Callable[[], object] = lambda: None
        self.next_page = self._http.url

    def __enter__(self) -> ApiServer:
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.__exit__(kind, error, trace)

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived."""
        return self._http.requests

    def url(self, api: str) -> str:
        """The address of one of the three."""
        return self._http.url + api.rstrip("/")

    def _answer(self, request: Request) -> Response:
        self.before()
        api = next(name for name in _PROVIDERS if request.path.startswith(name))
        if self.throttled:
            self.throttled -= 1
            return Response.of_json(429, {"error": "too many requests"}, {"Retry-After": self.retry_after})
        if not self._is_authorized(request, _PROVIDERS[api]):
            return Response.of_json(401, {"error": {"code": "InvalidAuthenticationToken"}})
        query = dict(request.query)
        if len(query) < len(request.query):
            return _bad("a parameter is there twice")
        path = request.path.removeprefix(api)
        return {GRAPH: self._graph, BUSINESS: self._business, GITLAB: self._gitlab}[api](request, path, query)

    def _is_authorized(self, request: Request, provider: str) -> bool:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        token = self._oauth.access_tokens.get(value)
        if scheme != "Bearer" or token is None or not self._oauth.is_live(value):
            return False
        return self._oauth.family(token.family).provider == provider

    def _graph(self, request: Request, path: str, query: Query) -> Response:
        if (request.method, path) == ("POST", "me/messages"):
            return self._draft(request.json())
        options = {"$select", "$top", "$orderby", "$filter", "$skip"}
        if (request.method, path) == ("GET", "me/calendarView"):
            span = {"startDateTime", "endDateTime"}
            if not span <= set(query) <= span | options or not all("T" in query[name] for name in span):
                return _bad("This request requires a time window specified by the query string parameters")
            found = [e for e in self.events if query["startDateTime"] <= e["start"]["dateTime"] < query["endDateTime"]]
            return self._odata(request, query, sorted(found, key=lambda event: event["start"]["dateTime"]))
        if (request.method, path) == ("GET", "me/mailFolders/inbox/messages") and set(query) <= options:
            if "$filter" in query and "$orderby" in query:
                return _bad("The restriction or sort order is too complex for this operation.")
            found = [one for one in self.messages if not one["isRead"] or query.get("$filter") != "isRead eq false"]
            return self._odata(request, query, found)
        return _bad("unknown")

    def _draft(self, message: dict[str, Any]) -> Response:
        if message["body"]["contentType"] not in ("Text", "HTML"):
            return _bad("contentType")
        self.drafts.append(message)
        return Response.of_json(201, {**message, "id": f"AAMk{len(self.drafts)}", "isDraft": True})

    def _odata(self, request: Request, query: Query, found: list[dict[str, Any]]) -> Response:
        start = int(query.get("$skip", 0))
        names = query["$select"].split(",")
        content: dict[str, Any] = {
            "value": [{"id": "x", **{n: one[n] for n in names if n in one}} for one in found[start : start + self.page]]
        }
        if start + self.page < len(found):
            more = urlencode({**query, "$skip": str(start + self.page)})
            content["@odata.nextLink"] = f"{self.next_page}{request.path}?{more}"
        return Response.of_json(200, content)

    def _business(self, request: Request, path: str, query: Query) -> Response:
        known = set(query) <= {"pageSize", "pageToken", "orderBy"}
        if request.method != "GET" or path != "accounts/1/locations/2/reviews" or not known:
            return _bad("unknown")
        if not 1 <= int(query.get("pageSize", 50)) <= 50:
            return _bad("pageSize")
        start = int(query.get("pageToken", "page-0").removeprefix("page-"))
        found = self.reviews[start : start + self.page]
        content: dict[str, Any] = {"totalReviewCount": len(self.reviews), "averageRating": 4.0}
        content |= {"reviews": found} if found else {}
        if start + self.page < len(self.reviews):
            content["nextPageToken"] = f"page-{start + self.page}"
        return Response.of_json(200, content)

    def _gitlab(self, request: Request, path: str, query: Query) -> Response:
        if (request.method, path) == ("GET", "user"):
            return Response.of_json(200, {"id": 7, "username": "tom"})
        known = {"membership", "simple", "pagination", "order_by", "per_page", "id_after", "sort"}
        if (request.method, path) != ("GET", "projects") or not set(query) <= known:
            return _bad("unknown")
        if query.get("pagination") != "keyset" or query.get("order_by") != "id":
            return _bad("keyset pagination needs order_by=id")
        rest = sorted(
            (one for one in self.projects if one["id"] > int(query.get("id_after", 0))), key=lambda one: int(one["id"])
        )
        headers = {}
        if len(rest) > self.page:
            more = urlencode({**query, "id_after": rest[self.page - 1]["id"]})
            headers["Link"] = f'<{self.next_page}{request.path}?{more}>; rel="next"'
        return Response.of_json(200, rest[: self.page], headers)


def _bad(why: str) -> Response:
    return Response.of_json(400, {"error": {"code": "BadRequest", "message": why}})
