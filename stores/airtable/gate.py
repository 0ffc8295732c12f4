"""The way to Airtable: every request is counted, paced, and sent again where that helps."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from clock import Clock
from stores.airtable.answers import PausedError, SenselessError, is_listing, makes_sense, quota_spent, unavailable
from stores.airtable.pace import Pace

PENALTY_SECONDS = 30.0  # what a 429 costs, documented under "rate limits"
OUTAGE_SECONDS = 120.0  # how long the program waits for a store that does not answer

_RETRIED = (500, 502, 503, 504)


@dataclass
class _Trouble:
    """Failures in a row, and when (monotonic seconds) the first of them was asked for."""

    since: float
    attempts: int = 0


class Gate(HTTPAdapter):
    """Every request to Airtable goes through here: counted, paced, and sent again where that helps."""

    def __init__(self, clock: Clock, pace: Pace) -> None:
        super().__init__(max_retries=0)
        self.calls = 0
        self._clock = clock
        self._pace = pace
        self._random = random.Random()
        self._is_failing = False
        self._updates: _Trouble | None = None  # since the last update that was answered

    @property
    def in_trouble(self) -> bool:
        """Whether the last request failed, or the last update did: reading may work while writing does not."""
        return self._is_failing or self._updates is not None

    def forget_updates(self) -> None:
        """A write is over, whatever became of it: the next one has its own two minutes."""
        self._updates = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, and wait out rate limits and outages for two minutes.

        A create is not repeated: its first attempt may have been carried out. An update is not repeated blindly:
        the pause is waited out here, then the caller has to look at the row again.

        Raises:
            StoreUnavailableError: no usable answer in that time.
            StoreQuotaError: the month's calls are spent.
            PausedError: see there; only for updates.
        """
        is_update = request.method == "PATCH"
        trouble = (self._updates if is_update else None) or _Trouble(self._clock.monotonic())
        while True:
            response = self._try(request, *args, **kwargs)
            self._is_failing = True
            wait = self._wait_for(response, trouble)
            if isinstance(response, requests.Response) and wait is None:
                self._is_failing = False
                self._updates = None if is_update else self._updates
                return response
            is_too_long = wait is None or self._clock.monotonic() + wait - trouble.since > OUTAGE_SECONDS
            if is_update:
                self._updates = None if is_too_long else trouble
            if wait is None or is_too_long or not _is_repeatable(request, response):
                raise unavailable(response)
            self._clock.sleep(wait)
            if is_update:
                raise PausedError("Airtable did not take the update", "Nothing to do: it is tried again.")

    def _try(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response | Exception:
        self._pace.wait()
        self.calls += 1
        try:
            response = super().send(request, *args, **kwargs)
            _ = response.content  # read here, so that a cut answer counts as none
        except requests.RequestException as error:
            return error
        if response.status_code < requests.codes.bad_request and not makes_sense(request, response):
            return SenselessError()
        return response

    def _wait_for(self, response: requests.Response | Exception, trouble: _Trouble) -> float | None:
        """Seconds to wait before the next attempt; None where the answer is to be used as it is."""
        trouble.attempts += 1
        backoff = self._random.uniform(0.5, 1.0) * min(2.0**trouble.attempts, PENALTY_SECONDS)
        if isinstance(response, Exception):
            return backoff
        if response.status_code == requests.codes.too_many_requests:
            if "PUBLIC_API_BILLING_LIMIT_EXCEEDED" in response.text:
                raise quota_spent()
            penalty = max(PENALTY_SECONDS, _retry_after(response)) + self._random.uniform(0, 2)
            self._pace.pause(penalty)
            return penalty
        if response.status_code in _RETRIED:
            return max(backoff, _retry_after(response))
        return None


def _is_repeatable(request: requests.PreparedRequest, response: requests.Response | Exception) -> bool:
    return request.method != "POST" or is_listing(request) or _was_not_done(response)


def _was_not_done(response: requests.Response | Exception) -> bool:
    return isinstance(response, requests.Response) and response.status_code == requests.codes.too_many_requests


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0
