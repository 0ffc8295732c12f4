"""Messages for people: to the addresses of NOTIFY_URLS by Apprise, and to the command of NOTIFY_COMMAND."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from token_refresh.base.child import CommandError, run_child
from token_refresh.base.errors import ActionableError
from token_refresh.base.program import install_extra
from token_refresh.notifiers.news import Channel, Message
from token_refresh.notifiers.summary import Code, Item, RunSummary
from token_refresh.notifiers.watch import Limit
from token_refresh.settings import Settings

_CHILD = Path(__file__).with_name("apprise_child.py")
_CRITICAL = (Code.LOGIN_NEEDED, Code.UNREADABLE_CELL, Code.JOURNAL_WAITING, Code.NEEDS_FIXING, Code.STORE)


def require_extra(package: str) -> None:
    """Raises `ActionableError` where a package of the extra `notify` is not installed."""
    if find_spec(package) is None:
        raise ActionableError(f"the package {package.replace('_', '-')} is missing", install_extra("notify"))


def message_channels(settings: Settings) -> Iterator[Channel]:
    """Those that are set. An address is known by its place and scheme, for it holds secrets."""
    for number, url in enumerate((secret.reveal() for secret in settings.notify_urls), 1):
        name = f"NOTIFY_URLS, address {number} ({url.partition(':')[0]})"
        yield Channel(name, partial(_send_by_apprise, settings, url))
    if settings.notify_command:
        yield Channel("NOTIFY_COMMAND", partial(_send_to_command, settings))


def _send_by_apprise(settings: Settings, url: str, message: Message, _: RunSummary, limit: Limit) -> None:
    """In a child: Apprise is large, any of its plugins may hang, and our environment is not for them."""
    if not message.items:
        return
    require_extra("apprise")
    proxy, bundle = settings.https_proxy_url, settings.ca_bundle
    environ = {"HTTPS_PROXY": proxy.reveal() if proxy else "", "REQUESTS_CA_BUNDLE": str(bundle or "")}
    given = json.dumps({"environ": environ, "url": url, "title": message.title, "text": message.text}).encode()
    words, clean = [sys.executable, "-P", str(_CHILD)], {"LANG": "C.UTF-8"}
    try:
        run_child(words, clean, given, seconds=limit.left(), is_stopped=limit.is_over)
    except CommandError as error:
        raise ActionableError(f"the message was not accepted ({error})", "See docs/alerts.md.") from None


def _send_to_command(settings: Settings, message: Message, _: RunSummary, limit: Limit) -> None:
    """A command that ends with 0 has accepted it."""
    if message.items:
        items = [_object(item) for item in message.items]
        given = {"title": message.title, "message": message.text, "run_id": message.run_id, "items": items}
        words, environ, stdin = settings.notify_command, settings.child_environment, json.dumps(given).encode()
        run_child(words, environ, stdin, cwd=settings.home, seconds=limit.left(), is_stopped=limit.is_over)


def _object(item: Item) -> dict[str, Any]:
    names = ("code", "location_id", "provider", "message", "action", "since")
    severity = "info" if item.code == Code.RECOVERED else "critical" if item.code in _CRITICAL else "warning"
    return {**{name: getattr(item, name) or None for name in names}, "severity": severity}
