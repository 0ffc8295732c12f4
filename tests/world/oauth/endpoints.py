"""What the endpoints of every provider do with a request."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from tests.world.http import Hangup, Request, Response
from tests.world.oauth import checks, login
from tests.world.oauth.agencies import Agencies
from tests.world.oauth.checks import Client, Params
from tests.world.oauth.dialects import Dialect, Facts
from tests.world.oauth.faults import Call, Faults
from tests.world.oauth.refusals import NO_STORE, Refusal, Violation
from tests.world.oauth.tokens import AccessToken, Grant, Pair, RefreshToken, TokenBook

Endpoint = Callable[[Dialect, Request], Response]


class Endpoints:
    """Every endpoint of every provider, over one book of tokens. Safe for threads; `lock` guards the rest.

    Args:
        dialects: the providers.
        clock: Unix seconds.
    """

    def __init__(self, dialects: Iterable[Dialect], clock: Callable[[], float]) -> None:
        self.dialects = {dialect.name: dialect for dialect in dialects}
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.book = TokenBook(clock)
        self.faults = Faults()
        self.clients: dict[str, dict[str, Client]] = {name: {} for name in self.dialects}
        self.consents: dict[str, dict[str, Any]] = {}
        self.paused: set[str | None] = set()
        self.violations: list[str] = []
        self._token_requests = 0
        self._clock = clock
        self._codes = login.CodeBook()
        self.agencies = Agencies(self.book, clock, violations=self.violations)
        self._routes = dict(self._all_routes())

    def serve(self, request: Request) -> Response:
        """Answer one request. A mistake of the fake itself is told in `violations`, too."""
        if request.path == "/report":
            return self._report()
        route = self._routes.get(request.path)
        if route is None:
            return Response(404, b"no such endpoint", {"Content-Type": "text/plain"})
        dialect, endpoint = route
        try:
            return endpoint(dialect, request)
        except Hangup:
            raise
        except Exception as error:
            self.violations.append(f"{dialect.name}: the fake itself failed: {error!r}")
            raise

    def _all_routes(self) -> Iterator[tuple[str, tuple[Dialect, Endpoint]]]:
        for name, dialect in self.dialects.items():
            yield f"/{name}{dialect.path}", (dialect, self._token)
            yield f"/{name}/authorize", (dialect, self._authorize)
            yield f"/{name}/introspect", (dialect, self._introspect)
            yield f"/{name}/revoke", (dialect, self._revoke)
            yield f"/api/{name}/whoami", (dialect, self._whoami)
            if name == "gohighlevel":
                yield f"/{name}/oauth/installedLocations", (dialect, self._agency_list)
                yield f"/{name}/oauth/locationToken", (dialect, self._mint)

    def _token(self, dialect: Dialect, request: Request) -> Response:
        with self.lock:
            self._token_requests += 1
            call = self._read(dialect, request)
            fault = self.faults.pick(call)
        if fault is not None:
            return fault.apply(call, lambda: self._act(dialect, request))
        return self._act(dialect, request)

    def _read(self, dialect: Dialect, request: Request) -> Call:
        """Who asks for what, as far as it can be read; notes that the refresh token arrived."""
        given = checks.peek(dialect, request)
        value = given.get("refresh_token")
        token = self.book.present(value) if value else None
        return Call(
            request=request,
            dialect=dialect,
            client_id=given.get("client_id"),
            refresh_token=value,
            family=token.family if token else None,
            location_id=self.book.grants[token.family].location_id if token else None,
            times_sent=token.times_sent if token else 0,
            closing=self.closing,
        )

    def _act(self, dialect: Dialect, request: Request) -> Response:
        with self.lock:
            try:
                return self._granted(dialect, request)
            except Refusal as refusal:
                return self._refuse(dialect, refusal)

    def _refuse(self, dialect: Dialect, refusal: Refusal) -> Response:
        if isinstance(refusal, Violation):
            self.violations.append(f"{dialect.name}: {refusal.description}")
        return dialect.errors(refusal)

    def _granted(self, dialect: Dialect, request: Request) -> Response:
        checks.check_envelope(dialect, request)
        params = checks.read_params(dialect, request)
        grant_type = checks.require(params, "grant_type")
        client = checks.check_client(dialect, request, params, self.clients[dialect.name])
        if grant_type == "refresh_token":
            grant, pair = self._refresh(dialect, params, client)
        elif grant_type == "authorization_code":
            grant, pair = self._redeem(dialect, params, client)
        else:
            raise Violation("unsupported_grant_type", "the grant_type is not known here", parameter="grant_type")
        issued_at = self.book.access_tokens[pair.access_token].issued_at
        return _success(dialect, request, {**grant.facts, "issued_at": issued_at}, pair)

    def _refresh(self, dialect: Dialect, params: Params, client: Client) -> tuple[Grant, Pair]:
        checks.check_required(dialect, params)
        token = self.book.refresh_tokens.get(checks.require(params, "refresh_token"))
        if token is None or (token.provider, token.client_id) != (dialect.name, client.client_id):
            raise Refusal("invalid_grant", "The refresh token is not known for this client.", why="unknown")
        grant = self.book.grants[token.family]
        for name in dialect.required:
            if params[name] != grant.facts.get(name, params[name]):
                raise Refusal(dialect.mismatch, f"The {name} is not the one of the grant.")
        checks.check_scope(params, grant.scope)
        if grant.location_id in self.paused:
            raise Refusal("paused", "The location is not active.")
        return grant, self.book.exchange(dialect, token)

    def _redeem(self, dialect: Dialect, params: Params, client: Client) -> tuple[Grant, Pair]:
        code = self._codes.redeem(params, client, self._clock())
        if code.family is not None:  # RFC 6749, section 4.1.2
            self.book.end_grant(self.book.grants[code.family], "its code was sent again")
            raise Violation("invalid_grant", "a code was sent again (RFC 6749, 4.1.2)", parameter="code")
        grant = self.book.new_grant(dialect, client.client_id, code.facts)
        code.family = grant.family
        return grant, self.book.issue(dialect, grant, rotate=code.offline)

    def _authorize(self, dialect: Dialect, request: Request) -> Response:
        with self.lock:
            try:
                params, client = login.authorize(dialect, request, self.clients[dialect.name])
            except login.BadRequest as bad:
                self.violations.append(f"{dialect.name}: {bad.description}")
                return login.found(bad.location)
            except Refusal as refusal:
                self._refuse(dialect, refusal)
                return Response(400, refusal.description.encode(), {"Content-Type": "text/plain"})
            return login.found(login.send_back(params, {"code": self._new_code(dialect, params, client)}))

    def _new_code(self, dialect: Dialect, params: Params, client: Client) -> str:
        facts = {"redirect_uri": params["redirect_uri"], **self.consents.get(dialect.name, {})}
        if "scope" in params:
            facts.setdefault("scope", params["scope"])
        code = login.Code(
            client_id=client.client_id,
            redirect_uri=params["redirect_uri"],
            challenge=params.get("code_challenge"),
            facts=facts,
            offline=all(params.get(name) == value for name, value in dialect.offline.items()),
            expires_at=self._clock() + login.CODE_LIFETIME_SECONDS,
        )
        return self._codes.issue(code)

    def _agency_list(self, _: Dialect, request: Request) -> Response:
        with self.lock:
            return self.agencies.list_installed(request)

    def _mint(self, dialect: Dialect, request: Request) -> Response:
        """Meets the same faults as a refresh."""
        with self.lock:
            fault = self.faults.pick(self._read(dialect, request))
        if fault is not None:
            return fault.apply(self._read(dialect, request), lambda: self._minted(dialect, request))
        return self._minted(dialect, request)

    def _minted(self, dialect: Dialect, request: Request) -> Response:
        with self.lock:
            return self.agencies.mint(request, dialect)

    def _whoami(self, dialect: Dialect, request: Request) -> Response:
        """RFC 6750, sections 2.1 and 3."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        with self.lock:
            token = self.book.access_tokens.get(value) if scheme.lower() == "bearer" else None
            grant = self.book.grants[token.family] if token else None
            if token is None or grant is None or grant.provider != dialect.name or not self.book.is_live(value):
                challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
                return Response.of_json(401, {"error": "invalid_token"}, challenge)
            self._touch(dialect, token)
        names = {"provider": grant.provider, "client_id": grant.client_id, "family": grant.family}
        return Response.of_json(200, {**names, "location_id": grant.location_id})

    def _touch(self, dialect: Dialect, token: AccessToken) -> None:
        if token.refresh_token in self.book.refresh_tokens:
            self.book.touch(dialect, self.book.refresh_tokens[token.refresh_token])

    def _introspect(self, dialect: Dialect, request: Request) -> Response:
        """RFC 7662, section 2."""
        with self.lock:
            try:
                token, client = self._named_token(dialect, request)
            except Refusal as refusal:
                return self._refuse(dialect, refusal)
            grant = self.book.grants[token.family] if token else None
            if token is None or grant is None or grant.client_id != client.client_id or not self._is_active(token):
                return Response.of_json(200, {"active": False}, NO_STORE)
        facts = {"active": True, "client_id": grant.client_id, "iat": int(token.issued_at), **grant.facts}
        if token.expires_at < math.inf:
            facts["exp"] = int(token.expires_at)
        return Response.of_json(200, facts, NO_STORE)

    def _revoke(self, dialect: Dialect, request: Request) -> Response:
        """RFC 7009, section 2: a token that is not known is no error."""
        with self.lock:
            try:
                token, client = self._named_token(dialect, request)
                if token is not None and self.book.grants[token.family].client_id != client.client_id:
                    raise Refusal("unauthorized_client", "The token belongs to another client.")
            except Refusal as refusal:
                return self._refuse(dialect, refusal)
            if token is not None:
                self._end(token, "revoked by its client")
        return Response(200, b"", NO_STORE)

    def _named_token(self, dialect: Dialect, request: Request) -> tuple[RefreshToken | AccessToken | None, Client]:
        checks.check_envelope(dialect, request)
        params = checks.read_params(dialect, request)
        client = checks.check_client(dialect, request, params, self.clients[dialect.name])
        value = checks.require(params, "token")
        token = self.book.refresh_tokens.get(value) or self.book.access_tokens.get(value)
        mine = token is not None and self.book.grants[token.family].provider == dialect.name
        return (token if mine else None), client

    def _is_active(self, token: RefreshToken | AccessToken) -> bool:
        return self.book.is_live(token.value) if isinstance(token, AccessToken) else self.book.is_usable(token)

    def _report(self) -> Response:
        """Counts for a program that runs the server as another process."""
        with self.lock:
            tokens = list(self.book.refresh_tokens.values())
            counts = {
                "grants": len(self.book.grants),
                "token_requests": self._token_requests,
                "refresh_tokens": len(tokens),
                "sent_twice": sum(token.times_sent > 1 for token in tokens),
                "replayed": sum(token.replays > 0 for token in tokens),
                "violations": list(self.violations),
            }
        return Response.of_json(200, counts)

    def _end(self, token: RefreshToken | AccessToken, why: str) -> None:
        if isinstance(token, AccessToken):
            self.book.end_access_token(token.value, why)
        else:
            self.book.end_grant(self.book.grants[token.family], why)


def _success(dialect: Dialect, request: Request, facts: Facts, pair: Pair) -> Response:
    """RFC 6749, section 5.1."""
    content: dict[str, Any] = {"access_token": pair.access_token, "token_type": "Bearer"}
    if dialect.sends_expires_in:
        content["expires_in"] = dialect.lifetime
    if pair.refresh_token is not None:
        content["refresh_token"] = pair.refresh_token
    content |= dialect.extras(facts)
    content = {dialect.names.get(name, name): value for name, value in content.items()}
    if dialect.form_unless_asked and "application/json" not in request.headers.get("accept", ""):
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return Response(200, urlencode(content).encode(), headers)
    return Response.of_json(200, content, NO_STORE)
