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


class FieldProblem(BaseModel):
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
    errors: list[FieldProblem] | None = None


def problem(error: ActionableError, **members: Any) -> JSONResponse:
    """The answer that an error is; `members` are added to it."""
    content = problem_content(error) | members
    return JSONResponse(content, content["status"], headers_of(error), media_type=PROBLEM_TYPE)


def problem_content(error: ActionableError) -> dict[str, Any]:
    """What it holds."""
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
    errors = [{"field": name, "message": words} for name, words in error.fields.items()]
    return content | {"errors": errors} if error.kind is Kind.INVALID else content


def headers_of(error: ActionableError) -> dict[str, str]:
    """What the answer to an error has to say in headers."""
    if error.kind is Kind.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="token-refresh"'}  # RFC 6750 section 3
    if http_status(error.kind) in (429, 503):
        return {"Retry-After": str(max(1, math.ceil(error.after or RETRY_SECONDS)))}
    return {}


def error_of(error: Exception) -> ActionableError:
    """Any exception as one of the family, without the words of one that nobody foresaw."""
    if isinstance(error, ActionableError) and error.fields:  # what the library says of what it was handed
        return invalid(str(error), error.action, error.fields)
    if isinstance(error, RequestValidationError):
        return invalid("the request cannot be used", "Correct it: see /docs.", _fields_of(error))
    if isinstance(error, HTTPException):
        return _http_error(error)
    return actionable_error(error)


def invalid(message: str, action: str, fields: Mapping[str, str]) -> ActionableError:
    """A request that lacks something, or holds what it must not."""
    error = ActionableError(message, action, Kind.INVALID)
    error.fields = fields
    return error


def _http_error(error: HTTPException) -> ActionableError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return ActionableError("there is nothing at this address", "See /docs for what there is.", Kind.NOT_FOUND)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        action = "Use one that the header Allow names."
        return ActionableError("this address does not take this method", action, Kind.METHOD_NOT_ALLOWED)
    return invalid("the body cannot be read", "Send JSON in UTF-8.", {})  # FastAPI raises no other


def _fields_of(error: RequestValidationError) -> dict[str, str]:
    """What is wrong with which fields, such as `provider_params.tenant`: all of it, and no value."""
    return {_field(one["loc"]): _words(one) for one in error.errors()}


def _field(place: Iterable[object]) -> str:
    inner = list(place)[1:]  # without `body` and the like: there is one
    return ".".join(str(one) if isinstance(one, int) or _NAME.fullmatch(str(one)) else "?" for one in inner)


def _words(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    return str(error["msg"]).removeprefix("Value error, ")
