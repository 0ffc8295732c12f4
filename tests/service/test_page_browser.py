"""The page in a real browser: with the keyboard alone, on a phone and a desk, in dark and light, and read by axe-core.

And a customer's way through it, with a login at the certified OAuth server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import connect

import pytest
import requests

from tests.conftest import World
from tests.service.server import ServiceServer
from tests.world.browser import Browser, missing
from tests.world.oidc_provider import FOLDER, oidc_provider

pytestmark = pytest.mark.long

AXE = FOLDER / "node_modules/axe-core/axe.min.js"
PHONE, DESK = (360, 740), (1440, 900)
LONG = "a-location-whose-name-nobody-can-break-" + "x" * 120


@dataclass
class Scene:
    """A service with clients, and a browser."""

    world: World
    server: ServiceServer
    browser: Browser

    def sign_in(self) -> None:
        """With the keyboard: the field has the focus."""
        self.browser.open(self.server.url)
        self.browser.wait_for("Sign in")
        assert "API key" in self.browser.focused
        self.browser.press(*self.server.admin, "Enter")
        self.browser.wait_for("Clients on this page")

    def choose(self, words: str, then: str) -> None:
        """Go to a control with Tab, press Enter, and wait for what comes of it."""
        self.browser.tab_to(words)
        self.browser.press("Enter")
        self.browser.wait_for(then)

    def report(self) -> str:
        """The address of a new report."""
        file = self.world.program.home / "report.html"
        assert self.world.program.run("report", "--output", str(file)).code == 0
        return file.as_uri()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if (told := missing()) and "CI" not in os.environ:
        pytest.skip(told)
    assert not told, told
    with Browser(tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def scene(world: World, browser: Browser) -> Iterator[Scene]:
    lines = [world.csv_line("google", "bakery"), world.csv_line("google", "florist")]
    lines.append(world.csv_line("gohighlevel", "gym"))
    assert world.program.onboard("--no-check", "--from-csv", world.program.csv(*lines)).code == 0
    assert world.program.run("--all").code == 0
    with ServiceServer(world) as server:
        yield Scene(world, server, browser)


def test_an_operator_does_the_days_work_with_the_keyboard_alone(scene: Scene) -> None:
    browser, before = scene.browser, scene.world.token_of("gym")
    scene.sign_in()
    browser.tab_to("Search")
    browser.press(*"gym", "Enter")
    browser.wait_for("Clients on this page: 1.")
    scene.choose("Refresh now gym", "Refreshed.")
    assert "Refreshed." in browser.focused  # where a screen reader reads on
    assert scene.world.token_of("gym") != before
    assert "bakery" not in browser.text
    scene.choose("Login link gym", "shown only now")
    link = browser.run("return document.activeElement.value")
    assert requests.get(link, timeout=10).status_code in (200, 409)  # who may log in is another test's question
    scene.choose("Back to the list", "Clients on this page: 1.")
    scene.choose("Show all", "Clients on this page: 3.")
    browser.tab_to("State")
    browser.press(*"Disabled")
    scene.choose("Filter", "No client fits")
    scene.choose("Show all", "Clients on this page: 3.")
    scene.choose("Disable florist", "Disabled.")
    assert scene.world.rows()["florist"]["status"] == "disabled"
    scene.choose("Revoke… bakery", "Revoke bakery at google?")
    assert scene.world.rows()["bakery"]["encrypted_refresh"]
    scene.choose("Revoke it", "Revoked, and disabled.")
    assert not scene.world.rows()["bakery"]["encrypted_refresh"]
    scene.choose("Sign out", "API key")


def test_a_customer_opens_the_link_logs_in_agrees_and_sees_that_the_account_is_connected(
    world: World, browser: Browser, tmp_path: Path
) -> None:
    """From the registration to the first token, at a server that takes no login without PKCE."""
    with oidc_provider() as provider:
        own = tmp_path / "discovered.toml"
        own.write_text(world.program.run("providers", "--discover", provider.url).out)
        world.program.settings["PROVIDERS_FILE"] = str(own)
        with ServiceServer(world) as server:
            client = {"client_id": provider.login.client_id, "client_secret": provider.login.client_secret}
            asks = {"provider": "127-0-0-1", "provider_params": {"scope": "openid"}}
            server.register("bakery", workspace_name="The Bakery", **asks, **client)
            link = server.link("bakery")
            browser.show(*PHONE)
            browser.open(link)
            browser.wait_for("asks for access")
            assert "The Bakery" in browser.text
            assert problems(browser) == []
            browser.tab_to("Continue to")
            browser.press("Enter")
            browser.fill("[name=login]", provider.account)
            browser.fill("[name=password]", "any")
            browser.click("Sign-in")
            browser.click("Continue")
            browser.wait_for("is connected")
            assert "The Bakery" in browser.text
            assert problems(browser) == []
            assert "?" not in browser.address
            token = server.call("GET", "/tokens/bakery", server.admin).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            answer = requests.get(provider.userinfo_endpoint, headers=headers, timeout=10)
            assert answer.json() == {"sub": provider.account}
            assert token not in browser.run("return document.documentElement.outerHTML")
            browser.open(link)
            browser.wait_for("This link does not work")  # it has served


# Every page, as it is seen


def problems(browser: Browser) -> list[str]:
    """What axe-core calls serious or critical, and what does not fit into the window."""
    script = """
        return axe.run({resultTypes: ['violations']}).then(found => found.violations
            .filter(one => ['serious', 'critical'].includes(one.impact))
            .map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' | ').slice(0, 300)));
    """
    found: list[str] = browser.run(AXE.read_text(encoding="utf-8") + script)
    width, window = browser.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    return found + ([f"{width} px wide"] if width > window else [])


def make_unusual(world: World) -> None:
    """Clients in every state, with names and errors as long as they may be."""
    file = world.program.home / "state/tokens.sqlite3"
    with closing(connect(file, isolation_level=None)) as database:
        failing = "UPDATE credentials SET location_id = ?, last_error = ?, failure_count = 3 WHERE location_id = 'gym'"
        database.execute(failing, (LONG, "invalid_request: " + "y" * 300))
        expired = (
            "UPDATE credentials SET access_token_expiry = '2026-01-01T00:00:00+00:00' WHERE location_id = 'bakery'"
        )
        database.execute(expired)
        database.execute("UPDATE credentials SET status = 'reauthorize' WHERE location_id = 'florist'")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_every_page_fits_and_axe_finds_nothing_serious(scene: Scene, size: tuple[int, int], is_dark: bool) -> None:
    make_unusual(scene.world)
    browser, found = scene.browser, {}
    browser.show(*size, is_dark=is_dark)
    browser.open(scene.server.url)
    browser.wait_for("Sign in")
    found["sign in"] = problems(browser)
    browser.press("x", "Enter")
    browser.wait_for("The key is not known")
    found["a wrong key"] = problems(browser)
    scene.sign_in()
    assert browser.run("return matchMedia('(prefers-color-scheme: dark)').matches") is is_dark
    found["list"] = problems(browser)
    scene.choose("Disable florist", "Disabled.")
    found["done"] = problems(browser)
    scene.choose("Revoke… florist", "Revoke florist")
    found["revoke"] = problems(browser)
    browser.open(f"{scene.server.url}/?q=nobody")
    found["nothing found"] = problems(browser)
    browser.open(scene.server.url)
    scene.choose("Login link florist", "shown only now")
    found["link"] = problems(browser)
    browser.open(f"{scene.server.url}/connect?link=nonsense")
    found["a bad link"] = problems(browser)
    browser.open(scene.report())
    found["report"] = problems(browser)
    assert {name: one for name, one in found.items() if one} == {}


def test_the_report_is_whole_without_a_network(scene: Scene) -> None:
    scene.browser.open(scene.report())
    for words in ("bakery", "florist", "gym", "The next 48 hours", "6 worked", "0 failed"):
        assert words in scene.browser.text, words
    assert scene.browser.run("return performance.getEntriesByType('resource').map(one => one.name)") == []
    assert scene.browser.run("return document.querySelectorAll('svg.chart rect.good').length") > 0
    assert (
        scene.browser.run("return getComputedStyle(document.querySelector('.card, table')).borderCollapse")
        == "collapse"
    )


def test_a_script_that_was_stored_does_not_run(scene: Scene) -> None:
    """The pages escape it, and even what got through them would not run: the policy allows no script of a page."""
    browser, attack = scene.browser, "<img src=x onerror=document.title='hit'><script>document.title='hit'</script>"
    scene.server.register("shop")
    link = scene.server.link("shop")
    with closing(connect(scene.world.program.home / "state/tokens.sqlite3", isolation_level=None)) as database:
        texts = "last_error = ?, workspace_name = ?, workspace_email = ?, username = ?, email = ?"
        database.execute(f"UPDATE credentials SET {texts}", (attack,) * 5)
        database.execute("UPDATE credentials SET location_id = ? || id WHERE location_id <> 'shop'", (attack,))
    for address in (link, scene.report(), f"{scene.server.url}/connect?link={attack}", scene.server.url):
        if address == scene.server.url:
            scene.sign_in()
        else:
            browser.open(address)
        assert browser.run("return document.title") != "hit", address
        assert browser.run("return document.images.length") == 0, address
        assert attack in browser.text or "connect?link=<" in address
    insert = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')"
    browser.run(f"{insert}; return new Promise(done => setTimeout(done, 100))")
    assert browser.run("return document.title") != "1"
