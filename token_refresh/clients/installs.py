"""Which locations of a HighLevel agency have the app: listed, added to the table, and looked at once a day."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from providers.base import TOO_MANY_REQUESTS, Answer, RawAnswer, Verdict, parse_answer
from token_refresh.base.clock import Clock, iso, parse_time, retry_after
from token_refresh.base.errors import ActionableError, NoSuchTokenError
from token_refresh.base.events import Notice, NoticeCode, RowFinished
from token_refresh.base.files import AGENCIES_FILE
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER, flag
from token_refresh.base.text import safe_error
from token_refresh.clients.agencies import COMPANY, SLUG, Agency, AgencyError, find_agency, login_command
from token_refresh.clients.credential import AdmissionError, NewCredential, candidate_of, with_client
from token_refresh.clients.login import redemption
from token_refresh.journal.entries import Step
from token_refresh.refresh.jobs import read_params
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import Row, StoreError

CALLS, CALLS_SECONDS = 100, 10.0  # HighLevel's limit of an app, for each agency
MAX_TRIES = 5  # of a request that meets the limit
LONGEST_WAIT_SECONDS = 60.0
NEARLY_OUT = timedelta(minutes=15)  # to add 2,000 locations takes some minutes
LOOK_AGAIN = timedelta(hours=20)
NAMED = 5  # locations in one notice

_T = TypeVar("_T")


def fresh_agency(context: RunContext, company_id: str) -> Agency:
    """The agency, refreshed first where its access token would not last. The caller holds the lock.

    Raises:
        ActionableError: see `find_agency`, or the refresh failed.
    """
    agency = find_agency(context, company_id)
    if agency.lasts(NEARLY_OUT, context.clock.now()):
        return agency
    report = Refresher(context).run(Scope(everything=True, locations=(company_id,)))
    agency = find_agency(context, company_id)
    if not agency.lasts(timedelta(0), context.clock.now()):
        failed = next((one for one in report.results if not one.is_saved), None)
        what = (failed.error if failed is not None else None) or "it was not refreshed"
        action = (failed.action if failed is not None else None) or f"Log in as the agency: {login_command(company_id)}"
        raise AgencyError(f"the agency {company_id} has no valid access token: {what}", action)
    return agency


class AgencyCalls:
    """Sends requests of an agency within HighLevel's limit, and again where the limit was met all the same.

    Args:
        clock: waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: deque[float] = deque(maxlen=CALLS)

    def sent(self, send: Callable[[], _T], answer_in: Callable[[_T], RawAnswer | Answer]) -> _T:
        """What `send` brought; `answer_in` finds the answer in it."""
        for _ in range(MAX_TRIES):
            self._keep_the_limit()
            found = send()
            raw = answer_in(found)
            if not isinstance(raw, RawAnswer) or raw.status != TOO_MANY_REQUESTS:
                break
            asked = retry_after(raw.headers.get("retry-after", ""), raw.received_at)
            self._clock.sleep(min(CALLS_SECONDS if asked is None else asked, LONGEST_WAIT_SECONDS))
        return found

    def _keep_the_limit(self) -> None:
        if len(self._sent) == CALLS:
            wait = self._sent[0] + CALLS_SECONDS - self._clock.monotonic()
            if wait > 0:
                self._clock.sleep(wait)
        self._sent.append(self._clock.monotonic())


def list_installed(context: RunContext, agency: Agency, calls: AgencyCalls) -> dict[str, str]:
    """The locations of an agency that have the app: the name of each by its id.

    Raises:
        AgencyError: the agency gets no list.
    """
    found: dict[str, dict[str, Any]] = {}
    skip = 0
    while True:
        request = agency.provider.installed_request(
            agency.job.credential.params, agency.access_token, agency.company_id, agency.app_id, skip
        )
        page = _page(agency, calls.sent(partial(context.transport.post, request), lambda raw: raw))
        before, skip = len(found), skip + len(page)
        found |= {str(one["_id"]): one for one in page}
        if len(found) == before:  # the last page is empty; a server may cap pages below what was asked for
            return {name: str(one.get("name") or "") for name, one in found.items() if one.get("isInstalled", True)}


def _page(agency: Agency, raw: RawAnswer | Answer) -> list[dict[str, Any]]:
    answer = raw if isinstance(raw, Answer) else agency.provider.read_answer(raw)
    if isinstance(raw, RawAnswer) and raw.status == 200:
        page = parse_answer(raw)[0].get("locations")
        if isinstance(page, list) and all(isinstance(one, dict) and one.get("_id") for one in page):
            return page
    said = safe_error(answer.error or "its answer has a form that is not known", agency.access_token)
    error = AgencyError(f"the locations of {agency.company_id} cannot be listed: {said}", answer.action or "")
    error.is_passing = answer.verdict in (Verdict.NOT_ACTED, Verdict.UNCLEAR)
    raise error


def rows_of(context: RunContext) -> set[str]:
    """The locations that have a row with a credential."""
    named = context.job_factory.provider_name
    return {row.location_id for row in context.store.store.rows() if row.encrypted_refresh and named(row) == SLUG}


def add_location(context: RunContext, agency: Agency, location_id: str, calls: AgencyCalls) -> RowFinished | Notice:
    """Have a pair minted for a location and make its row. The caller holds the lock.

    The answer is in the journal before it is read, as that of a login; a run goes on from there.

    Raises:
        AdmissionError: the agency got no pair for it.
        StoreError, JournalError: the pair waits in the journal, or nothing was sent.
    """
    own = agency.job.credential.params
    params = {name: own[name] for name in ("app_id", "redirect_uri") if name in own}
    secret, _ = context.store.open(agency.job.row, agency.job.binding)
    draft = NewCredential(
        location_id, SLUG, agency.job.row.client_id, secret, "",
        json.dumps({"user_type": "Location", **params, agency.provider.agency_param: agency.company_id}),
    )  # fmt: skip
    journal, factory = context.journal, context.job_factory
    candidate = with_client(candidate_of(draft, None, factory), factory)

    def ask() -> tuple[int, RawAnswer | Answer]:
        entry_id, raw = redemption.ask(context, candidate, agency.mint_request(location_id))
        if isinstance(raw, Answer) or raw.status == TOO_MANY_REQUESTS:
            journal.finish([entry_id])
        return entry_id, raw

    entry_id, raw = calls.sent(ask, lambda one: one[1])
    answer = raw if isinstance(raw, Answer) else agency.provider.read_answer(raw)
    if answer.verdict is Verdict.GRANTED:
        return redemption.resume(context, next(one for one in journal.entries() if one.id == entry_id))
    if answer.verdict is Verdict.UNREAD:
        journal.mark(entry_id, Step.SUPERSEDED)
    else:
        journal.finish([entry_id])
    said = safe_error(answer.error or "no answer", agency.access_token, secret)
    raise AdmissionError(f"the agency got no tokens for it: {said}", answer.action or "Nothing was saved: try again.")


class InstallsFile:
    """What was last seen of each agency's locations, in the state folder; where it is lost, it is seen again.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / AGENCIES_FILE
        self._seen: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(self._path.read_text())
            self._seen = read if isinstance(read, dict) else {}

    @property
    def companies(self) -> list[str]:
        """The agencies that are known."""
        return sorted(self._seen)

    def register(self, company_id: str) -> None:
        """Look at this agency from now on."""
        if company_id not in self._seen:
            self._seen[company_id] = {}
            self._write()

    def forget(self, company_id: str) -> None:
        """Its row is gone."""
        self._seen.pop(company_id, None)
        self._write()

    def is_time(self, company_id: str, now: datetime) -> bool:
        """Whether it is to be looked at."""
        at = parse_time(self._seen.get(company_id, {}).get("looked_at"))
        return at is None or not timedelta(0) <= now - at < LOOK_AGAIN

    def installed(self, company_id: str) -> set[str] | None:
        """What had the app when it was last seen; None where that is not known."""
        seen = self._seen.get(company_id, {}).get("installed")
        return set(seen) if isinstance(seen, list) else None

    def note(self, company_id: str, installed: Mapping[str, str] | None, now: datetime) -> None:
        """It was looked at, and this has the app; None where nobody could tell."""
        known = {"installed": sorted(installed)} if installed is not None else {}
        self._seen[company_id] = {**self._seen.get(company_id, {}), **known, "looked_at": iso(now)}
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk is reported by whoever cannot go on without it
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self._seen))
            part.replace(self._path)


def register_agencies(context: RunContext, listed: Iterable[Row]) -> None:
    """Look at the agencies among these rows from now on."""
    file = InstallsFile(context.folder)
    for row in listed:
        if _is_agency(context, row):
            file.register(row.location_id)


def install_notices(context: RunContext) -> Iterator[Notice]:
    """Once a day: which locations of an agency got the app, or lost it, since it was last looked at.

    To be called by the thread that owns the store.
    """
    file, now = InstallsFile(context.folder), context.clock.now()
    for company_id in file.companies:
        if file.is_time(company_id, now):
            yield from _looked_at(context, file, company_id)


def _is_agency(context: RunContext, row: Row) -> bool:
    with contextlib.suppress(ActionableError):
        is_ours = context.job_factory.provider_name(row) == SLUG
        return is_ours and read_params(row.provider_params).get("user_type") == COMPANY
    return False


def _looked_at(context: RunContext, file: InstallsFile, company_id: str) -> Iterator[Notice]:
    now = context.clock.now()
    try:
        agency = find_agency(context, company_id)
        if not agency.lasts(timedelta(0), now):  # a refresh that fails says so itself
            return
        installed = list_installed(context, agency, AgencyCalls(context.clock))
    except StoreError:
        return
    except NoSuchTokenError:
        file.forget(company_id)
        return
    except ActionableError as error:
        file.note(company_id, None, now)
        yield Notice(NoticeCode.INSTALLS_CHANGED, company_id, str(error), error.action, SLUG)
        return
    before = file.installed(company_id)
    file.note(company_id, installed, now)
    new, removed = sorted(installed.keys() - (before or set())), sorted((before or set()) - installed.keys())
    said = [f"have the app now: {_named(new)}" if new else "", f"lost it: {_named(removed)}" if removed else ""]
    if new or removed:
        what = f"of the agency's locations {', and '.join(filter(None, said))}"
        add = f"Add new ones: {ONBOARD_CLIENT} {flag('--locations', company_id)} --all" if new else ""
        delete = f"Delete the rows of the others: {TOKEN_MANAGER} delete LOCATION" if removed else ""
        yield Notice(NoticeCode.INSTALLS_CHANGED, company_id, what, f"{add} {delete}".strip(), SLUG)


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
