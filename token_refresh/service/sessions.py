"""Who is signed in to the page: a signed cookie that names a key, and the token of the forms that belong to it.

Nothing is stored: a session ends after 12 hours, with its key, and where the browser signs out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import astuple, dataclass, field
from datetime import timedelta

from itsdangerous import BadData, URLSafeSerializer
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.settings import LOOPBACK_HOSTS

LIFETIME = timedelta(hours=12)
SESSION, SIGN_IN = "session", "sign-in"  # cookies: of who is signed in, and of who is about to


@dataclass(frozen=True)
class Session:
    """What a browser was given.

    Attributes:
        key_id: of the key that signed in; empty before.
        ends_at: seconds since 1970.
        form_token: stands in each form of this session and nowhere else, so no other site can send one.
    """

    key_id: str
    ends_at: float
    form_token: str = field(repr=False)

    def require(self, form: FormData) -> None:
        """Only a form of this session may do anything. Raises `ActionableError`."""
        if not hmac.compare_digest(str(form.get("form", "")).encode(), self.form_token.encode()):
            what = "the form is too old, or not of this session"
            raise ActionableError(what, "Go back, reload the page, and try again.", Kind.FORBIDDEN)


class Sessions:
    """The sessions of one installation; all its replicas know them.

    Args:
        encryption_key: see `signer`.
        clock: the time.
    """

    def __init__(self, encryption_key: str, clock: Clock) -> None:
        self._signer = signer(encryption_key, "page session")
        self._clock = clock

    def begin(self, key_id: str = "") -> Session:
        """A session that shares nothing with an earlier one: a cookie that somebody planted before is worth nothing."""
        return Session(key_id, (self._clock.now() + LIFETIME).timestamp(), secrets.token_urlsafe(32))

    def read(self, request: Request, name: str) -> Session | None:
        """The session of a request; None where it has none that we signed, or it is over."""
        try:
            session = Session(*self._signer.loads(request.cookies.get(_full_name(request, name), "")))
        except BadData:
            return None
        return session if self._clock.now().timestamp() < session.ends_at else None

    def keep(self, session: Session, name: str, request: Request, response: Response) -> None:
        """Have the browser send it back: to this host, from its own pages, and out of reach for scripts."""
        text, age = str(self._signer.dumps(astuple(session))), int(LIFETIME.total_seconds())
        secure = not _is_loopback(request)
        response.set_cookie(_full_name(request, name), text, age, secure=secure, httponly=True, samesite="strict")


def signer(encryption_key: str, use: str) -> URLSafeSerializer:
    """Signs what browsers keep for us, for one use alone: its key is derived from `ENCRYPTION_KEY`, by HMAC-SHA-256."""
    kwargs = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(encryption_key, salt=f"token-refresh {use} v1", signer_kwargs=kwargs)


def _full_name(request: Request, name: str) -> str:
    """With the prefix by which browsers take it from no other host of the domain (RFC 6265bis section 4.1.3.2)."""
    return name if _is_loopback(request) else f"__Host-{name}"


def _is_loopback(request: Request) -> bool:
    """Whether no network is in between. `ALLOWED_HOSTS` has checked the name."""
    return request.url.hostname in LOOPBACK_HOSTS
