"""The one way of a new credential into the table, whoever brings it: a person, a file, a program, a run that goes on.

It goes the way of every refresh: sealed in the journal first, answer kept before it is read, row written once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from crypto import Context, SealedCellError
from providers.base import Answer, Provider, RawAnswer, Verdict
from token_refresh.base.errors import Kind, RetryLaterError
from token_refresh.base.events import Notice, NoticeCode, Outcome, RowFinished, audited
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import safe_error
from token_refresh.clients.credential import (
    AdmissionError,
    Candidate,
    NewCredential,
    candidate_of,
    login_answer,
    read_kept,
    with_client,
)
from token_refresh.clients.login_answer import details_of
from token_refresh.clients.proof import Prover
from token_refresh.clients.row import find_row, write_row
from token_refresh.clients.rows import require_key
from token_refresh.clients.settled import SettledRows
from token_refresh.journal.entries import ANSWER_FIELD, Entry, Place, Step
from token_refresh.journal.file import JournalError
from token_refresh.net.hosts import require_agreement
from token_refresh.refresh import replay
from token_refresh.refresh.exchange import kept_pair
from token_refresh.refresh.jobs import Job, UnusableRow, binding_of
from token_refresh.refresh.result import action_of, outcome_of
from token_refresh.refresh.run_context import RunContext
from token_refresh.refresh.run_identity import NotAloneError
from token_refresh.stores.base import (
    Row,
    StoreAltersError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    lacking_columns,
)
from token_refresh.stores.sealed import CellError

LOGIN_ATTEMPTS = 20  # a login is newer than whatever a run, or another login, writes into its row meanwhile

_ACTIONS = {
    Verdict.DEAD_GRANT: "Connect the account again and enter the new refresh token.",
    Verdict.CLIENT_REFUSED: "Check the client id and the client secret; the table is as it was.",
    Verdict.REQUEST_REFUSED: "Check what was entered; the table is as it was.",
    Verdict.NOT_ACTED: "Nothing was saved: try again later.",
}


@dataclass(frozen=True)
class Terms:
    """What whoever brings a credential has agreed to.

    Attributes:
        replace: it may take the place of another credential.
        hosts: token hosts that its parameters may name; see `net.hosts.is_agreed`.
        check: it is proved by one refresh before it is saved.
        skip_done: where its refresh token is in the row already, or has its successor there, nothing is to be done.
    """

    replace: bool = False
    hosts: Collection[str] = ()
    check: bool = True
    skip_done: bool = False


class Admission:
    """Admits credentials. The caller holds the run lock.

    Args:
        context: what it works with.

    Attributes:
        store_error: what kept the store from taking a proved credential, where something did.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._prover = Prover(context)
        self.store_error: StoreError | None = None

    @property
    def is_futile(self) -> bool:
        """Whether the store takes no more for now: each further credential would only fill the journal."""
        return isinstance(self.store_error, StoreUnavailableError | StoreAltersError)

    def admit(
        self, entered: NewCredential, terms: Terms, granted: Answer | None = None, kept_by: int | None = None
    ) -> RowFinished:
        """Check the credential, prove it, and create or replace its row.

        `granted` is the answer of a login that is just over: it needs no proof, and where the store does not take
        it, it waits in the journal: in the entry `kept_by`, where it is there already.

        Raises:
            AdmissionError, HostNotAllowedError: nothing was sent.
            StoreError: the store refused before anything was sent.
            JournalError: nothing was sent.
        """
        with audited(self._context.audit, "onboard" if granted is None else "login", entered.location_id) as used:
            result = self._admit(entered, terms, granted, kept_by)
            used.client_id, used.outcome = entered.client_id, str(result.outcome)
        return result

    def _admit(self, entered: NewCredential, terms: Terms, granted: Answer | None, kept_by: int | None) -> RowFinished:
        job_factory = self._context.job_factory
        entered.require_usable(granted.access_token if granted is not None else None)
        entered = replace(entered, provider=job_factory.slug_of(entered.provider))
        row = self._find_row(entered)
        candidate = candidate_of(
            entered.completed(row, job_factory.default_client_id(entered.provider)), row, job_factory
        )
        require_agreement(candidate.endpoint, terms.hosts)
        if granted is not None and not entered.refresh_token:
            return self._store_access_token(candidate, granted, kept_by)
        begun = self._begun(candidate) if kept_by is None else None
        is_done = granted is None and begun is not None and self._is_saved(candidate, begun)
        if is_done or (terms.skip_done and begun is None and self._is_done(candidate)):
            return RowFinished(entered.location_id, entered.provider, Outcome.CHANGED, "already done: skipped")
        if candidate.is_replacing and not terms.replace:
            raise AdmissionError("the row already has a credential", "Repeat with --replace to replace it.")
        candidate = with_client(candidate, job_factory)
        self._require_columns(candidate.entered)
        self._prover.refuse_used(candidate.provider, candidate.entered)
        if row is not None:
            self._context.store.store.prove_writable(row)
        if begun is not None:
            return self._go_on_again(candidate, begun, granted)
        if kept_by is not None:
            return self._store(candidate, kept_by, granted, LOGIN_ATTEMPTS)
        if granted is None and not terms.check:
            return self._store(candidate, None, None)
        note_intent = partial(self._note_intent, candidate)
        if granted is not None:
            return self._store_login(candidate, note_intent(), granted)
        with self._alone(candidate):
            return self._conclude(candidate, *self._prover.prove(candidate, note_intent))

    @contextlib.contextmanager
    def _alone(self, candidate: Candidate) -> Iterator[None]:
        """Where a row's own token is entered once more, no run may send it meanwhile.

        Raises:
            AdmissionError: one is at it, or has been.
        """
        row, entered = candidate.row, candidate.entered
        if row is None or not self._context.store.store.claims or self._token_of(row) != entered.refresh_token:
            yield
            return
        try:
            with SettledRows(self._context, lambda _: None, wait_seconds=0).alone(row, entered.provider):
                if self._token_of(self._find_row(entered)) != entered.refresh_token:
                    raise RetryLaterError("the row was refreshed meanwhile; nothing was sent", "Repeat it.")
                yield
        except RetryLaterError as error:
            raise AdmissionError(str(error), error.action, Kind.RETRY_LATER) from None

    def resume(self, entry: Entry) -> RowFinished | Notice:
        """Bring an admission that was cut off to its end; a notice where it has to wait or cannot be done.

        Raises:
            SealedCellError: the entry's key is gone.
        """
        entered = NewCredential.from_json(self._context.journal.open_admission(entry))
        try:
            row = self._find_row(entered)
            candidate = candidate_of(entered, row, self._context.job_factory)
        except AdmissionError as error:
            return _waits(entry, f"its onboarding waits in the journal: {error}", error.action)
        if candidate.endpoint.origin != entry.origin:
            what = f"it was for {entry.origin}, not {candidate.endpoint.origin}"
            return _waits(entry, f"its onboarding waits in the journal: {what}")
        return self._go_on(candidate, entry)

    def _go_on(self, candidate: Candidate, entry: Entry) -> RowFinished | Notice:
        if self._is_overtaken(candidate, entry):
            what = "its onboarding was saved before, and its tokens were used since"
            return _ends(NoticeCode.ONBOARDING_FINISHED, entry, what)
        if not self._is_unchanged(entry, candidate):
            return self._recognise(candidate, entry)
        if _may_be_under_way(entry, candidate.provider, self._context.clock.now()):
            return _waits(entry, "its onboarding may still be on its way; the next run goes on from there")
        answer = self._kept_answer(candidate, entry)
        try:
            candidate = with_client(candidate, self._context.job_factory)
        except AdmissionError as error:  # other settings than those of the run that was cut off
            if answer is None:
                self._context.journal.mark(entry.id, Step.SUPERSEDED)
                what = f"its onboarding was given up: {error}; what was entered is kept, encrypted, in the journal"
                return _ends(NoticeCode.ONBOARDING_ABANDONED, entry, what, error.action)
        if answer is not None:
            return self._conclude(candidate, entry.id, answer)
        try:
            self._context.identity.require_alone()  # else the other one asks, too
        except NotAloneError as error:
            return _waits(entry, f"its onboarding waits in the journal: {error}", error.action)
        if candidate.row is not None:
            self._context.store.store.prove_writable(candidate.row)
        return self._conclude(candidate, entry.id, self._prover.ask_again(candidate, entry.id), was_lost=True)

    def _recognise(self, candidate: Candidate, entry: Entry) -> Notice:
        """The row holds another cell than before the onboarding: its own, or somebody else's."""
        journal, row = self._context.journal, candidate.row
        assert row is not None
        job = self._context.job_factory.job(row)
        if isinstance(job, UnusableRow):
            return _waits(entry, f"its onboarding waits in the journal, for {job.error}", job.error.action)
        if self._is_saved(candidate, entry):
            return _ends(NoticeCode.ONBOARDING_FINISHED, entry, "its onboarding was saved before the last run ended")
        if job.credential.refresh_token == candidate.entered.refresh_token:
            is_answered = self._kept_answer(candidate, entry) is not None
            step = Step.ANSWERED if is_answered else Step.LOST if entry.step == Step.SUPERSEDED else entry.step
            journal.give_to_row(entry.id, row.key, step)
            what = "its row holds the token that was entered, and goes on from there as any row does"
            return _ends(NoticeCode.ONBOARDING_FINISHED, entry, what)
        journal.mark(entry.id, Step.SUPERSEDED)
        what = "the row was changed after its onboarding; the entered credential is kept, encrypted, in the journal"
        return _ends(NoticeCode.SUPERSEDED, entry, what, "To store it over what the row holds, enter it again.")

    def _go_on_again(self, candidate: Candidate, entry: Entry, granted: Answer | None) -> RowFinished:
        """The same credential is brought once more: its onboarding goes on from where it was, over whatever is there.

        A token that has a successor in the journal is not sent: the successor is stored.
        """
        kept = self._kept_answer(candidate, entry)
        if granted is not None and (kept is None or kept.refresh_token in (None, candidate.entered.refresh_token)):
            again = self._context.journal.send_again(entry.id, entry.origin, is_lost=False)
            return self._store_login(candidate, again, granted)
        if kept is not None:
            return self._conclude(candidate, entry.id, kept)
        return self._conclude(candidate, entry.id, self._prover.ask_again(candidate, entry.id), was_lost=True)

    def _begun(self, candidate: Candidate) -> Entry | None:
        """The onboarding of this very refresh token that an earlier call began, and that is not at its end.

        Raises:
            AdmissionError: its request may still be on its way, or it was for another row or host.
        """
        entered, journal = candidate.entered, self._context.journal
        place = (entered.location_id, entered.provider, candidate.endpoint.origin)
        for entry in journal.entries(Step.ANSWERED, Step.SENT, Step.LOST, Step.SUPERSEDED):
            if not entry.admission or not self._is_of_token(entry, entered.refresh_token):
                continue
            if self._is_overtaken(candidate, entry):
                continue
            is_elsewhere = (entry.location_id, entry.provider, entry.origin) != place
            if is_elsewhere and entry.step is Step.SUPERSEDED:
                raise AdmissionError(
                    f"it was entered for {entry.location_id} {entry.provider} before, and is kept in the journal",
                    f"If that was a mistake: {TOKEN_MANAGER} recover --forget {entry.id} --yes. Then connect it again.",
                    Kind.USAGE,
                )
            if is_elsewhere or _may_be_under_way(entry, candidate.provider, self._context.clock.now()):
                raise AdmissionError(
                    "the onboarding of this refresh token has begun and is not at its end",
                    f"In two minutes run: {TOKEN_MANAGER}. It goes on from there.",
                    Kind.RETRY_LATER,
                )
            return entry
        return None

    def _is_overtaken(self, candidate: Candidate, entry: Entry) -> bool:
        """Whether what came was stored, by a call that was cut off then, and used since; it is forgotten then."""
        kept = self._kept_answer(candidate, entry)
        token = kept.refresh_token if kept is not None else None
        if token is None or token == candidate.entered.refresh_token:
            return False
        is_used = self._context.journal.spent_at(self._context.store.keyring.fingerprints(token)) is not None
        if is_used:
            self._context.journal.finish([entry.id], [entry.id])
        return is_used

    def _is_of_token(self, entry: Entry, refresh_token: str) -> bool:
        with contextlib.suppress(SealedCellError, TypeError):
            entered = NewCredential.from_json(self._context.journal.open_admission(entry))
            return entered.refresh_token == refresh_token
        return False

    def _kept_answer(self, candidate: Candidate, entry: Entry) -> Answer | None:
        """The answer that its entry waits with; None where none came, or one of no use was superseded."""
        if entry.lacks_answer:
            return None
        answer = read_kept(candidate.provider, self._context.journal.open_answer(entry))
        brings_token = answer.verdict is Verdict.GRANTED or answer.refresh_token is not None
        return answer if entry.step == Step.ANSWERED or brings_token else None

    def failure_kinds(self, results: Iterable[RowFinished]) -> set[Kind]:
        """Of which kinds the failures among `results` are, and that of a store that did not take one."""
        kinds = {result.kind or Kind.ROW for result in results if not result.is_saved}
        if self.store_error is not None:
            kinds.add(self.store_error.kind)
        return kinds

    def _find_row(self, entered: NewCredential) -> Row | None:
        context = self._context
        return find_row(context.store.store, context.job_factory, entered.location_id, entered.provider)

    def _is_done(self, candidate: Candidate) -> bool:
        """Whether this very credential is in the row already, or its token was exchanged for one that is stored there.

        A client id or secret that was corrected is none of that.
        """
        if not candidate.is_replacing:
            return False
        entered, row = candidate.entered, candidate.row
        fingerprints = self._context.store.keyring.fingerprints(entered.refresh_token)
        if self._context.journal.spent_at(fingerprints, entered.location_id) is not None:
            return True
        job = self._context.job_factory.job(row) if row is not None else None
        if not isinstance(job, Job) or job.credential.refresh_token != entered.refresh_token:
            return False
        is_client = entered.client_id in ("", job.credential.client_id)
        return is_client and entered.client_secret in ("", job.credential.client_secret)

    def _is_saved(self, candidate: Candidate, entry: Entry) -> bool:
        """Whether the row holds the proved token already; the entry is forgotten then."""
        answer = self._kept_answer(candidate, entry)
        if answer is None or not candidate.is_replacing or self._is_unchanged(entry, candidate):
            return False
        entered = candidate.entered.refresh_token
        proved = answer.refresh_token or (entered if answer.verdict is Verdict.GRANTED else None)
        if proved is None or self._token_of(candidate.row) != proved:
            return False
        self._finish(entry.id, candidate, answer)
        return True

    def _token_of(self, row: Row | None) -> str | None:
        """The refresh token in the row; None where it does not open."""
        job = self._context.job_factory.job(row) if row is not None else None
        return job.credential.refresh_token if isinstance(job, Job) else None

    def _is_unchanged(self, entry: Entry, candidate: Candidate) -> bool:
        row = candidate.row
        if row is None or not row.encrypted_refresh:
            return True
        return bool(entry.cell) and self._context.journal.is_of(entry, row.encrypted_refresh)

    def _require_columns(self, entered: NewCredential) -> None:
        columns, default = self._context.store.store.columns, self._context.default_provider
        error = lacking_columns(columns, entered.provider, entered.provider_params, default)
        if error is not None:
            raise AdmissionError.of(error)

    def _note_intent(self, candidate: Candidate) -> int:
        journal, row, entered = self._context.journal, candidate.row, candidate.entered
        return journal.admit(
            entered.location_id,
            entered.provider,
            candidate.endpoint.origin,
            journal.fingerprint(row.encrypted_refresh) if row is not None else "",
            journal.fingerprint(entered.refresh_token),
            entered.to_json(),
        )

    def _conclude(self, candidate: Candidate, entry_id: int, answer: Answer, *, was_lost: bool = False) -> RowFinished:
        """Store what was proved; refuse what was refused; keep what is unclear."""
        outcome = outcome_of(answer.verdict, candidate.provider.rotates)
        if answer.verdict is Verdict.DEAD_GRANT:
            token = candidate.entered.refresh_token
            answer = kept_pair(self._context.journal, candidate.provider, entry_id, token) or answer
        if answer.verdict is Verdict.GRANTED or answer.refresh_token is not None:
            return self._store(self._with_details(candidate, entry_id), entry_id, answer)
        action = answer.action or _ACTIONS.get(answer.verdict) or action_of(outcome, answer.verdict)
        if answer.verdict is Verdict.UNREAD:
            self._context.journal.mark(entry_id, Step.UNREAD)
        elif outcome is Outcome.UNKNOWN and was_lost:
            self._context.journal.mark(entry_id, Step.SUPERSEDED)
            action = "Log in again and onboard the new token; the entered one is kept, encrypted, in the journal."
        elif outcome is Outcome.UNKNOWN or (outcome is Outcome.TRANSIENT and was_lost):
            self._context.journal.mark(entry_id, Step.LOST)
            action = "The entered credential is kept, encrypted: the next run asks once more and saves it."
        elif any(candidate.provider.read_answer(raw).verdict is Verdict.UNREAD for raw in self._answers(entry_id)):
            self._context.journal.mark(entry_id, Step.UNREAD)  # it was sent once more, and the answer stays
        else:
            self._context.journal.finish([entry_id])
        secrets = candidate.credential.refresh_token, candidate.credential.client_secret
        error = safe_error(answer.error or "no answer", *secrets)
        return _result(candidate, outcome, error, safe_error(action, *secrets) if action else action)

    def _with_details(self, candidate: Candidate, entry_id: int) -> Candidate:
        """With what the answers to an onboarding say beside the tokens, as far as the table has columns for it."""
        columns = self._context.store.store.columns
        known = {name: text for name, text in details_of(self._answers(entry_id)).items() if name in columns}
        return replace(candidate, entered=replace(candidate.entered, details={**known, **candidate.entered.details}))

    def _answers(self, entry_id: int) -> list[RawAnswer]:
        journal = self._context.journal
        return [raw for entry in journal.entries() if entry.id == entry_id for raw in journal.answers(entry)]

    def _store_login(self, candidate: Candidate, entry_id: int, login: Answer) -> RowFinished:
        """Keep what a login brought, then store it. Where the journal refuses, its refresh token is there already."""
        entered = candidate.entered
        context = Context(ANSWER_FIELD, entered.location_id, candidate.endpoint.origin)
        with contextlib.suppress(JournalError):
            self._context.journal.keep(entry_id, login_answer(login), context)
        return self._store(candidate, entry_id, login, LOGIN_ATTEMPTS)

    def _store_access_token(self, candidate: Candidate, login: Answer, entry_id: int | None) -> RowFinished:
        """Keep a login that brought no refresh token; where neither store nor journal has it, it is to be repeated.

        Raises:
            AdmissionError: the refresh token in the row is of another client, or for another host.
        """
        row = candidate.row
        if row is not None and row.encrypted_refresh:
            ours = (candidate.entered.client_id, candidate.endpoint.origin)
            if (row.client_id, self._context.job_factory.binding(row).origin) != ours:
                raise AdmissionError(
                    "the login brought no refresh token, and the row has one of another client",
                    "Delete its tokens first.",
                )
        self._require_columns(candidate.entered)
        return self._store(candidate, entry_id, login, LOGIN_ATTEMPTS)

    def _store(
        self, candidate: Candidate, entry_id: int | None, answer: Answer | None, attempts: int = 1
    ) -> RowFinished:
        """Write the row; without `entry_id` the credential is not in the journal."""
        entered = candidate.entered
        find = partial(self._find_row, entered)
        try:
            if answer is not None and entry_id is not None and _is_unproven(candidate, answer):
                self._note_unproven(candidate, entry_id, answer)
            is_stored = write_row(self._context, candidate, answer, find, attempts)
        except StoreError as error:
            self.store_error = error
            place = self._context.journal.place_of(entry_id) if entry_id is not None else None
            return _not_stored(candidate, error, place)
        if not is_stored:
            if entry_id is not None:
                self._context.journal.mark(entry_id, Step.SUPERSEDED)
            kept = "; the proved credential is kept, encrypted, in the journal" if entry_id is not None else ""
            problem = f"somebody changed the row meanwhile, and theirs stays{kept}"
            action = "Look at the row; to replace it all the same, connect the account again and repeat."
            return _result(candidate, Outcome.CHANGED, problem, action)
        if entered.refresh_token:
            self._supersede_others(candidate, entry_id)
        if entry_id is not None:
            self._finish(entry_id, candidate, answer)
        finished = RowFinished(entered.location_id, entered.provider, Outcome.REFRESHED)
        if answer is None:
            return finished
        owner = answer.location_id if answer.location_id != entered.location_id else ""
        return replace(finished, expires_at=answer.expires_at, owner=safe_error(owner))

    def _supersede_others(self, candidate: Candidate, entry_id: int | None) -> None:
        """What waited of earlier credentials of the row: the newest is in it."""
        entered, journal = candidate.entered, self._context.journal
        for entry in journal.entries(Step.ANSWERED, Step.SENT, Step.LOST, Step.UNREAD):
            is_earlier = (entry.location_id, entry.provider) == (entered.location_id, entered.provider)
            if is_earlier and entry.id != entry_id and (entry.admission or entry.step == Step.UNREAD):
                journal.mark(entry.id, Step.SUPERSEDED)

    def _finish(self, entry_id: int, candidate: Candidate, answer: Answer | None) -> None:
        """Forget the entry, and remember the entered token where the provider gave another for it.

        It stays open where that one is still to be proved, by the next run.
        """
        if answer is not None and _is_unproven(candidate, answer):
            row = self._find_row(candidate.entered)
            if row is not None:
                self._context.journal.give_to_row(entry_id, row.key, Step.UNPROVEN)
                return
        new = answer.refresh_token if answer is not None else None
        is_replaced = new not in (None, candidate.entered.refresh_token)
        self._context.journal.finish([entry_id], [entry_id] if is_replaced else [])

    def _note_unproven(self, candidate: Candidate, entry_id: int, answer: Answer) -> None:
        store, entered = self._context.store, candidate.entered
        binding = binding_of(candidate.provider, candidate.endpoint)
        sent = store.cells(entered.location_id, binding, previous_refresh=entered.refresh_token)
        successor = store.keyring.fingerprint(answer.refresh_token or "")
        self._context.journal.note_unproven(entry_id, successor, str(sent["previous_refresh"]))


def _is_unproven(candidate: Candidate, answer: Answer) -> bool:
    return answer.is_unproven and answer.refresh_token not in (None, candidate.entered.refresh_token)


def _may_be_under_way(entry: Entry, provider: Provider, now: datetime) -> bool:
    return entry.lacks_answer and now < replay.arrives_by(entry, provider)


def _ends(code: NoticeCode, entry: Entry, message: str, action: str = "") -> Notice:
    return Notice(code, entry.location_id, message, action, entry.provider)


def _waits(entry: Entry, message: str, action: str = "") -> Notice:
    return _ends(NoticeCode.ONBOARDING_WAITS, entry, message, action)


def _not_stored(candidate: Candidate, error: StoreError, place: Place | None) -> RowFinished:
    """`place` is where the proved tokens wait; None where nothing was proved."""
    outcome = Outcome.OPERATOR if isinstance(error, StoreRefusedError) else Outcome.TRANSIENT
    wait = ""
    if place is not None:
        wait = f"; the proved tokens wait, encrypted, {place.where}, and {place.stored_by} stores them"
    return _result(candidate, outcome, f"{error}{wait}", error.action)


def _result(candidate: Candidate, outcome: Outcome, error: str, action: str | None) -> RowFinished:
    return RowFinished(candidate.entered.location_id, candidate.entered.provider, outcome, error, action)


def warn_of_foreign_key(context: RunContext, warn: Callable[[str, str], None]) -> None:
    """Where no configured key opens the table's newest row, a new one would have another key than the others."""
    row = context.store.store.newest()
    try:
        if row is not None:
            require_key(context.job_factory, context.store, row)
    except CellError as error:
        warn(f"the newest row of the table does not open: {error}", error.action)
