"""Whatever a row, a provider or an address holds: it is shown as text, and never becomes a part of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from jinja2 import UndefinedError

from tests.service.views import view
from tests.world.clock import START
from token_refresh.access.api_keys import ApiKey
from token_refresh.library import TokenView
from token_refresh.service.rendering import STATES, render
from token_refresh.service.report import report

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)' autofocus='",
    "x onmouseover=alert(1) ",
    "</title></style></textarea></select></svg><svg onload=alert(1)>",
    "<!--<a href='javascript:alert(1)'>",
    "{{ 7 * 191 }}{% raw %}",
    "&lt;script&gt;&#0;\u2028",
)
KEY = ApiKey("1", "office", ("admin",), START, None)


class Shape(HTMLParser):
    """A page without its texts: its tags and the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "formaction")]

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment",))

    def handle_data(self, data: str) -> None:
        self.words += data


def pages(text: str) -> Iterator[tuple[str, str]]:
    """Each page, where every text that is not ours ends in `text`."""
    ours = {"row_id": "1", "state": "failing"}
    texts = {one.name: f"x{text}" for one in fields(TokenView) if one.type == "str"} | ours
    lists = {"params": {f"x{text}": f"x{text}"}, "scopes": [f"x{text}"], "refresh_expires_at": START}
    shown = view(**texts, **lists)
    assert shown.last_error == shown.workspace_name == f"x{text}"
    frame = {"key": replace(KEY, name=f"x{text}"), "form_token": "token"}
    asked = {"q": f"x{text}", "provider": f"x{text}", "status": "", "after": f"x{text}"}
    listed = {"counts": Counter(failing=1), "now": START, "asked": asked, "after": f"x{text}"}
    done = {"done": "Refreshed.", "client": "1"}
    customer = {"provider": f"x{text}", "account": f"x{text}"}
    asks = {"asker": f"x{text}", "scopes": [f"x{text}"], "expires_at": START, "login_url": "/oauth/login/1?link=x"}
    yield "clients.html", render("clients.html", views=[shown], **listed, **done, **frame)
    yield "no clients", render("clients.html", views=[], **listed | {"after": None}, **done, **frame)
    yield "revoke.html", render("revoke.html", view=shown, here=f"x{text}", **frame)
    yield "link.html", render("link.html", view=shown, url=f"x{text}", expires_at=START, here="", **frame)
    yield "sign_in.html", render("sign_in.html", form_token="token", problem=f"x{text}")
    yield "connect.html", render("connect.html", **asks, **customer)
    yield "connected.html", render("connected.html", **customer)
    yield "failed.html", render("failed.html", title=f"x{text}", message=f"x{text}", action=f"x{text}", back="/")
    results = [(START.date(), f"x{text}", {"refreshed": 1})]
    yield "report.html", "".join(report([shown], results, START))


USUAL = dict(pages(""))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", USUAL)
def test_what_is_stored_or_asked_stays_text(name: str, attack: str) -> None:
    page, usual = Shape(dict(pages(attack))[name]), Shape(USUAL[name])
    assert page.tags == usual.tags
    assert not [one for one in page.addresses if not one.startswith(("/", "#"))]
    assert "1337" not in page.words


@pytest.mark.parametrize("name", USUAL)
def test_a_page_holds_no_script_no_inline_style_and_no_address_of_another_host(name: str) -> None:
    page = Shape(USUAL[name])
    named = {attribute for _, *attributes in page.tags for attribute in attributes}
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, *_ in page.tags}
    assert not {one for one in named if one.startswith("on")} | ({"style"} & named)
    assert all(one.startswith(("/", "#")) and not one.startswith("//") for one in page.addresses)


@pytest.mark.parametrize("name", USUAL)
def test_each_id_on_a_page_is_there_once(name: str) -> None:
    page = dict(pages(""))[name]
    ids = [word.partition('"')[0] for word in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_a_variable_that_nobody_gave_is_an_error_and_no_empty_place() -> None:
    with pytest.raises(UndefinedError):
        render("connected.html", provider="Google")


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_shown_in_words_and_by_a_sign_besides_its_colour(state: str) -> None:
    sign, words = STATES[state]
    page = Shape("".join(report([view(state="" if state == "waiting" else state)], [], START)))
    assert words in page.words
    assert sign in page.words
    assert len(set(STATES.values())) == len(STATES) == len({one for one, _ in STATES.values()})


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (view(), "75 % of its life is left"),
        (view(expires_at=START - timedelta(minutes=5)), "0 % of its life is left"),
        (view(last_refreshed=None, connected_at=START - timedelta(minutes=45)), "50 % of its life is left"),
    ],
    ids=["refreshed", "expired", "connected and not refreshed yet"],
)
def test_the_bar_is_what_is_left_of_a_tokens_life(shown: TokenView, words: str) -> None:
    assert words in "".join(report([shown], [], START))


@pytest.mark.parametrize(
    "changes",
    [
        {"last_refreshed": None},
        {"expires_at": None},
        {"expires_at": START - timedelta(hours=1)},
    ],
    ids=["begin unknown", "end unknown", "ended before it began"],
)
def test_a_life_that_is_not_known_has_no_bar(changes: dict[str, Any]) -> None:
    assert "of its life is left" not in "".join(report([view(**changes)], [], START))
