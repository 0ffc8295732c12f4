"""The page: who gets in and for how long, what each key may do there, and that no other site can do it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import product
from sqlite3 import connect
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.conftest import World
from tests.service.server import ServiceServer

FORM = re.compile(r'name="form" value="([^"]+)"')
STEPS = ("refresh", "link", "disable", "enable", "ask", "revoke")


class Operator:
    """Somebody with a browser of their own, which shows one page after another."""

    def __init__(self, server: ServiceServer) -> None:
        self._server = server
        self.session = requests.Session()
        self.session.trust_env = False
        self.page = ""
        self.status = 0

    def get(self, path: str) -> str:
        """Open an address; redirects are followed as a browser does."""
        return self._shown(self._server.call("GET", path, session=self.session, allow_redirects=True))

    def send(self, path: str, **fields: str) -> str:
        """Send the form of the page that is shown, with these fields."""
        return self._shown(self.sent(path, allow_redirects=True, **fields))

    def sent(self, path: str, *, allow_redirects: bool = False, **fields: str) -> requests.Response:
        """The same, as the answer that it brings."""
        found = FORM.search(self.page)
        form = ({"form": found[1]} if found else {}) | fields
        return self._server.call("POST", path, session=self.session, data=form, allow_redirects=allow_redirects)

    def sign_in(self, key: str) -> str:
        """From the first page on."""
        self.get("/")
        return self.send("/sign-in", key=key)

    def cookie(self, name: str = "session") -> str:
        """What the browser keeps."""
        return str(self.session.cookies[name])

    def keep(self, cookie: str) -> None:
        """Have the browser keep another one."""
        self.session.cookies.clear()
        self.session.cookies.set("session", cookie)

    def _shown(self, answer: requests.Response) -> str:
        self.page, self.status = answer.text, answer.status_code
        return self.page


@pytest.fixture
def server(world: World) -> Iterator[ServiceServer]:
    """The service with two clients of Google and one of HighLevel."""
    lines = [world.csv_line("google", "bakery"), world.csv_line("google", "florist")]
    lines.append(world.csv_line("gohighlevel", "gym"))
    assert world.program.onboard("--no-check", "--from-csv", world.program.csv(*lines)).code == 0
    assert world.program.run("--all").code == 0
    with ServiceServer(world) as made:
        yield made


@pytest.fixture
def rows(world: World, server: ServiceServer) -> dict[str, str]:
    """The ids of the rows by location."""
    return {location: str(row["id"]) for location, row in world.rows().items()}


@pytest.fixture
def visitor(server: ServiceServer) -> Operator:
    """Who is not signed in."""
    return Operator(server)


@pytest.fixture
def operator(server: ServiceServer, visitor: Operator) -> Operator:
    """Who may do everything, and is signed in."""
    assert "bakery" in visitor.sign_in(server.admin)
    return visitor


# Who gets in


def test_who_is_not_signed_in_gets_the_form_and_learns_of_no_client(visitor: Operator) -> None:
    assert "API key" in visitor.get("/")
    assert "bakery" not in visitor.page
    assert visitor.sent("/page/refresh", client="1").headers["Location"] == "/sign-in"


def test_what_is_no_key_does_not_get_in(visitor: Operator) -> None:
    for text in ("", "trk_1_2", "x" * 500, "ключ"):
        visitor.sign_in(text)
        assert (visitor.status, "The key is not known" in visitor.page) == (401, True), text
        assert not text or text not in visitor.page
        assert "API key" in visitor.get("/")


def test_a_key_without_the_scope_read_does_not_get_in(server: ServiceServer, visitor: Operator) -> None:
    assert "The key does not allow this" in visitor.sign_in(server.key("tokens", "clients"))
    assert visitor.status == 403
    assert "API key" in visitor.get("/")


def test_the_twentieth_wrong_key_in_a_minute_is_the_last_that_is_looked_at(
    server: ServiceServer, visitor: Operator
) -> None:
    visitor.get("/")
    for _ in range(20):
        visitor.send("/sign-in", key="trk_0000000000000000_" + "0" * 64)
        assert visitor.status == 401
    answer = visitor.sent("/sign-in", key="trk_0000000000000000_" + "0" * 64)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert "bakery" in visitor.send("/sign-in", key=server.admin)  # the right one gets in however many came before


def test_a_sign_in_that_another_site_sends_does_not_sign_anybody_in(server: ServiceServer, visitor: Operator) -> None:
    """Else it could have somebody work under a key of its own."""
    assert "The browser sent no cookie back" in visitor.sent("/sign-in", key=server.admin).text
    visitor.get("/sign-in")
    visitor.page = 'name="form" value="guessed"'
    answer = visitor.sent("/sign-in", key=server.admin)
    assert answer.status_code == 403
    assert "session" not in visitor.session.cookies


def test_the_cookie_is_out_of_reach_for_scripts_and_for_other_sites(server: ServiceServer, visitor: Operator) -> None:
    visitor.get("/sign-in")
    cookie = visitor.sent("/sign-in", key=server.admin).headers["Set-Cookie"]
    assert cookie.startswith("session=")
    words = {word.strip().lower() for word in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= words
    assert "secure" not in words  # browsers would not keep it on plain loopback
    assert not any(word.startswith("domain") for word in words)


def test_off_loopback_the_cookie_goes_over_tls_alone_and_belongs_to_this_host(world: World) -> None:
    with ServiceServer(world, ALLOWED_HOSTS="tokens.example") as server:
        host = {"Host": "tokens.example"}
        shown = server.call("GET", "/sign-in", headers=host)
        cookie, token = shown.headers["Set-Cookie"], FORM.search(shown.text)
        assert token is not None
        assert cookie.startswith("__Host-sign-in=")
        host["Cookie"] = cookie.partition(";")[0]
        sent = {"form": token[1], "key": server.admin}
        cookie = server.call("POST", "/sign-in", data=sent, headers=host).headers["Set-Cookie"]
        assert cookie.startswith("__Host-session=")
        assert "secure" in {word.strip().lower() for word in cookie.split(";")}


def test_the_cookie_and_the_pages_hold_nothing_of_the_key(server: ServiceServer, visitor: Operator) -> None:
    key = server.key("read")
    visitor.sign_in(key)
    secret = key.rpartition("_")[2]
    assert secret not in visitor.cookie()
    assert secret not in "".join(server.seen)


def test_signing_in_begins_a_session_that_shares_nothing_with_the_one_before(
    server: ServiceServer, visitor: Operator
) -> None:
    """Else whoever plants a cookie in a browser is signed in with it later (session fixation)."""
    visitor.get("/")
    planted, token = visitor.cookie("sign-in"), FORM.search(visitor.page)
    assert token is not None
    visitor.send("/sign-in", key=server.admin)
    first = visitor.cookie()
    assert first != planted
    assert token[1] not in visitor.page
    visitor.send("/sign-out")
    visitor.sign_in(server.key("read"))
    assert visitor.cookie() != first
    visitor.keep(planted)
    assert "API key" in visitor.get("/")


def test_a_session_ends_after_twelve_hours(operator: Operator, world: World) -> None:
    world.clock.advance(timedelta(hours=11, minutes=59).total_seconds())
    assert "bakery" in operator.get("/")
    world.clock.advance(60)
    assert "API key" in operator.get("/")


def test_a_session_ends_with_its_key(server: ServiceServer, operator: Operator, world: World) -> None:
    before = world.rows()
    [key] = server.service.keys.all()
    server.service.keys.revoke(key.name)
    assert "API key" in operator.send("/page/disable", client="1")
    assert world.rows() == before
    assert "API key" in operator.get("/")


def test_who_signs_out_is_out(operator: Operator) -> None:
    assert "API key" in operator.send("/sign-out")
    assert "API key" in operator.get("/")


def test_a_cookie_that_somebody_changed_is_none(operator: Operator) -> None:
    whole = operator.cookie()
    for place in range(0, len(whole) - 1, 9):  # of the last letter some bits mean nothing
        operator.keep(whole[:place] + ("A" if whole[place] != "A" else "B") + whole[place + 1 :])
        assert "bakery" not in operator.get("/")
    operator.keep(whole)
    assert "bakery" in operator.get("/")


def test_a_form_that_is_not_of_this_session_does_nothing(
    server: ServiceServer, operator: Operator, world: World, rows: dict[str, str]
) -> None:
    before, other = world.rows(), FORM.search(Operator(server).sign_in(server.admin))
    assert other is not None
    for token, step in product(("", "x", other[1]), STEPS):
        operator.page = f'name="form" value="{token}"' if token else ""
        operator.send(f"/page/{step}", client=rows["bakery"])
        assert (operator.status, "not of this session" in operator.page) == (403, True), (token, step)
        assert "connect?link=" not in operator.page
    assert world.rows() == before
    operator.page = ""
    operator.send("/sign-out")
    assert "bakery" in operator.get("/")


def test_a_link_changes_nothing_whoever_opens_it(operator: Operator, world: World, rows: dict[str, str]) -> None:
    before = world.rows()
    for step in STEPS:
        operator.get(f"/page/{step}?client={rows['bakery']}")
        assert operator.status == 405, step
    assert world.rows() == before


# Which key may do what


OFFERED = {
    ("read",): set[str](),
    ("read", "tokens"): {"refresh"},
    ("read", "tokens:bakery"): {"refresh"},
    ("read", "clients"): {"link", "disable", "ask"},
    ("admin",): {"refresh", "link", "disable", "ask"},
}


def test_a_control_is_there_for_who_may_use_it_and_refused_to_all_others(
    server: ServiceServer, world: World, rows: dict[str, str]
) -> None:
    before = world.rows()
    for scopes, offered in OFFERED.items():
        visitor = Operator(server)
        page = visitor.sign_in(server.key(*scopes))
        [row] = [part for part in page.split("<tr ") if 'scope="row">bakery' in part]
        assert set(re.findall(r'formaction="/page/(\w+)"', row)) == offered, scopes
        for step in {*STEPS} - offered - ({"enable", "revoke"} if "ask" in offered else set()):
            visitor.get("/")
            visitor.send(f"/page/{step}", client=rows["bakery"])
            assert (visitor.status, "does not allow this" in visitor.page) == (403, True), (scopes, step)
    assert world.rows() == before


def test_a_key_for_one_location_refreshes_no_other(
    server: ServiceServer, visitor: Operator, world: World, rows: dict[str, str]
) -> None:
    before = world.token_of("gym")
    page = visitor.sign_in(server.key("read", "tokens:bakery"))
    assert re.findall(r'formaction="/page/refresh" name="client" value="(\w+)"', page) == [rows["bakery"]]
    visitor.send("/page/refresh", client=rows["gym"])
    assert visitor.status == 403
    assert world.token_of("gym") == before


# What the buttons do


def test_refresh_now_refreshes_what_is_not_due(operator: Operator, world: World, rows: dict[str, str]) -> None:
    before = world.token_of("gym")
    operator.send("/page/refresh", client=rows["gym"], here="q=gym&after=")
    assert "Refreshed." in operator.page
    assert world.token_of("gym") != before
    assert "bakery" not in operator.page  # the list is filtered as it was


def test_disable_and_enable_switch_a_client(operator: Operator, world: World, rows: dict[str, str]) -> None:
    operator.send("/page/disable", client=rows["gym"])
    assert "Disabled." in operator.page
    assert world.rows()["gym"]["status"] == "disabled"
    assert f'formaction="/page/enable" name="client" value="{rows["gym"]}"' in operator.page
    operator.send("/page/enable", client=rows["gym"])
    assert world.rows()["gym"]["status"] == "active"


def test_revoke_asks_first_and_then_empties_the_row(operator: Operator, world: World, rows: dict[str, str]) -> None:
    before = world.rows()
    operator.send("/page/ask", client=rows["bakery"])
    assert "Revoke bakery at google?" in operator.page
    assert world.rows() == before
    operator.send("/page/revoke", client=rows["bakery"])
    assert "Revoked, and disabled." in operator.page
    row = world.rows()["bakery"]
    assert (row["status"], row["encrypted_refresh"]) == ("disabled", "")


def test_a_login_link_is_shown_once_and_works(server: ServiceServer, operator: Operator, rows: dict[str, str]) -> None:
    service = server.service
    operator.send("/page/link", client=rows["bakery"])
    [url] = re.findall(r'value="(http[^"]+/connect\?link=[^"]+)"', operator.page)
    link = service.links.find(parse_qs(urlsplit(url).query)["link"][0])
    assert link is not None
    assert (link.row_id, link.location_id, link.provider) == (rows["bakery"], "bakery", "google")
    assert link.created_by == service.keys.all()[0].name
    assert link.expires_at - service.clock.now() == timedelta(days=7)
    assert "connect?link=" not in operator.get("/")


def test_a_refresh_that_fails_says_what_happened_and_what_to_do(
    operator: Operator, world: World, rows: dict[str, str]
) -> None:
    world.oauth.revoke(world.token_of("bakery"))
    operator.send("/page/refresh", client=rows["bakery"])
    assert operator.status == 401
    assert "That did not work" in operator.page
    assert "log in" in operator.page.lower()
    assert "bakery" in operator.get("/?status=login_needed")
    assert "florist" not in operator.page


def test_a_client_that_is_gone_is_said_to_be_gone(operator: Operator) -> None:
    operator.send("/page/disable", client="999999")
    assert operator.status == 404


def test_an_address_of_another_site_in_a_form_leads_nowhere(operator: Operator, rows: dict[str, str]) -> None:
    for here in ("//evil.example/", "https://evil.example", "\r\nSet-Cookie: a=b", "javascript:alert(1)"):
        answer = operator.sent("/page/disable", client=rows["gym"], here=here)
        assert answer.headers["Location"].startswith("/?"), here
        assert "Set-Cookie" not in answer.headers


# The list


def test_search_provider_and_state_narrow_the_list(operator: Operator) -> None:
    assert "gym" not in operator.get("/?provider=google")
    assert "florist" not in operator.get("/?q=bak")
    assert "bakery" not in operator.get("/?status=expired")
    assert "No client fits" in operator.page
    assert "bakery" in operator.get("/?status=nonsense")


def test_the_list_goes_on_over_pages_and_keeps_its_filter(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_refresh.service.page.CLIENTS_A_PAGE", 1)
    seen, path = [], "/?provider=google"
    while path:
        page = operator.get(path)
        seen += re.findall(r'scope="row">(\w+)', page)
        found = re.search(r'href="([^"]+)" rel="next"', page)
        path = found[1].replace("&amp;", "&") if found else ""
    assert sorted(seen) == ["bakery", "florist"]


@pytest.mark.parametrize("store", ["postgres_world", "airtable_world"])
def test_the_page_works_on_each_store(request: pytest.FixtureRequest, store: str) -> None:
    world: World = request.getfixturevalue(store)
    lines = [world.csv_line("gohighlevel", "gym"), world.csv_line("google", "bakery")]
    assert world.program.onboard("--no-check", "--from-csv", world.program.csv(*lines)).code == 0
    with ServiceServer(world) as server:
        operator = Operator(server)
        operator.sign_in(server.admin)
        [row] = [part for part in operator.page.split("<tr ") if 'scope="row">gym' in part]
        [row_id] = set(re.findall(r'name="client" value="(\w+)"', row))
        assert "Refreshed." in operator.send("/page/refresh", client=row_id)
        assert "connect?link=" in operator.send("/page/link", client=row_id)
        operator.get("/?q=gym")
        assert "bakery" not in operator.page
        assert "Disabled." in operator.send("/page/disable", client=row_id)
        operator.get("/?status=disabled")
        assert "gym" in operator.page
        assert "bakery" not in operator.page


@pytest.mark.long
def test_a_page_of_ten_thousand_clients_comes_within_a_second_and_stays_small(operator: Operator, world: World) -> None:
    copied = [name for name in world.rows()["bakery"] if name not in ("id", "location_id")]
    names = ", ".join(copied)
    with closing(connect(world.program.home / "state/tokens.sqlite3", isolation_level=None)) as database:
        database.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000) "
            f"INSERT INTO credentials (location_id, {names}) "
            f"SELECT 'branch-' || n, {names} FROM numbers, credentials WHERE location_id = 'bakery'"
        )
    for path in ("/", "/?q=branch-99", "/?status=valid&provider=google", "/?status=failing", "/?after=9900"):
        began = time.process_time()  # of server and caller together; other processes do not count
        page = operator.get(path)
        assert time.process_time() - began < 1, path
        assert len(page.encode()) < 300_000, path
        assert operator.status == 200
    assert "10003 valid" in operator.get("/")
