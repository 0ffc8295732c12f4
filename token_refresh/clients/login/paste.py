"""A callback that a person pastes: the browser's address line, where the redirect URI leads to another machine."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit, urlunsplit

from token_refresh.clients.login.attempt import CallbackError, Refusal


def query_in(line: str, redirect_uri: str, code_param: str) -> str:
    """The query of a pasted address; of a bare code, one that holds it alone, as `code_param`.

    Raises:
        CallbackError: it is an address, and not of this redirect URI. Where that is only the name of an address, any
            with https will do.
    """
    line = line.strip().strip("<>\"'")
    if "://" not in line and "=" not in line:
        return urlencode({code_param: line}) if line else ""
    if "://" not in redirect_uri and line.startswith("https://"):
        return urlsplit(line).query
    mark = "&" if urlsplit(redirect_uri).query else "?"
    for begin in (f"{redirect_uri}{mark}", f"{_as_shown(redirect_uri)}{mark}"):
        if line.startswith(begin):
            return line.removeprefix(begin).partition("#")[0]
    raise CallbackError(Refusal.FOREIGN_ADDRESS)


def _as_shown(address: str) -> str:
    """As a browser writes it (URL standard of the WHATWG): the host in lower case, no usual port, a path."""
    parts = urlsplit(address)
    host = parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, ""))
    return urlunsplit(parts._replace(netloc=host, path=parts.path or "/"))
