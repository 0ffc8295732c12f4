"""A code is exchanged once (RFC 6749 section 4.1.3), through the journal: its answer is the proof, no refresh follows.

The answer is kept sealed before anything is read in it. Whatever is cut off behind that, the next run goes on from
there; a code whose answer was lost is of no use to anybody, and the person logs in again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

from crypto import Context
from providers.authorization import code_request
from providers.base import Answer, Provider, ProviderError, RawAnswer, TokenRequest, Verdict, error_code, parse_answer
from providers.long_lived import ShortLived
from token_refresh.base.clock import iso
from token_refresh.base.events import Notice, NoticeCode, RowFinished
from token_refresh.base.program import ONBOARD_CLIENT, flag
from token_refresh.base.text import safe_error
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import AdmissionError, Candidate, NewCredential, candidate_of, with_client
from token_refresh.clients.login.attempt import Attempt, Callback, NoGrantError
from token_refresh.clients.login_answer import details_of
from token_refresh.clients.provider_facts import refresh_token_hint
from token_refresh.clients.row import find_row
from token_refresh.journal.entries import ANSWER_FIELD, Entry, Journal, Step
from token_refresh.net.hosts import host_of
from token_refresh.refresh.exchange import exchange
from token_refresh.refresh.jobs import Job, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row

AGAIN = "Log in again."
_FIRST_ACCOUNT = "first_account"  # in the journal alone: whose login it is, by the answer before a trade


def exchange_code(context: RunContext, attempt: Attempt, callback: Callback) -> int:
    """Exchange the code of a callback. No lock is needed. Returns the journal's entry, for `resume`.

    Raises:
        ProviderError: what the callback says cannot be used; nothing was sent.
        AdmissionError, JournalError: see `redeem`.
    """
    provider, entered = attempt.candidate.provider, attempt.candidate.entered.with_params(callback.params)
    if "redirect_uri" in provider.placeholders:  # every refresh repeats it
        entered = entered.with_params({"redirect_uri": attempt.redirect_uri})
    candidate = with_client(candidate_of(entered, attempt.candidate.row, context.job_factory), context.job_factory)
    request = code_request(provider, candidate.credential, callback.code, attempt.redirect_uri, attempt.verifier)
    return redeem(context, candidate, request, callback.code, attempt.verifier or "")


def redeem(context: RunContext, candidate: Candidate, request: TokenRequest, *secrets: str) -> int:
    """Send what a login brought, and trade the token for it of a provider that wants that; returns the entry.

    Args:
        candidate: whose login it is; its location is empty where the answer is to name it.
        secrets: what the provider says is shown without these.

    Raises:
        NoGrantError: nothing came, or a refusal.
        AdmissionError: its tokens are in a form that is not known; they are kept.
        JournalError: nothing was sent; or the answer is where the journal keeps what its disk does not take.
    """
    entry_id, raw = ask(context, candidate, request)
    answer = _granted(context, candidate, entry_id, raw, *secrets)
    if isinstance(candidate.provider, ShortLived):
        assert isinstance(raw, RawAnswer)
        first_id, request = entry_id, candidate.provider.trade_request(candidate.credential, answer)
        account = candidate.provider.login.account_in(parse_answer(raw)[0], candidate.credential.params)
        candidate = replace(candidate, entered=candidate.entered.with_params({_FIRST_ACCOUNT: account}))
        entry_id, raw = ask(context, candidate, request)
        context.journal.finish([first_id])  # its token lives an hour: nothing to store
        _granted(context, candidate, entry_id, raw, answer.access_token or "")
    return entry_id


def ask(context: RunContext, candidate: Candidate, request: TokenRequest) -> tuple[int, RawAnswer | Answer]:
    """Send a request whose answer may bring tokens: it is in the journal before it is read.

    Returns the entry, and what came. Raises `JournalError` as `redeem` does.
    """
    draft, origin, journal = candidate.entered, candidate.endpoint.origin, context.journal
    place = (draft.location_id, candidate.provider.slug, origin)
    note = partial(journal.admit, *place, marks_of(context, candidate.row), "", draft.to_json())
    sealed_for = Context(ANSWER_FIELD, draft.location_id, origin)
    entry_id, answer, not_saved = exchange(journal, context.transport, request, lambda raw: raw, sealed_for, note)
    if not_saved is not None:
        raise not_saved
    return entry_id, answer


def _granted(
    context: RunContext, candidate: Candidate, entry_id: int, raw: RawAnswer | Answer, *secrets: str
) -> Answer:
    answer = raw if isinstance(raw, Answer) else candidate.provider.read_answer(raw)
    if answer.verdict is Verdict.GRANTED:
        return answer
    said = safe_error(answer.error or "no answer", candidate.credential.client_secret, *secrets)
    is_client = answer.verdict is Verdict.CLIENT_REFUSED
    usual = "Check the client id and the client secret, then log in again." if is_client else AGAIN
    with settling(context.journal, entry_id):
        error = _error_of(answer, f"the login was not completed: {said}", answer.action or usual)
        if isinstance(error, NoGrantError):
            error.is_passing = answer.verdict in (Verdict.NOT_ACTED, Verdict.UNCLEAR)
            error.code = error_code(parse_answer(raw)[0]) if isinstance(raw, RawAnswer) else ""
        raise error


def _error_of(answer: Answer, message: str, action: str) -> AdmissionError:
    """What an answer without usable tokens is: the login brought none, or some in a form that is not known."""
    return (AdmissionError if answer.verdict is Verdict.UNREAD else NoGrantError)(message, action)


@contextmanager
def settling(journal: Journal, entry_id: int) -> Iterator[None]:
    """What becomes of a login that is not stored: nothing is left of one without tokens, else they are kept sealed."""
    try:
        yield
    except NoGrantError:
        journal.finish([entry_id])
        raise
    except (AdmissionError, ProviderError):
        journal.mark(entry_id, Step.SUPERSEDED)
        raise


def brought(context: RunContext, entry: Entry) -> tuple[NewCredential, Answer, Row | None]:
    """What is to be stored of a login whose answer is in the journal, the answer, and the row that it goes into.

    Raises:
        AdmissionError, ProviderError: see `completed`, or it cannot be said which row.
        SealedCellError: the entry's key is gone.
        StoreError: the table cannot be read.
    """
    factory, journal = context.job_factory, context.journal
    draft = NewCredential.from_json(journal.open_admission(entry))
    provider = factory.find_provider(draft.provider)
    entered, answer = completed(provider, draft, journal.open_answer(entry))
    return entered, answer, find_row(context.store.store, factory, entered.location_id, provider.slug)


def completed(provider: Provider, draft: NewCredential, raw: RawAnswer) -> tuple[NewCredential, Answer]:
    """What is to be stored of a login: the draft with what its answer says.

    Raises:
        NoGrantError: it refuses, or there is no refresh token in it, where the provider gives some.
        AdmissionError: its tokens are in a form that is not known, or of another location than the one asked for.
    """
    answer, (content, _) = provider.read_answer(raw), parse_answer(raw)
    if answer.verdict is not Verdict.GRANTED:  # its words may quote the code
        raise _error_of(answer, "the provider did not complete the login", AGAIN)
    params, login = read_params(draft.provider_params), provider.login
    if answer.refresh_token is None and params.get(provider.agency_param):
        mark = hashlib.sha256((answer.access_token or "").encode()).hexdigest()
        answer = replace(answer, refresh_token=f"none-{mark}")  # which is refused, and then another pair is minted
    if answer.refresh_token is None and provider.grant == "refresh_token":
        raise NoGrantError("the login brought no refresh token; nothing was stored", refresh_token_hint(provider))
    if isinstance(provider, ShortLived) and answer.is_expiry_assumed:
        raise NoGrantError("the login was cut off before its token was traded; nothing was stored", AGAIN)
    first_account, location_id = params.pop(_FIRST_ACCOUNT, ""), draft.location_id
    account = login.account_in(content, params) or first_account
    if not login.account_is_location:
        params |= {"account": account} if account else {}
    elif location_id and account not in ("", location_id):
        raise AdmissionError(
            f"the login was for {account}, not for {location_id}; its tokens are kept, encrypted, in the journal",
            f"Log in again and choose {location_id}.",
        )
    params |= login.params_in_answer(content)
    if login.refresh_ends_anyway:
        params["login_at"] = iso(raw.received_at)
        end = raw.received_at + timedelta(seconds=login.refresh_ends_anyway)
        answer = replace(answer, refresh_expires_at=answer.refresh_expires_at or end)
    entered = replace(
        draft,
        location_id=location_id or account,
        refresh_token=answer.refresh_token or "",
        provider_params="",
        details={**details_of([raw]), **draft.details},
    )
    return entered.with_params(params), answer


def conflict(
    context: RunContext, entry: Entry, entered: NewCredential, row: Row | None, *, may_replace: bool = False
) -> str:
    """Why the row may not be replaced without a yes; empty where it may.

    What the person agreed to replace, or a run has made of it meanwhile, may be; with `may_replace` any credential of
    the same account.
    """
    journal = context.journal
    if row is None or not (row.encrypted_refresh or row.has_only_access_token):
        return ""
    draft = NewCredential.from_json(journal.open_admission(entry))
    cells = (row.provider_params, entered.provider_params, draft.provider_params)
    known, account, agreed = (read_params(cell).get("account", "") for cell in cells)
    if known and account not in ("", known, agreed):
        return f"{entered.location_id} holds the login of {known}, and this one is of {account}"
    cell = row.encrypted_refresh
    is_agreed = not cell or journal.is_of(entry, cell) or journal.spent_at(entry.cell.split()) is not None
    return "" if may_replace or is_agreed else f"{entered.location_id} has another credential"


def note_agreement(context: RunContext, entry: Entry, entered: NewCredential, row: Row | None) -> None:
    """A person agreed to have this stored in the place of what the row holds now."""
    context.journal.note_agreement(entry.id, entry.context, entered.to_json(), marks_of(context, row))


def resume(context: RunContext, entry: Entry) -> RowFinished | Notice:
    """Store what a login brought; the way of one that was just made, and of one that was cut off.

    The caller holds the lock.

    Raises:
        SealedCellError: the entry's key is gone.
        StoreError, JournalError: it waits in the journal for the next run.
    """
    journal = context.journal
    if entry.lacks_answer:
        draft = NewCredential.from_json(journal.open_admission(entry))
        journal.finish([entry.id])
        return _notice(entry, "a login was cut off before its answer came; nothing was stored", _repeat(draft))
    try:
        with settling(journal, entry.id):
            entered, answer, row = brought(context, entry)
            if entered.refresh_token and _is_stored(context, row, entered.refresh_token):
                journal.finish([entry.id])
                what = "its login was saved before the last run ended"
                return _notice(entry, what, "", NoticeCode.ONBOARDING_FINISHED)
            if problem := conflict(context, entry, entered, row):
                raise AdmissionError(problem, "To replace it, log in again.")
            host = host_of(candidate_of(entered, None, context.job_factory).endpoint.origin)
            terms = Terms(replace=True, hosts=[host])
            return Admission(context).admit(entered, terms, granted=answer, kept_by=entry.id)
    except (AdmissionError, ProviderError) as error:
        what = "" if isinstance(error, NoGrantError) else "a login was not stored: "
        return _notice(entry, f"{what}{error}", error.action)


def _repeat(draft: NewCredential) -> str:
    """What brings its tokens now."""
    company_id = read_params(draft.provider_params).get("company")  # an agency can have a pair minted again
    location = flag("--location", draft.location_id)
    return f"Run: {ONBOARD_CLIENT} {flag('--locations', company_id)} {location}" if company_id else AGAIN


def marks_of(context: RunContext, row: Row | None) -> str:
    """What recognises a row's credential later: the fingerprints of its cell, and of the refresh token in it."""
    if row is None or not row.encrypted_refresh:
        return ""
    job, fingerprint = context.job_factory.job(row), context.journal.fingerprint
    token = job.credential.refresh_token if isinstance(job, Job) else ""
    return f"{fingerprint(row.encrypted_refresh)} {fingerprint(token)}".strip()


def _is_stored(context: RunContext, row: Row | None, refresh_token: str) -> bool:
    """Whether the row holds this token, or it was there and has its successor there."""
    job = context.job_factory.job(row) if row is not None and row.encrypted_refresh else None
    is_there = isinstance(job, Job) and job.credential.refresh_token == refresh_token
    return is_there or context.journal.spent_at(context.store.keyring.fingerprints(refresh_token)) is not None


def _notice(entry: Entry, message: str, action: str, code: NoticeCode = NoticeCode.ONBOARDING_ABANDONED) -> Notice:
    return Notice(code, entry.location_id, message, action, entry.provider)
