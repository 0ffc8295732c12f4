"""A code is exchanged once (RFC 6749 section 4.1.3), through the journal: its answer is the proof, no refresh follows.

The answer is kept sealed before anything is read in it. Whatever is cut off behind that, the next run goes on from
there; a code whose answer was lost is of no use to anybody, and the person logs in again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from crypto import Context
from providers.addresses import placeholders_in
from providers.base import (
    Answer,
    Credential,
    Provider,
    ProviderError,
    RawAnswer,
    TokenRequest,
    Verdict,
    error_code,
    parse_answer,
)
from providers.exchange import ShortLived
from token_refresh.base.clock import iso
from token_refresh.base.events import Notice, NoticeCode, RowFinished
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.base.text import safe_error
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import AdmissionError, NewCredential, candidate_of, with_client
from token_refresh.clients.login_answer import details_of
from token_refresh.clients.row import find_row
from token_refresh.journal.entries import ANSWER_FIELD, Entry, Step
from token_refresh.net.hosts import host_of
from token_refresh.refresh.exchange import exchange
from token_refresh.refresh.jobs import Job, read_params
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row

AGAIN = "Log in again."


class NoGrantError(AdmissionError):
    """The login brought nothing that can be stored.

    Attributes:
        code: the provider's (RFC 6749 section 5.2, RFC 8628 section 3.5); empty where it says none.
        is_passing: no whole answer came, and another request may get one.
    """

    code = ""
    is_passing = False


class OtherAccountError(AdmissionError):
    """The login is of another account than the one that it was to be for."""


class Redemption:
    """Exchanges what a login brought for tokens, and has them stored.

    Args:
        context: what it works with; for `redeem` no lock is needed.
        draft: what was entered, without a refresh token; the location is empty where the login is to name it.
        replaced: `marks_of` the row that the person agreed to replace; empty where there was none.

    Attributes:
        draft: what was entered, and whose login it is, where only an answer that is not kept says that.
    """

    def __init__(self, context: RunContext, draft: NewCredential, replaced: str) -> None:
        self._context = context
        self.draft = draft
        self._replaced = replaced
        self._candidate = with_client(candidate_of(draft, None, context.job_factory), context.job_factory)
        self._sealed_for = Context(ANSWER_FIELD, draft.location_id, self._candidate.endpoint.origin)

    @property
    def provider(self) -> Provider:
        """Where."""
        return self._candidate.provider

    @property
    def credential(self) -> Credential:
        """The client that logs in."""
        return self._candidate.credential

    def ask(self, request: TokenRequest) -> tuple[int, RawAnswer | Answer]:
        """Send a request whose answer may bring tokens: it is in the journal before it is read.

        Returns the entry, and what came.

        Raises:
            JournalError: nothing was sent; or its answer is where the journal keeps what its disk does not take.
        """
        context, draft = self._context, self.draft
        origin = self._candidate.endpoint.origin
        note = partial(
            context.journal.admit, draft.location_id, self.provider.slug, origin, self._replaced, "", draft.to_json()
        )
        entry_id, answer, not_saved = exchange(
            context.journal, context.transport, request, lambda raw: raw, self._sealed_for, note
        )
        if not_saved is not None:
            raise not_saved
        return entry_id, answer

    def ask_openly(self, request: TokenRequest) -> RawAnswer | Answer:
        """Send a request whose answer brings no tokens."""
        return self._context.transport.post(request)

    def redeem(self, request: TokenRequest, *secrets: str) -> tuple[int, RawAnswer]:
        """Exchange the code; of a provider that gives a token to trade for it, that one, too.

        What the provider says is shown without `secrets`.

        Raises:
            NoGrantError: nothing came, or a refusal.
            JournalError: nothing was sent.
        """
        entry_id, raw = self.ask(request)
        answer = self._granted(entry_id, raw, secrets)
        if isinstance(self.provider, ShortLived):
            first_id, request = entry_id, self.provider.trade_request(self.credential, answer)
            params = read_params(self.draft.provider_params)
            if isinstance(raw, RawAnswer) and (account := self.provider.login.account_in(parse_answer(raw)[0], params)):
                self.draft = replace(self.draft, provider_params=json.dumps({**params, "account": account}))
            entry_id, raw = self.ask(request)
            self._context.journal.finish([first_id])  # its token lives an hour: nothing to store
            self._granted(entry_id, raw, (answer.access_token or "",))
        assert isinstance(raw, RawAnswer)
        return entry_id, raw

    def _granted(self, entry_id: int, raw: RawAnswer | Answer, secrets: Sequence[str]) -> Answer:
        answer = raw if isinstance(raw, Answer) else self.provider.read_answer(raw)
        if answer.verdict is Verdict.GRANTED:
            return answer
        if answer.verdict is Verdict.UNREAD:
            self._context.journal.mark(entry_id, Step.SUPERSEDED)
        else:
            self._context.journal.finish([entry_id])
        said = safe_error(answer.error or "no answer", self.credential.client_secret, *secrets)
        if answer.verdict is Verdict.CLIENT_REFUSED:
            action = answer.action or "Check the client id and the client secret, then log in again."
        else:
            action = answer.action or AGAIN
        error = NoGrantError(f"the login was not completed: {said}", action)
        error.is_passing = answer.verdict in (Verdict.NOT_ACTED, Verdict.UNCLEAR)
        error.code = error_code(parse_answer(raw)[0]) if isinstance(raw, RawAnswer) else ""
        raise error


def completed(provider: Provider, draft: NewCredential, raw: RawAnswer) -> tuple[NewCredential, Answer]:
    """What is to be stored of a login: the draft with what its answer says.

    Raises:
        NoGrantError: it refuses, or there is no refresh token in it, where the provider gives some.
        AdmissionError: its tokens are in a form that is not known.
        OtherAccountError: it is of another location than the one asked for.
    """
    answer, (content, _) = provider.read_answer(raw), parse_answer(raw)
    if answer.verdict is not Verdict.GRANTED:  # its words may quote the code
        error = AdmissionError if answer.verdict is Verdict.UNREAD else NoGrantError
        raise error("the provider did not complete the login", AGAIN)
    params = read_params(draft.provider_params)
    if answer.refresh_token is None and params.get(provider.agency_param):
        mark = hashlib.sha256((answer.access_token or "").encode()).hexdigest()
        answer = replace(answer, refresh_token=f"none-{mark}")  # which is refused, and then another pair is minted
    if answer.refresh_token is None and provider.grant == "refresh_token":
        raise NoGrantError("the login brought no refresh token; nothing was stored", how_to_get_one(provider))
    if isinstance(provider, ShortLived) and answer.is_expiry_assumed:
        raise NoGrantError("the login was cut off before its token was traded; nothing was stored", AGAIN)
    account = provider.login.account_in(content, params)
    location_id = draft.location_id
    if not provider.login.account_is_location:
        params |= {"account": account} if account else {}
    elif location_id and account not in ("", location_id):
        raise OtherAccountError(
            f"the login was for {account}, not for {location_id}; its tokens are kept, encrypted, in the journal",
            f"Log in again and choose {location_id}.",
        )
    params |= provider.login.params_in_answer(content)
    if provider.login.refresh_ends_anyway:
        params["login_at"] = iso(raw.received_at)
        end = raw.received_at + timedelta(seconds=provider.login.refresh_ends_anyway)
        answer = replace(answer, refresh_expires_at=answer.refresh_expires_at or end)
    entered = replace(
        draft,
        location_id=location_id or account,
        refresh_token=answer.refresh_token or "",
        provider_params=json.dumps(params) if params else "",
        details={**details_of([raw]), **draft.details},
    )
    return entered, answer


def other_account(entered: NewCredential, row: Row | None) -> str:
    """The account whose login the row holds, where that is another than that of the new one; empty elsewhere."""
    known = read_params(row.provider_params).get("account", "") if row is not None and row.encrypted_refresh else ""
    return known if known != read_params(entered.provider_params).get("account", known) else ""


def how_to_get_one(provider: Provider) -> str:
    """What brings a refresh token at this provider."""
    login = provider.login
    if login.refresh_setting:
        return f"In the app's settings at {provider.name}: {login.refresh_setting}. Then log in again."
    asked = [
        *(f"the scope {one}" for one in login.scopes),
        *(f"{name}={text}" for name, text in login.authorize_params.items() if not placeholders_in(text)),
    ]
    if asked:
        asked_for = " and ".join(asked)
        return f"{provider.name} gives one for {asked_for}: check that the app may ask for that, then log in again."
    return f"Check the app's settings at {provider.name}, then log in again."


def resume(context: RunContext, entry: Entry) -> RowFinished | Notice:
    """Store what a login brought; the way of one that was just made, and of one that was cut off.

    The caller holds the lock.

    Raises:
        SealedCellError: the entry's key is gone.
        StoreError, JournalError: it waits in the journal for the next run.
    """
    journal = context.journal
    draft = NewCredential.from_json(journal.open_admission(entry))
    if entry.lacks_answer:
        journal.finish([entry.id])
        return _notice(entry, "a login was cut off before its answer came; nothing was stored", _repeat(draft))
    try:
        provider = context.job_factory.find_provider(draft.provider)
        entered, answer = completed(provider, draft, journal.open_answer(entry))
        row = find_row(context.store.store, context.job_factory, entered.location_id, provider.slug)
        if entered.refresh_token and _is_stored(context, row, entered.refresh_token):
            journal.finish([entry.id])
            return _notice(entry, "its login was saved before the last run ended", "", NoticeCode.ONBOARDING_FINISHED)
        if row is not None and row.encrypted_refresh and not _is_agreed(context, entry, row):
            raise AdmissionError(f"{entered.location_id} has another credential", "To replace it, log in again.")
        agreed = read_params(draft.provider_params).get("account")
        if other_account(entered, row) and agreed != read_params(entered.provider_params)["account"]:
            problem = f"{entered.location_id} holds the login of another account"
            raise AdmissionError(problem, "To replace it, log in again.")
        host = host_of(candidate_of(entered, None, context.job_factory).endpoint.origin)
        terms = Terms(replace=True, hosts=[host])
        return Admission(context).admit(entered, terms, granted=answer, kept_by=entry.id)
    except NoGrantError as error:
        journal.finish([entry.id])
        return _notice(entry, str(error), error.action)
    except (AdmissionError, ProviderError) as error:
        journal.mark(entry.id, Step.SUPERSEDED)
        return _notice(entry, f"a login was not stored: {error}", error.action)


def _repeat(draft: NewCredential) -> str:
    """What brings its tokens now."""
    company_id = read_params(draft.provider_params).get("company")  # an agency can have a pair minted again
    ids = f"--locations {company_id} --location {draft.location_id}"
    return f"Run: {ONBOARD_CLIENT} {ids}" if company_id else AGAIN


def marks_of(context: RunContext, row: Row | None) -> str:
    """What recognises a row's credential later: the fingerprints of its cell, and of the refresh token in it."""
    if row is None or not row.encrypted_refresh:
        return ""
    job, fingerprint = context.job_factory.job(row), context.journal.fingerprint
    token = job.credential.refresh_token if isinstance(job, Job) else ""
    return f"{fingerprint(row.encrypted_refresh)} {fingerprint(token)}".strip()


def _is_agreed(context: RunContext, entry: Entry, row: Row) -> bool:
    """Whether the row holds what the person agreed to replace, or what a run has made of it meanwhile."""
    journal = context.journal
    return journal.is_of(entry, row.encrypted_refresh) or journal.is_spent(entry.cell.split())


def _is_stored(context: RunContext, row: Row | None, refresh_token: str) -> bool:
    """Whether the row holds this token, or it was there and has its successor there."""
    job = context.job_factory.job(row) if row is not None and row.encrypted_refresh else None
    is_there = isinstance(job, Job) and job.credential.refresh_token == refresh_token
    return is_there or context.journal.is_spent(context.store.keyring.fingerprints(refresh_token))


def _notice(entry: Entry, message: str, action: str, code: NoticeCode = NoticeCode.ONBOARDING_ABANDONED) -> Notice:
    return Notice(code, entry.location_id, message, action, entry.provider)
