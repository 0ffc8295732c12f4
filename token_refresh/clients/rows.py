"""Finding the row that somebody means by its location and provider."""

from __future__ import annotations

from collections.abc import Iterable

from token_refresh.base.errors import ActionableError, Kind, NoSuchTokenError, SeveralTokensError
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.refresh.jobs import Job, JobFactory
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row, Store
from token_refresh.stores.sealed import CellError, Seals

POLL_SECONDS = 0.5  # how often a row that another process is refreshing is looked at again


def find_all(store: Store, job_factory: JobFactory, location_id: str, provider: str | None) -> list[tuple[Row, str]]:
    """Every row that fits, complete, with the slug of its provider; `provider`, any of its names, None fits all."""
    return matching(store.find(location_id), job_factory, provider)


def matching(rows: Iterable[Row], job_factory: JobFactory, provider: str | None) -> list[tuple[Row, str]]:
    """Those of some rows that are of this provider, each with its slug; see `find_all`."""
    slug = None if provider is None else job_factory.slug_of(provider)
    named = [(row, job_factory.provider_name(row)) for row in rows]
    return [(row, name) for row, name in named if slug in (None, name)]


def find_one(store: Store, job_factory: JobFactory, location_id: str, provider: str | None) -> tuple[Row, str]:
    """The one row that is meant, complete, and the slug of its provider.

    Raises:
        NoSuchTokenError: there is none.
        SeveralTokensError: there are several.
    """
    matching = find_all(store, job_factory, location_id, provider)
    if not matching:
        raise NoSuchTokenError(
            f"there is no row of {location_id!r}" + (f" and {provider}" if provider else ""),
            f"Check the name with: {TOKEN_MANAGER} status",
        )
    if len(matching) > 1:
        names = ", ".join(sorted(name for _, name in matching))
        what = f"{location_id!r} has several rows: {names}"
        raise SeveralTokensError(what, "Choose one with --provider; in a program, with provider=.")
    return matching[0]


def require_rows(store: Store, job_factory: JobFactory, location_ids: Iterable[str], provider: str | None) -> None:
    """Whoever names a location means one that is there: a misspelt one would be refreshed by nobody.

    Raises:
        ActionableError: some of them have no row.
    """
    unknown = [one for one in location_ids if not find_all(store, job_factory, one, provider)]
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise ActionableError(
            f"there is no row of {names}" + (f" and {provider}" if provider else ""),
            f"Nothing was refreshed. Check the name with: {TOKEN_MANAGER} status",
            Kind.USAGE,
        )


def access_token_of(context: RunContext, row: Row, job: Job) -> str:
    """The row's access token; empty where it has none."""
    whole = context.store.store.read([row.key], complete=True).get(row.key)
    return context.store.access_token(whole, job.binding) if whole is not None else ""


def require_key(factory: JobFactory, seals: Seals, row: Row) -> None:
    """Raises `CellError` where no key that is configured opens the row; whatever else is wrong is the row's own."""
    try:
        seals.open(row, factory.binding(row))
    except CellError as error:
        if error.is_key_unknown:
            raise
    except ActionableError:
        pass
