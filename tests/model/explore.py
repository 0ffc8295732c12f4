"""Every order of a few faults, fewest first, and what must be true after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from tests.model.state import (
    BEFORE_THE_CLONE,
    FRESH,
    IMPOSSIBLE,
    LAST_MINUTE,
    NOBODY,
    STRANGER,
    Installation,
    Rules,
    Run,
    State,
    Token,
)
from tests.model.steps import START, advance, asked, begin, discarded, kept, replayed_by_hand, resent, whole

LOST = "a living grant is lost"
SPENT = "a token that is known to be spent is sent where that kills"
CALLED_DEAD = "a living grant is called dead"
STUCK = "no run and no command ends it"
ROUNDS = 8  # of a run and the command that it names, in which a state must come to its end


class Step(NamedTuple):
    """What happened, what it cost of the faults, and what is true then.

    `is_excused`: what is lost by it no program can help; `broken`: a promise that this step breaks.
    """

    label: str
    cost: int
    state: State
    is_excused: bool = False
    broken: str = ""


# What may happen


def steps(state: State, rules: Rules, faults: int = 1) -> Iterator[Step]:
    """All that may happen next, faults and, where there may be so many, what goes well.

    To a grant that is lost nothing more happens than that somebody onboards. What others do during a run happens where
    it makes a difference: before the provider acts, or before the write.
    """
    run = state.run
    well = _well_between_runs(state, rules) if run is None else iter([_goes_well(state, run, rules)])
    for step in chain(well, _ill(state, rules) if faults else ()):
        yield _judged(step, rules)


def _ill(state: State, rules: Rules) -> Iterator[Step]:
    run = state.run
    people = _people(state)
    if run is None or run.at == "decided" or (run.at == "kept" and rules.store == "airtable"):
        yield from [next(people)] if state.is_lost else people
    if not state.is_lost:
        yield from _ill_between_runs(state, rules) if run is None else _ill_in_a_run(state, run, rules)


def _goes_well(state: State, run: Run, rules: Rules) -> Step:
    """The next step of a run, and one more where nothing but a kill would be of interest in between."""
    step = _judged(_advanced(state, run, rules), rules)
    between = step.state.run
    if between is None or between.at not in ("answered", "written") or step.broken:
        return step
    after = _advanced(step.state, between, rules)
    return after._replace(label=f"{step.label}\n{after.label}")


def _advanced(state: State, run: Run, rules: Rules) -> Step:
    after, _ = advance(state, run, rules)
    is_overwriting = rules.store == "airtable" and run.at == "decided" and not run.is_over(state.row)
    if is_overwriting and after.row.token != state.row.token:  # the second window
        proved = [entry.token for entry in after.folders[run.who].entries if entry.step != "superseded"]
        grants = [after.book[token - 1].grant for token in (after.row.token, run.token, *proved)]
        after = after._replace(theirs=next(filter(None, grants), after.theirs), is_lost=True)
    # Where the folder was lost that knew of it: a row keeps one token before an unproven one.
    is_second = state.row.previous > 0 and state.row.token == run.token and after.row.previous == run.token
    is_second &= state.folders[run.who].proved_by(run.token) is None
    is_known = run.at == "noted" and rules.kind == "family" and _is_known_spent(state, run)
    return Step(f"{run.who}: {run.at}", 0, after, is_overwriting or is_second, SPENT if is_known else "")


def _ill_in_a_run(state: State, run: Run, rules: Rules) -> Iterator[Step]:
    dead, after = state._replace(run=None), _judged(_advanced(state, run, rules), rules).state
    if run.at != "decided" or run.end[0] == "unproven":  # else it is as if it had been killed before
        yield Step(f"{run.who}: killed, {run.at}", 1, dead)
    if after.run is not None and after.run.at in ("answered", "written"):
        is_window = after.run.at == "answered"
        yield Step(f"{run.who}: killed, {after.run.at}", 1, after._replace(run=None), is_window)
    if run.at == "noted":
        yield Step(f"{run.who}: killed, request out", 1, dead._replace(flying=run.token))
        for label, acted, answer, is_excused in _answers(state, run, rules):
            came = kept(acted, run._replace(answer=answer), rules)
            yield Step(f"{run.who}: {label}", 1, came, is_excused)
    if rules.store == "database" and len(state.folders) > 1 and run.at in ("noted", "kept"):
        other, _ = whole(dead, 1 - run.who, rules)
        yield Step(f"{1 - run.who}: a whole run meanwhile", 1, other._replace(run=run))


def _answers(state: State, run: Run, rules: Rules) -> Iterator[tuple[str, State, tuple[str, int], bool]]:
    """What else may come of a request: what is true at the provider then, the answer, and whether that may lose it."""
    acted, new = asked(state, run.token, rules.kind)
    sample = state._replace(book=(*state.book, Token(0, "dead")))
    yield "never arrived", state, ("none", 0), False
    yield "answer lost", acted, ("none", 0), True
    yield "a sample for a token", sample, ("alone", len(sample.book)), False
    if rules.kind != "never":
        yield "a sample in a 5xx", sample, ("failed", len(sample.book)), False
        if new:
            yield "a refresh token alone", acted, ("alone", new), False
            yield "a form that is not known", acted, ("unknown", new), False
            yield "a pair in a 5xx", acted, ("failed", new), False


def _well_between_runs(state: State, rules: Rules) -> Iterator[Step]:
    for who, folder in enumerate(state.folders):
        ready = state
        is_unaware = folder.is_twin or rules.store == "airtable"  # which twins are at first, and who was not stopped
        if is_unaware and _is_other_at_work(state, who):
            ready = state._replace(is_lost=True, jumped=bool(state.flying))
        yield Step(f"{who}: run", 0, begin(ready, who, rules)[0])
        yield Step(f"{who}: recover --replay", 0, replayed_by_hand(state, who, rules))
    if state.flying:  # a request of a killed run arrives after all, or never does
        landed = state._replace(flying=0, jumped=False)
        is_first = state.book[state.flying - 1].status != "spent"
        arrived, _ = asked(landed, state.flying, rules.kind)
        yield Step("the dead run's request arrives", 0, arrived, is_first or state.jumped)
        yield Step("the dead run's request never arrives", 0, landed)
    else:
        yield Step("time passes", 0, ticked(state, rules))


def _is_other_at_work(state: State, who: int) -> bool:
    return len(state.folders) > 1 and any(entry.step != "superseded" for entry in state.folders[1 - who].entries)


def _ill_between_runs(state: State, rules: Rules) -> Iterator[Step]:
    row = state.row
    for who, folder in enumerate(state.folders):
        is_refused = folder.is_copy or row.claim not in (NOBODY, who) or row.by not in (NOBODY, who)
        if is_refused and not _is_other_at_work(state, who):
            yield Step(f"{who}: run --takeover", 1, begin(state, who, rules, takeover=True)[0])
        if folder.is_at("unread"):
            yield Step(f"{who}: recover --resend", 1, resent(state, who))
            yield Step(f"{who}: recover --discard", 1, discarded(state, who))
    if state.flying or any(one.status == "used" for one in state.book):  # else it is as if time had passed
        yield Step("the clock jumps ahead", 1, _at(state, _late)._replace(jumped=bool(state.flying)))
    if row.by != NOBODY:
        yield Step("the clock jumps back", 1, _at(state, lambda _: IMPOSSIBLE, waits=True))
    if len(state.folders) == 1 and rules.machines > 1:
        yield from _second_machine(state, rules)
    gone = row._replace(by=row.by or STRANGER, claim=row.claim or STRANGER)
    without = state.put(0, Installation())._replace(row=gone, jumped=bool(state.flying))
    yield Step("the folder lost", 1, without, is_excused=True)


def _second_machine(state: State, rules: Rules) -> Iterator[Step]:
    [folder] = state.folders
    yield Step("the folder copied", 1, state._replace(folders=(folder, folder._replace(is_copy=True))))
    row = state.row._replace(by=NOBODY, claim=BEFORE_THE_CLONE if state.row.claim == 0 else NOBODY)
    yield Step("the machine cloned", 1, state._replace(row=row, folders=(folder._replace(is_twin=True),) * 2))
    if rules.store == "database":
        yield Step("another machine begins", 1, state._replace(folders=(folder, Installation())))


def _people(state: State) -> Iterator[Step]:
    """What somebody does to the row, or the grant, at any time."""
    book, row = state.book, state.row
    grant = max(one.grant for one in book) + 1
    fresh = row._replace(token=len(book) + 1, expiry=LAST_MINUTE, previous=0)
    onboarded = state._replace(book=(*book, Token(grant, "good")), row=fresh, theirs=grant, is_lost=False)
    yield Step("somebody onboards", 1, onboarded)
    revoked = tuple(Token(0, "dead") if one.grant == state.theirs else one for one in book)
    if revoked != book:
        yield Step("revoked", 1, state._replace(book=revoked, is_lost=True))
    if state.snapshot != row.token and len(state.folders) == 1:
        old = row._replace(token=state.snapshot, expiry=LAST_MINUTE, dead=0, previous=0)
        theirs, jumped = book[state.snapshot - 1].grant, bool(state.flying)  # a token that is put back counts as new
        yield Step("the table restored", 1, state._replace(row=old, theirs=theirs, is_lost=True, jumped=jumped))


def ticked(state: State, rules: Rules) -> State:
    """Until the next run: longer than a request lives, and than a grace."""
    # The middle of an access token's life is of interest where somebody looks at it.
    is_longer = rules.kind == "family" or (rules.store == "airtable" and len(state.folders) > 1)
    book = tuple(one._replace(status="spent") if one.status == "used" else one for one in state.book)
    return _at(state._replace(book=book), (lambda expiry: max(expiry, min(expiry + 1, 2))) if is_longer else _late)


def _late(expiry: int) -> int:
    return max(expiry, LAST_MINUTE)


def _at(state: State, later: Callable[[int], int], *, waits: bool = False) -> State:
    """At another time, by our clock."""
    row = state.row._replace(expiry=later(state.row.expiry))
    return state._replace(row=row, folders=tuple(folder.aged(later, waits=waits) for folder in state.folders))


# What must be true


def _judged(step: Step, rules: Rules) -> Step:
    """With whether the grant that counts is lost, and what that breaks."""
    after = step.state
    is_lost, is_held = after.is_lost or step.is_excused, after.is_held()
    if is_held:
        grant, status, _ = after.book[after.row.token - 1]
        is_lost = after.is_lost and (grant, status) != (after.theirs, "good")
    after = after._replace(is_lost=is_lost)
    after = after if after.run is not None else after.canonical(rules)
    broken = "" if is_lost or is_held else LOST
    is_called_dead = after.row.dead == after.row.token and after.is_good(after.row.token)
    return step._replace(state=after, broken=step.broken or broken or (CALLED_DEAD if is_called_dead else ""))


def _is_known_spent(state: State, run: Run) -> bool:
    """Whether the token that is about to be sent was exchanged before, and the folder knows, or has to wait."""
    folder, row = state.folders[run.who], state.row
    entry = folder.entry(run.token)
    if state.book[run.token - 1].status != "spent" or entry is None:
        return False
    is_early = entry.lost and row.expiry not in (LAST_MINUTE, IMPOSSIBLE) and row.token == run.token
    return run.token in folder.spent or is_early or any(form == "pair" for form, _ in entry.answers)


@dataclass
class Ends:
    """Whether runs, and the commands that they name, lead from a state to a fresh row or an honest `reauthorize`."""

    rules: Rules
    known: dict[tuple[State, tuple[int, ...]], bool] = field(default_factory=dict)

    def has(self, state: State) -> bool:
        """Whether they do, in any order of the machines."""
        orders = [(0,)] if len(state.folders) == 1 else [(0,), (1,), (0, 1), (1, 0)]
        return any(self._settles(state, order) for order in orders)

    def _settles(self, state: State, order: tuple[int, ...]) -> bool:
        path: list[tuple[State, tuple[int, ...]]] = []
        is_settled = False
        for who in [who for who in order for _ in range(ROUNDS)]:
            state = ticked(state._replace(flying=0, jumped=False), self.rules).canonical(self.rules)
            path.append((state, order[order.index(who) :]))
            if path[-1] in self.known:
                is_settled = self.known[path.pop()]
                break
            state, says = whole(state, who, self.rules)
            if is_settled := self._is_at_its_end(state, who, says):
                break
            if says in ("takeover", "claimed"):
                state, _ = whole(state, who, self.rules, takeover=True)
            elif says == "resend":
                state = resent(state, who)
            elif state.folders[who].is_at("superseded"):
                state = replayed_by_hand(state, who, self.rules)
        self.known.update(dict.fromkeys(path, is_settled))
        return is_settled

    def _is_at_its_end(self, state: State, who: int, says: str) -> bool:
        row, folder = state.row, state.folders[who]
        if says in ("reauthorize", "onboard") or row.dead == row.token:
            if not state.is_held(is_readable=True):
                return True
            if self.rules.is_strict:
                return state.is_lost and row.token not in folder.spent
            return state.is_lost or folder.is_at("superseded")  # an old token is back, and only the provider says so
        is_living = state.book[row.token - 1].status in ("good", "kept")  # of whichever grant
        return row.expiry == FRESH and is_living and not folder.is_at("sent", "answered", "lost", "unproven")


# Exploring


@dataclass
class Found:
    """What came of it: states seen, and for each broken promise the shortest way there."""

    states: int = 0
    ways: dict[str, list[str]] = field(default_factory=dict)


_Met = dict[State, tuple[int, State | None, str]]  # with how many faults, out of which state, by what


def explore(rules: Rules, faults: int, *, stop_at_first: bool = False) -> Found:
    """All states within so many faults; the fewest faults first, then the fewest steps."""
    met: _Met = {START: (0, None, "")}
    levels: list[list[State]] = [[START], *([] for _ in range(faults))]
    found, ends = Found(), Ends(rules)

    for cost, level in enumerate(levels):
        for state in level:  # which grows meanwhile
            if met[state][0] < cost:
                continue
            found.states += 1
            if state.run is None and STUCK not in found.ways and not ends.has(state):
                found.ways[STUCK] = _way(met, state, "")
            for step in _next(state, rules, faults - cost):
                total = cost + step.cost
                if step.broken:
                    found.ways.setdefault(step.broken, _way(met, state, step.label))
                elif met.get(step.state, (total + 1,))[0] > total:
                    met[step.state] = (total, state, step.label)
                    levels[total].append(step.state)
            if stop_at_first and found.ways:
                return found
    return found


def _way(met: _Met, state: State | None, last: str) -> list[str]:
    """The steps that lead to a state, and one more."""
    labels = [last]
    while state is not None:
        _, state, label = met[state]
        labels.append(label)
    return "\n".join(label for label in reversed(labels) if label).split("\n")


def _next(state: State, rules: Rules, faults: int) -> Iterator[Step]:
    """The steps from here; where nothing more can go wrong, each with the rest of its run."""
    for step in steps(state, rules, faults):
        yield step if step.cost < faults else _to_the_end_of_the_run(step, rules)


def _to_the_end_of_the_run(step: Step, rules: Rules) -> Step:
    while (run := step.state.run) is not None and not step.broken:
        after = _judged(_goes_well(step.state, run, rules), rules)
        step = after._replace(label=f"{step.label}\n{after.label}", cost=step.cost)
    return step
