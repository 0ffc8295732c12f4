"""A table that is gone, emptied or somewhere else, and a key that is not the table's: nobody takes that for success."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import crypto
from tests import exits
from tests.conftest import World
from token_refresh.base.events import NoticeCode


def table_file(world: World) -> Path:
    """Where the clients are."""
    [found] = Path(world.program.settings["STATE_DIR"]).rglob("tokens.sqlite3")
    return found


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_table_that_is_gone_ends_each_run_with_2_until_it_is_back(world: World, is_emptied: bool) -> None:
    world.program.settings.pop("DATABASE_URL", None)
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == exits.DONE
    assert world.program.run().code == exits.DONE
    file = table_file(world)
    kept = file.read_bytes()
    if is_emptied:
        file.write_bytes(b"")
    else:
        file.unlink()
    for _ in range(2):
        result = world.program.run()
        assert (result.code, "that one is gone, or elsewhere" in result.said) == (exits.USAGE, True)
        assert world.program.run("status", "--check").code != exits.DONE
    file.unlink()
    file.write_bytes(kept)
    file.chmod(0o600)
    assert world.program.run().code == exits.DONE


def test_after_a_table_was_lost_a_new_one_begins_with_a_client(world: World) -> None:
    world.program.settings.pop("DATABASE_URL", None)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc")))
    world.program.run()
    table_file(world).unlink()
    assert world.program.run().code == exits.USAGE
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "other"))).code == exits.DONE
    assert world.program.run().code == exits.DONE
    assert world.program.run("status", "--check").code == exits.DONE


def test_a_table_without_any_row_is_no_success_to_a_monitor(world: World) -> None:
    """As where a letter of STATE_DIR is wrong."""
    world.program.settings["LOG_FORMAT"] = "json"
    for _ in range(2):
        result = world.program.run()
        assert (result.code, result.codes()) == (exits.DONE, [NoticeCode.TABLE_EMPTY])
        assert "the table has no rows: nothing can be refreshed" in result.said
        checked = world.program.run("status", "--check")
        assert (checked.code, "and the table has no rows" in checked.out) == (exits.FAILED, True)


def test_a_client_that_is_saved_with_another_key_than_the_others_is_warned_of(world: World) -> None:
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "first")))
    assert "does not open" not in world.program.onboard(
        "--from-csv", world.program.csv(world.csv_line("acme", "second"))
    ).said  # fmt: skip
    world.clock.advance(timedelta(minutes=1).total_seconds())
    world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    result = world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "third")))
    assert "the newest row of the table does not open" in result.said
    assert "which is not among the configured keys" in result.said
