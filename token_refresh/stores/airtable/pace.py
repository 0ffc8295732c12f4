"""How fast Airtable is asked: one pace for all processes that call a base from this machine, kept in a file.

Two runs in one second would earn a penalty that neither would earn alone. The month's calls are counted beside it.
"""

from __future__ import annotations

import calendar
import fcntl
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from token_refresh.base.clock import Clock
from token_refresh.base.fork import let_go, open_unshared
from token_refresh.stores.base import Usage

_ROUNDING_SECONDS = 1e-3  # the file's clock is the wall clock, and binary fractions add up to a hair less
_DAY_SECONDS = 86_400
_LONGEST_PAUSE_SECONDS = 120.0  # a slot further away was written before the clock was set back


class Pace:
    """Gives each request its moment.

    Args:
        file: shared by the processes; made where it does not exist. Without a disk the pace is this process's own.
        clock: wall clock.
        requests_per_second: of this base.
    """

    def __init__(self, file: Path, clock: Clock, requests_per_second: float) -> None:
        self._file = file
        self._clock = clock
        self._spacing = 1.0 / requests_per_second + _ROUNDING_SECONDS
        self._own: dict[str, Any] = {}

    def take(self) -> float:
        """Take the next free moment; how many seconds to wait for it."""
        now = self._clock.now()
        return max(0.0, self._update(lambda state: self._take(state, now)) - now.timestamp())

    def pause(self, seconds: float) -> None:
        """Nobody on this machine asks before so many seconds have passed."""
        until = self._clock.now().timestamp() + seconds

        def postpone(state: dict[str, Any]) -> float:
            state["next_at"] = max(until, _number(state.get("next_at")))
            return until

        self._update(postpone)

    def usage(self) -> Usage:
        """The month so far, and where it leads."""
        now = self._clock.now()
        calls = int(self._update(lambda state: _calls(state, now)))
        days = calendar.monthrange(now.year, now.month)[1]
        passed = now.day - 1 + (now.hour + now.minute / 60) / 24
        forecast = round(calls * days / passed) if passed > 1 else calls
        return Usage(calls, forecast, (days - passed) * _DAY_SECONDS)

    def _take(self, state: dict[str, Any], now: datetime) -> float:
        moment = now.timestamp()
        planned = _number(state.get("next_at"))
        at = planned if moment < planned < moment + _LONGEST_PAUSE_SECONDS else moment
        state["next_at"] = at + self._spacing
        state["calls"] = _calls(state, now) + 1
        state["month"] = _month(now)
        return at

    def _update(self, change: Callable[[dict[str, Any]], float]) -> float:
        """Change what the file holds while no other process can."""
        try:
            descriptor = open_unshared(self._file)
        except OSError:
            return change(self._own)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            state = _read(descriptor)
            result = change(state)
            text = json.dumps(state).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
        except OSError:  # a full disk: better a pace of our own than none
            return change(self._own)
        finally:
            let_go(descriptor)
        return result


def _read(descriptor: int) -> dict[str, Any]:
    try:
        state = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _calls(state: dict[str, Any], now: datetime) -> int:
    return int(_number(state.get("calls"))) if state.get("month") == _month(now) else 0


def _month(now: datetime) -> str:
    return f"{now:%Y-%m}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
