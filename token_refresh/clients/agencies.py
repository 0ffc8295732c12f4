"""HighLevel's agencies: an agency's access token brings a pair of tokens for each of its locations.

An agency's login is a row of its own, whose location id is the company id and whose `user_type` is `Company`. A row
that was made from it names it as `company`. Source: GoHighLevel/highlevel-api-docs, apps/oauth.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from providers.base import Answer, Credential, Provider, RawAnswer, TokenRequest, Verdict
from providers.gohighlevel import GoHighLevel
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import ONBOARD_CLIENT, flag
from token_refresh.base.text import VISIBLE_ASCII, safe_error
from token_refresh.clients.rows import find_one
from token_refresh.journal.entries import Entry
from token_refresh.refresh import jobs as refresh_jobs
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import STATUS_REAUTHORIZE, StoreError

SLUG = "gohighlevel"
COMPANY = "Company"


class Held(NamedTuple):
    """See `refresh_jobs.Held`."""

    job: Job
    answer: Answer
    verdict: Verdict
    entry_id: int | None
    lost_at: datetime | None


class AgencyError(ActionableError):
    """An agency's row brings no pair for its locations.

    Attributes:
        is_passing: another run may get one.
    """

    kind = Kind.ROW
    is_passing = False


@dataclass(frozen=True)
class Agency:
    """An agency whose access token asks for its locations."""

    company_id: str
    job: Job
    access_token: str = field(repr=False)
    expires_at: datetime | None

    @property
    def provider(self) -> GoHighLevel:
        """Its provider."""
        assert isinstance(self.job.provider, GoHighLevel)
        return self.job.provider

    @property
    def app_id(self) -> str:
        """Which app it has installed: a client id begins with the app's own id, for most apps."""
        credential = self.job.credential
        return credential.params.get("app_id") or credential.client_id.partition("-")[0]

    def lasts(self, length: timedelta, now: datetime) -> bool:
        """Whether its access token lives so much longer, as far as its row says."""
        return bool(self.access_token) and (self.expires_at is None or self.expires_at - now > length)

    def mint_request(self, location_id: str) -> TokenRequest:
        """The request for a pair of one of its locations."""
        return self.provider.mint_request(self.job.credential.params, self.access_token, self.company_id, location_id)


def find_agency(context: RunContext, company_id: str) -> Agency:
    """The agency's row as it is now.

    Raises:
        NoSuchTokenError, SeveralTokensError, ProviderError, CellError, AgencyError: it cannot be used.
        StoreError: it cannot be read.
    """
    row, _ = find_one(context.store.store, context.job_factory, company_id, SLUG)
    job = context.job_factory.job(row)
    if isinstance(job, UnusableRow):
        raise job.error
    if job.credential.params.get("user_type") != COMPANY:
        raise AgencyError(
            f"the row of {company_id} is no agency's", f"Log in as the agency: {login_command(company_id)}"
        )
    token = context.store.access_token(row, job.binding)
    return Agency(company_id, job, token if VISIBLE_ASCII.fullmatch(token) else "", row.access_token_expiry)


def login_command(company_id: str) -> str:
    """The words of a login as this agency."""
    return f"{ONBOARD_CLIENT} --authorize --provider {SLUG} {flag('--location', company_id)}"


@dataclass(frozen=True)
class Minting(GoHighLevel):
    """HighLevel for one row whose pair is dead or lost: its refresh has the agency mint another one."""

    company_id: str = ""
    location_id: str = ""
    access_token: str = field(default="", repr=False)
    is_dead: bool = False

    agency_param = ""  # asked once

    def refresh_request(self, credential: Credential) -> TokenRequest:
        """See `Provider.refresh_request`."""
        return self.mint_request(credential.params, self.access_token, self.company_id, self.location_id)

    def read_answer(self, raw: RawAnswer) -> Answer:
        """See `Provider.read_answer`. A refusal says nothing of the row's own pair."""
        answer = super().read_answer(raw)
        if answer.brings_token or answer.verdict in (Verdict.NOT_ACTED, Verdict.UNCLEAR):
            return answer
        said = safe_error(answer.error or "no tokens", self.access_token)
        end = "dead" if self.is_dead else "lost"
        return replace(
            answer,
            verdict=Verdict.DEAD_GRANT if self.is_dead else Verdict.NOT_ACTED,
            error=f"its tokens are {end}, and its agency {self.company_id} could not get others: {said}",
            action=f"Install the app in the location again, or log in as the agency: {login_command(self.company_id)}",
        )


def minting(context: RunContext, held: list[refresh_jobs.Held]) -> Iterator[list[Job]]:
    """Of rows whose pair is dead or lost the jobs that have their agencies mint another, as one round.

    The others stay in `held`, with what is to be said of their agency. To be called by the thread that owns the
    store: each agency's row is read once.
    """
    agencies: dict[str, Agency | AgencyError] = {}
    entries = {entry.id: entry for entry in context.journal.entries()}
    jobs, left = list[Job](), list[refresh_jobs.Held]()
    for one in map(Held._make, held):
        company_id = one.job.agency
        if company_id not in agencies:
            agencies[company_id] = _living(context, company_id)
        agency = agencies[company_id]
        if isinstance(agency, Agency) and agency.job.endpoint.origin != one.job.endpoint.origin:
            agency = AgencyError(f"its agency {company_id} is at another host", "")
        if isinstance(agency, Agency):
            jobs.append(_minting(one, agency, entries))
        else:
            left.append(_without(one, agency))
    held[:] = left
    yield jobs


def _living(context: RunContext, company_id: str) -> Agency | AgencyError:
    try:
        agency = find_agency(context, company_id)
    except StoreError as error:
        return _passing(f"the row of its agency {company_id} cannot be read: {error}")
    except ActionableError as error:
        return AgencyError(f"its agency {company_id}: {error}", f"Log in as the agency: {login_command(company_id)}")
    if agency.lasts(timedelta(0), context.clock.now()):
        return agency
    row = agency.job.row
    failure = context.journal.failures.find(row.key, agency.job.cell)
    if row.status == STATUS_REAUTHORIZE or (failure is not None and failure.dead_since is not None):
        what = f"the grant of its agency {company_id} is dead, too"
        return AgencyError(
            what, f"Log in as the agency, its locations follow by themselves: {login_command(company_id)}"
        )
    return _passing(f"its agency {company_id} has no valid access token at the moment")


def _passing(what: str) -> AgencyError:
    error = AgencyError(what, "")
    error.is_passing = True
    return error


def _minting(held: Held, agency: Agency, entries: Mapping[int, Entry]) -> Job:
    """The same entry of the journal takes the answer: a pair that is cut off is stored by the next run."""
    known = {one.name: getattr(agency.provider, one.name) for one in fields(Provider)}
    provider = Minting(
        **{**known, "replay_window": 0},  # which is of refresh tokens
        company_id=agency.company_id,
        location_id=held.job.row.location_id,
        access_token=agency.access_token,
        is_dead=held.verdict is Verdict.DEAD_GRANT,
    )
    entry = entries.get(held.entry_id) if held.entry_id is not None else None
    lost = replace(entry, lost_at=held.lost_at) if entry is not None and held.lost_at is not None else None
    return replace(held.job, provider=provider, lost_entry=held.entry_id, lost=lost)


def _without(held: Held, error: AgencyError) -> Held:
    answer = replace(held.answer, error=f"{held.answer.error or 'no answer'}; {error}")
    if error.is_passing and held.verdict is Verdict.DEAD_GRANT:
        return held._replace(answer=answer, verdict=Verdict.NOT_ACTED)
    return held._replace(answer=replace(answer, action=error.action or answer.action))
