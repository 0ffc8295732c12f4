"""Messages for people: to the addresses of NOTIFY_URLS by Apprise, and to the command of NOTIFY_COMMAND."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from token_refresh.base.child import run_child
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
    urls = [secret.reveal() for secret in settings.notify_urls]
    addresses = {f"address {number} ({url.partition(':')[0]})": url for number, url in enumerate(urls, 1)}
    if addresses:
        yield Channel("NOTIFY_URLS", tuple(addresses), partial(_send_by_apprise, settings, addresses))
    if settings.notify_command:
        yield Channel("NOTIFY_COMMAND", ("command",), partial(_send_to_command, settings))


def _send_by_apprise(
    settings: Settings,
    addresses: Mapping[str, str],
    messages: Mapping[str, Message],
    _: RunSummary,
    limit: Limit,
    accepted: set[str],
) -> None:
    """All at the same time, in one child: Apprise is large, and any of its plugins may hang."""
    if not messages:
        return
    require_extra("apprise")
    proxy, bundle = settings.https_proxy_url, settings.ca_bundle
    environ = {"HTTPS_PROXY": proxy.reveal() if proxy else "", "REQUESTS_CA_BUNDLE": str(bundle or "")}
    shown = [[key, addresses[key], one.title, one.text] for key, one in messages.items()]
    given = {"environ": environ, "seconds": limit.left() - 0.5, "messages": shown}
    words, clean = [sys.executable, "-P", str(_CHILD)], {"LANG": "C.UTF-8"}
    accepted.update(json.loads(run_child(words, clean, _json(given), seconds=limit.left(), is_stopped=limit.is_over)))
    if failed := sorted(messages.keys() - accepted):
        raise ActionableError(f"a message was not accepted by {', '.join(failed)}", "See docs/alerts.md.")


def _send_to_command(
    settings: Settings, messages: Mapping[str, Message], _: RunSummary, limit: Limit, accepted: set[str]
) -> None:
    """A command that ends with 0 has accepted it."""
    words, environ, home = settings.notify_command, settings.child_environment, settings.home
    for key, message in messages.items():
        items = [_object(item) for item in message.items]
        given = _json({"title": message.title, "message": message.text, "run_id": message.run_id, "items": items})
        run_child(words, environ, given, cwd=home, seconds=limit.left(), is_stopped=limit.is_over)
        accepted.add(key)


def _object(item: Item) -> dict[str, Any]:
    names = ("code", "location_id", "provider", "message", "action", "since")
    severity = "info" if item.code == Code.RECOVERED else "critical" if item.code in _CRITICAL else "warning"
    return {**{name: getattr(item, name) or None for name in names}, "severity": severity}


def _json(given: Mapping[str, Any]) -> bytes:
    return json.dumps(given).encode()
