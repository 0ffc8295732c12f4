"""What waits in the journal for a person, who ends it by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crypto import SealedCellError
from providers.base import Verdict
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import NoticeCode, Outcome
from token_refresh.base.program import RESTORE_KEY, STORE_WAITING, TOKEN_MANAGER, flag
from token_refresh.journal.entries import OPEN_STEPS, Entry, Journal, Step, predecessors
from token_refresh.refresh import replay
from token_refresh.refresh.jobs import Job
from token_refresh.refresh.recovery import of_another_table
from token_refresh.refresh.result import action_of
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row, StoreError

_FORGET = "recover --forget ENTRY --yes"
_GONE = f"If its row was deleted or emptied: {_FORGET}"
_LATER = f"{action_of(Outcome.UNKNOWN, Verdict.UNCLEAR)} {_GONE}"
STEPS: Mapping[str, tuple[str, str]] = {
    Step.SENT: ("a request left and its end is not known", _LATER),
    Step.ANSWERED: ("new tokens that are not yet in the table", f"{STORE_WAITING}. {_GONE}"),
    Step.LOST: ("the answer was lost; the token may be spent", _LATER),
    Step.UNPROVEN: ("the row holds a new token that no refresh has proved yet", _LATER),
    Step.UNREAD: (
        "an answer in a form that is not known; its token is not sent again",
        action_of(Outcome.OPERATOR, Verdict.UNREAD) or "",
    ),
    Step.SUPERSEDED: (
        "new tokens that were not stored: somebody changed the row meanwhile, and theirs stayed",
        f"Nothing has to be done. If the row has its old token again, or none: {TOKEN_MANAGER} recover --replay. "
        f"To delete them: {_FORGET}",
    ),
}
"""What an entry is at each step, and what ends it; see docs/nothing-lost.md."""

_OF_ENTRY = re.compile(r"(--resend|--discard) LOCATION --provider P|ENTRY")
_SEALED = re.compile(r"sealed:v1:[A-Za-z0-9_:-]+")


def printed_answer(text: str) -> str:
    """The sealed answer in what was printed when no disk took it.

    Raises:
        ActionableError: there is none, or there are several.
    """
    found: set[str] = set(_SEALED.findall(text))  # on stdout and on stderr it was the same
    if len(found) != 1:
        raise ActionableError(
            "there is no encrypted answer in it" if not found else "there are several encrypted answers in it",
            "Give it the part that begins with sealed: of one line.",
            Kind.USAGE,
        )
    return found.pop()


def keep_printed_answer(journal: Journal, sealed: str) -> None:
    """Put a printed answer where it belongs: its request is in the journal, and it names the token that was sent.

    Of several that it fits it goes to the newest whose end is not known, else to one whose answer was lost, or that was
    superseded without it.

    Raises:
        ActionableError: its request is not there.
    """
    newest_first = [entry for entry in reversed(journal.entries()) if entry.lacks_answer]
    for entry in sorted(newest_first, key=lambda entry: list(Step).index(entry.step)):
        if journal.is_answer_to(entry, sealed):
            return journal.keep_sealed(entry.id, sealed)
    raise ActionableError(
        "no request in this journal belongs to that answer, or its key is gone",
        "Set STATE_DIR as it was when it was printed, and add the key of that time to ENCRYPTION_KEY_FALLBACKS.",
        Kind.NOT_FOUND,
    )


def way_out(context: RunContext, entry: Entry) -> str:
    """What a person does about an entry, as a sentence with the whole command."""
    try:
        other = of_another_table(context, entry, NoticeCode.TOKENS_WAIT)
    except StoreError:  # the journal is listed also where the table cannot be reached
        other = None
    provider = flag("--provider", entry.provider)
    return _OF_ENTRY.sub(
        lambda found: f"{flag(found[1], entry.location_id)} {provider}" if found[1] else str(entry.id),
        other.action if other is not None else _locked(context.journal, entry) or _by_itself(entry),
    )


def _locked(journal: Journal, entry: Entry) -> str:
    """What to do where its key is missing; empty where it is not."""
    try:
        if entry.admission:
            journal.open_admission(entry)
        if entry.answer:
            journal.open_answer(entry)
    except SealedCellError as error:
        return f"It {error}. {RESTORE_KEY}" + (f" To delete it: {_FORGET}" if entry.step is Step.SUPERSEDED else "")
    return ""


def _by_itself(entry: Entry) -> str:
    if entry.admission and entry.step in OPEN_STEPS:
        return f"The next run brings it to its end, or says what it waits for. If nobody needs it any more: {_FORGET}"
    return STEPS[entry.step][1]


def end_wait(context: RunContext, location_id: str, provider: str | None, *, resend: bool) -> None:
    """End the wait of a row's tokens whose answers have a form that is not known.

    With `resend` the next run sends them once more, as it would after an answer that was lost, and the answers stay
    until the row is refreshed. Without it the answers are deleted, and the tokens count as never sent.

    Raises:
        ActionableError: there are none, or of several providers and none is named.
    """
    journal, location_id = context.journal, location_id.strip()
    slug = None if provider is None else context.job_factory.slug_of(provider)
    waiting = [
        entry
        for entry in journal.entries(Step.UNREAD)
        if entry.location_id == location_id and slug in (None, entry.provider)
    ]
    if not waiting:
        raise ActionableError(
            f"no answer of {location_id!r} waits with a form that is not known",
            f"List what waits with: {TOKEN_MANAGER} recover",
            Kind.USAGE,
        )
    names = sorted({entry.provider for entry in waiting})
    if len(names) > 1:
        what = f"answers of several providers wait for {location_id!r}: {', '.join(names)}"
        raise ActionableError(what, "Choose one with --provider.", Kind.USAGE)
    for entry in waiting:
        if resend:
            journal.mark_lost(entry.id)
        else:
            journal.finish([entry.id])


def forget_entry(context: RunContext, entry_id: int, *, is_agreed: bool) -> None:
    """Delete what nobody needs any more; of entries that no run will use, or whose tokens no row holds any more.

    Raises:
        ActionableError: a run may still need it, or nobody agreed.
    """
    journal, store = context.journal, context.store.store
    entries = [entry for entry in journal.entries() if entry.id == entry_id]
    is_kept = any(entry.step is Step.SUPERSEDED for entry in entries)
    is_over = any(one.row_key and one.place in ("", store.place) and _is_over(context, one) for one in entries)
    now = context.clock.now()
    is_given_up = any(one.admission and (one.answer or now >= replay.arrives_by(one)) for one in entries)
    if not (is_kept or is_over or is_given_up):
        raise ActionableError(
            f"there is no entry {entry_id} that can be forgotten",
            f"List them with: {TOKEN_MANAGER} recover",
            Kind.USAGE,
        )
    if not is_agreed:
        raise ActionableError(
            f"entry {entry_id} holds tokens that nobody can make again", "Repeat with --yes to delete it.", Kind.USAGE
        )
    journal.finish([entry_id])


def _is_over(context: RunContext, entry: Entry) -> bool:
    """Whether its row is gone, or the credential that was refreshed was taken out of it, as `revoke` does.

    A row that was deleted may have been imported again: then another one holds the token.
    """
    rows = context.store.store.find(entry.location_id)  # SQLite gives the key of a deleted row to another location
    for row in rows:
        if row.key == entry.row_key:
            return not (row.encrypted_refresh or entry.admission)
    return not any(_may_hold(context, row, entry) for row in rows if row.encrypted_refresh)


def _may_hold(context: RunContext, row: Row, entry: Entry) -> bool:
    """Whether a row has the token of an entry, or one that came for it; one that cannot be read may have it."""
    job = context.job_factory.job(row)
    if not isinstance(job, Job):
        return job.provider == entry.provider
    return entry.token in job.token or bool(predecessors(job.token, row.location_id, [entry]))
