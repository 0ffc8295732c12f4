"""`make docs`: writes what is made of the catalogue (its index, the table in providers.md, provider-list.md), and
messages.md, which is made of the source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from docs import messages_page
from providers.base import Provider
from providers.index import INDEX_FILE, index_of
from providers.registry import read_catalog
from token_refresh.clients.provider_facts import facts_of, lifetime_of, way_in

PAGE = Path(__file__).with_name("providers.md")
LIST = Path(__file__).with_name("provider-list.md")
MESSAGES = Path(__file__).with_name("messages.md")
_HEAD = ("provider", "its names here", "access token", "`rotates`", "`replay`", "log in", "revoke")
_TABLE = re.compile(r"(?<=<!-- made by `make docs` -->\n).*?(?=<!-- end -->)", re.DOTALL)
_LIST_HEAD = """# Each provider

Made by `make docs` of `providers/catalog`: what each provider's own pages say, checked on the day that is named.
`.venv/bin/python token_manager.py providers NAME` prints the same. What else to know of some of them stands in
[providers](providers.md). Where there is an address to log in at, a client is added with
`.venv/bin/python onboard_client.py --authorize --provider NAME`: see [adding clients](onboarding.md#by-logging-in).
"""


def generated() -> dict[Path, str]:
    """Each file that is made, and what it should hold now."""
    providers = sorted(read_catalog(), key=lambda one: one.name.lower())
    table = "\n".join([_row(_HEAD), _row(["---"] * len(_HEAD)), *map(_line, providers)])
    page = _TABLE.sub(lambda _: f"\n{table}\n\n", PAGE.read_text(encoding="utf-8"))
    listed = "\n".join([_LIST_HEAD, *map(_section, providers)])
    return {INDEX_FILE: index_of(providers), PAGE: page, LIST: listed, MESSAGES: messages_page.page()}


def anchor_of(heading: str) -> str:
    """What GitHub makes of a heading: where a link to it leads."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def _line(provider: Provider) -> str:
    is_refreshed = provider.grant == "refresh_token"
    facts = (
        f"[{provider.name}](provider-list.md#{anchor_of(provider.name)})",
        _names(provider),
        lifetime_of(provider),
        provider.rotates if is_refreshed else "",
        provider.replay if is_refreshed else "",
        way_in(provider),
        "" if provider.revoke_url is None else "ends the login" if provider.revocation.ends else "asks for it",
    )
    return _row(facts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _names(provider: Provider) -> str:
    return ", ".join(f"`{name}`" for name in (provider.slug, *provider.aliases))


def _section(provider: Provider) -> str:
    login = provider.login
    facts = [f"- {name}: {_marked(name, text)}" for name, text in facts_of(provider)]
    checked = [f"- Checked on: {login.checked}"] if login.checked else []
    steps = [f"{number}. {step}" for number, step in enumerate(login.app_steps, 1)]
    made = ["", "To make the app:", "", *steps] if steps else []
    names = f"Its names here: {_names(provider)}."
    return "\n".join([f"## {provider.name}", "", names, "", *facts, *checked, *made, ""])


def _marked(name: str, text: str) -> str:
    """As Markdown: addresses and scopes in the type of code, so that no brace or underline of them means anything."""
    if name == "Its page":
        return f"<{text}>"
    is_address = "://" in text and " " not in text
    return f"`{text}`" if is_address or name.startswith("Scopes") else text


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
