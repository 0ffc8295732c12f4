"""What is known of a provider, for people: `providers` prints it, and docs/provider-list.md is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from providers.addresses import placeholders_in
from providers.base import Provider
from token_refresh.base.clock import span
from token_refresh.base.text import counted

_MINUTE = 60
_INSTEAD = {"exchange": "none, the access token is renewed", "none": "none, nothing is refreshed"}
_ENDLESS = "nothing, its access token is stored and handed out; log in again once the provider refuses it"
_CHANGES = {"always": "changes", "sometimes": "may change", "never": "stays"}
_AGAIN = {
    "safe": "may be sent again",
    "once": "is refused",
    "last_minute": "ends the whole login when it is sent again",
}
_PROMISES = {True: "the login ends with it", False: "nothing; remove the app at the provider to be sure"}


def facts_of(provider: Provider) -> list[tuple[str, str]]:
    """Names and texts, without those that do not apply."""
    login, usual = provider.login, provider.placeholders
    facts = [
        ("Token endpoint", provider.token_url),
        ("Refreshed at", provider.refresh_url or ""),
        ("Log in at", provider.authorize_url or ""),
        ("Log in on another device at", provider.device_url or ""),
        ("Revoked at", provider.revoke_url or ""),
        ("What its page promises of a revocation", revocation_of(provider)),
        ("Access token", lifetime_of(provider)),
        ("A refresh is accepted", _until("in the last", provider.earliest, "of an access token's life")),
        ("What to do instead of refreshing", _ENDLESS if provider.grant == "none" else ""),
        ("Refresh token", "; ".join(filter(None, _refresh_token(provider)))),
        ("A used refresh token", used_of(provider)),
        ("Client secret", _until("ends after", login.secret_lifetime, "at most")),
        ("Scopes that are always asked for", " ".join(login.scopes)),
        ("What a row has to name", ", ".join(name for name in usual if usual[name] is None)),
        ("What a row may name", ", ".join(_with_usual(name, text) for name, text in usual.items() if text is not None)),
        ("Redirect URI to enter", redirect_hint(provider)),
        ("Setting of the app", login.refresh_setting),
        ("Not settled by its pages", ", ".join(login.unsure)),
        ("Its page", provider.docs),
    ]
    return [(name, text) for name, text in facts if text]


def lifetime_of(provider: Provider) -> str:
    """How long an access token usually lives; empty where none is refreshed."""
    return "" if provider.grant == "none" else _seconds(provider.default_lifetime)


def changes_of(provider: Provider) -> str:
    """What a refresh makes of the refresh token."""
    return _INSTEAD.get(provider.grant) or _CHANGES[provider.rotates]


def used_of(provider: Provider) -> str:
    """What may still be done with a refresh token whose answer was lost; empty where there is none."""
    if provider.grant != "refresh_token":
        return ""
    window = _until("may be sent again for", provider.replay_window, "and then ")
    return f"{window}{_AGAIN[provider.replay]}"


def way_in(provider: Provider) -> str:
    """How somebody logs in there; empty where nobody can from here."""
    if provider.authorize_url is None:
        return ""
    where = "browser" if provider.login.loopback else "browser, paste the address"
    return f"{where}; device" if provider.device_url else where


def revocation_of(provider: Provider) -> str:
    """What its page promises of a revocation; empty where there is none."""
    return _PROMISES[provider.revocation.ends] if provider.revoke_url is not None else ""


def redirect_hint(provider: Provider) -> str:
    """What to enter as the redirect URI in the app's settings at the provider; empty where there is no login."""
    if provider.authorize_url is None:
        return ""
    if provider.login.redirect == "name":
        return "the name that the provider gives to a page of yours; its address line is pasted back"
    own = "https://YOUR-SITE/callback (any page of yours; its address line is pasted back)"
    return provider.login.loopback.replace(":0/", "/") or own


def refresh_token_hint(provider: Provider) -> str:
    """What brings a refresh token, where a login brought none."""
    login = provider.login
    if login.refresh_setting:
        return f"In the app's settings at {provider.name}: {login.refresh_setting}. Then log in again."
    sent = [f"{name}={text}" for name, text in login.authorize_params.items() if not placeholders_in(text)]
    if asked := " and ".join([*(f"the scope {one}" for one in login.scopes), *sent]):
        return f"{provider.name} gives one for {asked}: check that the app may ask for that, then log in again."
    return f"Check the app's settings at {provider.name}, then log in again."


def _refresh_token(provider: Provider) -> Iterable[str]:
    yield changes_of(provider)
    yield _until("ends after", provider.login.refresh_lifetime, "without a refresh")
    yield _until("ends", provider.login.refresh_ends_anyway, "after the login in any case")


def _until(begin: str, seconds: int, end: str) -> str:
    return f"{begin} {_seconds(seconds)} {end}" if seconds else ""


def _with_usual(name: str, usual: str) -> str:
    return f"{name} (usually {usual})" if usual else name


def _seconds(seconds: int) -> str:
    length = span(timedelta(seconds=seconds)).removesuffix(" 0 min")
    return length if seconds >= _MINUTE else counted(seconds, "second")
