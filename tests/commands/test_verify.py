"""`verify`: its exit code alone is what a backup script needs."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import crypto
from tests.conftest import World
from tests.refresh.runs.faults_world import TABLES, AirtableRows, Rows, table_of
from tests.world.airtable import AirtableServer, faults
from tests.world.clock import START
from tests.world.program import Result

pytestmark = pytest.mark.by_turns("rows")

LATER = START + timedelta(days=1)


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """The table, in each kind of store."""
    return table_of(request.param, request)


def older_form(world: World, text: str) -> str:
    """Base64 of AES-256-GCM, bound to nothing."""
    nonce = os.urandom(12)
    key = crypto.parse_key(world.program.settings["ENCRYPTION_KEY"])
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text.encode(), None)).decode()


def new_key(world: World, *, keep: bool = True) -> str:
    """Another key in force; returns the one before."""
    before = world.program.settings["ENCRYPTION_KEY"]
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = before if keep else ""
    return before


def store_folder(world: World) -> Path:
    """The state folder of the Airtable table, where its run lock is."""
    assert world.program.run("status").code == 0
    [file] = (world.program.home / "state").glob("*/columns-*.json")
    return file.parent


def verified(world: World, *argv: str) -> tuple[Result, dict[str, Any]]:
    """What `verify --json` says."""
    asked = len(world.oauth.requests)
    result = world.program.run("verify", "--json", *argv)
    assert len(world.oauth.requests) == asked, "a provider was asked"
    return result, result.json()


def found(said: dict[str, Any]) -> dict[str, str]:
    """The findings by location."""
    return {one["location_id"]: one["error"] for one in said["findings"]}


def test_all_cells_open(rows: Rows) -> None:
    rows.add("acme", "a", LATER, last_access_token=rows.world.seal("a", "last_access_token", "access"))
    rows.add("acme", "b", LATER, last_access_token="an automation reads this one")
    result, said = verified(rows.world)
    assert (result.code, said["rows"], said["cells_opened"]) == (0, 2, 5)
    assert (said["findings"], said["stale"]) == ([], [])
    assert rows.world.program.run("verify").out == ""


@pytest.mark.parametrize("column", ["encrypted_refresh", "encrypted_secret", "last_access_token"])
def test_each_cell_that_does_not_open_is_named_with_what_to_do(rows: Rows, column: str) -> None:
    rows.add("acme", "good", LATER)
    rows.add("acme", "bad", LATER, **{column: rows.world.seal("good", column, "moved here")})
    result, said = verified(rows.world)
    assert result.code == 1
    assert [one["location_id"] for one in said["findings"]] == ["bad"]
    assert said["findings"][0]["error"].startswith(column)
    assert "onboard_client.py" in said["findings"][0]["action"]
    shown = rows.world.program.run("verify")
    assert shown.code == 1
    assert column in shown.out


def test_a_row_that_waits_for_onboarding_is_no_fault(rows: Rows) -> None:
    rows.add("acme", "waits", encrypted_refresh="", encrypted_secret="")
    result, said = verified(rows.world)
    assert (result.code, said["rows"], said["cells_opened"]) == (0, 1, 0)


def test_a_secret_is_tried_where_there_is_no_refresh_token_yet(rows: Rows) -> None:
    rows.add("acme", "good", LATER)
    rows.add("acme", "waits", encrypted_refresh="", encrypted_secret=rows.world.seal("x", "encrypted_secret", "s"))
    assert list(found(verified(rows.world)[1])) == ["waits"]


def test_a_row_whose_host_is_not_known_is_a_fault(rows: Rows) -> None:
    rows.add("acme", "good", LATER)
    rows.add("acme", "unknown", LATER)
    rows.edit("unknown", provider="nobody")
    rows.add("acme", "broken", LATER, provider_params="{")
    result, said = verified(rows.world)
    assert result.code == 1
    assert sorted(found(said)) == ["broken", "unknown"]


def test_cells_of_older_forms_and_older_keys_need_re_encrypting_and_are_no_fault(rows: Rows) -> None:
    rows.add("acme", "old key", LATER, last_access_token=rows.world.seal("old key", "last_access_token", "access"))
    new_key(rows.world)
    rows.add("acme", "new", LATER)
    rows.add("acme", "old form", LATER, encrypted_secret=older_form(rows.world, "secret"))
    result, said = verified(rows.world)
    assert (result.code, said["findings"]) == (0, [])
    assert {one["location_id"]: sorted(one["columns"]) for one in said["stale"]} == {
        "old key": ["encrypted_refresh", "encrypted_secret", "last_access_token"],
        "old form": ["encrypted_secret"],
    }
    assert "rotate-key" in rows.world.program.run("verify").out


def test_an_older_form_beside_a_host_that_the_row_names_is_a_fault(rows: Rows) -> None:
    host = rows.world.oauth.url.partition("://")[2]
    old = older_form(rows.world, "token")
    rows.add("acme-instance", "own host", LATER, encrypted_refresh=old, provider_params=f'{{"instance": "{host}"}}')
    rows.add("acme-instance", "default host", LATER, encrypted_refresh=older_form(rows.world, "other"))
    result, said = verified(rows.world)
    assert (result.code, list(found(said))) == (1, ["own host"])
    assert f"--allow-host 'own host={host}'" in said["findings"][0]["action"]


def test_one_row_of_an_unknown_key_is_a_fault_and_all_of_them_mean_a_wrong_key(rows: Rows) -> None:
    rows.add("acme", "a", LATER)
    new_key(rows.world, keep=False)
    wrong, said = verified(rows.world)
    assert wrong.code == 2
    assert "ENCRYPTION_KEY decrypts no value of the 1 rows" in wrong.err
    assert len(said["findings"]) == 2
    rows.add("acme", "b", LATER)
    result, said = verified(rows.world)
    assert (result.code, list(found(said))) == (1, ["a"])
    assert "ENCRYPTION_KEY_FALLBACKS" in said["findings"][0]["action"]


def test_double_rows_are_faults_although_their_cells_open(airtable_world: World) -> None:
    rows = AirtableRows(airtable_world)
    cell = airtable_world.seal("twice", "encrypted_refresh", "one token")
    rows.add("acme", "twice", LATER, encrypted_refresh=cell)
    rows.add("acme", "twice", LATER, encrypted_refresh=cell)
    rows.add("google", "twice", LATER)
    result, said = verified(airtable_world)
    assert result.code == 1
    assert found(said)["twice"].startswith("several rows have the same location and provider")
    assert len(said["findings"]) == 1


def test_one_cell_in_two_rows_is_a_fault(rows: Rows) -> None:
    old = older_form(rows.world, "token")
    rows.add("acme", "a", LATER, encrypted_refresh=old)
    rows.add("acme", "b", LATER, encrypted_refresh=old)
    result, said = verified(rows.world)
    assert (result.code, len(said["findings"])) == (1, 1)
    assert "same encrypted_refresh" in said["findings"][0]["error"]
    assert old not in result.said


def test_a_store_that_does_not_answer_has_its_own_code(airtable_world: World, airtable: AirtableServer) -> None:
    AirtableRows(airtable_world).add("acme", "a", LATER)
    airtable.inject(faults.status(503), times=None)
    assert airtable_world.program.run("verify").code == 3


def test_verify_writes_nothing(rows: Rows) -> None:
    rows.add("acme", "a", LATER)
    before = rows.row("a")
    new_key(rows.world)
    assert rows.world.program.run("verify").code == 0
    assert rows.row("a") == before
