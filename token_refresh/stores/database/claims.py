"""The conditions of the store's statements: what is due, what is claimed, what a change may be written over."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from token_refresh.stores.base import (
    CELL_HEAD,
    IDLE_STATUSES,
    SEALED,
    STATUS_ACTIVE,
    STATUS_DISABLED,
    STATUS_REAUTHORIZE,
    Change,
    Claimant,
    DueQuery,
    PageQuery,
    Written,
)
from token_refresh.stores.database.schema import (
    CREDENTIALS,
    ID,
    IS_ALARMING,
    LowerCase,
    Readable,
    Unreadable,
    UtcTime,
    stripped,
)

STALE_SECONDS = 600  # of a claim on a row whose token is never spent; longer than any exchange and its write
IS_ROW = CREDENTIALS.c.id == sa.bindparam("row_id", type_=ID)
_SAME_IN_JSON = re.compile(r"[ !#-\[\]-~]+")
_NAMES_IN_PARAMS = ('"workspace_', '"username"', '"email"')
UNCLAIMED: dict[str, Any] = {"claim_owner": None, "claimed_at": None}


@functools.lru_cache(maxsize=1)  # a run asks in several statements, and to make the condition costs more than those
def is_due(query: DueQuery) -> sa.ColumnElement[bool]:
    """What a row must be to be looked at: at least all that `query` admits, which is asked again of each row."""
    # SQLite only uses an index of active rows where the very arm of an OR says that a row is active. Said beside the
    # OR, it has one index read from end to end instead.
    is_active = CREDENTIALS.c.is_active.is_(sa.true())
    has_refresh_token = CREDENTIALS.c.encrypted_refresh != ""
    arms = (sa.true(),) if query.everything else (Unreadable(), _is_soon(query), *_is_exceptional(query))
    arms = tuple(sa.and_(is_active, arm, has_refresh_token) for arm in arms)
    if query.lone is not None:
        is_lone = sa.and_(CREDENTIALS.c.encrypted_refresh == "", CREDENTIALS.c.last_access_token != "")
        is_ending = CREDENTIALS.c.access_token_expiry < sa.literal(query.lone, UtcTime)
        arms = (*arms, sa.and_(is_active, is_ending, is_lone))
    return sa.and_(_is_wanted(query), sa.or_(*arms))


def grouped(now: datetime, *, by_state: bool) -> sa.Select[Any]:
    """All rows, counted in groups: the fields of a `RowGroup` in their order, texts as they stand.

    With `by_state` what a state does not depend on is empty.
    What is costly is asked last: of two conditions the second is looked at where the first holds.
    """
    table = CREDENTIALS.c
    # Grouped outside: PostgreSQL takes an expression with parameters for another one where it is repeated.
    empty, never = sa.literal(""), sa.null()
    alike = {
        "provider": empty if by_state else table.provider,
        **_traits(now),
        "refresh_cell": empty if by_state else _head(table.encrypted_refresh),
        "secret_cell": empty if by_state else _head(table.encrypted_secret),
    }
    expiry = never if by_state else sa.case((Readable(), table.access_token_expiry), else_=None)
    ends = (expiry.label("expiry"), (never if by_state else table.refresh_token_expiry).label("refresh_end"))
    rows = sa.select(*(one.label(name) for name, one in alike.items()), *ends).subquery()
    columns = [rows.c[name] for name in alike]
    firsts = (sa.func.min(rows.c[name], type_=UtcTime) for name in ("expiry", "refresh_end"))
    return sa.select(*columns, sa.func.count(), *firsts).group_by(*columns)


def _traits(now: datetime) -> dict[str, sa.ColumnElement[Any]]:
    """What the state of a row depends on, by the names that `RowGroup` has for it."""
    table = CREDENTIALS.c
    is_over = table.access_token_expiry <= sa.literal(now, UtcTime)
    return {
        "status": sa.case((table.is_active.is_(sa.true()), table.status), else_=STATUS_DISABLED),
        "has_token": sa.or_(table.encrypted_refresh != "", table.last_access_token != ""),
        "is_expired": sa.and_(is_over, sa.not_(Unreadable())),
        "is_failing": sa.or_(table.failure_count > 0, table.last_error != ""),
    }


def may_be_on(query: PageQuery, provider_cells: Collection[str] | None) -> Iterator[sa.ColumnElement[bool]]:
    """What a row must be to be on a page: at least all that `query` admits, which is asked again of each row.

    `provider_cells` are those that name a wanted provider; None: all do.
    """
    table, traits = CREDENTIALS.c, _traits(query.now)
    if provider_cells is not None:
        yield table.provider.in_(provider_cells)
    if query.text:
        yield _may_be_called(query.text)
    for name, value in query.traits.items():
        if name == "status":
            status = stripped(traits[name])
            yield status.not_in(IDLE_STATUSES) if value == STATUS_ACTIVE else status == value
        elif name == "is_failing" and value and query.failing:
            # Written out: there is no bound to their number, and there is one to that of parameters.
            ids = [int(key) for key in query.failing if key.isdecimal()]
            keys: sa.BindParameter[int] = sa.bindparam("failing", ids, expanding=True, literal_execute=True)
            yield sa.or_(traits[name], table.id.in_(keys))
        elif not (name == "is_expired" and value):  # which is said below
            yield traits[name] if value else sa.not_(traits[name])
    yield from _by_index(query)


def _may_be_called(text: str) -> sa.ColumnElement[bool]:
    table = CREDENTIALS.c
    named = (table.location_id, table.workspace_email, table.workspace_name, table.username, table.email)
    params = table.provider_params
    in_params = [params.icontains(text, autoescape=True)]
    if not _SAME_IN_JSON.fullmatch(text):
        in_params = [params.contains(name) for name in _NAMES_IN_PARAMS]
    if text.isascii():
        return sa.or_(*(one.icontains(text, autoescape=True) for one in named), *in_params)
    return sa.or_(*(LowerCase(one).contains(text, autoescape=True) for one in named), *in_params)


def _by_index(query: PageQuery) -> Iterator[sa.ColumnElement[bool]]:
    """What the traits say as well, of the few rows that an index finds; SQLite looks there for a list of ids alone."""
    traits, ids = query.traits, sa.select(CREDENTIALS.c.id)
    if traits.get("status") == STATUS_REAUTHORIZE or (traits.get("is_failing") and not query.failing):
        yield CREDENTIALS.c.id.in_(ids.where(sa.and_(IS_ALARMING)))
    if traits.get("is_expired"):
        is_over = CREDENTIALS.c.access_token_expiry <= sa.literal(query.now, UtcTime)
        yield CREDENTIALS.c.id.in_(ids.where(CREDENTIALS.c.is_active.is_(sa.true()), is_over))


def _head(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """See `cell_head`."""
    return sa.case((column.startswith(SEALED), sa.func.substr(column, 1, CELL_HEAD)), else_="")


def by_urgency(query: DueQuery, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The ids of all due rows: those whose expiry is not known first, then the soonest."""
    is_known = sa.case((Unreadable(), 0), else_=1)
    ids = sa.select(CREDENTIALS.c.id).where(is_due(query), *conditions)
    return ids.order_by(is_known, CREDENTIALS.c.access_token_expiry, CREDENTIALS.c.id)


def _is_wanted(query: DueQuery) -> sa.ColumnElement[bool]:
    table = CREDENTIALS.c
    conditions = [table.status.not_in(query.idle)]
    if query.locations:
        conditions.append(stripped(table.location_id).in_(query.locations))
    if query.providers:
        conditions.append(_provider(query).in_(query.providers))
    return sa.and_(*conditions)


def _is_soon(query: DueQuery) -> sa.ColumnElement[bool]:
    table = CREDENTIALS.c
    latest = max([query.other_cutoff, *query.cutoffs.values()])
    other = sa.literal(query.other_cutoff, UtcTime)
    groups: dict[datetime, list[str]] = {}
    for name, moment in query.cutoffs.items():
        groups.setdefault(moment, []).append(name)
    provider = _provider(query)
    named = [(provider.in_(names), sa.literal(moment, UtcTime)) for moment, names in groups.items()]
    cutoff = sa.case(*named, else_=other) if named else other
    expiry = table.access_token_expiry
    return sa.and_(expiry < sa.literal(latest, UtcTime), expiry < cutoff)


def _is_exceptional(query: DueQuery) -> list[sa.ColumnElement[bool]]:
    """Claims to live too long, or to have been refreshed in the future, or its refresh token ends; see `DueQuery`."""
    expiry, refreshed = CREDENTIALS.c.access_token_expiry, CREDENTIALS.c.last_refreshed
    arms = []
    if query.latest is not None:
        arms.append(sa.and_(expiry > sa.literal(query.latest, UtcTime), refreshed.is_not(None)))
    if query.ahead is not None:
        arms.append(refreshed > sa.literal(query.ahead, UtcTime))
    if query.ending is not None:
        arms.append(CREDENTIALS.c.refresh_token_expiry < sa.literal(query.ending, UtcTime))
    return arms


def is_free(claimant: Claimant, query: DueQuery, now: datetime) -> sa.ColumnElement[bool]:
    """A row that nobody has, or a dead process had, or where an old claim may be overridden."""
    owner, claimed_at = CREDENTIALS.c.claim_owner, CREDENTIALS.c.claimed_at
    free = [owner.is_(None), owner == claimant.inherited]
    if claimant.takes_over:
        free.append(sa.not_(owner_startswith(claimant.of_installation)))
    elif claimant.taken_over_at is not None:
        is_before = sa.or_(claimed_at.is_(None), claimed_at < sa.literal(claimant.taken_over_at, UtcTime))
        free.append(sa.and_(sa.not_(owner_startswith(claimant.of_installation)), is_before))
    if claimant.non_rotating:
        limit = timedelta(seconds=STALE_SECONDS)  # of a clock that was wrong, too
        is_old = sa.or_(claimed_at < sa.literal(now - limit, UtcTime), claimed_at > sa.literal(now + limit, UtcTime))
        free.append(sa.and_(owner != claimant.owner, is_old, _provider(query).in_(claimant.non_rotating)))
    return sa.or_(*free)


def _provider(query: DueQuery) -> sa.ColumnElement[str]:
    named = stripped(CREDENTIALS.c.provider)
    return sa.case((named == "", query.default_provider), else_=named)


def owner_startswith(prefix: str) -> sa.ColumnElement[bool]:
    """A claim whose owner's name begins so."""
    return CREDENTIALS.c.claim_owner.startswith(prefix, autoescape=True)


@functools.cache
def conditional_update(
    columns: tuple[str, ...],
    guards: tuple[str, ...],
    free_for: str | None,
    *,
    is_claimed: bool,
    keeps_claim: bool,
    ends_claim: bool,
) -> sa.Update:
    """The conditional update of these columns; a run has a handful of kinds, and building one costs more than it."""
    owner = CREDENTIALS.c.claim_owner
    conditions = [stripped(CREDENTIALS.c[name]) == sa.bindparam(f"seen_{name}", type_=sa.Text) for name in guards]
    if is_claimed:
        # A claim that is gone, and taken by nobody since, was given up by this very change, or by a person.
        conditions.append(sa.or_(owner == sa.bindparam("owner", type_=sa.Text), owner.is_(None)))
        conditions.append(CREDENTIALS.c.claim_generation == sa.bindparam("generation", type_=sa.Integer))
    if free_for is not None:
        conditions.append(sa.or_(owner.is_(None), owner_startswith(free_for)) if free_for else owner.is_(None))
    cells: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=CREDENTIALS.c[name].type) for name in columns}
    if (is_claimed and not keeps_claim) or ends_claim:
        cells |= UNCLAIMED
    if ends_claim:  # so that whoever had it finds another credential, not its own write
        cells["claim_generation"] = CREDENTIALS.c.claim_generation + 1
    return sa.update(CREDENTIALS).where(IS_ROW, *conditions).values(cells)


def what_stands(change: Change, found: Mapping[Any, Any] | None, *, is_claimed: bool) -> Written:
    """Why an update met no row: `found` is what the row says now. Written already, its answer may have been lost."""
    if found is None:
        return Written.GONE
    verdict = change.judge({name: (found[name] or "").strip() for name in change.guards})
    if verdict is None and change.free_for is not None:
        return Written.BUSY
    return verdict or (Written.UNCLAIMED if is_claimed else Written.CHANGED)
