"""The way to Airtable: every request is counted, paced, and sent again where that helps."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter

from token_refresh.base.clock import Clock, http_date, retry_after
from token_refresh.base.errors import ActionableError
from token_refresh.stores.airtable.answers import (
    EndlessAnswerError,
    LargePageError,
    PausedError,
    SenselessError,
    is_listing,
    is_page,
    makes_sense,
    quota_spent,
    unavailable,
)
from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.airtable.pace import Pace
from token_refresh.stores.base import STOP_SECONDS, StoreRefusedError

PENALTY_SECONDS = 30.0  # what a 429 costs, documented under "rate limits"
WAITING = "It is waited for, two minutes at most."
OUTAGE_SECONDS = 120.0  # how long the program waits for a store that does not answer
LAST_SECONDS = 10.0  # of the headers of one answer, and of its body, after a stop was asked for
MAX_ANSWER_BYTES = 32 * 1024 * 1024  # unpacked; a single row with every cell at Airtable's limit is less

_CHUNK_BYTES = 64 * 1024
_TICK_SECONDS = 1.0  # how long a wish for the end may go unnoticed
_TOO_SHORT_SECONDS = 0.5  # for an answer
_RETRIED = (500, 502, 503, 504)


@dataclass
class _Trouble:
    """Failures in a row, and when (monotonic seconds) the first of them was asked for."""

    since: float
    attempts: int = 0


class Gate(BaseAdapter):
    """Every request to Airtable goes through here: counted, paced, and sent again where that helps.

    Args:
        clock: for waiting.
        pace: when each request may go.
        options: what sends one request once, and knows whom to trust; how long the body of one answer may take; and
            what is called when Airtable is waited for, or no longer.
    """

    def __init__(self, clock: Clock, pace: Pace, options: AirtableOptions) -> None:
        super().__init__()
        self._adapter = options.adapter
        self.calls = 0
        self._clock = clock
        self._pace = pace
        self._random = random.Random()
        self._is_failing = False
        self._updates: _Trouble | None = None  # since the last update that was answered
        self._answer_seconds = options.answer_seconds
        self._say_outage = options.say_outage
        self._shorten = options.shorten
        self._ends_at: float | None = None  # monotonic seconds, once somebody wants the end
        self.clock_offset: timedelta | None = None  # of Airtable's clock, by its last answer

    @property
    def in_trouble(self) -> bool:
        """Whether the last request failed, or the last update did: reading may work while writing does not."""
        return self._is_failing or self._updates is not None

    def hurry(self) -> None:
        """See `Store.hurry`: no outage is waited out, and each request gets little time, the one under way, too."""
        if self._ends_at is None:
            self._ends_at = self._clock.monotonic() + STOP_SECONDS
            self._limit(LAST_SECONDS)

    def forget_updates(self) -> None:
        """A write is over, whatever became of it: the next one has its own two minutes."""
        self._updates = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, and wait out rate limits and outages for two minutes.

        A create is not repeated: its first attempt may have been carried out. An update is not repeated blindly:
        the pause is waited out here, then the caller has to look at the row again.

        Raises:
            StoreRefusedError: nobody can be trusted; nothing was sent.
            LargePageError: see there.
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
            at = self._clock.monotonic() + (wait or 0.0)
            is_too_long = wait is None or self._ends_at is not None or at - trouble.since > OUTAGE_SECONDS
            if is_update:
                self._updates = None if is_too_long else trouble
            if wait is None or is_too_long or not _is_repeatable(request, response):
                raise unavailable(response)
            if trouble.attempts == 1 and not _was_not_done(response):
                self._say_outage(str(unavailable(response)), WAITING)
            if not self._wait(wait):
                raise unavailable(response)
            if is_update:
                raise PausedError("Airtable did not take the update", "Nothing to do: it is tried again.")

    def close(self) -> None:
        """Release connections."""
        self._adapter.close()

    def _try(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response | Exception:
        if not self._wait(self._pace.take()) or (self._ends_at is not None and not self._limit_last(kwargs)):
            return requests.ConnectTimeout("the program is to end")
        self.calls += 1
        try:
            response = self._adapter.send(request, *args, **{**kwargs, "stream": True})
            self._read(response, is_page(request))
            self._compare_clocks(response)
        except LargePageError:
            raise
        except ActionableError as error:
            raise StoreRefusedError(str(error), error.action) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return error
        if response.status_code < requests.codes.bad_request and not makes_sense(request, response):
            return SenselessError()
        return response

    def _wait(self, seconds: float) -> bool:
        """Wait so long; False where somebody wants the end and there is more to wait for than an answer may take."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            if self._ends_at is not None and left > LAST_SECONDS:
                return False
            self._clock.sleep(min(left, _TICK_SECONDS))
        return True

    def _limit_last(self, kwargs: dict[str, Any]) -> bool:
        """Give a request after the wish for the end its part of the time that is left; False where that is too little.

        Its headers may take a part, its body two: it is looked at after a read, which itself may take one.
        """
        seconds = min(LAST_SECONDS, ((self._ends_at or 0.0) - self._clock.monotonic()) / 3)
        if seconds < _TOO_SHORT_SECONDS:
            return False
        self._limit(seconds)
        kwargs["timeout"] = (seconds, seconds)
        return True

    def _limit(self, seconds: float) -> None:
        self._answer_seconds = min(self._answer_seconds, seconds)
        self._shorten(seconds)

    def _compare_clocks(self, response: requests.Response) -> None:
        if (moment := http_date(response.headers.get("Date", ""))) is not None:
            self.clock_offset = moment - self._clock.now()

    def _read(self, response: requests.Response, of_page: bool) -> None:
        """Take the body in here, so that a cut answer counts as none; bounded in size, however packed, and in time.

        requests bounds neither. The time is the machine's own, because sockets hang in real time.

        Raises:
            LargePageError: it is too long, and may be shorter if a smaller page is asked for.
            EndlessAnswerError: it is too long, or takes too long.
        """
        body, began = bytearray(), time.monotonic()
        with response:
            while part := response.raw.read1(_CHUNK_BYTES, decode_content=True):
                body += part
                if of_page and len(body) > MAX_ANSWER_BYTES:
                    raise LargePageError("a page of the table is too large", "Shorten its longest cells.")
                if len(body) > MAX_ANSWER_BYTES or time.monotonic() - began > self._answer_seconds:
                    raise EndlessAnswerError
        response._content = bytes(body)  # where requests itself puts what it read

    def _wait_for(self, response: requests.Response | Exception, trouble: _Trouble) -> float | None:
        """Seconds to wait before the next attempt; None where the answer is to be used as it is."""
        trouble.attempts += 1
        backoff = self._random.uniform(0.5, 1.0) * min(2.0**trouble.attempts, PENALTY_SECONDS)
        if isinstance(response, Exception):
            return backoff
        if response.status_code == requests.codes.too_many_requests:
            if "PUBLIC_API_BILLING_LIMIT_EXCEEDED" in response.text:
                raise quota_spent()
            penalty = max(PENALTY_SECONDS, self._retry_after(response)) + self._random.uniform(0, 2)
            self._pace.pause(penalty)
            return penalty
        if response.status_code in _RETRIED:
            return max(backoff, self._retry_after(response))
        return None

    def _retry_after(self, response: requests.Response) -> float:
        return retry_after(response.headers.get("Retry-After", ""), self._clock.now()) or 0.0


def _is_repeatable(request: requests.PreparedRequest, response: requests.Response | Exception) -> bool:
    return request.method != "POST" or is_listing(request) or _was_not_done(response)


def _was_not_done(response: requests.Response | Exception) -> bool:
    return isinstance(response, requests.Response) and response.status_code == requests.codes.too_many_requests
