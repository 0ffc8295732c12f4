"""Misbehaviour of a token endpoint, to be told in advance or left to chance.

A fault is wrapped around the service: it is handed the call and `act`, which does what the provider would have done
(rotate, refuse) and returns its answer. A fault that never calls `act` leaves every token untouched.
"""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

from tests.world.http import Hangup, Request, Response
from tests.world.oauth.dialects import Dialect
from tests.world.oauth.refusals import Refusal

Act = Callable[[], Response]
HTML = b"<!doctype html><title>Just a moment</title><p>We are down for maintenance.</p>"
JSON = {"Content-Type": "application/json"}
MAX_HANG_SECONDS = 3600.0


@dataclass(frozen=True)
class Call:
    """One request to a token endpoint, with what could be read of it however wrong it is."""

    request: Request
    dialect: Dialect
    client_id: str | None
    refresh_token: str | None
    family: str | None  # of a refresh token that is known
    location_id: str | None
    times_sent: int  # of the refresh token, this time included
    closing: threading.Event  # set when the server stops


@dataclass(frozen=True)
class Fault:
    """One kind of misbehaviour."""

    name: str
    apply: Callable[[Call, Act], Response]


def status(code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Any status with any body, before acting."""
    return raw(body, code, headers or {"Content-Type": "text/plain"}, name=f"status {code}")


def raw(body: bytes, code: int = 200, headers: Mapping[str, str] = JSON, *, name: str = "raw") -> Fault:
    """A canned answer, byte for byte, before acting."""
    return Fault(name, lambda call, act: Response(code, body, headers))


def too_many_requests(retry_after: int | str = 30) -> Fault:
    """429 with Retry-After: seconds, or a text such as `http_date` makes."""
    headers = {"Retry-After": str(retry_after), **JSON}
    return raw(b'{"error":"rate_limited"}', 429, headers, name="too many requests")


def throttled(retry_after: int | str = 30) -> Fault:
    """429 with Retry-After, in the provider's own words, before acting."""

    def apply(call: Call, act: Act) -> Response:
        answer = call.dialect.errors(Refusal("throttled", "Too many requests."))
        return replace(answer, headers={**answer.headers, "Retry-After": str(retry_after)})

    return Fault("throttled", apply)


def http_date(unix_seconds: float) -> str:
    """The HTTP date of RFC 9110, section 5.6.7."""
    return formatdate(unix_seconds, usegmt=True)


def html(code: int = 200) -> Fault:
    """A page for people where JSON belongs, before acting."""
    return raw(HTML, code, {"Content-Type": "text/html; charset=utf-8"}, name="html")


def documents_token(code: int = 503) -> Fault:
    """A page for people that shows what a good answer would look like, before acting."""
    page = b'<!doctype html><h1>Back soon</h1><pre>{"access_token": "sample-access", "refresh_token": "sample-refresh"}'
    return raw(page, code, {"Content-Type": "text/html; charset=utf-8"}, name=f"documents a token, {code}")


def echoes_token(code: int = 400, token: str = "your-refresh-token") -> Fault:
    """A refusal that repeats the request's members, the token masked or replaced, before acting."""
    content = {"error": "invalid_request", "grant_type": "refresh_token", "refresh_token": token}
    return raw(json.dumps(content).encode(), code, name=f"echoes {token}, {code}")


def redirect(location: str, code: int = 307) -> Fault:
    """Sends the client elsewhere, before acting."""
    return raw(b"", code, {"Location": location}, name=f"redirect {code}")


def refused(code: str, description: str = "") -> Fault:
    """The provider's own way of saying an error code of RFC 6749, section 5.2 (or `paused`), before acting."""
    return Fault(f"refused {code}", lambda call, act: call.dialect.errors(Refusal(code, description)))


def wrong_secret() -> Fault:
    """The client credentials are refused though they are right: a secret that was changed at the provider."""
    return replace(refused("invalid_client", "The client secret is wrong."), name="wrong secret")


def reset() -> Fault:
    """The connection is reset (TCP RST) before acting."""
    return Fault("reset", lambda call, act: _raise(Hangup(reset=True)))


def acted_then_dropped() -> Fault:
    """The provider acts (rotates), the answer is lost."""
    return Fault("acted, then dropped", lambda call, act: _raise(Hangup(), after=act))


def acted_then(fault: Fault) -> Fault:
    """The provider acts, then another fault takes the place of its answer."""

    def apply(call: Call, act: Act) -> Response:
        answer = act()
        return fault.apply(call, lambda: answer)

    return Fault(f"acted, then {fault.name}", apply)


def cut(after_bytes: int = 20) -> Fault:
    """The provider acts and its answer breaks off."""
    return Fault("cut", lambda call, act: replace(act(), cut=after_bytes))


def drip(seconds_per_byte: float) -> Fault:
    """The provider acts and its answer comes byte by byte."""
    return Fault("drip", lambda call, act: replace(act(), drip_seconds=seconds_per_byte))


def hang(seconds: float = MAX_HANG_SECONDS) -> Fault:
    """Nothing is answered and nothing done for so many seconds or until the server stops; then the connection ends."""

    def apply(call: Call, act: Act) -> Response:
        call.closing.wait(seconds)
        raise Hangup

    return Fault("hang", apply)


def late(seconds: float) -> Fault:
    """The right answer, so many seconds late; the provider acts at once."""

    def apply(call: Call, act: Act) -> Response:
        answer = act()
        call.closing.wait(seconds)
        return answer

    return Fault("late", apply)


def oversized(count: int = 8 << 20) -> Fault:
    """The provider acts and fills its answer up with blanks to so many bytes; valid JSON all the same."""
    return Fault("oversized", lambda call, act: _padded(act(), count))


def gzip_bomb(count: int = 256 << 20) -> Fault:
    """The provider acts; its answer is small on the wire and so many bytes when unpacked."""

    def apply(call: Call, act: Act) -> Response:
        answer = act()
        packed = gzip.compress(answer.body) + _gzipped_blanks(count)
        return replace(answer, body=packed, headers={**answer.headers, "Content-Encoding": "gzip"})

    return Fault("gzip bomb", apply)


def gzipped() -> Fault:
    """The provider acts and packs its answer although nobody asked for it."""
    return replace(gzip_bomb(0), name="gzipped")


def amended(change: Callable[[dict[str, Any]], bytes]) -> Fault:
    """The provider acts; its JSON answer is handed to `change`, which returns the body to send."""

    def apply(call: Call, act: Act) -> Response:
        answer = act()
        return replace(answer, body=change(json.loads(answer.body)))

    return Fault("amended", apply)


def _padded(answer: Response, count: int) -> Response:
    return replace(answer, body=answer.body + b" " * (count - len(answer.body)))


def _gzipped_blanks(count: int) -> bytes:
    """Blanks as members of one gzip stream (RFC 1952, section 2.2 lets them be joined)."""
    whole, rest = divmod(count, 1 << 20)
    member = gzip.compress(b" " * (1 << 20)) if whole else b""
    return member * whole + (gzip.compress(b" " * rest) if rest else b"")


def _raise(hangup: Hangup, after: Act | None = None) -> Response:
    if after is not None:
        after()
    raise hangup


class Script:
    """A fault that waits for its requests. `hits` counts those it was applied to."""

    def __init__(self, fault: Fault, matches: Callable[[Call], bool], times: float) -> None:
        self.fault = fault
        self.hits = 0
        self._matches = matches
        self._left = times

    def stop(self) -> None:
        """Behave again."""
        self._left = 0

    def takes(self, call: Call) -> bool:
        """This request is one of its; counted at once."""
        if self._left <= 0 or not self._matches(call):
            return False
        self._left -= 1
        self.hits += 1
        return True


class Chance:
    """Faults by chance. What a request meets depends on the seed, the family and how often the token was sent,
    not on the order in which threads arrive, so that a run can be repeated."""

    def __init__(self, seed: int, odds: Mapping[Fault, float], matches: Callable[[Call], bool]) -> None:
        if sum(odds.values()) > 1:
            raise ValueError("the probabilities add up to more than 1")
        self.hits = 0
        self._seed = seed
        self._odds = dict(odds)
        self._matches = matches
        self._calls: dict[str | None, int] = {}

    def stop(self) -> None:
        """Behave again."""
        self._odds = {}

    def pick(self, call: Call) -> Fault | None:
        """The fault this request meets, if any."""
        if not self._matches(call):
            return None
        nth = self._calls[call.family] = self._calls.get(call.family, 0) + 1
        drawn = random.Random(f"{self._seed}/{call.family}/{nth}").random()
        for fault, probability in self._odds.items():
            drawn -= probability
            if drawn < 0:
                self.hits += 1
                return fault
        return None


class Faults:
    """What is to go wrong: scripts in the order they were told, then chance. Its owner holds a lock around `pick`."""

    def __init__(self) -> None:
        self._scripts: list[Script] = []
        self._chances: list[Chance] = []

    def add(self, script: Script) -> None:
        """Wait for requests."""
        self._scripts.append(script)

    def add_chance(self, chance: Chance) -> None:
        """Leave it to chance."""
        self._chances.append(chance)

    def clear(self) -> None:
        """Behave again."""
        waiting: list[Script | Chance] = [*self._scripts, *self._chances]
        for each in waiting:
            each.stop()
        self._scripts, self._chances = [], []

    def pick(self, call: Call) -> Fault | None:
        """The fault for this request: of the first script that takes it, else by chance."""
        for script in self._scripts:
            if script.takes(call):
                return script.fault
        return next((fault for chance in self._chances if (fault := chance.pick(call))), None)
