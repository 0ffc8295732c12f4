"""The login on another device (RFC 8628): codes that wait for a person, and what who polls is answered."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field

from tests.world.http import Request, Response
from tests.world.oauth.checks import Client, Params, require
from tests.world.oauth.dialects import Dialect, Facts
from tests.world.oauth.refusals import NO_STORE, Refusal

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
LIFETIME_SECONDS = 600
INTERVAL_SECONDS = 5  # RFC 8628, section 3.5: also what `slow_down` adds
PAGE = "<!doctype html><title>{title}</title><p>{title}</p><form><input name=user_code><button>Agree</button></form>"


@dataclass
class DeviceCode:
    """One device code. `asked_at`: when it was polled last; `is_approved`: None while the person has not answered."""

    provider: str
    client_id: str
    user_code: str
    facts: Facts
    expires_at: float
    interval: float = INTERVAL_SECONDS
    asked_at: float | None = None
    is_approved: bool | None = None


@dataclass
class DeviceBook:
    """The device codes that were issued. Its owner holds a lock around every call."""

    codes: dict[str, DeviceCode] = field(default_factory=dict)
    interval: float = INTERVAL_SECONDS

    def issue(self, dialect: Dialect, client: Client, facts: Facts, request: Request, now: float) -> Response:
        """A fresh code (RFC 8628, section 3.2)."""
        value, user_code = f"device-{os.urandom(16).hex()}", os.urandom(4).hex().upper()
        self.codes[value] = DeviceCode(
            dialect.name, client.client_id, user_code, facts, now + LIFETIME_SECONDS, self.interval
        )
        page = f"http://{request.headers['host']}/{dialect.name}/device"
        content = {
            "device_code": value,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": LIFETIME_SECONDS,
            "interval": self.interval,
        }
        return Response.of_json(200, content, NO_STORE)

    def answer(self, provider: str, user_code: str, *, is_approved: bool) -> None:
        """What the person says; without a user code, of the newest. Raises `LookupError`: none waits."""
        for code in reversed(self.codes.values()):
            if code.provider == provider and user_code in ("", code.user_code) and code.is_approved is None:
                code.is_approved = is_approved
                return
        raise LookupError(f"no device code of {provider} waits for an answer")

    def redeem(self, provider: str, params: Params, client: Client, now: float) -> DeviceCode:
        """The code of a token request, once the person has agreed.

        Raises `Refusal`: an error of RFC 8628, section 3.5, or `invalid_grant`.
        """
        value = require(params, "device_code")
        code = self.codes.get(value)
        if code is None or (code.provider, code.client_id) != (provider, client.client_id):
            raise Refusal("invalid_grant", "The device code is wrong or used.", parameter="code")
        last, code.asked_at = code.asked_at, now
        if now >= code.expires_at:
            raise Refusal("expired_token", "The device code has expired.")
        if last is not None and now - last < code.interval:
            code.interval += INTERVAL_SECONDS
            raise Refusal("slow_down", "The client polls too fast.")
        if code.is_approved is None:
            raise Refusal("authorization_pending", "The person has not answered yet.")
        del self.codes[value]
        if not code.is_approved:
            raise Refusal("access_denied", "The person said no.")
        return code

    def page(self, provider: str, request: Request) -> Response:
        """What the person opens: `user_code` in the query agrees to it, and together with `answer=no` refuses it."""
        query = dict(request.query)
        title = "Type the code that your device shows."
        if "user_code" in query:
            is_approved = query.get("answer") != "no"
            try:
                self.answer(provider, query["user_code"], is_approved=is_approved)
                title = "You have agreed." if is_approved else "You have refused."
            except LookupError:
                title = "No device waits with this code."
        return Response(200, PAGE.format(title=html.escape(title)).encode(), {"Content-Type": "text/html"})
