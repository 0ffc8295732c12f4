"""The server: routes, tokens, limits and faults around the bases."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.world.airtable import errors, limits, records, schema
from tests.world.airtable import templates as table_templates
from tests.world.airtable.columns import Column
from tests.world.airtable.faults import Fault, Faults, Injection
from tests.world.airtable.listing import Listings, from_query
from tests.world.airtable.routes import ALL_SCOPES, KINDS, METERED, Route, Token, authorize
from tests.world.airtable.tables import Author, Base, Change, Table, Workspace
from tests.world.http import Hangup, HTTPServer, Request, Response

MAX_URL_CHARACTERS = 16_000
ITERATOR_TTL_SECONDS = 300.0
DEFAULT_BASE = "appTestBase000001"
DEFAULT_TOKEN = "pat-test"


class AirtableServer:
    """A strict fake of Airtable's REST API on loopback; use it as a context manager, then point clients at `url`.

    It starts with one base (`base_id`) and one token (`token`) that may do everything there.

    Args:
        clock: monotonic seconds, for limits and iterators.
        now: the wall clock, for `createdTime`, `NOW()` and the change log.
        seed: decides ids, the order of listings without `sort`, and jitter.
        latency_seconds, jitter_seconds: real waiting before each answer, the latter at random from 0 up.
        requests_per_second: the limit of a base; `None` for none.
        penalty_seconds, penalty_restarts: the silence after a 429, and whether a request during it begins it anew.
        monthly_calls: record calls left this month; `None` for no quota. It can be set at any time.
        plural_429: answer 429 in the reported plural shape instead of the documented one.
        iterator_ttl_seconds: how long an `offset` stays good after its last use.
        port: 0 for a free one.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int = 0,
        latency_seconds: float = 0.0,
        jitter_seconds: float = 0.0,
        requests_per_second: int | None = limits.PER_BASE,
        penalty_seconds: float = limits.PENALTY_SECONDS,
        penalty_restarts: bool = False,
        monthly_calls: int | None = None,
        plural_429: bool = False,
        iterator_ttl_seconds: float = ITERATOR_TTL_SECONDS,
        port: int = 0,
    ) -> None:
        self.workspace = Workspace(seed, now)
        self.limiter = limits.RateLimiter(clock, penalty_seconds=penalty_seconds, restarts=penalty_restarts)
        self.listings = Listings(clock, iterator_ttl_seconds)
        self.faults = Faults()
        self.requests_per_second = requests_per_second
        self.monthly_calls = monthly_calls
        self.plural_429 = plural_429
        self.on_request: Callable[[Request], None] | None = None  # called before each request is acted on
        self.calls: Counter[str] = Counter()  # by kind, refused ones too
        self.answers: Counter[int] = Counter()  # by status; 0: hung up
        self.crashes: list[Exception] = []  # bugs of this server, and failures in `on_request`
        self._tokens: dict[str, Token] = {}
        self._counting = threading.Lock()
        self.base_id = self.create_base("Test base", DEFAULT_BASE).id
        self.token = self.add_token(DEFAULT_TOKEN).secret
        jitter = Random(seed)
        self.http = HTTPServer(self.answer, lambda: latency_seconds + jitter.uniform(0, jitter_seconds), port=port)
        self.http.now = lambda: now().timestamp()
        self.url = self.http.url

    def __enter__(self) -> AirtableServer:
        self.http.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop. Raises what went wrong inside, unless the test failed already."""
        self.http.__exit__()
        if self.crashes and kind is None:
            raise self.crashes[0]

    # Contents

    def create_base(self, name: str, base_id: str = "") -> Base:
        """A new, empty base."""
        base = Base(self.workspace, base_id or self.workspace.new_id("app"), name)
        self.workspace.bases[base.id] = base
        return base

    def restore_snapshot(self, base_id: str = "", *, keeps_record_ids: bool = True) -> Base:
        """A base restored from a snapshot of this one: a new base with an id of its own, and all tables and records.

        Whether its records keep their ids is undocumented, so a test can have it both ways.
        """
        with self.workspace.lock:
            source = self.workspace.bases[base_id or self.base_id]
            restored = self.create_base(f"{source.name} (restored)")
            source.copied_to(restored, keeps_record_ids=keeps_record_ids)
            return restored

    def create_table(self, name: str, columns: Sequence[Column], base_id: str = "") -> Table:
        """A new table, in the first base unless another is named."""
        return self.workspace.bases[base_id or self.base_id].create_table(name, columns)

    def credentials_table(self, name: str = "APISecrets", *, instead: Iterable[Column] = ()) -> Table:
        """The table of credentials with every column that is ever used; `instead` replaces or adds columns by name."""
        return self.create_table(name, table_templates.replaced(table_templates.credentials(), instead))

    def six_column_table(self, name: str = "APISecrets", *, instead: Iterable[Column] = ()) -> Table:
        """The table of credentials with its required columns only."""
        return self.create_table(name, table_templates.replaced(table_templates.six_columns(), instead))

    def table(self, id_or_name: str, base_id: str = "") -> Table:
        """A table, by id or name. Raises `KeyError`."""
        found = self.workspace.bases[base_id or self.base_id].table(id_or_name)
        if found is None:
            raise KeyError(id_or_name)
        return found

    def add_token(
        self,
        secret: str,
        *,
        name: str = "",
        scopes: Iterable[str] = ALL_SCOPES,
        bases: Iterable[str] | None = None,
        role: str = "create",
        user: str = Token.user,
    ) -> Token:
        """Make a token, or change the one of this secret. `name` (the secret, if empty) stands in the change log."""
        reach = None if bases is None else frozenset(bases)
        token = Token(secret, name or secret, frozenset(scopes), reach, role, user)
        self._tokens[secret] = token
        return token

    def revoke_token(self, secret: str) -> None:
        """Let a token be refused from now on."""
        del self._tokens[secret]

    # What was seen

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived, refused ones too."""
        return self.http.requests

    @property
    def changes(self) -> list[Change]:
        """Every cell that anyone ever wrote, oldest first."""
        return self.workspace.changes

    def max_in_window(self, seconds: float = 1.0, base_id: str = "") -> int:
        """The most requests that a base got in any window of so many seconds, refused ones too."""
        return self.limiter.max_in_window(base_id or self.base_id, seconds)

    # What is to go wrong

    def inject(self, fault: Fault, **conditions: Any) -> Injection:
        """See `Faults.inject`: `times`, `nth`, `kind`, `method`, `path`, `when`."""
        if conditions.get("kind", "list") not in KINDS:
            raise ValueError(f"no such kind of call: {conditions['kind']!r}; there are {sorted(KINDS)}")
        return self.faults.inject(fault, **conditions)

    def expire_iterators(self) -> None:
        """Let every `offset` handed out so far be refused."""
        with self.workspace.lock:
            self.listings.expire()

    # Answering

    def answer(self, request: Request) -> Response:
        """Answer one request; raises `Hangup` where a fault closes the connection."""
        route = Route.of(request)
        try:
            response = self._answer(request, route)
        except errors.ApiError as refusal:
            response = refusal.response()
        except Hangup:
            self._count(route.kind, 0)
            raise
        except Exception as crash:
            self.crashes.append(crash)
            response = errors.server_error(500).response()
        self._count(route.kind, response.status)
        return response

    def _answer(self, request: Request, route: Route) -> Response:
        token = self._admit(request, route)
        if self.on_request is not None:
            self.on_request(request)
        fault = self.faults.take(route.kind, request)
        return fault(request, lambda: self._act(request, route, token)) if fault else self._act(request, route, token)

    def _count(self, kind: str, status: int) -> None:
        with self._counting:
            self.calls[kind] += 1
            self.answers[status] += 1

    def _admit(self, request: Request, route: Route) -> Token:
        """The gate before everything: URL length, token, limits, quota. Raises `ApiError`."""
        if len(f"http://{request.headers.get('host', '')}{request.target}") > MAX_URL_CHARACTERS:
            raise errors.url_too_long()
        token = self._authenticate(request)
        within = self.limiter.admit(token.user, limits.PER_USER if self.requests_per_second else None)
        if route.base:
            within &= self.limiter.admit(route.base, self.requests_per_second)
        if not within:
            raise errors.rate_limited(plural=self.plural_429)
        self._meter(route)
        return token

    def _authenticate(self, request: Request) -> Token:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise errors.authentication_required()
        token = self._tokens.get(secret.strip())
        if token is None:
            raise errors.unauthorized()
        return token

    def _meter(self, route: Route) -> None:
        """Spend one of the month's calls; schema calls answer even when none is left (reported)."""
        if self.monthly_calls is None or route.kind not in METERED:
            return
        with self._counting:
            if self.monthly_calls <= 0:
                raise errors.quota_spent(plural=self.plural_429)
            self.monthly_calls -= 1

    def _act(self, request: Request, route: Route, token: Token) -> Response:
        """Do what is asked. A refusal becomes an answer here, so that a fault can stand around it too."""
        try:
            with self.workspace.lock:
                authorize(route, token, self.workspace.bases)
                return self._on_bases(request, route, token) if route.base else self._on_token(route, token)
        except errors.ApiError as refusal:
            return refusal.response()

    def _on_token(self, route: Route, token: Token) -> Response:
        if route.kind == "whoami":
            return Response.of_json(200, {"id": token.user})
        reached = [base for base in self.workspace.bases.values() if token.reaches(base.id)]
        return schema.list_bases(reached, token.role)

    def _on_bases(self, request: Request, route: Route, token: Token) -> Response:
        base = self.workspace.bases[route.base]
        if route.kind == "schema":
            return schema.list_tables(base, request.query)
        if route.kind == "create_table":
            return schema.create_table(base, records.json_object(request))
        table = base.table(route.table)
        if table is None:
            raise errors.model_not_found()
        if route.kind == "create_field":
            return schema.create_field(table, records.json_object(request))
        return self._on_records(request, route, table, Author(token.name, request))

    def _on_records(self, request: Request, route: Route, table: Table, author: Author) -> Response:
        match route.kind, bool(route.record):
            case "list", _:
                return self.listings.page(table, _list_options(request))
            case "get", _:
                return records.get(table.base, table, route.record, dict(request.query))
            case "delete", True:
                return records.delete_one(table, route.record, author)
            case "delete", False:
                return records.delete_many(table, request.query, author)
        write = records.Write.of(table, author, request)
        if route.kind == "create":
            return records.create(write)
        return records.update_one(write, route.record) if route.record else records.update_many(write)


def _list_options(request: Request) -> dict[str, Any]:
    """Parameters from the query, or from the body of `listRecords` (there `timeZone` and `userLocale` stay behind)."""
    options = from_query(request.query)
    if request.method == "GET":
        return options
    if not options.keys() <= {"timeZone", "userLocale"}:
        raise errors.invalid_request()
    return records.json_object(request)
