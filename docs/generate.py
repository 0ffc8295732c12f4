"""`make docs`: writes what is made of the catalogue, its index and the table in providers.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from providers.base import Provider
from providers.index import INDEX_FILE, index_of
from providers.registry import read_catalog

PAGE = Path(__file__).with_name("providers.md")
_HEAD = "| provider | its names here | `lifetime` | `rotates` | `replay` |\n|---|---|---|---|---|"
_TABLE = re.compile(r"(?<=<!-- made by `make docs` -->\n).*?(?=<!-- end -->)", re.DOTALL)


def generated() -> dict[Path, str]:
    """Each file that is made, and what it should hold now."""
    providers = read_catalog()
    table = _TABLE.sub(lambda _: f"\n{_table(providers)}\n\n", PAGE.read_text(encoding="utf-8"))
    return {INDEX_FILE: index_of(providers), PAGE: table}


def _table(providers: Sequence[Provider]) -> str:
    return "\n".join([_HEAD, *(_line(one) for one in sorted(providers, key=lambda one: one.name.lower()))])


def _line(provider: Provider) -> str:
    names = ", ".join(f"`{name}`" for name in (provider.slug, *provider.aliases))
    facts = (f"[{provider.name}]({provider.docs})", names, provider.default_lifetime, provider.rotates, provider.replay)
    return f"| {' | '.join(map(str, facts))} |"


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
