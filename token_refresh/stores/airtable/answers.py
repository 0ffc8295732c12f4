"""What Airtable's answers mean, as errors of the store; none of them carries a cell, a formula or the token."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import requests

from token_refresh.base.columns import COLUMN_NAMES
from token_refresh.stores.base import (
    IDLE_STATUSES,
    STATUS_ACTIVE,
    StoreAltersError,
    StoreError,
    StoreQuotaError,
    StoreRefusedError,
    StoreUnavailableError,
)

_T = TypeVar("_T")
_BAD_INPUT = (400, 413, 422)
_ABOUT_FIELDS = ("UNKNOWN_FIELD_NAME", "INVALID_FILTER_BY_FORMULA")
_MISSING_OPTION = re.compile(r'option "+([^"]+?)"+')
_UNKNOWN_FIELD = re.compile(r'[Uu]nknown field names?:\s*"?([^"]+?)"?\s*$')


class UnknownColumnError(StoreRefusedError):
    def __init__(self, column: str) -> None:
        super().__init__(f"the table has no column {column!r}", "Add it in Airtable.")
        self.column = column


class IteratorGoneError(StoreUnavailableError):
    def __init__(self) -> None:
        super().__init__("Airtable dropped the listing half-way", "The next run tries again.")


class RefusedBatchError(StoreRefusedError):
    """A write with bad input: of ten records none was stored."""


class MissingOptionError(RefusedBatchError):
    """A select column has no such option; `option` is what Airtable names, which may be anybody's text."""

    def __init__(self, option: str) -> None:
        super().__init__(
            "a select column lacks an option that belongs there (INVALID_MULTIPLE_CHOICE_OPTIONS)",
            f"Give status the options {STATUS_ACTIVE}, {' and '.join(IDLE_STATUSES)}; give provider each one in use.",
        )
        self.option = option if option in (STATUS_ACTIVE, *IDLE_STATUSES) else ""


class GoneError(RefusedBatchError):
    """One of the records does not exist any more."""


class PausedError(StoreUnavailableError):
    """An update was not carried out, or nobody knows; the pause that had to follow is over."""


class SenselessError(Exception):
    """A success that is no answer to the question."""


class LargePageError(StoreUnavailableError):
    """A page of a listing is larger than an answer may be: it can be asked for in smaller ones."""


class EndlessAnswerError(requests.RequestException):
    """A body that is larger, or comes more slowly, than any page of Airtable's."""


def map_errors(act: Callable[[], _T]) -> _T:
    """Do `act`; what pyairtable raises becomes a `StoreError`."""
    try:
        return act()
    except requests.HTTPError as error:
        refusal = _store_error(error.response)
    except UnicodeEncodeError:  # a lone surrogate, as in a name that was made of bytes
        refusal = StoreRefusedError("a value cannot be sent to Airtable", "Correct it.")
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        refusal = senseless()
    # Raised out here: inside, `__context__` would be the original, which carries cells and the token.
    raise refusal


def makes_sense(request: requests.PreparedRequest, response: requests.Response) -> bool:
    """Whether a 200 is JSON of the expected shape; a list without `records` would read as an empty table.

    A redirect never makes sense: it would be followed, with the token.
    """
    if response.status_code >= requests.codes.multiple_choices:
        return False
    try:
        content = response.json()
    except (ValueError, RecursionError):
        return False
    if not isinstance(content, dict):
        return False
    if "/v0/meta/" in (request.url or "").partition("?")[0] and request.method == "GET":
        return isinstance(content.get("tables"), list)
    if request.method == "DELETE":
        return content.get("deleted") is True
    if request.method == "POST" and not is_listing(request):
        return isinstance(content.get("id"), str) or isinstance(content.get("records"), list)
    return isinstance(content.get("records"), list)


def is_page(request: requests.PreparedRequest) -> bool:
    """Whether a listing is asked for, which can be had in smaller pages."""
    return is_listing(request) or (request.method == "GET" and "pageSize=" in (request.url or ""))


def is_listing(request: requests.PreparedRequest) -> bool:
    return (request.url or "").partition("?")[0].endswith("/listRecords")


def unavailable(response: requests.Response | Exception) -> StoreUnavailableError:
    if isinstance(response, SenselessError):
        return senseless()
    said = f"HTTP {response.status_code}" if isinstance(response, requests.Response) else type(response).__name__
    return StoreUnavailableError(
        f"Airtable does not answer ({said})", "Nothing to do if it passes: the next run tries again."
    )


def quota_spent() -> StoreQuotaError:
    return StoreQuotaError(
        "Airtable's monthly API calls for this workspace are spent", "Upgrade the plan, or wait for the next month."
    )


def senseless() -> StoreUnavailableError:
    return StoreUnavailableError(
        "Airtable answered something that makes no sense", "The next run tries again; see status.airtable.com."
    )


def missing_columns(names: Sequence[str]) -> StoreRefusedError:
    return StoreRefusedError(
        f"the table has no column {', '.join(names)}", "Add it, or correct its name (docs/airtable.md lists them all)."
    )


def days_alone(name: str) -> StoreRefusedError:
    """A column that loses the time of every expiry makes each run refresh every token again."""
    return StoreRefusedError(
        f"the column {name} holds dates without a time", "Make it a date that includes a time in Airtable."
    )


def altered(name: str, needed: str) -> StoreAltersError:
    """What Airtable showed after a write is not what was written."""
    return StoreAltersError(
        f"Airtable changes what is written into the column {name}: what was fetched stays in the journal",
        f"Make the column {name} {needed} in Airtable; the next run stores it.",
    )


def _error_of(response: requests.Response) -> tuple[str, str]:
    """Type and message of an error body, in whichever of Airtable's shapes it comes."""
    try:
        content = response.json()
    except (ValueError, RecursionError):
        return "", ""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        return str(error.get("type", "")), str(error.get("message", ""))
    return (error, "") if isinstance(error, str) else ("", "")


def _store_error(response: requests.Response) -> StoreError:
    kind, message = _error_of(response)
    status = response.status_code
    if status in _BAD_INPUT:
        return _bad_input(kind or f"HTTP {status}", message)
    if status == requests.codes.payment_required:
        return quota_spent()
    if status == requests.codes.unauthorized:
        return StoreRefusedError(
            "Airtable does not accept AIRTABLE_API_KEY", "Create a new personal access token and put it there."
        )
    if status == requests.codes.forbidden:
        return StoreRefusedError(
            "the personal access token may not read or write this table, or the table does not exist",
            "Give it data.records:read and data.records:write on this base; check AIRTABLE_TABLE_NAME.",
        )
    if status == requests.codes.not_found:
        return StoreRefusedError(
            "there is no such base or table",
            "Check AIRTABLE_BASE_ID and AIRTABLE_TABLE_NAME. `setup` makes a table that is missing.",
        )
    return StoreUnavailableError(f"Airtable refused the request (HTTP {status} {kind})", "The next run tries again.")


def _bad_input(kind: str, message: str) -> StoreError:
    if kind == "LIST_RECORDS_ITERATOR_NOT_AVAILABLE":
        return IteratorGoneError()
    match = _UNKNOWN_FIELD.search(message) if kind in _ABOUT_FIELDS else None
    if match is not None:
        return UnknownColumnError(match[1])
    if kind == "ROW_DOES_NOT_EXIST":
        return GoneError("Airtable does not know the record", "It was deleted; nothing to do.")
    if kind == "INVALID_MULTIPLE_CHOICE_OPTIONS":
        match = _MISSING_OPTION.search(message)
        return MissingOptionError(match[1] if match else "")
    # Only a name that we know is shown: what else Airtable says may quote the value.
    column = next((name for name in COLUMN_NAMES if re.search(rf'[Ff]ield "?{name}\b', message)), "")
    return RefusedBatchError(
        f"Airtable refuses a value{column and ' of ' + column} ({kind})",
        "Check the column types against docs/airtable.md.",
    )
