"""Every order of a few faults, by the model: no promise breaks, and a rule that is taken away is missed."""

from __future__ import annotations

import pytest

from tests.model.explore import CALLED_DEAD, LOST, SPENT, STUCK, explore
from tests.model.state import KINDS, STORES, Rules

# Rules taken away, for which provider and store that shows with how many faults, and the promise that breaks.
BREAKS = {
    "a copy is noticed": ("family", "airtable", 2, LOST),
    "a dead run's request is waited for": ("family", "database", 1, LOST),
    "a pair in a 5xx is tried in the end": ("once", "database", 1, STUCK),
    "a pair that was noted may be tried": ("once", "database", 2, STUCK),
    "a predecessor is put back": ("never", "database", 1, STUCK),
    "a replay knows what a token was to prove": ("never", "airtable", 2, STUCK),
    "a success that is to be proved proves nothing": ("never", "database", 2, LOST),
    "a write goes only over what was read": ("never", "database", 1, LOST),
    "all refused successors are remembered": ("once", "database", 3, STUCK),
    "an impossible expiry is none": ("family", "database", 2, STUCK),
    "an unknown form is not sent again": ("family", "database", 1, LOST),
    "an unproven successor may have one, too": ("never", "database", 2, LOST),
    "an unproven token is proved": ("never", "database", 1, LOST),
    "answers are kept before they are used": ("once", "database", 1, LOST),
    "answers are replayed": ("once", "database", 1, LOST),
    "impossible times are due": ("never", "database", 1, STUCK),
    "recover puts a newer token over a spent one": ("once", "database", 1, STUCK),
    "rows are claimed": ("family", "database", 2, LOST),
    "spent tokens are remembered": ("family", "database", 1, SPENT),
    "the last minute is waited for": ("family", "database", 1, SPENT),
    "what was noted is found again, whatever came last": ("once", "airtable", 3, LOST),
    "where a replay kills, a pair in a 5xx goes first": ("family", "database", 1, LOST),
}


LONG = pytest.mark.long


@pytest.mark.parametrize(("faults", "machines"), [(2, 2), pytest.param(3, 2, marks=LONG)])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_order_of_so_many_faults_breaks_a_promise(kind: str, store: str, faults: int, machines: int) -> None:
    found = explore(Rules(kind, store, machines=machines), faults)
    assert found.ways == {}
    assert found.states > 350


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[LONG] * (faults > 2)) for rule, (*_, faults, _) in BREAKS.items()]
)
def test_without_a_rule_a_promise_breaks(rule: str) -> None:
    kind, store, faults, promise = BREAKS[rule]
    ways = explore(Rules(kind, store, frozenset({rule})), faults, stop_at_first=True).ways
    assert promise in ways, ways
    assert ways[promise]
    assert CALLED_DEAD not in ways
