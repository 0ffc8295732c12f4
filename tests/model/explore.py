"""Every order of a few faults, shortest first, and what must be true after each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.model.state import (
    BEFORE_THE_CLONE,
    FRESH,
    IMPOSSIBLE,
    LAST_MINUTE,
    NOBODY,
    STRANGER,
    Installation,
    Rules,
    State,
    Token,
)
from tests.model.steps import OPEN, Step, advance, asked, begin, changed, first, kept, whole

LOST = "a living grant is lost"
SPENT = "a token that is known to be spent is sent where that kills"
CALLED_DEAD = "a living grant is called dead"
STUCK = "no run and no command ends it"
ROUNDS = 8  # of a run and the command that it names, in which a state must come to its end


# What may happen


def steps(state: State, rules: Rules, faults: int = 1) -> Iterator[Step]:
    """All that may happen next, faults and, where there may be so many, what goes well.

    To a grant that is lost nothing more happens than that somebody onboards. What others do during a run happens where
    it makes a difference: before the provider acts, or before the write.
    """
    yield from _well_in_a_run(state, rules) if state.run is not None else _well_between_runs(state, rules)
    if not faults:
        return
    if state.run is None or state.run.at == "decided" or (state.run.at == "kept" and rules.store == "airtable"):
        people = _people(state, rules)
        yield next(people)
        yield from people if not state.is_lost else ()
    if not state.is_lost:
        yield from _ill_in_a_run(state, rules) if state.run is not None else _ill_between_runs(state, rules)


def _well_in_a_run(state: State, rules: Rules) -> Iterator[Step]:
    step = _advanced(state, rules)
    run = step.state.run
    if run is not None and run.at in ("answered", "written") and not step.broken:  # where only a kill is of interest
        after = _advanced(step.state, rules)
        step = Step(f"{step.label}\n{after.label}", 0, after.state, after.broken)
    yield step


def _advanced(state: State, rules: Rules) -> Step:
    run = state.run
    assert run is not None
    after, _ = advance(state, rules)
    is_overwriting = rules.store == "airtable" and run.at == "decided" and state.row.token != run.token
    if is_overwriting and after.row.token != state.row.token:  # the second window
        proved = [entry.token for entry in after.folders[run.who].entries if entry.step != "superseded"]
        grants = [after.book[token - 1].grant for token in (after.row.token, run.token, *proved)]
        after = after._replace(theirs=next(filter(None, grants)))
        state = state._replace(is_lost=True)
    broken = SPENT if run.at == "noted" and rules.kind == "family" and _is_known_spent(state) else ""
    after = _judged(rules, state, after, is_excused=is_overwriting)
    return Step(f"{run.who}: {run.at}", 0, after, broken or broken_by(after))


def _ill_in_a_run(state: State, rules: Rules) -> Iterator[Step]:
    run = state.run
    assert run is not None
    dead, after = state._replace(run=None), _advanced(state, rules).state
    if run.at != "decided" or run.end[0] == "unproven":  # else it is as if it had been killed before
        yield _step(rules, f"{run.who}: killed, {run.at}", 1, state, dead)
    if after.run is not None and after.run.at in ("answered", "written"):
        is_window = after.run.at == "answered"
        label = f"{run.who}: killed, {after.run.at}"
        yield _step(rules, label, 1, after, after._replace(run=None), is_excused=is_window)
    if run.at == "noted":
        yield _step(rules, f"{run.who}: killed, request out", 1, state, dead._replace(flying=run.token))
        yield from (Step(f"{run.who}: {label}", 1, kept(after, rules)) for label, after in _answers(state, rules))
    if rules.store == "database" and len(state.folders) > 1 and run.at in ("noted", "kept"):
        other, _ = whole(dead, 1 - run.who, rules)
        yield _step(rules, f"{1 - run.who}: a whole run meanwhile", 1, state, other._replace(run=run))


def _answers(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """What else may come of a request."""
    run = state.run
    assert run is not None

    def answered(after: State, form: str, token: int = 0) -> State:
        return after._replace(run=run._replace(at="answered", answer=(form, token)))

    acted, new = asked(state, run.token, rules.kind)
    sample = state._replace(book=(*state.book, Token(0, "dead")))
    yield "never arrived", answered(state, "none")
    yield "answer lost", _judged(rules, state, answered(acted, "none"), is_excused=True)
    yield "a sample for a token", answered(sample, "alone", len(sample.book))
    if rules.kind != "never":
        yield "a sample in a 5xx", answered(sample, "failed", len(sample.book))
        if new:
            yield "a refresh token alone", answered(acted, "alone", new)
            yield "a form that is not known", answered(acted, "unknown", new)
            yield "a pair in a 5xx", answered(acted, "failed", new)


def _well_between_runs(state: State, rules: Rules) -> Iterator[Step]:
    for who, folder in enumerate(state.folders):
        ready = state
        is_unaware = folder.is_twin or rules.store == "airtable"  # which twins are at first, and who was not stopped
        if is_unaware and len(state.folders) > 1 and _is_open(state, 1 - who):
            ready = state._replace(is_lost=True, jumped=bool(state.flying))
        yield _step(rules, f"{who}: run", 0, ready, begin(ready, who, rules)[0])
        yield _step(rules, f"{who}: recover --replay", 0, state, replayed_by_hand(state, who, rules))
    if state.flying:
        yield from _arrivals(state, rules)
    else:
        yield _step(rules, "time passes", 0, state, ticked(state, rules))


def _ill_between_runs(state: State, rules: Rules) -> Iterator[Step]:
    for who, folder in enumerate(state.folders):
        is_refused = folder.is_copy or state.row.claim not in (NOBODY, who) or state.row.by not in (NOBODY, who)
        if is_refused and (len(state.folders) == 1 or not _is_open(state, 1 - who)):
            yield _step(rules, f"{who}: run --takeover", 1, state, begin(state, who, rules, takeover=True)[0])
        if any(entry.step == "unread" for entry in folder.entries):
            yield Step(f"{who}: recover --resend", 1, resent(state, who, rules))
            yield Step(f"{who}: recover --discard", 1, discarded(state, who, rules))
    yield from _clocks(state, rules)
    yield from _folders(state, rules)


def _is_open(state: State, who: int) -> bool:
    return any(entry.step != "superseded" for entry in state.folders[who].entries)


def _step(rules: Rules, label: str, cost: int, before: State, after: State, *, is_excused: bool = False) -> Step:
    return Step(label, cost, _judged(rules, before, after, is_excused=is_excused))


def _arrivals(state: State, rules: Rules) -> Iterator[Step]:
    """A request of a killed run arrives after all, or never does."""
    landed = state._replace(flying=0, jumped=False)
    is_first = state.book[state.flying - 1].status != "spent"
    after, _ = asked(landed, state.flying, rules.kind)
    yield _step(rules, "the dead run's request arrives", 0, state, after, is_excused=is_first or state.jumped)
    yield _step(rules, "the dead run's request never arrives", 0, state, landed)


def _people(state: State, rules: Rules) -> Iterator[Step]:
    """What somebody does to the row, or the grant, at any time."""
    book, row = state.book, state.row
    grant = max(one.grant for one in book) + 1
    fresh = row._replace(token=len(book) + 1, expiry=LAST_MINUTE)
    onboarded = state._replace(book=(*book, Token(grant, "good")), row=fresh, theirs=grant, is_lost=False)
    yield Step("somebody onboards", 1, onboarded if state.run else onboarded.canonical(rules))
    revoked = tuple(one._replace(status="dead") if one.grant == state.theirs else one for one in book)
    if revoked != book:
        yield Step("revoked", 1, state._replace(book=revoked, is_lost=True))
    if state.snapshot != row.token and len(state.folders) == 1:
        old = row._replace(token=state.snapshot, expiry=LAST_MINUTE, dead=0)
        theirs, jumped = book[state.snapshot - 1].grant, bool(state.flying)  # a token that is put back counts as new
        back = state._replace(row=old, theirs=theirs, is_lost=True, jumped=jumped)
        yield Step("the table restored", 1, back if state.run else back.canonical(rules))


def _clocks(state: State, rules: Rules) -> Iterator[Step]:
    """Our clock jumps; the world's does not."""
    row, folders = state.row, state.folders
    ahead = tuple(_with_entries(folder, waits=False) for folder in folders)
    late = LAST_MINUTE if row.expiry != IMPOSSIBLE else IMPOSSIBLE
    jumped = state._replace(row=row._replace(expiry=late), folders=ahead, jumped=bool(state.flying))
    if state.flying or any(one.status == "used" for one in state.book):  # else it is as if time had passed
        yield Step("the clock jumps ahead", 1, jumped.canonical(rules))
    if row.by != NOBODY:
        back = tuple(_with_entries(folder, waits=True) for folder in folders)
        jumped = state._replace(row=row._replace(expiry=IMPOSSIBLE), folders=back)
        yield Step("the clock jumps back", 1, jumped.canonical(rules))


def _folders(state: State, rules: Rules) -> Iterator[Step]:
    """State folders are copied, cloned, lost; another machine begins."""
    [folder, *more] = state.folders
    row = state.row
    if not more and rules.machines > 1:
        yield Step("the folder copied", 1, state._replace(folders=(folder, folder._replace(is_copy=True))))
        twins = (folder._replace(is_twin=True),) * 2
        yield Step(
            "the machine cloned",
            1,
            state._replace(
                folders=twins, row=row._replace(by=NOBODY, claim=BEFORE_THE_CLONE if row.claim == 0 else NOBODY)
            ),
        )
    if not more and rules.machines > 1 and rules.store == "database":
        yield Step("another machine begins", 1, state._replace(folders=(folder, Installation())))
    names = {0: STRANGER}
    gone = row._replace(by=names.get(row.by, row.by), claim=names.get(row.claim, row.claim))
    without = state._replace(folders=(Installation(), *more), row=gone, jumped=bool(state.flying))
    yield _step(rules, "the folder lost", 1, state, without, is_excused=True)


def ticked(state: State, rules: Rules) -> State:
    """Until the next run: longer than a request lives, and than a grace."""
    expiry = state.row.expiry
    if expiry < LAST_MINUTE:  # the middle is of interest where somebody looks at it
        is_longer = rules.kind == "family" or (rules.store == "airtable" and len(state.folders) > 1)
        expiry = expiry + 1 if is_longer else LAST_MINUTE
    row = state.row._replace(expiry=expiry)
    book = tuple(one._replace(status="spent") if one.status == "used" else one for one in state.book)
    folders = tuple(_with_entries(folder, waits=False) for folder in state.folders)
    return state._replace(row=row, book=book, folders=folders)


def _with_entries(folder: Installation, *, waits: bool) -> Installation:
    return folder._replace(entries=tuple(entry._replace(waits=waits) for entry in folder.entries))


# Commands


def replayed_by_hand(state: State, who: int, rules: Rules) -> State:
    """`recover --replay`: also what was superseded, where the row holds its token again, or one that is spent."""
    folder, token = state.folders[who], state.row.token
    is_old = token in folder.spent and rules.is_strict and rules.has("recover puts a newer token over a spent one")
    for entry in reversed(folder.entries):
        if entry.step == "superseded" and entry.answers and (entry.token == token or is_old):
            moved = folder.drop(entry.token).put(entry._replace(step="answered", token=token))
            state = changed(state, who, moved)
            break
    superseded = state.folders[who] != folder
    halted = folder.is_copy  # it stores, and asks nobody: as a copy does
    state = changed(state, who, state.folders[who]._replace(is_copy=True))
    after, _ = whole(state, who, rules)
    theirs = after.book[after.row.token - 1].grant if superseded and after.row.token != token else after.theirs
    return changed(after, who, after.folders[who]._replace(is_copy=halted))._replace(theirs=theirs)


def resent(state: State, who: int, rules: Rules) -> State:
    """`recover --resend`."""
    entries = state.folders[who].entries
    lost = [one._replace(step="lost", lost=True) if one.step == "unread" else one for one in entries]
    return changed(state, who, state.folders[who]._replace(entries=tuple(lost)))._replace(is_lost=True).canonical(rules)


def discarded(state: State, who: int, rules: Rules) -> State:
    """`recover --discard --yes`."""
    kept = [one for one in state.folders[who].entries if one.step != "unread"]
    return changed(state, who, state.folders[who]._replace(entries=tuple(kept)))._replace(is_lost=True).canonical(rules)


# What must be true


def _judged(rules: Rules, before: State, after: State, *, is_excused: bool = False) -> State:
    """Whether the grant that counts is lost is noted; `broken_by` compares."""
    is_lost = before.is_lost or is_excused
    if after.is_held():
        grant, status, _ = after.book[after.row.token - 1]
        is_lost = before.is_lost and (grant, status) != (after.theirs, "good")
    after = after._replace(is_lost=is_lost)
    return after if after.run is not None else after.canonical(rules)


def _is_known_spent(state: State) -> bool:
    """Whether the token that is about to be sent was exchanged before, and the folder knows, or has to wait."""
    run = state.run
    assert run is not None
    folder, row = state.folders[run.who], state.row
    entry = folder.entry(run.token)
    if state.book[run.token - 1].status != "spent" or entry is None:
        return False
    is_early = entry.lost and row.expiry not in (LAST_MINUTE, IMPOSSIBLE) and row.token == run.token
    return run.token in folder.spent or is_early or any(form == "pair" for form, _ in entry.answers)


def broken_by(state: State) -> str:
    """Which promise a state breaks."""
    if not state.is_lost and not state.is_held():
        return LOST
    return CALLED_DEAD if state.row.dead == state.row.token and state.is_good(state.row.token) else ""


def comes_to_an_end(state: State, rules: Rules, known: dict[tuple[State, tuple[int, ...]], bool]) -> bool:
    """Whether runs, and the commands that they name, lead to a fresh row or to an honest `reauthorize`.

    `known` is what was found out before.
    """
    orders = [(0,)] if len(state.folders) == 1 else [(0,), (1,), (0, 1), (1, 0)]
    return any(_settles(state, order, rules, known) for order in orders)


def _settles(
    state: State, order: tuple[int, ...], rules: Rules, known: dict[tuple[State, tuple[int, ...]], bool]
) -> bool:
    path: list[tuple[State, tuple[int, ...]]] = []
    is_settled = False
    for who in [who for who in order for _ in range(ROUNDS)]:
        state = ticked(state._replace(flying=0, jumped=False), rules).canonical(rules)
        key = (state, order[order.index(who) :])
        if key in known:
            is_settled = known[key]
            break
        path.append(key)
        state, says = whole(state, who, rules)
        if _is_at_its_end(state, who, says, rules):
            is_settled = True
            break
        if says in ("takeover", "claimed"):
            state, _ = whole(state, who, rules, takeover=True)
        elif says == "resend":
            state = resent(state, who, rules)
        elif any(entry.step == "superseded" for entry in state.folders[who].entries):
            state = replayed_by_hand(state, who, rules)
    known.update(dict.fromkeys(path, is_settled))
    return is_settled


def _is_at_its_end(state: State, who: int, says: str, rules: Rules) -> bool:
    row, entries = state.row, state.folders[who].entries
    if says in ("reauthorize", "onboard") or row.dead == row.token:
        folder = state.folders[who]
        if not rules.is_strict:  # an old token was put back, and only the provider says so
            is_aside = any(one.step == "superseded" for one in folder.entries)
            return is_aside or state.is_lost or not state.is_held(is_readable=True)
        return not state.is_held(is_readable=True) or (state.is_lost and row.token not in folder.spent)
    is_fresh = row.expiry == FRESH and state.is_good(row.token)
    return is_fresh and not any(entry.step in (*OPEN, "unproven") for entry in entries)


# Exploring


@dataclass
class Found:
    """What came of it: states seen, and for each broken promise the shortest way there."""

    states: int
    ways: dict[str, list[str]]


class _Known:
    """The states that were met: with how many faults, out of which, and by what step."""

    def __init__(self, start: State, faults: int) -> None:
        self._from: dict[State, tuple[int, State | None, str]] = {start: (0, None, "")}
        self._levels: list[list[State]] = [[start], *([] for _ in range(faults))]

    def __iter__(self) -> Iterator[tuple[int, State]]:
        """With the fewest faults first, then the fewest steps."""
        for cost, level in enumerate(self._levels):
            yield from ((cost, state) for state in level if self._from[state][0] == cost)

    def add(self, cost: int, state: State, before: State, label: str) -> None:
        """Where it was not met with as few faults."""
        if cost < len(self._levels) and self._from.get(state, (cost + 1,))[0] > cost:
            self._from[state] = (cost, before, label)
            self._levels[cost].append(state)

    def way(self, state: State, last: str) -> list[str]:
        """The steps that lead to a state, and one more."""
        labels, at = [last], state
        while (before := self._from[at][1]) is not None:
            labels.append(self._from[at][2])
            at = before
        return "\n".join(label for label in reversed(labels) if label).split("\n")


def explore(rules: Rules, faults: int, *, stop_at_first: bool = False) -> Found:
    """All states within so many faults; the fewest faults first, then the fewest steps."""
    known, found = _Known(first(rules), faults), Found(0, {})
    ends: dict[tuple[State, tuple[int, ...]], bool] = {}
    for cost, state in known:
        found.states += 1
        if state.run is None and STUCK not in found.ways and not comes_to_an_end(state, rules, ends):
            found.ways[STUCK] = known.way(state, "")
        for step in steps(state, rules, faults - cost):
            if cost + step.cost == faults:
                step = _to_the_end_of_the_run(step, rules)
            if broken := step.broken or broken_by(step.state):
                found.ways.setdefault(broken, known.way(state, step.label))
            else:
                known.add(cost + step.cost, step.state, state, step.label)
        if stop_at_first and found.ways:
            break
    return found


def _to_the_end_of_the_run(step: Step, rules: Rules) -> Step:
    """Where nothing more can go wrong, what is true in between need not be remembered."""
    while step.state.run is not None and not (step.broken or broken_by(step.state)):
        after = next(_well_in_a_run(step.state, rules))
        step = Step(f"{step.label}\n{after.label}", step.cost, after.state, after.broken)
    return step
