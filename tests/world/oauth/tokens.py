"""The tokens that were issued, and the fate of every one."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.world.oauth.dialects import Dialect, Facts, Rotation
from tests.world.oauth.refusals import Refusal

REUSED = "a spent refresh token of its family was sent again"


@dataclass(eq=False)
class AccessToken:
    """One access token. Times are Unix seconds."""

    value: str
    family: str
    refresh_token: str  # the refresh token of the same answer, or the one it was got with
    issued_at: float
    expires_at: float
    died_at: float | None = None  # ended before its time
    died_why: str | None = None


@dataclass(eq=False)
class RefreshToken:
    """One refresh token. Times are Unix seconds.

    `sent_at` holds every time it reached the token endpoint, whatever was answered; `spent_at` is the first time it
    was exchanged where refresh tokens rotate; `replays` counts how often it was sent after that.
    """

    value: str
    family: str
    provider: str
    client_id: str
    number: int  # within the family, from 1
    issued_at: float
    expires_at: float
    parent: RefreshToken | None = field(default=None, repr=False)  # what it was got with
    sent_at: list[float] = field(default_factory=list)
    replays: int = 0
    spent_at: float | None = None
    successors: list[str] = field(default_factory=list)
    revoked_at: float | None = None
    revoked_why: str | None = None

    @property
    def times_sent(self) -> int:
        """How often it reached the token endpoint."""
        return len(self.sent_at)

    @property
    def successor(self) -> str | None:
        """The newest refresh token it was exchanged for."""
        return self.successors[-1] if self.successors else None


@dataclass(eq=False)
class Grant:
    """One consent: a family of tokens that live and die together."""

    family: str
    provider: str
    client_id: str
    facts: Facts
    refresh_tokens: list[RefreshToken] = field(default_factory=list)
    access_tokens: list[AccessToken] = field(default_factory=list)  # those not ended early
    minted: int = 0
    revoked_at: float | None = None
    revoked_why: str | None = None
    subtype: str | None = None  # Google's error_subtype, told after the revocation
    uninstalled: bool = False

    @property
    def location_id(self) -> str | None:
        """The fact `location_id`."""
        return self.facts.get("location_id")

    @property
    def scope(self) -> frozenset[str]:
        """What was consented to."""
        return frozenset(self.facts.get("scope", "").split())


@dataclass(frozen=True)
class Pair:
    """What one successful token request brought: no refresh token where none was given."""

    access_token: str
    refresh_token: str | None


class TokenBook:
    """Issues tokens and remembers them. Not safe for threads: its owner holds a lock around every call.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.grants: dict[str, Grant] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self._newest: dict[str, Grant] = {}  # by location

    def new_grant(self, dialect: Dialect, client_id: str, facts: Facts) -> Grant:
        """A consent without tokens yet."""
        grant = Grant(f"f{next(self._numbers)}", dialect.name, client_id, {**dialect.facts, **facts})
        self.grants[grant.family] = grant
        if grant.location_id is not None:
            self._newest[grant.location_id] = grant
        return grant

    def find(self, key: str) -> Grant:
        """The grant of a token, a family, or a location (its newest). Raises `LookupError`."""
        token = self.refresh_tokens.get(key) or self.access_tokens.get(key)
        grant = self.grants.get(token.family if token else key) or self._newest.get(key)
        if grant is None:
            raise LookupError(f"no grant is known as {key[:40]}")
        return grant

    def issue(
        self,
        dialect: Dialect,
        grant: Grant,
        parent: RefreshToken | None = None,
        rotate: bool = True,
        lifetime: float | None = None,
    ) -> Pair:
        """A new access token, and a new refresh token with it where `rotate`: the same where it is exchanged itself.

        `lifetime`: seconds, of an access token that does not live as long as usual.
        """
        grant.minted += 1
        access, refresh = _mint("access", dialect, grant), None
        lifetime = lifetime or dialect.lifetime
        if dialect.tells_end_in_token:
            access += _claims(int(self._clock() + lifetime))
        if rotate:
            refresh = access if dialect.grant == "exchange" else _mint("refresh", dialect, grant)
            self._add_refresh_token(dialect, grant, parent, refresh)
        with_token = refresh or (parent.value if parent else "")
        self._add_access_token(grant, with_token, access, lifetime)
        return Pair(access, refresh)

    def present(self, value: str) -> RefreshToken | None:
        """Note that a refresh token reached the token endpoint."""
        token = self.refresh_tokens.get(value)
        if token is not None:
            token.sent_at.append(self._clock())
            token.replays += token.spent_at is not None
        return token

    def exchange(self, dialect: Dialect, token: RefreshToken) -> Pair:
        """Refresh: a new pair for a valid refresh token. Raises `Refusal` (`invalid_grant`) where it is not valid."""
        grant = self.grants[token.family]
        rotation = self._rotation(dialect, grant, token)
        self._refuse_dead(dialect, grant, token, rotation)
        self._refuse_early(dialect, grant)
        self.touch(dialect, token)
        if rotation != "until_used":
            self._end_access_tokens(dialect, grant, token)
        if rotation == "never":
            pair = self.issue(dialect, grant, token, rotate=False)
            return replace(pair, refresh_token=token.value) if dialect.repeats_refresh_token else pair
        if token.spent_at is None:
            token.spent_at = self._clock()
        return self.issue(dialect, grant, token)

    def touch(self, dialect: Dialect, token: RefreshToken) -> None:
        """A token of this answer is used: what it was exchanged for (`until_used`) ends now."""
        parent, token.parent = token.parent, None
        if parent is None or parent.revoked_at is not None:
            return
        parent.revoked_at, parent.revoked_why = self._clock(), "its successor was used"
        for access in list(self.grants[token.family].access_tokens):
            if dialect.access_token_dies and access.refresh_token == parent.value:
                self._end(access, "its successor was used")

    def end_grant(self, grant: Grant, why: str) -> None:
        """Every token of the family dies."""
        now = self._clock()
        if grant.revoked_at is None:
            grant.revoked_at, grant.revoked_why = now, why
        for token in grant.refresh_tokens:
            if token.revoked_at is None:
                token.revoked_at, token.revoked_why = now, why
        for access in list(grant.access_tokens):
            self._end(access, why)

    def end_access_token(self, value: str, why: str) -> None:
        """One access token dies, the rest of its family stays."""
        self._end(self.access_tokens[value], why)

    def is_live(self, access_token: str) -> bool:
        """An API would accept it now."""
        token = self.access_tokens.get(access_token)
        return token is not None and token.died_at is None and self._clock() < token.expires_at

    def is_usable(self, token: RefreshToken) -> bool:
        """Neither spent, revoked nor expired."""
        return token.spent_at is None and token.revoked_at is None and self._clock() < token.expires_at

    def _rotation(self, dialect: Dialect, grant: Grant, token: RefreshToken) -> Rotation:
        """What this refresh does to its token, where that hangs on the grant or on the token's age."""
        if dialect.rotation in ("where_set", "family_where_set"):
            set_so: Rotation = "single_use" if dialect.rotation == "where_set" else "family"
            return set_so if grant.facts.get("rotates") else "never"
        if dialect.rotation == "aged" and token.spent_at is None:
            is_old = self._clock() - token.issued_at >= dialect.rotates_after_seconds
            return "single_use" if is_old else "never"
        return dialect.rotation

    def _refuse_dead(self, dialect: Dialect, grant: Grant, token: RefreshToken, rotation: Rotation) -> None:
        if grant.uninstalled:
            raise Refusal("uninstalled", "The app is no longer installed.")
        if token.revoked_at is not None:
            raise Refusal("invalid_grant", "The refresh token was revoked.", subtype=grant.subtype, why="revoked")
        now = self._clock()
        if now >= token.expires_at:
            raise Refusal("invalid_grant", "The refresh token has expired.", why="expired")
        if token.spent_at is None or rotation == "until_used":
            return
        if rotation in ("grace", "grace_family") and now <= token.spent_at + dialect.grace_seconds:
            return
        if rotation in ("family", "grace_family"):
            self.end_grant(grant, REUSED)
        raise Refusal("invalid_grant", "The refresh token was used before.", why="used")

    def _refuse_early(self, dialect: Dialect, grant: Grant) -> None:
        now = self._clock()
        if dialect.earliest and any(access.expires_at - now > dialect.earliest for access in grant.access_tokens):
            raise Refusal("early", "The access token lives too long for a refresh.")

    def _end_access_tokens(self, dialect: Dialect, grant: Grant, token: RefreshToken) -> None:
        """The access tokens so far end with the refresh; where there is a grace, the one of this pair ends with it."""
        if not dialect.access_token_dies:
            return
        for access in list(grant.access_tokens):
            if dialect.rotation != "grace":
                self._end(access, "its grant was refreshed")
            elif access.refresh_token == token.value:
                access.expires_at = min(access.expires_at, self._clock() + dialect.grace_seconds)

    def _end(self, access: AccessToken, why: str) -> None:
        if access.died_at is None:
            access.died_at, access.died_why = self._clock(), why
            self.grants[access.family].access_tokens.remove(access)

    def _add_refresh_token(self, dialect: Dialect, grant: Grant, parent: RefreshToken | None, value: str) -> None:
        now = self._clock()
        token = RefreshToken(
            value=value,
            family=grant.family,
            provider=grant.provider,
            client_id=grant.client_id,
            number=len(grant.refresh_tokens) + 1,
            issued_at=now,
            expires_at=now + dialect.refresh_lifetime,
            parent=parent if dialect.rotation == "until_used" else None,
        )
        if parent is not None:
            parent.successors.append(value)
        grant.refresh_tokens.append(token)
        self.refresh_tokens[value] = token

    def _add_access_token(self, grant: Grant, refresh_token: str, value: str, lifetime: float) -> None:
        now = self._clock()
        token = AccessToken(value, grant.family, refresh_token, now, now + lifetime)
        grant.access_tokens.append(token)
        self.access_tokens[value] = token


def _mint(kind: str, dialect: Dialect, grant: Grant) -> str:
    """`refresh-<family>-<n>-<hex>`; long ones carry two more parts of base64url and have no header of a real JWT."""
    head = f"{kind}-{grant.family}-{grant.minted}-{os.urandom(8).hex()}"
    if not dialect.long_tokens:
        return head
    return f"{head}.{_base64url(540)}.{_base64url(192)}"


def _claims(end: int) -> str:
    """The second and third part of a JWT (RFC 7519 section 7.2) that ends then."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": end}).encode()).decode().rstrip("=")
    return f".{payload}.{_base64url(32)}"


def _base64url(count: int) -> str:
    return base64.urlsafe_b64encode(os.urandom(count)).decode().rstrip("=")
