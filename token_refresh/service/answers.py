"""What every answer holds: `success` and `message`; that of an error also `action` and `code`, in the form of RFC 9457.

The status of an error is that of its kind, by the table in `base/errors.py`. No value of a request is repeated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from token_refresh.base.errors import ActionableError, Kind, actionable_error, http_status

PROBLEM_TYPE = "application/problem+json"
RETRY_SECONDS = 30  # where nobody knows when it may work
_NAME = re.compile(r"[a-z][a-z_]{0,39}")  # of a field; the name of an unknown one may be a secret in the wrong place


class Success(BaseModel):
    """What every success says."""

    success: Literal[True] = True
    message: str


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    type: str
    title: str
    status: int
    success: Literal[False] = False
    message: str
    action: str
    code: str
    errors: list[FieldError] | None = None


def problem(error: ActionableError, **members: Any) -> JSONResponse:
    """The answer that an error is; `members` are added to it."""
    status = http_status(error.kind)
    content = {
        "type": "about:blank",  # RFC 9457 section 4.2.1: the status says which sort it is, and `code` says more
        "title": HTTPStatus(status).phrase,
        "status": status,
        "success": False,
        "message": str(error),
        "action": error.action,
        "code": str(error.kind),
    }
    return JSONResponse(content | members, status, headers_of(error), media_type=PROBLEM_TYPE)


def headers_of(error: ActionableError) -> dict[str, str]:
    """What the answer to an error has to say in headers."""
    if error.kind is Kind.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="token-refresh"'}  # RFC 6750 section 3
    if http_status(error.kind) in (429, 503):
        return {"Retry-After": str(max(1, math.ceil(getattr(error, "after", None) or RETRY_SECONDS)))}
    return {}


def error_of(error: Exception) -> ActionableError:
    """Any exception as one of the family, without the words of one that nobody foresaw."""
    if not isinstance(error, HTTPException):
        return actionable_error(error)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return ActionableError("there is nothing at this address", "See /docs for what there is.", Kind.NOT_FOUND)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        action = "Use one of those that the header Allow names."
        return ActionableError("this address does not take this method", action, Kind.METHOD_NOT_ALLOWED)
    return invalid("the body cannot be read")  # the only other one that FastAPI raises by itself


def invalid(what: str) -> ActionableError:
    """A request that holds something that it must not, or lacks something."""
    return ActionableError(what, "Correct the request: see /docs.", Kind.INVALID)


def field_errors(error: RequestValidationError) -> list[dict[str, str]]:
    """What is wrong with which fields: all of it, and no value."""
    return [{"field": _field(one["loc"]), "message": _words(one)} for one in error.errors()]


def _field(place: Iterable[object]) -> str:
    """Such as `provider_params.tenant`; without `body` and the like, of which there is one."""
    inner = list(place)[1:]
    return ".".join(str(one) if isinstance(one, int) or _NAME.fullmatch(str(one)) else "?" for one in inner)


def _words(error: Mapping[str, Any]) -> str:
    return "there is no such field" if error["type"] == "extra_forbidden" else str(error["msg"])
