"""The index of the catalogue: what a listing needs of every provider, so that a start reads one file and not a hundred.

It is written by `make docs`; a test fails where it is older than the files it was made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from providers.base import Provider, ProviderSummary

INDEX_FILE = Path(__file__).with_name("catalog") / "index.json"


class ProviderIndex(Protocol):
    """Finds providers by any of their names, and knows what each is without its description; the catalogue does."""

    def get(self, name: str) -> Provider:
        """The provider of that name, or `ProviderError`."""

    def slug_of(self, name: str) -> str | None:
        """The slug that a name means; None where it means none."""

    @property
    def summaries(self) -> Mapping[str, ProviderSummary]:
        """Every provider by its slug."""


def read_index() -> dict[str, ProviderSummary]:
    """The summary of each built-in provider, by its slug."""
    index = json.loads(INDEX_FILE.read_text(encoding="utf-8"))
    return {slug: ProviderSummary(slug, **{**of, "aliases": tuple(of["aliases"])}) for slug, of in index.items()}


def index_of(providers: Iterable[ProviderSummary]) -> str:
    """The text of the index: a line for each provider, by slug."""
    names = [field.name for field in fields(ProviderSummary) if field.name != "slug"]
    index = {one.slug: {name: getattr(one, name) for name in names} for one in providers}
    lines = [f"{json.dumps(slug)}: {json.dumps(index[slug])}" for slug in sorted(index)]
    return "{\n" + ",\n".join(lines) + "\n}\n"
