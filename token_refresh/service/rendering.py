"""HTML from the templates beside this file; their first lines name their variables. Knows nothing of HTTP."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

STATIC = Path(__file__).with_name("static")


def render(name: str, **values: Any) -> str:
    """A page. Every value is escaped; a variable that is missing raises `jinja2.UndefinedError`."""
    return _TEMPLATES.get_template(name).render(values)


def _time(moment: datetime | None) -> str:
    """A point in time in UTC, for people; empty for none."""
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment is not None else ""


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _made() -> Environment:
    templates = Environment(
        autoescape=True,  # also of what no name ends in .html
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"time": _time, "sentence": _sentence}
    return templates


_TEMPLATES = _made()
