"""PING_URL: for a monitor that misses the ping when cron stops. It gets the exit code and counts, no ids."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from urllib.parse import urlsplit

from providers.base import Answer, TokenRequest
from token_refresh.base.errors import ActionableError
from token_refresh.net.transport import HTTPTransport
from token_refresh.notifiers.summary import RunSummary
from token_refresh.notifiers.watch import Limit, Surroundings

MOST_SECONDS = 5.0


def post(transport: HTTPTransport, url: str, headers: Mapping[str, str], body: bytes, limit: Limit) -> None:
    """Send a request once. Raises `ActionableError` unless the answer is a 2xx."""
    seconds = max(0.01, min(MOST_SECONDS, limit.left()))
    answer = transport.post(TokenRequest(url, headers, body, host_is_fixed=True, seconds=seconds))
    if isinstance(answer, Answer) or not 200 <= answer.status < 300:
        what = "it does not answer" if isinstance(answer, Answer) else f"it answered HTTP {answer.status}"
        raise ActionableError(what, "Check its address and its certificate.")


class Ping:
    """One run's: `/start` when it begins, then the address itself for exit code 0, `/EXIT_CODE` for another.

    Args:
        surroundings: see there.
        url: as the monitor shows it; what is added comes before its query.
    """

    def __init__(self, surroundings: Surroundings, url: str) -> None:
        self._surroundings, self._url = surroundings, urlsplit(url)
        self._start = threading.Thread(target=self._say_start, name="PING_URL /start", daemon=True)

    def begin(self) -> None:
        """See `Notifier.begin`. In a thread: a monitor that hangs delays no refresh."""
        with suppress(RuntimeError):  # the system starts no more threads
            self._start.start()

    def act(self, summary: RunSummary, limit: Limit) -> None:
        """See `Notifier.act`. After `/start`: the other way round, the monitor would wait for an end that was."""
        while self._start.is_alive() and not limit.is_over():
            self._start.join(0.05)
        run = summary.run
        counts = {"due": run.due, **run.counts(), "not tried": len(run.waiting), "exit code": summary.exit_code}
        body = "\n".join(f"{name}: {count}" for name, count in counts.items())
        self.send(f"/{summary.exit_code}" if summary.exit_code else "", body, limit)

    def send(self, suffix: str, body: str, limit: Limit) -> None:
        """One ping. Raises `ActionableError` where it is not accepted."""
        url = self._url._replace(path=self._url.path.rstrip("/") + suffix) if suffix else self._url
        with closing(self._surroundings.open_transport(MOST_SECONDS)) as transport:
            post(transport, url.geturl(), {"Content-Type": "text/plain"}, body.encode(), limit)

    def _say_start(self) -> None:
        with suppress(ActionableError):  # where it lasts, the ping at the end says so
            self.send("/start", "", Limit(MOST_SECONDS))
