"""Answers of every form through whole runs: what is read is stored, and what refuses is shown to people."""

from __future__ import annotations

import math

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import Rows, SqliteRows
from tests.refresh.runs.test_faults import only, run
from tests.world.oauth.forms import REFUSAL_FORMS, SHAPES, firewall, refused_in, reshaped

READ = [name for name, shape in SHAPES.items() if shape.is_read]
WORDS = "You shall not pass"


@pytest.fixture
def table(world: World) -> Rows:
    """Rows of the embedded database: the store has no say in what counts."""
    return SqliteRows(world)


@pytest.mark.by_turns("provider")
@pytest.mark.parametrize("provider", ["acme", "acme-never"])
@pytest.mark.parametrize("shape", READ)
def test_a_pair_in_each_shape_that_can_be_read_is_stored(table: Rows, provider: str, shape: str) -> None:
    table.add(provider, "loc")
    table.world.oauth.fail(reshaped(shape), times=math.inf)
    for _ in range(2):
        assert only(run(table))["outcome"] == "refreshed"
        assert table.is_current("loc")
        table.world.clock.advance(3600)
    assert table.world.oauth.replayed() == []


@pytest.mark.by_turns("form")
@pytest.mark.parametrize("form", REFUSAL_FORMS)
def test_a_refusal_of_each_form_is_one_request_and_its_words_reach_people(table: Rows, form: str) -> None:
    table.add("acme", "loc")
    refused = table.world.oauth.fail(refused_in(form, "x_unknown", WORDS), times=math.inf)
    result = only(run(table))
    assert (result["outcome"], refused.hits) == ("operator", 1)
    assert (WORDS in result["error"]) == REFUSAL_FORMS[form].tells_words
    assert "lost" not in result["error"]
    refused.stop()
    table.world.clock.advance(3600)
    assert only(run(table))["outcome"] == "refreshed"


def test_the_page_of_a_firewall_passes_with_the_next_run(table: Rows) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(firewall())
    assert only(run(table))["outcome"] == "transient"
    table.world.clock.advance(3600)
    assert only(run(table))["outcome"] == "refreshed"
    assert table.world.oauth.replayed() == []
