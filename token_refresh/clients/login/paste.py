"""A callback that a person pastes: the browser's address line, where the redirect URI leads to another machine."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from token_refresh.clients.login.attempt import CallbackError, Refusal


def query_in(line: str, redirect_uri: str, code_param: str) -> str:
    """The query of a pasted address; of a bare code, one that holds it alone, as `code_param`.

    Raises:
        CallbackError: it is an address, and not of this redirect URI.
    """
    line = line.strip().strip("<>\"'")
    if "://" not in line and "=" not in line:
        return urlencode({code_param: line}) if line else ""
    own_query = urlsplit(redirect_uri).query
    mark = "&" if own_query else "?"
    if not line.startswith(f"{redirect_uri}{mark}"):
        raise CallbackError(Refusal.FOREIGN_ADDRESS)
    return line.removeprefix(f"{redirect_uri}{mark}").partition("#")[0]
