"""What requests and answers hold, as documents of the earlier services have it. No answer holds a refresh token.

A row's id is a number in databases and a text at Airtable. `branch_id` is the location id, but in the answer to
`POST /clients`, which has it in `branch_identifier`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from token_refresh.access.links import LONGEST_LIFE, SHORTEST_LIFE, USUAL_LIFE, parse_lifetime
from token_refresh.base.errors import ActionableError
from token_refresh.base.text import sentences
from token_refresh.service.answers import Success

_VISIBLE = r"^[^\x00-\x1f\x7f]*$"  # neither cells nor headers take the others
MIN_VALID_SECONDS = 300
_SECRET = Field(repr=False, json_schema_extra={"format": "password", "writeOnly": True})


def _lifetime(text: object) -> timedelta:
    try:
        return parse_lifetime(str(text))
    except ActionableError as error:
        raise ValueError(sentences(str(error), error.action)) from None


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=_VISIBLE)]
Name = Annotated[Text, StringConstraints(min_length=1)]
Params = dict[Name, Text]
RowId = Annotated[
    Annotated[str, StringConstraints(pattern="^[A-Za-z0-9]{1,32}$")],
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": "^[A-Za-z0-9]{1,32}$"}),
]
ShownId = Annotated[int | str, BeforeValidator(lambda value: int(value) if str(value).isdecimal() else value)]
Lifetime = Annotated[
    timedelta,
    Field(ge=SHORTEST_LIFE, le=LONGEST_LIFE),
    BeforeValidator(_lifetime),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,8}[smhd]$", "examples": ["7d", "12h"]}),
]


class Asked(BaseModel):
    """What a request holds. What it does not know is refused: a misspelt field would be lost."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewClient(Asked):
    """An app at a provider, and the workspace that it is for."""

    branch_id: Name
    provider: Name | None = None
    client_id: Name
    client_secret: Annotated[Text, _SECRET] = ""
    redirect_uri: Name
    workspace_email: Text = ""
    workspace_name: Text = ""
    provider_params: Params = {}


class ClientChanges(Asked):
    """What is left out stays."""

    client_id: Name | None = None
    client_secret: Annotated[Text | None, _SECRET] = None
    redirect_uri: Name | None = None
    workspace_email: Text | None = None
    workspace_name: Text | None = None
    provider_params: Params | None = None
    is_active: bool | None = None


class NamedRow(Asked):
    """A row, by its location or by its id."""

    branch_id: Name | None = None
    client_id: RowId | None = None
    provider: Name | None = None

    @model_validator(mode="after")
    def _is_named_once(self) -> Self:
        if (self.branch_id is None) == (self.client_id is None):
            raise ValueError("name the row by branch_id, or by client_id")
        return self


class NewLink(NamedRow):
    """A one-time link for a customer."""

    expires: Lifetime = USUAL_LIFE


class Listed(Asked):
    """Which rows a list holds."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: RowId | None = None
    provider: Name | None = None
    status: Literal["disabled", "login_needed", "expired", "failing", "valid", "waiting"] | None = None
    q: Name | None = None


class Shown(Success):
    """An answer that is made of what the library returns."""

    model_config = ConfigDict(from_attributes=True)


class CreatedClient(Shown):
    """A client that was registered."""

    message: str = "Client created successfully"
    client_id: ShownId = Field(validation_alias="row_id")
    client_oauth_id: str = Field(validation_alias="client_id")
    branch_id: ShownId = Field(validation_alias="row_id")
    branch_identifier: str = Field(validation_alias="location_id")
    provider: str
    email: str = Field(validation_alias="workspace_email")
    workspace_name: str
    redirect_uri: str
    created_at: datetime | None


class Client(BaseModel):
    """A client, and how its tokens are."""

    model_config = ConfigDict(from_attributes=True)
    client_id: ShownId = Field(validation_alias="row_id")
    client_oauth_id: str = Field(validation_alias="client_id")
    branch_id: str = Field(validation_alias="location_id")
    provider: str
    provider_params: dict[str, str] = Field(validation_alias="params")
    email: str = Field(validation_alias="workspace_email")
    workspace_name: str
    redirect_uri: str
    is_active: bool
    state: str
    action: str
    last_error: str
    failure_count: int
    token_type: str
    scopes: list[str]
    can_refresh: bool
    expires_at: datetime | None
    refresh_expires_at: datetime | None
    last_refreshed_at: datetime | None = Field(validation_alias="last_refreshed")
    last_used_at: datetime | None
    connected_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None


class ClientShown(Success):
    """One client."""

    client: Client


class ClientList(Success):
    """Some clients; `next` is what to ask for `after` to get more, null where there are none."""

    clients: list[Client]
    next: ShownId | None


class TokenList(Success):
    """See `ClientList`."""

    tokens: list[Client]
    next: ShownId | None


class ValidToken(Shown):
    """An access token that is valid. `expires_at` is null where it has no end."""

    message: str = "Token retrieved successfully"
    client_id: ShownId = Field(validation_alias="row_id")
    branch_id: str = Field(validation_alias="location_id")
    access_token: str
    refresh_token: None = None
    expires_at: datetime | None
    token_type: str


class Authenticated(Success):
    """There is a valid token; where a login is needed, the answer is an error."""

    authenticated: Literal[True] = True
    expires_at: datetime | None
    needs_login: Literal[False] = False


class LinkCreated(Success):
    """A link, which is shown only now."""

    url: str
    expires_at: datetime


class LoggedIn(Shown):
    """What a login came to. `client_id` is the app's at the provider."""

    message: str = "OAuth flow completed successfully"
    client_id: str
    branch_id: str = Field(validation_alias="location_id")
    provider: str
    expires_at: datetime | None
