"""Onboarding: a credential that a person entered is proved by one refresh, and the proved pair is what gets stored.

It goes the way of every refresh: sealed in the journal first, answer kept before it is read, row written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta

from crypto import Context
from providers.base import Answer, Credential, Endpoint, Provider, ProviderError, Verdict
from refresher.jobs import Job, binding_of, read_params
from refresher.journal import ANSWER_FIELD, STEP_ANSWERED, STEP_ASIDE, STEP_LOST, Entry, Spent
from refresher.outcome import Outcome, RowResult, action_of, outcome_of, safe_error
from refresher.parts import Parts
from refresher.transport import EXCHANGE_SECONDS, NoAnswer
from stores.base import STATUS_ACTIVE, Change, Row, StoreError, StoreRefusedError, Value, Written

PROOF_ATTEMPTS = 2  # a lost answer is asked for once more at once, where the provider's replay rule allows it


@dataclass(frozen=True)
class Enrolment:
    """What a person entered for one client."""

    location_id: str
    provider: str
    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    provider_params: str = ""


class EnrolmentError(Exception):
    """This credential cannot be saved; the table is untouched.

    Attributes:
        action: the mend, as a sentence.
    """

    def __init__(self, message: str, action: str) -> None:
        super().__init__(message)
        self.action = action


class Enroller:
    """Saves entered credentials. The caller holds the run lock.

    Args:
        parts: what it works with.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def endpoint(self, enrolment: Enrolment) -> Endpoint:
        """Where the credential would be sent.

        Raises:
            EnrolmentError: the provider or its parameters cannot be used.
        """
        try:
            provider = self._provider(enrolment)
        except ProviderError as error:
            raise EnrolmentError(str(error), error.action) from None
        return endpoint_of(provider, enrolment)

    def default_client_id(self, enrolment: Enrolment) -> str:
        """The client id that the settings name for this provider; empty where they name none."""
        return self._parts.bench.default_client(enrolment.provider).client_id

    def existing(self, location_id: str, provider: str) -> Row | None:
        """The row of this identity, if any.

        Raises:
            EnrolmentError: there are several.
        """
        found = self._parts.store.store.find(location_id)
        rows = [row for row in found if self._parts.bench.provider_name(row) == provider]
        if len(rows) > 1:
            raise EnrolmentError(
                f"the table has {len(rows)} rows of {location_id!r} and {provider}", "Delete all but one, then repeat."
            )
        return rows[0] if rows else None

    def is_done(self, enrolment: Enrolment, row: Row | None) -> bool:
        """Whether this very refresh token is stored already, or was exchanged for one that is."""
        if self._parts.journal.is_spent(enrolment.refresh_token):
            return True
        job = self._parts.bench.job(row) if row is not None and row.encrypted_refresh else None
        return isinstance(job, Job) and job.credential.refresh_token == enrolment.refresh_token

    def save(self, enrolment: Enrolment, row: Row | None, *, check: bool) -> RowResult:
        """Prove the credential (unless `check` is off) and create or replace its row.

        Raises:
            EnrolmentError: nothing was sent.
            StoreError: the store refused before anything was sent.
            JournalError: nothing was sent.
        """
        endpoint = self.endpoint(enrolment)
        self._refuse_loss(enrolment)
        if row is not None:
            self._parts.store.store.prove_writable(row)
        if not check:
            return self._store(enrolment, endpoint, row, None, None)
        cell = self._parts.journal.fingerprint(row.encrypted_refresh) if row is not None else ""
        entry_id = self._parts.journal.enrol(
            enrolment.location_id, enrolment.provider, endpoint.origin, cell, json.dumps(asdict(enrolment))
        )
        return self._settle(enrolment, endpoint, row, entry_id, self._prove(enrolment, endpoint, entry_id))

    def resume(self, entry: Entry) -> RowResult | str:
        """Bring an onboarding that was cut off to its end; a sentence where it has to wait or cannot be done.

        Raises:
            SealedCellError: the entry's key is gone.
        """
        enrolment = Enrolment(**json.loads(self._parts.journal.open_enrolment(entry)))
        is_young = self._parts.clock.now() - entry.started_at < timedelta(seconds=EXCHANGE_SECONDS)
        if entry.step != STEP_ANSWERED and is_young:
            return "its onboarding may still be on its way; the next run goes on from there."
        try:
            endpoint = self.endpoint(enrolment)
            row = self.existing(enrolment.location_id, enrolment.provider)
        except EnrolmentError as error:
            return f"its onboarding waits in the journal: {error}. {error.action}"
        if not self._is_unchanged(entry, row):
            self._parts.journal.mark(entry.id, STEP_ASIDE)
            return "the row was changed after its onboarding; the entered credential is kept aside, sealed."
        if entry.step == STEP_ANSWERED:
            answer = self._provider(enrolment).read_answer(self._parts.journal.open_answer(entry))
        else:
            answer = self._prove(enrolment, endpoint, entry.id, attempts=1)
        return self._settle(enrolment, endpoint, row, entry.id, answer, was_lost=entry.step != STEP_ANSWERED)

    def _is_unchanged(self, entry: Entry, row: Row | None) -> bool:
        if row is None or not row.encrypted_refresh:
            return True
        return bool(entry.cell) and self._parts.journal.is_of(entry, row.encrypted_refresh)

    def _credential(self, enrolment: Enrolment) -> Credential:
        default = self._parts.bench.default_client(enrolment.provider)
        entered = _credential(enrolment)
        if entered.client_secret or entered.client_id != default.client_id:
            return entered
        return replace(entered, client_secret=default.client_secret)

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
            )

    def _prove(self, enrolment: Enrolment, endpoint: Endpoint, entry_id: int, attempts: int = PROOF_ATTEMPTS) -> Answer:
        provider = self._provider(enrolment)
        request = provider.refresh_request(self._credential(enrolment))
        answer = Answer(Verdict.NOT_ACTED)
        for _ in range(attempts if provider.replay != "last_minute" else 1):
            exchange = self._parts.transport.post(request)
            if isinstance(exchange, NoAnswer):
                verdict = Verdict.UNCLEAR if exchange.may_have_acted else Verdict.NOT_ACTED
                answer = Answer(verdict, error=exchange.reason)
            else:
                context = Context(ANSWER_FIELD, enrolment.location_id, endpoint.origin)
                self._parts.journal.keep(entry_id, exchange, context)
                answer = provider.read_answer(exchange)
            if answer.verdict is not Verdict.UNCLEAR or answer.refresh_token is not None:
                break
        return answer

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
        action = answer.action or action_of(outcome, answer.verdict)
        if outcome is Outcome.UNKNOWN and was_lost:
            self._parts.journal.mark(entry_id, STEP_ASIDE)
            action = "Log in again and onboard the new token; the entered one is kept aside, sealed."
        elif outcome is Outcome.UNKNOWN or (outcome is Outcome.TRANSIENT and was_lost):
            self._parts.journal.mark(entry_id, STEP_LOST)
            action = "The entered credential is kept, sealed: the next run asks once more and saves it."
        else:
            self._parts.journal.finish([entry_id])
        error = safe_error(answer.error or "no answer", enrolment.refresh_token, enrolment.client_secret)
        return RowResult(enrolment.location_id, enrolment.provider, outcome, error, action)

    def _store(
        self, enrolment: Enrolment, endpoint: Endpoint, row: Row | None, entry_id: int | None, answer: Answer | None
    ) -> RowResult:
        values = self._values(enrolment, endpoint, answer)
        try:
            written = self._write(row, values)
        except StoreError as error:
            return self._unsaved(enrolment, error, in_journal=entry_id is not None)
        if written in (Written.CHANGED, Written.GONE):
            if entry_id is not None:
                self._parts.journal.mark(entry_id, STEP_ASIDE)
            error_text = "somebody changed the row meanwhile; the proved credential is kept aside, sealed"
            return RowResult(
                enrolment.location_id, enrolment.provider, Outcome.CHANGED, error_text, "Repeat with --replace."
            )
        if entry_id is not None:
            new = answer.refresh_token if answer is not None else None
            spent = Spent(enrolment.refresh_token, enrolment.location_id, enrolment.provider)
            self._parts.journal.finish([entry_id], [spent] if new not in (None, enrolment.refresh_token) else [])
        expires_at = answer.expires_at if answer is not None else None
        return RowResult(enrolment.location_id, enrolment.provider, Outcome.REFRESHED, expires_at=expires_at)

    def _write(self, row: Row | None, values: Mapping[str, Value]) -> Written:
        store = self._parts.store
        if row is None:
            store.store.create({name: value for name, value in values.items() if name in store.store.columns})
            return Written.STORED
        [result] = store.write([Change(row.key, row.encrypted_refresh, values)])
        if result.error is not None:
            raise result.error
        return result.written

    def _unsaved(self, enrolment: Enrolment, error: StoreError, *, in_journal: bool) -> RowResult:
        outcome = Outcome.OPERATOR if isinstance(error, StoreRefusedError) else Outcome.TRANSIENT
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


def endpoint_of(provider: Provider, enrolment: Enrolment) -> Endpoint:
    """Where the credential would be sent.

    Raises:
        EnrolmentError: its parameters cannot be used.
    """
    try:
        endpoint = provider.endpoint(read_params(enrolment.provider_params))
        provider.refresh_params(_credential(enrolment))
    except ProviderError as error:
        raise EnrolmentError(str(error), error.action) from None
    return endpoint


def _credential(enrolment: Enrolment) -> Credential:
    params = read_params(enrolment.provider_params)
    return Credential(enrolment.client_id, enrolment.client_secret, enrolment.refresh_token, params)
