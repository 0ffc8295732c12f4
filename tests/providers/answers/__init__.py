"""What each provider is asked and what it answers, a file a provider, written from its own pages.

`docs/add-a-provider.md` explains the keys.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Granted:
    """A successful answer: seconds the access token lives, the new refresh token, seconds that one lives."""

    body: str
    lives: int
    refresh_token: str | None = None
    refresh_lives: int | None = None


@dataclass(frozen=True)
class Refused:
    """Another answer. `end` is an outcome, or whose fault it is where that is `operator`: `client` or `row`."""

    status: int
    end: str
    body: str

    @property
    def members(self) -> dict[str, Any]:
        """The body's, where it is a JSON object."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class LoginAnswers:
    """A login. `asks` is what the authorization request carries beyond RFC 6749, RFC 7636, scope and state.

    Attributes:
        scope: what is asked for where a person asks for `one` and `two`.
        callback: what the callback brings beside code, state and issuer.
        sends: what the exchange of the code carries beyond grant type, code, redirect URI, verifier and client.
        client_id_param: the client id's name in the authorization request, where it is not that of a refresh.
        code_param: the code's name in the exchange.
        lands_at: where the browser is sent back to, where `redirect_uri` is only the name of that address.
        url: the endpoint of that exchange, where it is not the one of a refresh.
        body: its answer, where it is not that of a refresh.
        account: whose login it is.
    """

    authorize_url: str
    redirect_uri: str
    pkce: Literal["required", "supported", "none", "unknown"]
    scope: str = "one two"
    asks: Mapping[str, str] = field(default_factory=dict)
    callback: Mapping[str, str] = field(default_factory=dict)
    sends: Mapping[str, str] = field(default_factory=dict)
    client_id_param: str = ""
    code_param: str = "code"
    lands_at: str = ""
    url: str = ""
    body: str = ""
    account: str = ""


@dataclass(frozen=True)
class Revocation:
    """A revocation. `sends` is its whole body but for the client; `says`, what a person may be told of its success."""

    url: str
    sends: Mapping[str, str]
    method: Literal["POST", "DELETE"] = "POST"
    auth: Literal["body", "basic", "basic_plain", "bearer", "secret", "none"] = "body"
    encoding: Literal["form", "json"] = "form"
    body: str = ""
    says: Literal["revoked", "asked"] = "asked"


@dataclass(frozen=True)
class Answers:
    """One provider. `sends` is what the request carries beyond grant type, refresh token and client."""

    url: str
    auth: Literal["body", "basic", "basic_plain", "none"]
    granted: Sequence[Granted]
    lifetime: int = 3600
    rotates: Literal["always", "sometimes", "never"] = "never"
    replay: Literal["safe", "once", "last_minute"] = "safe"
    replay_window: int = 0
    grant: Literal["refresh_token", "exchange", "none"] = "refresh_token"
    lost_answer: Literal["recovered", "lost"] = "lost"  # what comes of a row whose answer never arrived
    refused: Sequence[Refused] = ()
    earliest: int = 0
    encoding: Literal["form", "json"] = "form"
    method: Literal["POST", "GET"] = "POST"
    token_param: str = "refresh_token"
    client_id_param: str = "client_id"
    row: Mapping[str, str] = field(default_factory=dict)  # the row's provider_params
    sends: Mapping[str, str] = field(default_factory=dict)
    device_url: str | None = None
    login: LoginAnswers | None = None
    revocation: Revocation | None = None


def read(text: str) -> Answers:
    """The answers in a file of this folder."""
    table = tomllib.loads(text)
    table["granted"] = [Granted(**one) for one in table["granted"]]
    table["refused"] = [Refused(*one) for one in table.get("refused", ())]
    for name, kind in (("login", LoginAnswers), ("revocation", Revocation)):
        table[name] = kind(**table[name]) if name in table else None
    answers = Answers(**table)
    assert answers.lost_answer in ("recovered", "lost"), answers.lost_answer
    return answers


ANSWERS = {path.stem: read(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))}
