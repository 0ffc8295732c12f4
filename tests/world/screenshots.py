"""`make screenshots`: the pictures in docs/images, of a service with made-up clients and of a table, taken by Chromium.

Provider, table and clients are on this machine; nothing leaves it.
"""

from __future__ import annotations

import html
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from tests.conftest import World
from tests.service.server import ServiceServer
from tests.world.airtable import AirtableServer
from tests.world.browser import Browser, missing
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer
from tests.world.program import Program
from token_refresh.base.clock import iso

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
DESK, PHONE, TABLE = (1440, 900), (360, 740), (1440, 190)
SHOWN = (  # columns of the table, in the order of setup
    *("locationId", "provider", "client_id", "encrypted_secret", "encrypted_refresh", "last_access_token"),
    *("access_token_expiry", "status"),
)
GRID = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 24px; overflow: hidden; font: 15px/1.4 sans-serif; color: #1d1f25 }} h1 {{ font-size: 17px }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border: 1px solid #d0d3d9; padding: 7px 9px; text-align: left; white-space: nowrap; overflow: hidden;
text-overflow: ellipsis; max-width: 165px }} th {{ background: #f2f4f8; font-weight: 600 }}
</style><h1>APISecrets</h1><table><tr>{head}</tr>{rows}</table>"""
CLIENTS = {  # location: provider, workspace
    "berlin-mitte": ("google", "Bakery Mitte"),
    "hamburg-altona": ("google", "Altona Dental"),
    "koeln-sued": ("google", "Physio South"),
    "leeds-12": ("gohighlevel", "Leeds Fitness"),
    "madrid-centro": ("gohighlevel", "Clínica Centro"),
    "osaka-3": ("gohighlevel", "Osaka Dental"),
    "porto-02": ("google", "Porto Surf School"),
    "zuerich-west": ("google", "Zürich Optics"),
}
SECRET = "made up"


def main() -> int:
    """Take all pictures; returns an exit code."""
    if told := missing():
        print(told, file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, OAuthServer() as oauth:
        program = _program(Path(folder), oauth)
        world = World(FakeClock(datetime.now(UTC)), oauth, program)
        page = Path(folder) / "table.html"
        page.write_text(_table(Path(folder) / "airtable", oauth), encoding="utf-8")
        with ServiceServer(world) as server, Browser(Path(folder) / "profile") as browser:
            _take(browser, server, program)
            browser.show(*TABLE)
            browser.open(page.as_uri())
            _save(browser, "table")
    return 0


def _table(home: Path, oauth: OAuthServer) -> str:
    """What stands in an Airtable table after a run, as a plain page: Airtable's own cannot be shown from here."""
    with AirtableServer() as airtable:
        settings = {"GOOGLE_TOKEN_URL": oauth.token_url("google"), "AIRTABLE_ENDPOINT_URL": airtable.url}
        settings |= {"AIRTABLE_API_KEY": airtable.token, "AIRTABLE_BASE_ID": airtable.base_id}
        home.mkdir()
        program = Program(home, settings)
        tokens = {location: oauth.grant("google", "google-app", location_id=location) for location in ("loc1", "loc2")}
        lines = [(location, "google", "google-app", SECRET, token) for location, token in tokens.items()]
        program.run("setup")
        program.onboard("--from-csv", program.csv(*lines))
        cells = [airtable.table("APISecrets").cells(one["id"]) for one in airtable.table("APISecrets").records()]
    rows = "".join(f"<tr>{''.join(_cell('td', row.get(name, '')) for name in SHOWN)}</tr>" for row in cells)
    return GRID.format(head="".join(_cell("th", name) for name in SHOWN), rows=rows)


def _cell(kind: str, value: object) -> str:
    return f"<{kind}>{html.escape(str(value))}</{kind}>"


def _program(home: Path, oauth: OAuthServer) -> Program:
    settings = {f"{slug.upper()}_TOKEN_URL": oauth.token_url(slug) for slug in ("google", "gohighlevel")}
    program, lines = Program(home, settings), []
    for slug in ("google", "gohighlevel"):
        oauth.add_client(slug, f"{slug}-app", SECRET)
    for location, (slug, _) in CLIENTS.items():
        token = oauth.grant(slug, f"{slug}-app", location_id=location)
        lines.append((location, slug, f"{slug}-app", SECRET, token))
    program.onboard("--no-check", "--from-csv", program.csv(*lines))
    program.run("--all")
    with closing(sqlite3.connect(home / "state/tokens.sqlite3", isolation_level=None)) as database:
        _age(database)
    [history] = (home / "state").glob("*/history.sqlite3")
    with closing(sqlite3.connect(history, isolation_level=None)) as database:
        _add_days(database)
    return program


def _age(database: sqlite3.Connection) -> None:
    """Give the clients the past that a year of work would."""
    now = datetime.now(UTC)
    change = (
        "UPDATE credentials SET workspace_name = ?, last_refreshed = ?, access_token_expiry = ? WHERE location_id = ?"
    )
    for number, (location, (slug, workspace)) in enumerate(CLIENTS.items()):
        begun = now - timedelta(minutes=7 * number + 3)
        end = begun + timedelta(hours=24 if slug == "gohighlevel" else 1)
        database.execute(change, (workspace, iso(begun), iso(end), location))
    ends = "UPDATE credentials SET refresh_token_expiry = ? WHERE provider = 'gohighlevel'"
    database.execute(ends, (iso(now + timedelta(days=200)),))
    asks = "UPDATE credentials SET provider_params = ? WHERE provider = 'google'"
    database.execute(asks, ('{"scope": "https://www.googleapis.com/auth/business.manage"}',))
    died = "UPDATE credentials SET status = 'reauthorize', last_error = ?, failure_count = 1 WHERE location_id = ?"
    database.execute(died, ("invalid_grant: Token has been expired or revoked.", "koeln-sued"))
    fails = "UPDATE credentials SET last_error = ?, failure_count = 3 WHERE location_id = ?"
    database.execute(fails, ("HTTP 503", "osaka-3"))
    database.execute("UPDATE credentials SET status = 'disabled' WHERE location_id = 'porto-02'")


def _add_days(database: sqlite3.Connection) -> None:
    """A month of runs."""
    today = datetime.now(UTC).date()
    add = "INSERT INTO history_days (day, provider, refreshed, transient) VALUES (?, ?, ?, ?)"
    for ago, provider in product(range(1, 30), ("google", "gohighlevel")):
        failed = 40 if ago == 11 else ago % 3
        database.execute(add, (str(today - timedelta(days=ago)), provider, 80 + 17 * ago % 29 - failed, failed))


def _take(browser: Browser, server: ServiceServer, program: Program) -> None:
    browser.show(*DESK)
    browser.open(server.url)
    browser.fill("#key", server.service.keys.create("office", ["admin"]))
    browser.click("Sign in")
    browser.wait_for("Clients on this page")
    _save(browser, "clients")
    browser.show(*DESK, is_dark=True)
    _save(browser, "clients-dark")
    browser.show(*PHONE)
    _save(browser, "clients-phone")
    browser.click("Login link berlin-mitte")
    browser.wait_for("shown only now")
    link = browser.run("return document.activeElement.value")
    browser.open(link)
    _save(browser, "connect")
    report = program.home / "report.html"
    program.run("report", "--output", str(report))
    browser.show(*DESK)
    browser.open(report.as_uri())
    _save(browser, "report")


def _save(browser: Browser, name: str) -> None:
    (IMAGES / f"{name}.png").write_bytes(browser.picture())


if __name__ == "__main__":
    sys.exit(main())
