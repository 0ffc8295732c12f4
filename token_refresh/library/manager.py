"""For programs: a valid access token now, logins stored, grants ended, and runs without cron.

Between two calls only connections stay open, a few for all threads; journal and run lock are held around a refresh or a
write alone. So a program that lives for weeks never keeps cron or another program from its work. It may fork before
`start`, while no call is open: a child gets what its parent's other threads hold, such as the lock of a module that is
being imported, and would wait for it for ever.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import crypto
from providers.base import Answer
from token_refresh import settings as configuration
from token_refresh.base.clock import LONGEST_INTERVAL_SECONDS, SHORTEST_INTERVAL_SECONDS, Clock, SystemClock, iso
from token_refresh.base.errors import Kind, MisconfiguredError, RetryLaterError, TokenError, capture_error, unwrap
from token_refresh.base.events import Outcome, RunFinished
from token_refresh.base.rounds import rounds
from token_refresh.base.stop import Stop
from token_refresh.base.text import trimmed
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential, params_cell
from token_refresh.clients.login_answer import read_login
from token_refresh.clients.removal import Removal
from token_refresh.clients.rows import find_one
from token_refresh.library.clients import Clients
from token_refresh.library.log import LOG, log_event, log_not_saved, log_outage, log_warning
from token_refresh.library.logins import Logins
from token_refresh.library.single_flight import Flight, SingleFlight
from token_refresh.library.tokens import WAIT_SECONDS, Asked, Guard, Token, Tokens, unguarded
from token_refresh.library.views import AccessToken, TokenView, view_of
from token_refresh.notifiers.watch import RunWatch
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import Scope
from token_refresh.wiring import Runtime, assemble, runtime

_T = TypeVar("_T")

PAUSE_SECONDS = 30.0  # after an early refresh that failed, the stored token is served so long without another try


class TokenManager(Clients, Logins):
    """Thread-safe. What goes wrong is a `TokenError`; what should be known is logged by `token_refresh`.

    Args:
        runtime: opens store, journal and lock.
        wait_seconds: how long a call waits for another run, or for who is refreshing its row.
    """

    @classmethod
    def from_settings(cls, environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> TokenManager:
        """From the environment and `.env`, like the command line. The environment is left as it is.

        Raises:
            MisconfiguredError: with all problems at once; nothing was called yet.
        """
        configured = capture_error(partial(_configured, environ, clock or SystemClock()))
        del environ  # an error that is raised below keeps this frame, and its locals may go to an error tracker
        return cls(unwrap(configured))

    def __init__(self, runtime: Runtime, wait_seconds: float = WAIT_SECONDS) -> None:
        super().__init__(runtime, wait_seconds)
        weakref.finalize(self, runtime.close)  # for programs that do not close it
        self._tokens = Tokens(self._runtime, log_event, wait_seconds, self._ending.forwarding_to)
        self._single_flight = SingleFlight[AccessToken]()
        self._pauses: dict[Hashable, float] = {}
        self._scheduler: _Scheduler | None = None
        self._scheduler_lock = threading.Lock()

    def __enter__(self) -> TokenManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the rounds, wait for the open one, and release connections, which the last open call does where one is.

        A later call opens others.
        """
        self.stop()
        self._runtime.close()

    # One token

    def get_valid_access_token(
        self, location_id: str, provider: str | None = None, min_valid: float | None = None
    ) -> str:
        """The access token, refreshed first where it would not live `min_valid` seconds more (TOKEN_EXPIRY_BUFFER).

        One refresh, however many threads, processes and machines ask. When it fails, the stored token as long as it
        lives, and a warning in the log.

        Raises:
            RetryLaterError: there is no valid token now.
            LoginAgainError: only a login helps.
            NoSuchTokenError, MisconfiguredError: see there.
        """
        return self.get_token(location_id, provider, min_valid).access_token

    def get_token(self, location_id: str, provider: str | None = None, min_valid: float | None = None) -> AccessToken:
        """The same with its end, type and scopes. Raises like `get_valid_access_token`."""
        flight = self.token_flight(location_id, provider, min_valid)
        if flight.is_led_here:  # a log handler that sends its lines with this token
            return self._stored_meanwhile(location_id.strip(), provider)
        flight.lead()
        return unwrap(flight.answer.result())

    def refresh_now(self, location_id: str, provider: str | None = None) -> AccessToken:
        """The access token after a refresh now, whatever life the stored one has left.

        Raises:
            RetryLaterError: it was not refreshed; `after` says in how many seconds it may be, where that is known, as
                of a provider that takes a refresh only shortly before the token ends, or wants a pause.
            LoginAgainError, NoSuchTokenError, MisconfiguredError: see there.
        """
        return unwrap(capture_error(lambda: _handed_out(self._tokens.refresh(location_id.strip(), provider))))

    def token_flight(self, location_id: str, provider: str | None, min_valid: float | None) -> Flight[AccessToken]:
        """The token to come, for all who ask for it now: to be led in any thread, then waited for."""
        key = (location_id.strip(), provider)
        return self._single_flight.join((*key, min_valid), lambda: capture_error(lambda: self._serve(*key, min_valid)))

    def look_up(self, asked: Sequence[Asked]) -> list[AccessToken | TokenError | str]:
        """The stored tokens, read together; for one that takes more (`token_flight`) its provider, or an empty text."""
        found = capture_error(lambda: self._tokens.look_up(asked))
        if isinstance(found, TokenError):  # a mistake that one of them brings to light must not cost the others theirs
            return ["" if found.kind is Kind.INTERNAL else found] * len(asked)
        return [token if isinstance(token, str) else _handed_out(token) for token in found]

    def get(self, location_id: str, provider: str | None = None) -> TokenView:
        """What may be shown of a row. Raises like `get_valid_access_token`."""

        def act() -> TokenView:
            with self._runtime.open_store() as store:
                row, _ = find_one(store.store, self._runtime.job_factory(store), location_id.strip(), provider)
                return view_of(self._status(self._runtime.remembered(store.store).added_to(row)))

        return unwrap(capture_error(act))

    def list_tokens(self) -> list[TokenView]:
        """What may be shown of every row; nothing is opened."""

        def act() -> list[TokenView]:
            with self._runtime.open_store() as store:
                remembered = self._runtime.remembered(store.store)
                return [view_of(self._status(remembered.added_to(row))) for row in store.store.rows()]

        return unwrap(capture_error(act))

    # Logins and their end

    def store_tokens(
        self,
        location_id: str,
        provider: str,
        *,
        client_id: str = "",
        client_secret: str = "",
        provider_params: Mapping[str, str] | None = None,
        allow_hosts: Collection[str] = (),
        redirect_uri: str = "",
        workspace_email: str = "",
        workspace_name: str = "",
        username: str = "",
        email: str = "",
        connected_at: datetime | None = None,
        **answer: Any,
    ) -> None:
        """Keep what a login brought, sealed, over whatever credential the row had.

        It is on the disk before it is written; where the store does not take it, the next run stores it. Client id
        and secret may be left out where the settings name them. A token host that `provider_params` choose has to be
        among `allow_hosts` (`host`, or `host:port`).

        Args:
            location_id, provider: the row.
            client_id, client_secret, provider_params, allow_hosts: see above.
            redirect_uri, workspace_email, workspace_name, username, email, connected_at: kept and shown, where given.
            answer: the provider's answer, as it came: `refresh_token`, `access_token`, `expires_in` (seconds) or
                `expires_at` (an aware time, ISO 8601, or seconds since 1970), `refresh_token_expires_in`, `scope`,
                `token_type`, `id_token`; other members are passed over. Without an access token and its end the next
                run fetches one. Without a refresh token the one in the row stays; where it has none, the access token
                is served until its end, or without end.

        Raises:
            RetryLaterError: nothing was stored, and it is to be repeated, unless the message says that the tokens wait
                in the journal or are kept there.
            MisconfiguredError: nothing was stored.
        """
        read = capture_error(partial(read_login, answer, self._runtime.clock.now()))
        del answer  # see `from_settings`; what is made of it does not show its tokens
        login, details = unwrap(read)
        params = unwrap(capture_error(partial(params_cell, provider_params)))
        if connected_at is not None and not isinstance(connected_at, datetime):
            raise MisconfiguredError("connected_at is no time", "Pass an aware datetime, or leave it out.", Kind.USAGE)
        known = {
            "redirect_uri": redirect_uri,
            "workspace_email": workspace_email,
            "workspace_name": workspace_name,
            "username": username,
            "email": email,
            "connected_at": iso(connected_at) if connected_at is not None else "",
        }
        entered = NewCredential(
            trimmed(location_id),
            provider,
            client_id,
            client_secret,
            login.refresh_token or "",
            params,
            {**details, **{name: value for name, value in known.items() if value}},
        )
        # What it brings is in `entered`; without an access token the next run has to fetch one.
        login = replace(login, refresh_token=None, expires_at=login.expires_at if login.access_token else None)
        del client_secret
        unwrap(capture_error(partial(self._store, entered, login, allow_hosts)))
        LOG.info("%s %s: tokens stored", entered.location_id, provider)

    def revoke_tokens(self, location_id: str, provider: str | None = None) -> None:
        """End the grant at its provider (RFC 7009), then take its secrets out of the row, which stays, disabled.

        Raises:
            RetryLaterError: the provider may still hold it alive; the row is as it was.
            MisconfiguredError: the provider refuses, or none of its endpoints is known.
            NoSuchTokenError: there is no such row, or no credential in it.
        """
        self._remove(location_id, provider, at_provider=True)

    def delete_tokens(self, location_id: str, provider: str | None = None) -> None:
        """The same without asking the provider, where the grant lives on."""
        self._remove(location_id, provider, at_provider=False)

    # Runs

    def refresh_due(self) -> RunFinished:
        """One run, as cron's: store what an earlier one left, refresh what is due.

        Raises:
            RetryLaterError: another run is active, or the store cannot be reached.
            MisconfiguredError: nothing may be refreshed.
        """
        return unwrap(self._run(self._runtime.refresh_interval))

    def store_leftovers(self) -> None:
        """Store what an earlier run left in the journal, and refresh nothing.

        Raises:
            RetryLaterError: another run is active, or the store cannot be reached.
            MisconfiguredError: something of it cannot be stored.
        """

        def act() -> None:
            with self._open(self._wait_seconds) as context:
                store_leftovers(context, log_event)

        unwrap(capture_error(act))

    def end_refreshes(self) -> None:
        """From now on a call that needs a refresh is an error, or gets the stored token; those under way are finished.

        None of these waits for a store that is away. For a program that is about to end.
        """
        self._ending("the program is ending")

    def start(self, interval: float | None = None) -> None:
        """Run now and every `interval` seconds in a thread of its own, until `stop`.

        The interval stands for REFRESH_INTERVAL, by which tokens are renewed in time. A round that fails is logged,
        and the next one comes. A second start changes nothing.

        Raises:
            MisconfiguredError: the interval is too short, or no number of seconds.
        """
        seconds = self._runtime.refresh_interval if interval is None else interval
        if not SHORTEST_INTERVAL_SECONDS <= seconds <= LONGEST_INTERVAL_SECONDS:  # NaN is not between them, either
            raise MisconfiguredError(
                f"an interval of {seconds:g} s cannot be used",
                f"Use {SHORTEST_INTERVAL_SECONDS} to {LONGEST_INTERVAL_SECONDS} s.",
                Kind.USAGE,
            )
        with self._scheduler_lock:
            if self._scheduler is None or not self._scheduler.is_going():
                run = partial(self._run, seconds)
                self._scheduler = _Scheduler(run, seconds, self._runtime.clock, self._scheduler)
                atexit.register(self.stop)

    def stop(self, timeout: float | None = None) -> bool:
        """Begin nothing new, and wait for what is open; whether the thread has ended within `timeout` seconds.

        Where it has not, the program still waits for it at its exit.
        """
        with self._scheduler_lock:
            scheduler = self._scheduler
        if scheduler is not None and not scheduler.end(timeout):
            return False
        atexit.unregister(self.stop)
        return True

    # Inside

    def _serve(self, location_id: str, provider: str | None, min_valid: float | None) -> AccessToken:
        key, clock = (location_id, provider), self._runtime.clock
        is_pause = clock.monotonic() < self._pauses.get(key, -math.inf)
        served = self._tokens.serve(location_id, provider, 0 if is_pause else min_valid)
        if served.warning:
            self._pauses[key] = clock.monotonic() + PAUSE_SECONDS
            LOG.warning("%s. %s", served.warning, served.action)
        return _handed_out(served.token)

    def _stored_meanwhile(self, location_id: str, provider: str | None) -> AccessToken:
        """The stored token while it lives: whoever asks is part of what fetches the next one."""
        [token] = self.look_up([Asked(location_id, provider, 0)])
        if isinstance(token, str):
            raise RetryLaterError(f"{location_id}: this thread itself is at its token", "Ask again when it is there.")
        return unwrap(token)

    def _store(self, entered: NewCredential, login: Answer, allow_hosts: Collection[str]) -> None:
        entered.require_usable(login.access_token)  # before anybody waits for the lock
        with self._open(self._wait_seconds) as context:
            result = Admission(context).admit(entered, Terms(replace=True, hosts=allow_hosts), login)
        self._runtime.record_rows([result])
        if result.outcome is not Outcome.REFRESHED:
            raise result.as_error()

    def _remove(self, location_id: str, provider: str | None, *, at_provider: bool) -> None:
        def act() -> str:
            with self._open(self._wait_seconds) as context:
                removal = Removal(context, log_event, self._wait_seconds)
                return removal.end(location_id.strip(), provider, at_provider=at_provider)

        name = unwrap(capture_error(act))
        LOG.info("%s %s: tokens %s", location_id.strip(), name, "revoked" if at_provider else "deleted")

    def _run(self, interval: float, stop: Stop | None = None) -> RunFinished | TokenError:
        """One run, then whoever wants to know of it acts; scheduled where something may stop it."""
        watch = self._runtime.run_watch(log_warning, stop is not None)
        guard = unguarded if stop is None else stop.forwarding_to
        report = capture_error(lambda: watch.over(lambda: self._refresh(interval, guard, watch)))
        kinds = {report.kind} if isinstance(report, TokenError) else report.kinds()
        watch.tell(kinds, lambda: stop is not None and stop.reason is not None)
        return report

    def _refresh(self, interval: float, guard: Guard, watch: RunWatch) -> RunFinished:
        with self._open(0.0) as context:
            context = context._replace(policy=replace(context.policy, interval=math.ceil(interval)))
            refresher = Refresher(context, log_event, watch)
            with watch.following(context), guard(refresher.stop):
                return refresher.run(Scope())


def _handed_out(token: Token) -> AccessToken:
    row = token.row
    return AccessToken(row.location_id, token.provider, token.text, token.type, token.expires_at, token.scopes, row.key)


class _Scheduler:
    """The thread behind `start`. A daemon: a program that ends without `stop` waits for the open round at its exit.

    It begins when the one before it, which somebody stopped, has ended.
    """

    def __init__(
        self,
        run: Callable[[Stop], RunFinished | TokenError],
        interval: float,
        clock: Clock,
        before: _Scheduler | None,
    ) -> None:
        self._run = run
        self._before = before
        self._rounds = (interval, clock)
        self._stop = Stop()
        self._thread = threading.Thread(target=self._work, name="token-refresh", daemon=True)
        self._thread.start()

    def is_going(self) -> bool:
        return self._thread.is_alive() and self._stop.reason is None

    def end(self, timeout: float | None) -> bool:
        self._stop("the program stops its rounds")
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        if self._before is not None:
            self._before.end(None)
            self._before = None
        for _ in rounds(*self._rounds, self._stop):
            report = self._run(self._stop)
            problem = report if isinstance(report, TokenError) else report.store_error or report.journal_error
            if problem is not None:
                LOG.error("this round failed: %s. %s", problem, problem.action)


def _configured(environ: Mapping[str, str] | None, clock: Clock) -> Runtime:
    settings = configuration.load(dict(os.environ) if environ is None else environ, crypto.parse_key)
    made = runtime(assemble(settings, clock, log_not_saved, log_outage, "library"))
    for warning in settings.warnings:
        LOG.warning("%s", warning)
    return made
