"""The end of a credential: revoked at its provider, its secrets taken out of the row, the row disabled or deleted.

But for `delete` the row itself stays: it is the table's, with columns of other people. Onboarding brings it back to
life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from providers.base import Answer, Credential, Provider, ProviderError, RawAnswer, TokenRequest, Verdict
from providers.revocation import read_revocation, revocation_requests
from token_refresh.base.errors import (
    Kind,
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    TokenError,
)
from token_refresh.base.events import Subscriber, audited
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.base.text import safe_error
from token_refresh.clients.rows import POLL_SECONDS, access_token_of, find_one
from token_refresh.journal.entries import OPEN_STEPS, Step
from token_refresh.refresh import replay
from token_refresh.refresh.claims import released_at_the_end, rows_of_others
from token_refresh.refresh.jobs import UnusableRow, read_params
from token_refresh.refresh.listing import CLAIMED_ROWS, query_of
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import (
    STATUS_ACTIVE,
    STATUS_DISABLED,
    STATUS_REAUTHORIZE,
    Change,
    DueQuery,
    Row,
    Value,
    Written,
)
from token_refresh.stores.sealed import CellError

ATTEMPTS = 3  # RFC 7009 section 2.2.1: on a 503 the token still exists, and the client may retry
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 10.0

_CLEARED: dict[str, Value] = {
    "encrypted_secret": "",
    "encrypted_refresh": "",
    "last_access_token": "",
    "id_token": None,
    "previous_refresh": None,
    "access_token_expiry": None,
    "refresh_token_expiry": None,
    "status": STATUS_DISABLED,
    "last_error": "",
    "failure_count": 0,
}


class Removal:
    """Ends credentials, or lets them rest. The caller holds the run lock.

    Args:
        context: what it works with.
        emit: gets what became of what an earlier run left.
        wait_seconds: how long to wait for who is refreshing the row.
    """

    def __init__(self, context: RunContext, emit: Subscriber, wait_seconds: float) -> None:
        self._context = context
        self._emit = emit
        self._wait_seconds = wait_seconds

    def end(self, location_id: str, provider: str | None, *, at_provider: bool, with_row: bool = False) -> str:
        """Take the secrets out of the row, with `at_provider` only after its grant is revoked; returns the provider.

        With `with_row` the row is deleted then.

        Safe to repeat: whatever was cut off is done again, and a dead grant is revoked without complaint.

        Raises:
            TokenError: the row is as it was, or (said so) revoked and not emptied.
            StoreError, JournalError: the row is as it was.
        """
        with self._settled("revoke" if at_provider else "delete", location_id, provider) as (row, name):
            has_token = bool(row.encrypted_refresh) or row.has_only_access_token
            if at_provider and has_token:
                self._revoke(row, name)
            self._forget(row, name, Step.SUPERSEDED, Step.UNREAD)  # what could be put back
            if at_provider and not has_token:
                raise NoSuchTokenError(f"{row.location_id} {name}: it has no credential", "There is nothing to revoke.")
            self._clear_secrets(row, name, was_revoked=at_provider)
            if with_row:
                self._context.store.store.delete(row.key)
        return name

    def revoke(self, location_id: str, provider: str | None) -> str:
        """See `end`."""
        return self.end(location_id, provider, at_provider=True)

    def delete(self, location_id: str, provider: str | None) -> str:
        """Take the secrets out of the row, then the row out of the table; returns the provider.

        The grant lives on at its provider. Raises like `end`.
        """
        return self.end(location_id, provider, at_provider=False, with_row=True)

    def disable(self, location_id: str, provider: str | None) -> str:
        """Let the row rest: its tokens stay, and are neither refreshed nor served; returns the provider.

        Raises like `end`.
        """
        with self._settled("disable", location_id, provider) as (row, name):
            self._set_status(row, name, {"status": STATUS_DISABLED})
        return name

    def enable(self, location_id: str, provider: str | None) -> str:
        """Refresh and serve a row that was disabled again; returns the provider. Raises like `end`."""
        with self._settled("enable", location_id, provider) as (row, name):
            if row.status == STATUS_REAUTHORIZE:
                raise LoginAgainError(
                    f"{row.location_id} {name}: it is not disabled, its refresh token does not work any more",
                    f"Connect the account again, then run: {ONBOARD_CLIENT}",
                )
            if not row.encrypted_refresh and not row.has_only_access_token:
                raise LoginAgainError(
                    f"{row.location_id} {name}: it has no credential", f"Onboard it: {ONBOARD_CLIENT}"
                )
            self._set_status(row, name, {"status": STATUS_ACTIVE, "last_error": "", "failure_count": 0})
        return name

    @contextmanager
    def _settled(self, use: str, location_id: str, provider: str | None) -> Iterator[tuple[Row, str]]:
        """The row and its provider, when the journal holds nothing of it any more and nobody refreshes it.

        `use` is what the security log says of what is done inside.
        """
        # The token in the row may have a successor in the journal.
        blocked = store_leftovers(self._context, self._emit)
        self._refuse_unfinished(location_id, provider)
        row, name = self._row(location_id, provider)
        if row.key in blocked:
            raise RetryLaterError(
                f"{row.location_id} {name}: newer tokens of it wait in the journal, and cannot be stored now",
                f"See: {TOKEN_MANAGER} recover",
            )
        with audited(self._context.audit, use, row.location_id) as used, self._alone(row, name):
            row, _ = self._row(location_id, name)
            used.client_id = row.client_id
            yield row, name

    def _row(self, location_id: str, provider: str | None) -> tuple[Row, str]:
        return find_one(self._context.store.store, self._context.job_factory, location_id, provider)

    def _refuse_unfinished(self, location_id: str, provider: str | None) -> None:
        """What an onboarding, or a request that may still arrive, would bring after the end must come before it."""
        context = self._context
        slug = None if provider is None else context.job_factory.slug_of(provider)
        now = context.clock.now()
        for entry in context.journal.entries(*OPEN_STEPS):
            is_of = entry.location_id == location_id and slug in (None, entry.provider)
            is_under_way = entry.step == Step.SENT and now < replay.arrives_by(entry)
            if is_of and (entry.admission or is_under_way):
                what = "its onboarding is" if entry.admission else "a request of an earlier run may still be"
                raise RetryLaterError(
                    f"{location_id} {entry.provider}: {what} on its way; nothing was changed",
                    f"Repeat it in two minutes. If that does not help: {TOKEN_MANAGER} recover",
                )

    def _forget(self, row: Row, name: str, *steps: str) -> None:
        """What the journal knows of the credential: none of it brings back what is ended."""
        of = (row.location_id, name)
        entries = self._context.journal.entries(*steps)
        mine = [entry for entry in entries if entry.row_key == row.key or (entry.location_id, entry.provider) == of]
        self._context.journal.finish(entry.id for entry in mine)

    @contextmanager
    def _alone(self, row: Row, name: str) -> Iterator[None]:
        """Nobody refreshes the row meanwhile: its token would get a successor that lives."""
        context = self._context
        cell = row.provider or context.default_provider
        scope = Scope(everything=True, locations=(row.location_id,), providers=(cell,))
        query = replace(query_of(context, scope), idle=())
        deadline = context.clock.monotonic() + self._wait_seconds
        with released_at_the_end(context):
            while not self._is_claimed(row, query):
                held = rows_of_others(context, query)
                if not held:
                    break  # a row that no run would take
                if context.clock.monotonic() >= deadline:
                    what = f"{row.location_id} {name}: {held[0].reason}; nothing was changed"
                    raise RetryLaterError(what, held[0].action)
                context.clock.sleep(POLL_SECONDS)
            yield

    def _is_claimed(self, row: Row, query: DueQuery) -> bool:
        rounds = self._context.store.store.claim_due(query, self._context.claimant, CLAIMED_ROWS)
        return row.key in {one.key for rows in rounds for one in rows}

    def _revoke(self, row: Row, name: str) -> None:
        """End the grant at its provider."""
        what = f"{row.location_id} {name}"
        try:
            provider, credential, access_token = self._tokens(row, name)
            requests = revocation_requests(provider, credential, access_token)
        except (ProviderError, CellError) as error:
            raise MisconfiguredError(f"{what}: {error}", error.action, Kind.ROW) from None
        if not requests:
            raise MisconfiguredError(
                f"{what}: no revocation endpoint of {provider.name} is known for this row",
                "Disconnect the app in the provider's own pages, then delete the tokens.",
                Kind.ROW,
            )
        for request in requests:
            answer = self._ask(request, partial(read_revocation, provider))
            if answer.verdict is not Verdict.DEAD_GRANT:
                secrets = (credential.refresh_token, credential.client_secret, access_token)
                raise _refusal(what, answer, safe_error(answer.error or "no answer", *secrets))

    def _tokens(self, row: Row, name: str) -> tuple[Provider, Credential, str]:
        """Where the row's credential is from, the credential, and the access token.

        Raises:
            NoSuchTokenError: there is only an access token, and the provider revokes none.
            ProviderError, CellError: it cannot be used.
        """
        factory, store = self._context.job_factory, self._context.store
        if row.encrypted_refresh:
            job = factory.job(row)
            if isinstance(job, UnusableRow):
                raise job.error
            return job.provider, job.credential, access_token_of(self._context, row, job)
        provider = factory.find_provider(name)
        if provider.revocation.token == "refresh":  # noqa: S105 - which one
            raise NoSuchTokenError(
                f"{row.location_id} {name}: it has only an access token, which is not revoked from here",
                f"Disconnect the app in the provider's own pages, then: {TOKEN_MANAGER} delete LOCATION",
            )
        binding, endpoint = factory.binding(row), factory.endpoint(row)
        sealed = row.encrypted_secret
        secret = store.open_text("encrypted_secret", sealed, row, binding) if sealed else ""
        client = factory.client(name, endpoint, row.client_id, secret)
        credential = Credential(client.client_id, client.client_secret, "", read_params(row.provider_params))
        return provider, credential, store.access_token(row, binding)

    def _ask(self, request: TokenRequest, read: Callable[[RawAnswer], Answer]) -> Answer:
        answer = self._ask_once(request, read)
        for _ in range(1, ATTEMPTS):
            if not _passes(answer):
                break
            self._context.clock.sleep(min(answer.retry_after or PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
            answer = self._ask_once(request, read)
        return answer

    def _ask_once(self, request: TokenRequest, read: Callable[[RawAnswer], Answer]) -> Answer:
        answer = self._context.transport.post(request)
        return answer if isinstance(answer, Answer) else read(answer)

    def _set_status(self, row: Row, name: str, values: dict[str, Value]) -> None:
        columns = self._context.store.store.columns
        if "status" not in columns:
            raise MisconfiguredError("the table has no column status", f"Run: {TOKEN_MANAGER} setup")
        values = {column: value for column, value in values.items() if column in columns}
        [result] = self._context.store.store.write([Change(row.key, row.encrypted_refresh, values)])
        if result.error is not None:
            raise result.error
        if result.written is not Written.STORED:
            raise RetryLaterError(
                f"{row.location_id} {name}: somebody changed the row meanwhile; theirs stays", "Repeat it."
            )
        self._context.journal.failures.record([], [row.key])

    def _clear_secrets(self, row: Row, name: str, *, was_revoked: bool) -> None:
        """Write over what was read, and only over that."""
        context = self._context
        values = {column: value for column, value in _CLEARED.items() if column in context.store.store.columns}
        [result] = context.store.store.write([Change(row.key, row.encrypted_refresh, values)])
        if result.written is Written.STORED:
            self._forget(row, name)
            context.journal.failures.record([], [row.key])
            return
        done = "is revoked at its provider, but its row could not be emptied" if was_revoked else "was not deleted"
        why = str(result.error) if result.error is not None else "somebody changed the row meanwhile"
        raise RetryLaterError(f"{row.location_id} {name} {done}: {why}", "Repeat it.")


def _passes(answer: Answer) -> bool:
    """Whether the same request may succeed later: the provider is failing, or did not answer."""
    return answer.verdict is Verdict.NOT_ACTED or (answer.verdict is Verdict.UNCLEAR and answer.status is None)


def _refusal(what: str, answer: Answer, said: str) -> TokenError:
    if _passes(answer):
        problem = f"{what}: not revoked, so its tokens may still work: {said}"
        return RetryLaterError(problem, "Repeat it later; the row is as it was.")
    return MisconfiguredError(
        f"{what}: not revoked, the provider refuses: {said}",
        "Correct the client id and secret, or disconnect the app in the provider's own pages and delete the tokens.",
        Kind.ROW,
    )
