"""What Airtable answers when it refuses, in its own words and its four shapes of body.

The shapes: `{"error": {"type", "message"}}`, `{"error": {"type"}}`, `{"error": "NOT_FOUND"}`, and, reported for 429
alone, `{"errors": [{"error", "message"}]}`. Types and messages are those of the documentation
(airtable.com/developers/web/api/errors) where it has them, else those that live answers were reported to carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.world.http import Response

GENERIC_MESSAGE = "Invalid request: parameter validation failed. Check your request data."
HTML_TYPE = {"Content-Type": "text/html"}


class ApiError(Exception):
    """A refusal: an HTTP status and a JSON body, or the HTML of the server in front."""

    def __init__(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {content}")
        self.status = status
        self.content = content
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The refusal as it goes over the wire."""
        if isinstance(self.content, str):
            return Response(self.status, self.content.encode(), {**HTML_TYPE, **self.headers})
        return Response.of_json(self.status, self.content, self.headers)


def error(status: int, kind: str, message: str | None = None, headers: Mapping[str, str] | None = None) -> ApiError:
    """`{"error": {"type", "message"}}`, without the message where there is none."""
    body = {"type": kind} if message is None else {"type": kind, "message": message}
    return ApiError(status, {"error": body}, headers)


def not_found() -> ApiError:
    """404 with the bare string: no such route, or no such base."""
    return ApiError(404, {"error": "NOT_FOUND"})


def authentication_required() -> ApiError:
    """401: the request carries no bearer token."""
    return error(401, "AUTHENTICATION_REQUIRED", "Authentication required")


def unauthorized() -> ApiError:
    """401: the token is wrong or was revoked."""
    return error(401, "UNAUTHORIZED", "Invalid authentication token")


def model_not_found() -> ApiError:
    """403: a table, record, scope or base that the token cannot see; Airtable does not say which."""
    return error(
        403,
        "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND",
        "Invalid permissions, or the requested model was not found. Check that both your user and your token have "
        "the required permissions, and that the model names and/or ids are correct.",
    )


def not_permitted() -> ApiError:
    """403: the token has the scope, its user lacks the role."""
    return error(403, "INVALID_PERMISSIONS", "You are not permitted to perform this operation")


def url_too_long() -> ApiError:
    """414: a URL over 16,000 characters; answered in HTML by the server in front (airtable.js issue 392)."""
    title = "414 Request-URI Too Large"
    return ApiError(414, f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>")


def unreadable_body() -> ApiError:
    """400: the body is no JSON object."""
    return error(400, "INVALID_REQUEST_BODY", "Could not parse request body")


def invalid_request(message: str = GENERIC_MESSAGE) -> ApiError:
    """422 for a parameter that does not fit."""
    return error(422, "INVALID_REQUEST_UNKNOWN", message)


def missing_fields() -> ApiError:
    """422: a write without `fields`."""
    return error(422, "INVALID_REQUEST_MISSING_FIELDS", 'Could not find field "fields" in the request body')


def unknown_field(name: str) -> ApiError:
    """422, naming the column that does not exist."""
    return error(422, "UNKNOWN_FIELD_NAME", f'Unknown field name: "{name}"')


def unknown_view(name: str) -> ApiError:
    """422, naming the view that does not exist."""
    return error(422, "VIEW_NAME_NOT_FOUND", f"View {name} not found")


def invalid_value(name: str) -> ApiError:
    """422: the column's type does not take this value."""
    return error(422, "INVALID_VALUE_FOR_COLUMN", f'Field "{name}" cannot accept the provided value')


def invalid_date(name: str, value: object) -> ApiError:
    """422: a text that is no ISO 8601 time."""
    return error(422, "INVALID_VALUE_FOR_COLUMN", f'Cannot parse date value "{value}" for field {name}')


def computed_field(name: str) -> ApiError:
    """422: a write to a column that Airtable fills itself."""
    message = f'Field "{name}" cannot accept a value because the field is computed'
    return error(422, "INVALID_VALUE_FOR_COLUMN", message)


def unknown_choice(name: str) -> ApiError:
    """422: a select option that does not exist, quoted twice as Airtable does."""
    message = f'Insufficient permissions to create new select option ""{name}""'
    return error(422, "INVALID_MULTIPLE_CHOICE_OPTIONS", message)


def row_does_not_exist(record_id: str) -> ApiError:
    """422: a batch names a record that is gone; none of the batch is written."""
    return error(422, "ROW_DOES_NOT_EXIST", f"Record ID {record_id} does not exist in this table")


def invalid_records(
    message: str = "You must provide an array of up to 10 record objects, each with an 'id' ID field and a 'fields' "
    "object for cell values.",
) -> ApiError:
    """422: a batch of the wrong size or shape."""
    return error(422, "INVALID_RECORDS", message)


def invalid_formula(reason: str) -> ApiError:
    """422: a `filterByFormula` that does not parse, or names what does not exist."""
    return error(422, "INVALID_FILTER_BY_FORMULA", f"The formula for filtering records is invalid: {reason}")


def iterator_not_available() -> ApiError:
    """422: the `offset` belongs to a listing that timed out or never was; the client starts again."""
    return error(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE")


def too_many_requests(kind: str, message: str, *, plural: bool) -> ApiError:
    """429, documented as the first shape and reported as the plural one; never with Retry-After."""
    if plural:
        return ApiError(429, {"errors": [{"error": kind, "message": message}]})
    return error(429, kind, message)


def rate_limited(*, plural: bool = False) -> ApiError:
    """429: over five requests a second for a base, or still in the 30 seconds after."""
    return too_many_requests("RATE_LIMIT_REACHED", "Rate limit exceeded. Please try again later", plural=plural)


def quota_spent(*, plural: bool = False) -> ApiError:
    """429: the workspace has used up the month's calls; waiting seconds does not help."""
    message = "API billing plan limit exceeded"
    return too_many_requests("PUBLIC_API_BILLING_LIMIT_EXCEEDED", message, plural=plural)


def server_error(status: int, retry_after: int | None = None) -> ApiError:
    """500 and 502 (bodies undocumented), or 503 in the documented words, with Retry-After where it is asked for."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 503:
        text = "Server encountered an error while processing your request, and it is safe to retry the request"
        return error(503, "RETRIABLE_ERROR", text, headers)
    if status == 502:
        return ApiError(502, "<html><head><title>502 Bad Gateway</title></head><body></body></html>", headers)
    return error(status, "SERVER_ERROR", "Server error. Try again. If the problem persists, contact support.", headers)
