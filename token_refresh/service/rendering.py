"""HTML from the templates beside this file; their first lines name their variables. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from token_refresh.base.clock import span
from token_refresh.library import TokenView

STATIC = Path(__file__).with_name("static")
STATES = {
    "expired": ("✕", "Expired"),
    "login_needed": ("→", "Login needed"),
    "failing": ("!", "Failing"),
    "waiting": ("…", "Waiting for a login"),
    "valid": ("✓", "Valid"),
    "disabled": ("⊘", "Disabled"),
}
"""Each state by sign and words, the gravest first: none is known by its colour alone. See `TokenView.state`."""
_LOADER = FileSystemLoader(Path(__file__).with_name("templates"))
_TEMPLATES = Environment(
    autoescape=True, undefined=StrictUndefined, loader=_LOADER, trim_blocks=True, lstrip_blocks=True
)


def render(name: str, **values: Any) -> str:
    """A page. Every value is escaped; a variable that is missing raises `jinja2.UndefinedError`."""
    return _TEMPLATES.get_template(name).render(values)


def pieces(name: str, **values: Any) -> Iterator[str]:
    """The same piece by piece, for what may be long; with `style`, the style sheet, as a variable."""
    style = Markup((STATIC / "page.css").read_text(encoding="utf-8"))  # noqa: S704 - it is ours
    return _TEMPLATES.get_template(name).generate(style=style, **values)


def _time(moment: datetime | None) -> str:
    """A point in time in UTC, for people; empty for none."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment is not None else ""


def _until(moment: datetime, now: datetime) -> str:
    """How long from now: `in 3 h 20 min`, `5 min ago`."""
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def _life(view: TokenView, now: datetime) -> int | None:
    """What is left of an access token's life, in percent; None where its begin or its end is not known."""
    begin, end = view.last_refreshed or view.connected_at, view.expires_at
    if begin is None or end is None or begin >= end:
        return None
    return max(0, min(100, round(100 * ((end - now) / (end - begin)))))


def _sentence(text: str) -> str:
    """A message of ours, which begins with a small letter and has no full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


_TEMPLATES.filters |= {"time": _time, "sentence": _sentence, "until": _until, "life": _life}
_TEMPLATES.globals |= {"STATES": STATES}
