"""Every order of a few faults, by the model: no promise breaks, and a rule that is taken away is missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.model import program
from tests.model.explore import STUCK, explore
from tests.model.state import CALLED_DEAD, KINDS, LOST, SPENT, STORES, Rules

LONG = pytest.mark.long

# Rules of `program` taken away: what is edited, where that shows with how many faults, and the promise that breaks.
BREAKS = {
    "a copy is noticed": (
        'says = "takeover" if sim.folders[who].is_copy else _listed(sim, who)',
        "says = _listed(sim, who)",
        (Rules("family", "airtable"), 2, LOST),
    ),
    "a copy stores nothing unproven": (
        'if run.end == "unproven" and sim.folders[who].is_copy:',
        "if False:",
        (Rules("never", "airtable"), 3, STUCK),
    ),
    "a dead run's request is waited for": (
        "(entry.waits or must_wait)",
        "must_wait",
        (Rules("family", "database"), 1, LOST),
    ),
    "a pair in a 5xx is tried in the end": (
        "    if pairs:\n",
        "    if False:\n",
        (Rules("once", "database"), 1, STUCK),
    ),
    "a pair that was noted may be tried": (
        "token not in entry.refuted]",
        "token not in (*entry.refuted, entry.successor)]",
        (Rules("once", "database"), 2, STUCK),
    ),
    "a predecessor is put back": (
        'return ("put back", previous) if previous else ("dead", 0)',
        'return "dead", 0',
        (Rules("never", "database"), 1, STUCK),
    ),
    "a replay knows what a token was to prove": (
        "folder.proved_by(run.token)\n",
        "None if run.is_replay else folder.proved_by(run.token)\n",
        (Rules("never", "airtable"), 2, STUCK),
    ),
    "a success that is to be proved proves nothing": (
        '    if end == "refreshed":  # it works',
        '    if end in ("refreshed", "unproven"):  # it works',
        (Rules("never", "database"), 2, LOST),
    ),
    "a write goes only over what was read": (
        "if now != goes_over or (",
        "if False and (",
        (Rules("never", "database"), 1, LOST),
    ),
    "all refused successors are remembered": (
        "refuted=(*entry.refuted, entry.successor)",
        "refuted=(entry.successor,)",
        (Rules("once", "database", machines=1), 3, STUCK),
    ),
    "an impossible expiry is none": (
        'must_wait = kind == "family" and sim.row.expiry < Expiry.LAST_MINUTE',
        'must_wait = kind == "family" and sim.row.expiry != Expiry.LAST_MINUTE',
        (Rules("family", "database"), 2, STUCK),
    ),
    "an unknown form is not sent again": (
        'return "unread" if form == "unknown" else "lost", 0',
        'return "lost", 0',
        (Rules("family", "database"), 1, LOST),
    ),
    "an unproven successor may have one, too": (
        "while after is not None and",
        "while False and",
        (Rules("never", "airtable"), 2, LOST),
    ),
    "an unproven token is proved": (
        'return "unproven", new\n',
        'return "refreshed", new\n',
        (Rules("never", "database"), 1, LOST),
    ),
    "answers are kept before they are used": (
        'if run.answer[0] != "none":',
        "if False:",
        (Rules("once", "database"), 1, LOST),
    ),
    "answers are replayed": (
        "    for entry in sim.folders[who].entries:\n",
        "    for entry in ():\n",
        (Rules("once", "database"), 1, LOST),
    ),
    "impossible times are due": (
        "if row.expiry == Expiry.FRESH:",
        "if row.expiry in (Expiry.FRESH, Expiry.IMPOSSIBLE):",
        (Rules("never", "database"), 1, STUCK),
    ),
    "recover puts a newer token over a spent one": (
        "if token in folder.spent and sim.rules.is_strict]",
        "if False]",
        (Rules("once", "database"), 1, STUCK),
    ),
    "rows are claimed": (
        "    if not is_airtable:\n",
        "    if False:\n",
        (Rules("family", "database"), 2, LOST),
    ),
    "spent tokens are remembered": (
        "if sim.rules.is_strict and run.token in folder.spent:",
        "if False:",
        (Rules("family", "database"), 1, SPENT),
    ),
    "the last minute is waited for": (
        'must_wait = kind == "family" and sim.row.expiry < Expiry.LAST_MINUTE',
        "must_wait = False",
        (Rules("family", "database"), 1, SPENT),
    ),
    "the row keeps a token before that no entry knows": (
        "is_known = not previous or previous in",
        "is_known = True or",
        (Rules("never", "database", machines=1), 4, LOST),
    ),
    "what an unproven answer was for is not spent": (
        '({entry.token} if form == "pair" else set())',
        "{entry.token}",
        (Rules("once", "database", machines=1), 4, STUCK),
    ),
    "what was noted is found again, whatever came last": (
        "token == entry.successor:",
        'token == entry.successor and form in ("alone", "failed"):',
        (Rules("once", "airtable", machines=1), 3, LOST),
    ),
    "where a replay kills, a pair in a 5xx goes first": (
        'if form == "alone" or (form == "failed" and sim.rules.kind == "family"):',
        'if form == "alone":',
        (Rules("family", "database"), 1, LOST),
    ),
}


@contextmanager
def edited(old: str, new: str) -> Iterator[None]:
    """The model's program with another text for one that is in it."""
    source = Path(program.__file__).read_text()
    assert old in source
    exec(compile(source.replace(old, new), program.__file__, "exec"), vars(program))
    try:
        yield
    finally:
        exec(compile(source, program.__file__, "exec"), vars(program))


@pytest.mark.by_turns("store")
@pytest.mark.parametrize("faults", [2, pytest.param(3, marks=LONG)])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_order_of_so_many_faults_breaks_a_promise(kind: str, store: str, faults: int) -> None:
    states, ways = explore(Rules(kind, store), faults)
    assert ways == {}
    assert states > 250


@pytest.mark.parametrize("rule", [pytest.param(rule, marks=[LONG] * (BREAKS[rule][2][1] > 2)) for rule in BREAKS])
def test_without_a_rule_a_promise_breaks(rule: str) -> None:
    old, new, (rules, faults, promise) = BREAKS[rule]
    with edited(old, new):
        _, ways = explore(rules, faults, stop_at_first=True)
    assert ways.get(promise), ways
    assert CALLED_DEAD not in ways
