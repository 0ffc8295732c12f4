"""What the endpoints of every provider do with a request."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

from tests.world.http import Hangup, Request, Response
from tests.world.oauth import checks, device, login, templates
from tests.world.oauth.agencies import Agencies
from tests.world.oauth.checks import Client, Params
from tests.world.oauth.dialects import SHORT_LIVED_SECONDS, Dialect, Login
from tests.world.oauth.faults import Call, Faults
from tests.world.oauth.refusals import NO_STORE, Refusal, Violation
from tests.world.oauth.revocation import named_token
from tests.world.oauth.tokens import AccessToken, Grant, Pair, RefreshToken, TokenBook

CODE_GRANT = "authorization_code"
CLIENT_IN_PATH = "app%3A1"  # stands for the client id in a path of the canned answers
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
        self.devices = device.DeviceBook()
        self.agencies = Agencies(self.book, clock, violations=self.violations)
        self._routes: dict[str, dict[str, tuple[Dialect, Endpoint]]] = {}  # by provider, once it is asked for

    def serve(self, request: Request) -> Response:
        """Answer one request. A mistake of the fake itself is told in `violations`, too."""
        if request.path == "/report":
            return self._report()
        route = self._route(request)
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

    def _route(self, request: Request) -> tuple[Dialect, Endpoint] | None:
        """By method and path, else by path; a client id in it may be any that is known."""
        path = request.path
        name = path.removeprefix("/api").split("/")[1] if path.count("/") > 1 else ""
        if name not in self.dialects:
            return None
        for client_id in self.clients[name]:
            path = path.replace(f"/{quote(client_id, safe='')}/", f"/{CLIENT_IN_PATH}/")
        if name not in self._routes:
            self._routes[name] = dict(self._all_routes(name, self.dialects[name]))
        routes = self._routes[name]
        return routes.get(f"{request.method} {path}") or routes.get(path)

    def _all_routes(self, name: str, dialect: Dialect) -> Iterator[tuple[str, tuple[Dialect, Endpoint]]]:
        for path, endpoint in self._paths(dialect):
            method, _, rest = path.rpartition(" ")
            yield f"{method} /{name}{rest}".lstrip(), (dialect, endpoint)
        yield f"/{name}/introspect", (dialect, self._introspect)
        yield f"/api/{name}/whoami", (dialect, self._whoami)
        if name == "gohighlevel":
            yield f"/{name}/oauth/installedLocations", (dialect, self._agency_list)
            yield f"/{name}/oauth/locationToken", (dialect, self._mint)

    def _paths(self, dialect: Dialect) -> Iterator[tuple[str, Endpoint]]:
        """The later ones of one path win; one that begins with a method is for that alone."""
        if dialect.revocation is not None:
            yield dialect.revocation.path, self._revoke
            yield f"DELETE {dialect.revocation.path}", self._revoke
        yield dialect.path, self._token
        yield dialect.code_path, self._token
        if dialect.long_lived is not None:
            yield dialect.long_lived[0], self._long_lived
        if dialect.login is not None:
            yield dialect.login.path, self._authorize
        if dialect.device_path is not None:
            yield dialect.device_path, self._device
            yield "/device", lambda dialect, request: self.devices.page(dialect.name, request)

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
        given = checks.peek(dialect.manner, request)
        value = given.get(dialect.token_param)
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
        grant_type = checks.peek(dialect.manner, request).get("grant_type")
        if grant_type in (CODE_GRANT, device.GRANT_TYPE):
            return self._by_login(dialect, request)
        manner = dialect.manner
        checks.check_envelope(manner, request)
        params = checks.read_params(manner, request)
        if dialect.grant != "exchange":
            checks.require(params, "grant_type")
        if manner.auth == "anonymous":
            checks.check_no_client(request, params)
            client = None
        else:
            client = checks.check_client(manner, request, params, self.clients[dialect.name])
        if dialect.grant == "none" or request.path != f"/{dialect.name}{dialect.path}":
            raise _unknown_grant_type()
        return self._success(dialect, request, *self._refresh(dialect, params, client))

    def _refresh(self, dialect: Dialect, params: Params, client: Client | None) -> tuple[Grant, Pair, str]:
        allowed = dialect.required.get("grant_type", () if dialect.grant == "exchange" else ("refresh_token",))
        if allowed and params.get("grant_type") not in allowed:
            raise _unknown_grant_type()
        checks.check_required(dialect.required, params)
        value = checks.require(params, dialect.token_param)
        token = self._mine(dialect, value, client)
        grant = self.book.grants[token.family]
        for name in dialect.required:
            if params[name] != grant.facts.get(name, params[name]):
                raise Refusal(dialect.mismatch, f"The {name} is not the one of the grant.")
        if "scope" not in dialect.required:
            checks.check_scope(params, grant.scope)
        if grant.location_id in self.paused:
            raise Refusal("paused", "The location is not active.")
        pair = self.book.exchange(dialect, token)
        return grant, pair, dialect.steady if pair.refresh_token in (None, value) else dialect.fresh

    def _mine(self, dialect: Dialect, value: str, client: Client | None) -> RefreshToken:
        token = self.book.refresh_tokens.get(value)
        is_mine = token is not None and client in (None, self.clients[dialect.name].get(token.client_id))
        if token is None or not is_mine or token.provider != dialect.name:
            raise Refusal("invalid_grant", "The refresh token is not known for this client.", why="unknown")
        return token

    def _long_lived(self, dialect: Dialect, request: Request) -> Response:
        """Makes a long-lived token of the one that a login brought, as Instagram does."""
        with self.lock:
            try:
                checks.check_envelope(dialect.manner, request)
                params = checks.read_params(dialect.manner, request)
                wanted = {"grant_type": (dialect.long_lived or ("", ""))[1:], "client_secret": ()}
                checks.check_required(wanted, params)
                token = self._mine(dialect, checks.require(params, dialect.token_param), None)
                if params["client_secret"] != self.clients[dialect.name][token.client_id].secret:
                    raise Refusal("invalid_client", "The client secret is wrong.", parameter="client_secret")
                pair = self.book.exchange(dialect, token)
            except Refusal as refusal:
                return self._refuse(dialect, refusal)
            return self._success(dialect, request, self.book.grants[token.family], pair, dialect.fresh)

    def _by_login(self, dialect: Dialect, request: Request) -> Response:
        manner = dialect.login_manner
        checks.check_envelope(manner, request)
        params = checks.read_params(manner, request)
        client = checks.check_client(manner, request, params, self.clients[dialect.name])
        if request.path != f"/{dialect.name}{dialect.code_path}":
            raise _unknown_grant_type()
        grant, pair = self._logged_in(dialect, params, client)
        usual = dialect.steady if pair.refresh_token is None else dialect.fresh
        return self._success(dialect, request, grant, pair, (dialect.login and dialect.login.body) or usual)

    def _logged_in(self, dialect: Dialect, params: Params, client: Client) -> tuple[Grant, Pair]:
        if params["grant_type"] == device.GRANT_TYPE:
            waited_for = self.devices.redeem(dialect.name, params, client, self._clock())
            grant = self.book.new_grant(dialect, client.client_id, waited_for.facts)
            return grant, self.book.issue(dialect, grant, rotate=dialect.grant != "none")
        own = dialect.login or Login()
        checks.check_required({name: dialect.required.get(name, (value,)) for name, value in own.sends.items()}, params)
        code = self._codes.redeem(own, params, client, self._clock())
        if code.family is not None:  # RFC 6749, section 4.1.2
            self.book.end_grant(self.book.grants[code.family], "its code was sent again")
            raise Violation("invalid_grant", "a code was sent again (RFC 6749, 4.1.2)", parameter="code")
        grant = self.book.new_grant(dialect, client.client_id, code.facts)
        code.family = grant.family
        lifetime = SHORT_LIVED_SECONDS if dialect.long_lived else None
        return grant, self.book.issue(dialect, grant, rotate=code.offline, lifetime=lifetime)

    def _success(self, dialect: Dialect, request: Request, grant: Grant, pair: Pair, body: str) -> Response:
        """In the provider's words where they are known, else RFC 6749, section 5.1."""
        now = self.book.access_tokens[pair.access_token].issued_at
        content = templates.filled(body or _usual(dialect), pair.access_token, pair.refresh_token, now)
        known = self.book.refresh_tokens.get(pair.refresh_token or "")
        if known is not None and known.expires_at < math.inf:  # one that is repeated has less time left each time
            told = [name for name, value in content.items() if "refresh" in name and value == dialect.refresh_lifetime]
            content |= dict.fromkeys(told, int(known.expires_at - now))
        extras = dialect.extras(grant.facts)
        content = {name: value for name, value in (content | extras).items() if extras.get(name, "") is not None}
        if dialect.form_unless_asked and "application/json" not in request.headers.get("accept", ""):
            headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
            return Response(200, urlencode(content).encode(), headers)
        return Response.of_json(200, content, NO_STORE)

    def _authorize(self, dialect: Dialect, request: Request) -> Response:
        with self.lock:
            own = dialect.login or Login()
            try:
                params, client = login.authorize(own, dialect.manner, request, self.clients[dialect.name])
            except login.BadRequest as bad:
                self.violations.append(f"{dialect.name}: {bad.description}")
                return login.found(login.send_back(own, bad.params, bad.answer))
            except Refusal as refusal:
                self._refuse(dialect, refusal)
                return Response(400, refusal.description.encode(), {"Content-Type": "text/plain"})
            code = self._new_code(dialect, own, params, client)
            answer = {own.code_param: code, **own.callback, **({"iss": own.issuer} if own.issuer else {})}  # RFC 9207
            return login.found(login.send_back(own, params, answer, client.secret if dialect.signs_callback else None))

    def _new_code(self, dialect: Dialect, own: Login, params: Params, client: Client) -> str:
        why_online = login.why_online(own, params)
        if why_online is not None:
            self.violations.append(f"{dialect.name}: {why_online}")
        code = login.Code(
            client_id=client.client_id,
            redirect_uri=params["redirect_uri"],
            challenge=params.get("code_challenge") if own.pkce != "none" else None,
            facts={"redirect_uri": params["redirect_uri"], **self._consented(dialect, login.scopes_of(own, params))},
            offline=why_online is None and dialect.grant != "none",
            expires_at=self._clock() + login.CODE_LIFETIME_SECONDS,
        )
        return self._codes.issue(code)

    def _consented(self, dialect: Dialect, scopes: Iterable[str]) -> dict[str, Any]:
        """The facts of the next login: those of `consent`, and what is asked for."""
        asked = {"scope": " ".join(sorted(scopes))} if scopes else {}
        return {**asked, **self.consents.get(dialect.name, {})}

    def _device(self, dialect: Dialect, request: Request) -> Response:
        """RFC 8628, section 3.1."""
        with self.lock:
            try:
                checks.check_envelope(dialect.login_manner, request)
                params = checks.read_params(dialect.login_manner, request)
                client = checks.check_client(dialect.login_manner, request, params, self.clients[dialect.name])
            except Refusal as refusal:
                return self._refuse(dialect, refusal)
            facts = self._consented(dialect, login.scopes_of(dialect.login or Login(), params))
            return self.devices.issue(dialect, client, facts, request, self._clock())

    def _agency_list(self, _: Dialect, request: Request) -> Response:
        with self.lock:
            return self.agencies.list_installed(request)

    def _mint(self, dialect: Dialect, request: Request) -> Response:
        """Meets the same faults as a refresh."""
        with self.lock:
            call = self._read(dialect, request)
            fault = self.faults.pick(call)
        if fault is not None:
            return fault.apply(call, lambda: self._minted(dialect, request))
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
        """RFC 7009, section 2, or what the provider has in its place."""
        assert dialect.revocation is not None
        with self.lock:
            try:
                token = named_token(dialect, dialect.revocation, request, self.book, self.clients[dialect.name])
            except Refusal as refusal:
                return self._refuse(dialect, refusal)
            if isinstance(token, AccessToken) and not dialect.revocation.ends_grant:
                self.book.end_access_token(token.value, "revoked by its client")
            elif token is not None:
                self.book.end_grant(self.book.grants[token.family], "revoked by its client")
        return Response(200, dialect.revocation.body.encode(), NO_STORE)

    def _named_token(self, dialect: Dialect, request: Request) -> tuple[RefreshToken | AccessToken | None, Client]:
        checks.check_envelope(dialect.login_manner, request)
        params = checks.read_params(dialect.login_manner, request)
        client = checks.check_client(dialect.login_manner, request, params, self.clients[dialect.name])
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


def _unknown_grant_type() -> Violation:
    return Violation("unsupported_grant_type", "the grant_type is not known here", parameter="grant_type")


def _usual(dialect: Dialect) -> str:
    """RFC 6749, section 5.1, as a template."""
    ends = {"expires_in": dialect.lifetime} if dialect.sends_expires_in else {}
    return json.dumps({"access_token": "access-2", "token_type": "Bearer", **ends, "refresh_token": "refresh-2"})
