"""The end of a credential: revoked at its provider, its secrets taken out of the row, the row disabled or deleted.

But for `delete` the row itself stays: it is the table's, with columns of other people. Onboarding brings it back to
life.
"""

from __future__ import annotations

from collections.abc import Callable
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
from token_refresh.base.events import Subscriber
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.base.text import safe_error
from token_refresh.clients.rows import access_token_of
from token_refresh.clients.settled import SettledRows
from token_refresh.journal.entries import Step, predecessors
from token_refresh.refresh.jobs import UnusableRow, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import (
    STATUS_ACTIVE,
    STATUS_DISABLED,
    STATUS_REAUTHORIZE,
    Change,
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
        self._rows = SettledRows(context, emit, wait_seconds)

    def end(self, location_id: str, provider: str | None, *, at_provider: bool, with_row: bool = False) -> str:
        """Take the secrets out of the row, with `at_provider` only after its grant is revoked; returns the provider.

        With `with_row` the row is deleted then, also where nothing was to be revoked.

        Safe to repeat: whatever was cut off is done again, and a dead grant is revoked without complaint.

        Raises:
            TokenError: the row is as it was, or (said so) revoked and not emptied.
            StoreError, JournalError: the row is as it was.
        """
        with self._rows.settled("revoke" if at_provider else "delete", location_id, provider) as (row, name):
            has_token = bool(row.encrypted_refresh) or row.has_only_access_token
            if at_provider and has_token:
                self._revoke(row, name)
            self._forget(row, name, Step.SUPERSEDED, Step.UNREAD)  # what could be put back
            if at_provider and not has_token and not with_row:
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
        with self._rows.settled("disable", location_id, provider) as (row, name):
            self._set_status(row, name, {"status": STATUS_DISABLED})
        return name

    def enable(self, location_id: str, provider: str | None) -> str:
        """Refresh and serve a row that was disabled again; returns the provider. Raises like `end`."""
        with self._rows.settled("enable", location_id, provider) as (row, name):
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

    def _forget(self, row: Row, name: str, *steps: str) -> None:
        """What the journal knows of the credential: none of it brings back what is ended."""
        entries = self._context.journal.entries(*steps)
        of_location = [entry for entry in entries if entry.location_id == row.location_id]  # SQLite gives keys again
        mine = [entry.id for entry in of_location if entry.row_key == row.key or entry.provider == name]
        self._context.journal.finish(mine)

    def _revoke(self, row: Row, name: str) -> None:
        """End the grant at its provider."""
        what = f"{row.location_id} {name}"
        try:
            provider, credential, access_token = self._tokens(row, name)
            requests = [
                request
                for token in self._unproven_before(row)
                for request in revocation_requests(provider, replace(credential, refresh_token=token), "")
            ]
            requests += revocation_requests(provider, credential, access_token)
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

    def _unproven_before(self, row: Row) -> list[str]:
        """The tokens before the row's own, oldest first, where that is not proved: any of them may be the living one.

        Raises:
            CellError: one does not open.
        """
        job, store = self._context.job_factory.job(row), self._context.store
        if isinstance(job, UnusableRow):
            return []
        entries = predecessors(job.token, row.location_id, self._context.journal.unproven())
        cells = [row.previous_refresh, *(entry.previous for entry in reversed(entries))]
        tokens = [store.open_text("previous_refresh", cell, row, job.binding) for cell in cells if cell]
        return list(dict.fromkeys(tokens))

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
        self._rows.require_status()
        self._rows.write(row, name, values, is_well=True)

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
