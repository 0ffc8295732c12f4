"""What can go wrong between a client and Airtable, to be scripted by a test.

A fault stands around one request: it gets the request and a way to have it acted on, and answers. `Faults.inject`
says which requests it befalls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.world.airtable import errors
from tests.world.http import Hangup, Request, Response

Act = Callable[[], Response]
Fault = Callable[[Request, Act], Response]


def answer(response: Response) -> Fault:
    """Give this answer; nothing is acted on."""
    return lambda _request, _act: response


def refuse(refusal: errors.ApiError) -> Fault:
    """Refuse in Airtable's own form; nothing is acted on."""
    return answer(refusal.response())


def status(code: int, retry_after: int | None = None) -> Fault:
    """500, 502 or 503, with Retry-After where it is given; nothing is acted on."""
    return refuse(errors.server_error(code, retry_after))


def unprocessable(kind: str = "INVALID_REQUEST_UNKNOWN", message: str = errors.GENERIC_MESSAGE) -> Fault:
    """422, as for a batch of which one record is bad; nothing is acted on."""
    return refuse(errors.error(422, kind, message))


def rate_limited(*, plural: bool = False) -> Fault:
    """429 RATE_LIMIT_REACHED, without the penalty that the real limit brings."""
    return refuse(errors.rate_limited(plural=plural))


def quota_spent(*, plural: bool = False) -> Fault:
    """429 PUBLIC_API_BILLING_LIMIT_EXCEEDED."""
    return refuse(errors.quota_spent(plural=plural))


def html() -> Fault:
    """200 with a web page, as a captive portal or a proxy answers."""
    return answer(Response(200, b"<!DOCTYPE html><html><body>Sign in to continue</body></html>", errors.HTML_TYPE))


def empty() -> Fault:
    """200 without a body."""
    return answer(Response(200, b"", {"Content-Type": "application/json"}))


def without_records() -> Fault:
    """200 and JSON, but no `records`: pyairtable reads an empty table."""
    return answer(Response.of_json(200, {}))


def cut(after_bytes: int = 20) -> Fault:
    """Act, then close the connection in the middle of the answer's body."""
    return lambda _request, act: replace(act(), cut=after_bytes)


def reset() -> Fault:
    """Close the connection without acting."""

    def hang_up(_request: Request, _act: Act) -> Response:
        raise Hangup

    return hang_up


def unacknowledged() -> Fault:
    """Act, then close the connection: the client cannot know."""

    def act_and_hang_up(_request: Request, act: Act) -> Response:
        act()
        raise Hangup

    return act_and_hang_up


def delayed(seconds: float, *, act_first: bool = False, until: threading.Event | None = None) -> Fault:
    """Answer late: after so many seconds, or as soon as `until` is set.

    `act_first` decides whether the change is in the table during the wait or only after it.
    """
    pause = until or threading.Event()

    def wait(_request: Request, act: Act) -> Response:
        done = act() if act_first else None
        pause.wait(seconds)
        return done or act()

    return wait


@dataclass
class Injection:
    """One fault and the requests it befalls; `hits` counts those that it did."""

    fault: Fault
    matches: Callable[[str, Request], bool]
    skip: int
    left: int | None
    hits: int = 0

    @property
    def spent(self) -> bool:
        """Whether it will befall no further request."""
        return self.left is not None and self.hits >= self.left

    def takes(self, kind: str, request: Request) -> bool:
        """Whether this request is one of its; counts it."""
        if self.spent or not self.matches(kind, request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Faults:
    """The faults to come, in the order in which they were injected; the first that fits a request takes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._injections: list[Injection] = []

    def inject(
        self,
        fault: Fault,
        *,
        times: int | None = 1,
        nth: int = 1,
        kind: str | None = None,
        method: str | None = None,
        path: str | Callable[[str], bool] | None = None,
        when: Callable[[Request], bool] | None = None,
    ) -> Injection:
        """Let `fault` befall the next `times` matching requests (`None`: all), from the `nth` match on.

        A request matches when every condition given holds: its `kind` of call, its `method`, its encoded `path`
        (a part of it, or a predicate), and `when`. Requests refused by a limit or for their token are not counted.
        """

        def matches(called: str, request: Request) -> bool:
            return (
                kind in (None, called)
                and method in (None, request.method)
                and _on_path(path, request.path)
                and (when is None or when(request))
            )

        injection = Injection(fault, matches, nth - 1, times)
        with self._lock:
            self._injections.append(injection)
        return injection

    def take(self, kind: str, request: Request) -> Fault | None:
        """The fault that befalls this request, if any."""
        with self._lock:
            for injection in self._injections:
                if injection.takes(kind, request):
                    return injection.fault
        return None

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._injections.clear()


def _on_path(wanted: str | Callable[[str], bool] | None, path: str) -> bool:
    if wanted is None:
        return True
    return wanted in path if isinstance(wanted, str) else wanted(path)
