"""Onboarding: a credential that a person entered is proved by one refresh, and the proved pair is what gets stored.

It goes the way of every refresh: sealed in the journal first, answer kept before it is read, row written once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from crypto import Context, SealedCellError
from providers.base import Answer, Credential, Endpoint, Provider, ProviderError, TokenRequest, Verdict
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import safe_error
from token_refresh.journal.entries import (
    ANSWER_FIELD,
    STEP_ANSWERED,
    STEP_LOST,
    STEP_SENT,
    STEP_SUPERSEDED,
    AnswerNotSavedError,
    Entry,
)
from token_refresh.journal.file import JournalError
from token_refresh.net.transport import NoAnswer
from token_refresh.refresh import replay
from token_refresh.refresh.jobs import Job, binding_of, read_params
from token_refresh.refresh.parts import Parts
from token_refresh.refresh.result import Outcome, RowResult, action_of, outcome_of
from token_refresh.stores.base import STATUS_ACTIVE, Change, Row, StoreError, StoreRefusedError, Value, Written

LOGIN_ATTEMPTS = 20  # a login is newer than whatever a run, or another login, writes into its row meanwhile
PROOF_ATTEMPTS = 2  # a lost answer is asked for once more at once, where the provider's replay rule allows it

_ACTIONS = {
    Verdict.DEAD_GRANT: "Connect the account anew and enter the new refresh token.",
    Verdict.CLIENT_REFUSED: "Check the client id and the client secret; the table is as it was.",
    Verdict.REQUEST_REFUSED: "Check what was entered; the table is as it was.",
    Verdict.NOT_ACTED: "Nothing was saved: try again later.",
}


@dataclass(frozen=True)
class Enrolment:
    """What a person entered for one client."""

    location_id: str
    provider: str
    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    provider_params: str = ""


class EnrolmentError(ActionableError):
    """This credential cannot be saved; the table is untouched."""

    kind = Kind.ROW


class Enroller:
    """Saves entered credentials. The caller holds the run lock.

    Args:
        parts: what it works with.

    Attributes:
        store_error: what kept the store from taking a proved credential, where something did.
        not_saved: whose answers the journal does not hold, and why.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.store_error: StoreError | None = None
        self.not_saved: list[tuple[str, JournalError]] = []

    def endpoint(self, enrolment: Enrolment) -> Endpoint:
        """Where the credential would be sent.

        Raises:
            EnrolmentError: the provider or its parameters cannot be used.
        """
        try:
            provider = self._provider(enrolment)
        except ProviderError as error:
            raise EnrolmentError(str(error), error.action, error.kind) from None
        return endpoint_of(provider, enrolment)

    def completed(self, enrolment: Enrolment, row: Row | None) -> Enrolment:
        """With what was not entered taken from the prepared row, and the client id else from the settings."""
        client_id = enrolment.client_id or (row.client_id if row else "")
        return replace(
            enrolment,
            client_id=client_id or self._parts.bench.default_client_id(enrolment.provider),
            provider_params=enrolment.provider_params or (row.provider_params if row else ""),
        )

    def existing(self, location_id: str, provider: str) -> Row | None:
        """The row of this identity, if any.

        Raises:
            EnrolmentError: there are several.
        """
        found = self._parts.store.store.find(location_id)
        rows = [row for row in found if self._parts.bench.provider_name(row) == provider]
        if len(rows) > 1:
            raise EnrolmentError(
                f"the table has {len(rows)} rows of this location and provider", "Delete all but one, then repeat."
            )
        return rows[0] if rows else None

    def is_done(self, enrolment: Enrolment, row: Row | None) -> bool:
        """Whether this very refresh token is in the row already, or was exchanged for one that is stored."""
        if row is None or not row.encrypted_refresh:
            return False
        if self._parts.journal.is_spent(enrolment.refresh_token):
            return True
        job = self._parts.bench.job(row)
        return isinstance(job, Job) and job.credential.refresh_token == enrolment.refresh_token

    def save(self, enrolment: Enrolment, row: Row | None, *, check: bool, granted: Answer | None = None) -> RowResult:
        """Prove the credential (unless `check` is off) and create or replace its row.

        `granted` is the answer of a login that is just over: it needs no proof, and where the store does not take
        it, it waits in the journal.

        Raises:
            EnrolmentError: nothing was sent.
            StoreError: the store refused before anything was sent.
            JournalError: nothing was sent.
        """
        endpoint = self.endpoint(enrolment)
        self._credential(enrolment, endpoint)
        self._refuse_loss(enrolment)
        self._refuse_used(enrolment)
        if row is not None:
            self._parts.store.store.prove_writable(row)
        if not check and granted is None:
            return self._store(enrolment, endpoint, row, None, None)
        cell = self._parts.journal.fingerprint(row.encrypted_refresh) if row is not None else ""
        entry_id = self._parts.journal.enrol(
            enrolment.location_id,
            enrolment.provider,
            endpoint.origin,
            cell,
            enrolment.refresh_token,
            json.dumps(asdict(enrolment)),
        )
        if granted is not None:
            return self._store(enrolment, endpoint, row, entry_id, granted, attempts=LOGIN_ATTEMPTS)
        return self._settle(enrolment, endpoint, row, entry_id, self._prove(enrolment, endpoint, entry_id))

    def resume(self, entry: Entry) -> RowResult | str:
        """Bring an onboarding that was cut off to its end; a sentence where it has to wait or cannot be done.

        Raises:
            SealedCellError: the entry's key is gone.
        """
        enrolment = Enrolment(**json.loads(self._parts.journal.open_enrolment(entry)))
        if entry.step != STEP_ANSWERED and replay.is_under_way(entry.sent_at, self._parts.clock.now()):
            return "its onboarding may still be on its way; the next run goes on from there."
        try:
            endpoint = self.endpoint(enrolment)
            row = self.existing(enrolment.location_id, enrolment.provider)
        except EnrolmentError as error:
            return f"its onboarding waits in the journal: {error}. {error.action}"
        if endpoint.origin != entry.origin:
            return f"its onboarding waits in the journal: it was for {entry.origin}, not {endpoint.origin}."
        if entry.step == STEP_ANSWERED and self._is_saved(enrolment, entry, row):
            return "its onboarding was saved before the last run ended."
        if not self._is_unchanged(entry, row):
            self._parts.journal.mark(entry.id, STEP_SUPERSEDED)
            return "the row was changed after its onboarding; the entered credential is kept aside, sealed."
        if entry.step == STEP_ANSWERED:
            answer = self._provider(enrolment).read_answer(self._parts.journal.open_answer(entry))
        else:
            try:
                self._credential(enrolment, endpoint)
            except EnrolmentError as error:
                self._parts.journal.mark(entry.id, STEP_SUPERSEDED)
                return f"its onboarding was given up: {error}; what was entered is kept aside, sealed. {error.action}"
            if row is not None:
                self._parts.store.store.prove_writable(row)
            self._parts.journal.send_again(entry.id, entry.origin, is_lost=True)
            answer = _told_as_lost(self._prove(enrolment, endpoint, entry.id, attempts=1))
        return self._settle(enrolment, endpoint, row, entry.id, answer, was_lost=entry.step != STEP_ANSWERED)

    def _is_saved(self, enrolment: Enrolment, entry: Entry, row: Row | None) -> bool:
        """Whether the row holds the proved token already; the entry is forgotten then."""
        if row is None or not row.encrypted_refresh or self._parts.journal.is_of(entry, row.encrypted_refresh):
            return False
        job = self._parts.bench.job(row)
        answer = self._provider(enrolment).read_answer(self._parts.journal.open_answer(entry))
        proved = answer.refresh_token or (enrolment.refresh_token if answer.access_token else None)
        if not isinstance(job, Job) or job.credential.refresh_token != proved:
            return False
        self._finish(entry.id, enrolment, answer)
        return True

    def _is_unchanged(self, entry: Entry, row: Row | None) -> bool:
        if row is None or not row.encrypted_refresh:
            return True
        return bool(entry.cell) and self._parts.journal.is_of(entry, row.encrypted_refresh)

    def _credential(self, enrolment: Enrolment, endpoint: Endpoint) -> Credential:
        """What is sent to prove it.

        Raises:
            EnrolmentError: no client may be used with it, see `Bench.client`.
        """
        entered = _credential(enrolment)
        try:
            client = self._parts.bench.client(enrolment.provider, endpoint, entered.client_id, entered.client_secret)
        except ProviderError as error:
            raise EnrolmentError(str(error), error.action) from None
        return replace(entered, client_id=client.client_id, client_secret=client.client_secret)

    def _provider(self, enrolment: Enrolment) -> Provider:
        return self._parts.bench.find_provider(enrolment.provider)

    def _refuse_loss(self, enrolment: Enrolment) -> None:
        """A table without the optional columns holds default rows only; anything else would be forgotten."""
        columns = self._parts.store.store.columns
        needed = {"provider": enrolment.provider != self._parts.default_provider}
        needed["provider_params"] = bool(enrolment.provider_params)
        missing = [name for name, is_needed in needed.items() if is_needed and name not in columns]
        if missing:
            raise EnrolmentError(
                f"the table has no column {' and '.join(missing)}, which this client needs",
                "Add it in Airtable as a long text column.",
                Kind.CONFIGURATION,
            )

    def _refuse_used(self, enrolment: Enrolment) -> None:
        """A refresh token that has a successor, or may be on its way, is not sent again."""
        provider = self._provider(enrolment)
        if provider.rotates == "never":
            return
        if replay.is_used_up(provider, is_spent=self._parts.journal.is_spent(enrolment.refresh_token)):
            raise EnrolmentError(
                "this refresh token is used up: it was exchanged for a newer one",
                "Connect the account again and enter the new refresh token.",
                Kind.USAGE,
            )
        for entry in self._parts.journal.entries(STEP_ANSWERED, STEP_SENT, STEP_LOST):
            if entry.enrolment and self._is_of_token(entry, enrolment.refresh_token):
                raise EnrolmentError(
                    "the onboarding of this refresh token has begun and is not at its end",
                    "In two minutes run: python token_manager.py. It goes on from there.",
                    Kind.USAGE,
                )

    def _is_of_token(self, entry: Entry, refresh_token: str) -> bool:
        with contextlib.suppress(SealedCellError):
            entered = json.loads(self._parts.journal.open_enrolment(entry))
            return bool(entered["refresh_token"] == refresh_token)
        return False

    def _prove(self, enrolment: Enrolment, endpoint: Endpoint, entry_id: int, attempts: int = PROOF_ATTEMPTS) -> Answer:
        provider = self._provider(enrolment)
        request = provider.refresh_request(self._credential(enrolment, endpoint))
        answer = self._ask(provider, request, enrolment, endpoint, entry_id)
        for _ in range(1, attempts):
            if answer.verdict is not Verdict.UNCLEAR or answer.refresh_token is not None:
                break
            if not replay.may_resend(provider, 1, was_lost=False, is_last_minute=False):
                break
            self._parts.journal.send_again(entry_id, endpoint.origin, is_lost=True)
            second = _told_as_lost(self._ask(provider, request, enrolment, endpoint, entry_id))
            if second.verdict in (Verdict.GRANTED, Verdict.DEAD_GRANT) or second.refresh_token is not None:
                answer = second  # anything else says nothing of what the first request did
        return answer

    def _ask(
        self, provider: Provider, request: TokenRequest, enrolment: Enrolment, endpoint: Endpoint, entry_id: int
    ) -> Answer:
        exchange = self._parts.transport.post(request)
        if isinstance(exchange, NoAnswer):
            return exchange.as_answer()
        context = Context(ANSWER_FIELD, enrolment.location_id, endpoint.origin)
        try:
            self._parts.journal.keep(entry_id, exchange, context)
        except AnswerNotSavedError as error:  # a full disk; the answer goes on to the store, which may have room
            self.not_saved.append((enrolment.location_id, error))
        return provider.read_answer(exchange)

    def _settle(
        self,
        enrolment: Enrolment,
        endpoint: Endpoint,
        row: Row | None,
        entry_id: int,
        answer: Answer,
        *,
        was_lost: bool = False,
    ) -> RowResult:
        """Store what was proved; refuse what was refused; keep what is unclear."""
        outcome = outcome_of(answer.verdict, self._provider(enrolment).rotates)
        if answer.verdict is Verdict.GRANTED or answer.refresh_token is not None:
            return self._store(enrolment, endpoint, row, entry_id, answer)
        action = answer.action or _ACTIONS.get(answer.verdict) or action_of(outcome, answer.verdict)
        if outcome is Outcome.UNKNOWN and was_lost:
            self._parts.journal.mark(entry_id, STEP_SUPERSEDED)
            action = "Log in again and onboard the new token; the entered one is kept aside, sealed."
        elif outcome is Outcome.UNKNOWN or (outcome is Outcome.TRANSIENT and was_lost):
            self._parts.journal.mark(entry_id, STEP_LOST)
            action = "The entered credential is kept, sealed: the next run asks once more and saves it."
        else:
            self._parts.journal.finish([entry_id])
        secrets = [enrolment.refresh_token, enrolment.client_secret]
        with contextlib.suppress(EnrolmentError):  # an answer of an earlier run, and other settings since
            secrets.append(self._credential(enrolment, endpoint).client_secret)
        error = safe_error(answer.error or "no answer", *secrets)
        return RowResult(enrolment.location_id, enrolment.provider, outcome, error, action)

    def _store(
        self,
        enrolment: Enrolment,
        endpoint: Endpoint,
        row: Row | None,
        entry_id: int | None,
        answer: Answer | None,
        attempts: int = 1,
    ) -> RowResult:
        """Write the row; `attempts` times, looking at it anew, where somebody else is writing it, too."""
        values = self._values(enrolment, endpoint, answer)
        try:
            written = self._write(enrolment, row, values)
            for _ in range(1, attempts):
                if written not in (Written.CHANGED, Written.GONE):
                    break
                row = self.existing(enrolment.location_id, enrolment.provider)
                written = self._write(enrolment, row, values)
        except StoreError as error:
            return self._unsaved(enrolment, error, in_journal=entry_id is not None)
        if written in (Written.CHANGED, Written.GONE):
            if entry_id is not None:
                self._parts.journal.mark(entry_id, STEP_SUPERSEDED)
            kept = "; the proved credential is kept aside, sealed" if entry_id is not None else ""
            return RowResult(
                enrolment.location_id,
                enrolment.provider,
                Outcome.CHANGED,
                f"somebody changed the row meanwhile, and theirs stays{kept}",
                "Look at the row; to replace it all the same, connect the account anew and repeat.",
            )
        if row is not None:
            self._parts.journal.failures.record([], [row.key])
        if entry_id is not None:
            self._finish(entry_id, enrolment, answer)
        expires_at = answer.expires_at if answer is not None else None
        return RowResult(enrolment.location_id, enrolment.provider, Outcome.REFRESHED, expires_at=expires_at)

    def _finish(self, entry_id: int, enrolment: Enrolment, answer: Answer | None) -> None:
        """Forget the entry, and remember the entered token where the provider gave another for it."""
        new = answer.refresh_token if answer is not None else None
        self._parts.journal.finish([entry_id], [entry_id] if new not in (None, enrolment.refresh_token) else [])

    def _write(self, enrolment: Enrolment, row: Row | None, values: Mapping[str, Value]) -> Written:
        store = self._parts.store
        if row is None:
            try:
                store.store.create({name: value for name, value in values.items() if name in store.store.columns})
            except StoreRefusedError:
                if self.existing(enrolment.location_id, enrolment.provider) is None:
                    raise
                return Written.CHANGED  # somebody else has made it meanwhile
            return Written.STORED
        [result] = store.write([Change(row.key, row.encrypted_refresh, values)])
        if result.error is not None:
            raise result.error
        return result.written

    def _unsaved(self, enrolment: Enrolment, error: StoreError, *, in_journal: bool) -> RowResult:
        outcome = Outcome.OPERATOR if isinstance(error, StoreRefusedError) else Outcome.TRANSIENT
        self.store_error = error
        where = "; the proved tokens wait, sealed, in the journal, and the next run stores them" if in_journal else ""
        return RowResult(enrolment.location_id, enrolment.provider, outcome, f"{error}{where}", error.action)

    def _values(self, enrolment: Enrolment, endpoint: Endpoint, answer: Answer | None) -> dict[str, Value]:
        refresh = answer.refresh_token if answer is not None else None
        access = answer.access_token if answer is not None else None
        cells = self._parts.store.cells(
            enrolment.location_id,
            binding_of(self._provider(enrolment), endpoint),
            secret=enrolment.client_secret,
            refresh=refresh or enrolment.refresh_token,
            access=access or "",
        )
        return {
            "locationId": enrolment.location_id,
            "provider": enrolment.provider,
            "provider_params": enrolment.provider_params,
            "client_id": enrolment.client_id,
            "encrypted_secret": "",
            "last_access_token": "",
            **cells,
            "access_token_expiry": answer.expires_at if answer is not None else None,
            "last_refreshed": answer.received_at if access and answer is not None else None,
            "refresh_token_expiry": answer.refresh_expires_at if answer is not None else None,
            "refreshed_by": self._parts.host_name if access else "",
            "status": STATUS_ACTIVE,
            "last_error": "",
            "failure_count": 0,
        }


def _told_as_lost(answer: Answer) -> Answer:
    """A refusal right after an answer that did not come means that the lost one brought a new token."""
    if answer.verdict is not Verdict.DEAD_GRANT:
        return answer
    return replace(answer, error=f"the first answer was lost, and the token is spent ({answer.error})")


def endpoint_of(provider: Provider, enrolment: Enrolment) -> Endpoint:
    """Where the credential would be sent.

    Raises:
        EnrolmentError: its parameters cannot be used.
    """
    try:
        endpoint = provider.endpoint(read_params(enrolment.provider_params))
        provider.refresh_params(_credential(enrolment))
    except ProviderError as error:
        raise EnrolmentError(str(error), error.action, error.kind) from None
    return endpoint


def _credential(enrolment: Enrolment) -> Credential:
    params = read_params(enrolment.provider_params)
    return Credential(enrolment.client_id, enrolment.client_secret, enrolment.refresh_token, params)
