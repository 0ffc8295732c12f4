"""Every order of a few faults, fewest first, and what must be true after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from tests.model import program
from tests.model.state import Entry, Expiry, Installation, Rules, Sent, Simulation, State, Who

STUCK = "no run and no command ends it"
ROUNDS = 8  # of a run and the command that it names, in which a state must come to its end

Action = tuple[str, int, Callable[[Simulation], object]]
"""What may happen while nothing is at work, what it costs of the faults, and how it is done."""
Step = tuple[list[str], int, State, str]
"""What happened, what it cost of the faults, what is true then, and the promise that it breaks."""


# What may happen beside the runs


def time_passes(sim: Simulation) -> None:
    """Until the next run: longer than a request lives, and than a grace."""
    # The middle of an access token's life is of interest where somebody looks at it.
    is_slow = sim.rules.kind == "family" or (sim.rules.store == "airtable" and len(sim.folders) > 1)
    sim.book[:] = [one._replace(status="spent") if one.status == "used" else one for one in sim.book]
    _our_clock(sim, 1 if is_slow else 2)


def _our_clock(sim: Simulation, by: int, most: int = Expiry.LAST_MINUTE, *, jumped: bool = False) -> None:
    def later(expiry: int) -> int:
        return max(expiry, min(expiry + by, most))

    sim.jumped, is_back = sim.jumped or jumped, most == Expiry.IMPOSSIBLE
    sim.row = sim.row._replace(expiry=later(sim.row.expiry))
    for who, folder in enumerate(sim.folders):
        aged = tuple([Entry(*one[:5], is_back, later(one.expiry), *one[7:]) for one in folder.entries])
        sim.folders[who] = Installation(aged, *folder[1:])


def _request_ends(sim: Simulation, *, arrives: bool = False) -> None:
    """That of a killed run."""
    token, is_excused, sim.flying, sim.jumped = sim.flying, sim.jumped, 0, False
    if arrives:
        is_excused |= sim.status(token) != "spent"
        program.asked(sim, token)
        sim.judge(is_excused=is_excused)


def _lose_folder(sim: Simulation, who: int) -> None:
    """With all that only it held; what a copy has is found where that is asked in time."""
    by, claim = [Who.STRANGER if one == who else one for one in (sim.row.by, sim.row.claim)]
    sim.folders[who], sim.row, sim.jumped = Installation(), sim.row._replace(by=by, claim=claim), bool(sim.flying)
    folders, sim.folders = sim.folders, [one for one in sim.folders if not one.is_copy]
    sim.judge(is_excused=True)
    sim.folders = folders


def _clone_machine(sim: Simulation) -> None:
    """Disk and all: neither knows of the other."""
    claim = Who.BEFORE_THE_CLONE if sim.row.claim == 0 else Who.NOBODY
    sim.folders[:], sim.row = [sim.folders[0]._replace(is_twin=True)] * 2, sim.row._replace(by=Who.NOBODY, claim=claim)


def _recover(sim: Simulation, who: int) -> None:
    sim.undisturbed(program.recover_replay, who)


def _clash(sim: Simulation, act: Callable[..., object], who: int) -> None:
    sim.is_clash, sim.jumped = True, bool(sim.flying)
    act(sim, who)
    sim.is_lost = True  # but where the row is well after all, which `judge` sees


def actions(state: State, rules: Rules, faults: int) -> Iterator[Action]:
    """All that may happen next; to a grant that is lost no other fault than that somebody onboards."""
    for who, folder in enumerate(state.folders):
        is_unaware = folder.is_twin or rules.store == "airtable"  # twins are at first, and who was not stopped
        is_clash = is_unaware and not folder.is_copy and _is_other_at_work(state, who, counts_copies=False)
        runs: list[tuple[str, Callable[..., object]]] = [("run", program.whole_run), ("recover --replay", _recover)]
        can_recover = any(entry.answers for entry in folder.entries)  # else it changes nothing
        for command, act in runs[: 1 + can_recover]:
            yield f"{who}: {command}", 0, partial(_clash, act=act, who=who) if is_clash else partial(act, who=who)
    if state.flying:
        yield "the dead run's request arrives", 0, partial(_request_ends, arrives=True)
        yield "the dead run's request never arrives", 0, _request_ends
    else:
        yield "time passes", 0, time_passes
    for label in program.people(Simulation(state, rules)) if faults else ():
        yield label, 1, partial(program.done_by_people, label=label)
    if faults and not state.is_lost:
        for who in range(len(state.folders)):
            yield from _commands(state, who)
        yield from _accidents(state, rules)


def _commands(state: State, who: int) -> Iterator[Action]:
    row, folder = state.row, state.folders[who]
    is_refused = folder.is_copy or row.claim not in (Who.NOBODY, who) or row.by not in (Who.NOBODY, who)
    if is_refused and not _is_other_at_work(state, who, counts_copies=True):  # else that one is to store it first
        yield f"{who}: run --takeover", 1, partial(program.whole_run, who=who, takeover=True)
    if folder.is_at("unread"):
        yield f"{who}: recover --resend", 1, partial(program.end_unread, who=who, resend=True)
        yield f"{who}: recover --discard", 1, partial(program.end_unread, who=who, resend=False)
    yield f"{who}: the folder lost", 1, partial(_lose_folder, who=who)


def _accidents(state: State, rules: Rules) -> Iterator[Action]:
    if state.flying or any(one.status == "used" for one in state.book):  # else it is as if time had passed
        yield "the clock jumps ahead", 1, partial(_our_clock, by=2, jumped=bool(state.flying))
    if state.row.by != Who.NOBODY:
        yield "the clock jumps back", 1, partial(_our_clock, by=3, most=Expiry.IMPOSSIBLE)
    if len(state.folders) < rules.machines:
        yield "the folder copied", 1, lambda sim: sim.folders.append(sim.folders[0]._replace(is_copy=True))
        yield "the machine cloned", 1, _clone_machine
    if len(state.folders) < rules.machines and rules.store == "database":
        yield "another machine begins", 1, lambda sim: sim.folders.append(Installation())


def _is_other_at_work(state: State, who: int, *, counts_copies: bool) -> bool:
    others = [
        one for at, one in enumerate(state.folders) if at != who and (counts_copies or one.is_twin or not one.is_copy)
    ]
    return any(entry.step != "superseded" for folder in others for entry in folder.entries)


@dataclass
class Script:
    """Which faults strike a run, decided in advance; then none does, and what else might have is noted in `others`."""

    taken: tuple[str, ...]
    faults: int
    at: int = 0
    others: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, sim: Simulation, _: Sent, options: Callable[[], list[str]]) -> str:
        if self.at == len(self.taken):
            self.others += [(*self.taken, one) for one in options()]
            self.taken += ("",)
        label = self.taken[self.at]
        self.at, self.faults = self.at + 1, self.faults - bool(label)
        sim.choose = self if self.faults else None
        return label


def steps(state: State, rules: Rules, faults: int) -> Iterator[Step]:
    """All steps from a state, each run to its end, with so many faults at the most."""
    for label, cost, act in actions(state, rules, faults):
        scripts: list[tuple[str, ...]] = [()]
        while scripts:
            script = Script(scripts.pop(), faults - cost)
            sim = Simulation(state, rules, script if script.faults else None)
            act(sim)
            sim.judge()
            scripts += script.others
            after = state if sim.is_at(state) else sim.frozen()
            yield [label, *sim.labels], faults - script.faults, after, sim.broken


# Nothing is stuck


def ends(state: State, rules: Rules) -> bool:
    """Whether runs, and the commands that they name, lead to a fresh row or an honest `reauthorize`."""
    orders = [(0,), (1,), (0, 1), (1, 0)] if len(state.folders) > 1 else [(0,)]
    return any(_ends(Simulation(state, rules), order) for order in orders)  # of the machines


def _ends(sim: Simulation, order: tuple[int, ...]) -> bool:
    for who in [who for who in order for _ in range(ROUNDS)]:
        _request_ends(sim)
        time_passes(sim)
        says = program.whole_run(sim, who)
        if _is_at_its_end(sim, who, says):
            return True
        if says in ("takeover", "claimed"):
            program.whole_run(sim, who, takeover=True)
        elif says == "resend":
            program.end_unread(sim, who, resend=True)
        elif sim.folders[who].is_at("superseded"):
            program.recover_replay(sim, who)
    return False


def _is_at_its_end(sim: Simulation, who: int, says: str) -> bool:
    row, folder = sim.row, sim.folders[who]
    if says in ("reauthorize", "onboard") or row.dead == row.token:
        if not sim.is_held("unknown", "failed" if sim.is_lost else ""):
            return True
        if sim.rules.is_strict:
            return sim.is_lost and row.token not in folder.spent
        return sim.is_lost or folder.is_at("superseded")  # an old token is back, and only the provider says so
    works = sim.is_good(row.token) or (sim.is_lost and sim.status(row.token) in ("good", "kept"))
    return row.expiry == Expiry.FRESH and works and not folder.is_at("sent", "answered", "lost", "unproven")


# Exploring


Met = dict[State, tuple[int, State | None]]
"""With how many faults a state was met, and from which."""


def explore(rules: Rules, faults: int, *, stop_at_first: bool = False) -> tuple[int, dict[str, list[str]]]:
    """Go through all states between runs within so many faults; the fewest faults first, then the fewest steps.

    Returns how many there are, and for each broken promise the shortest way there.
    """
    met: Met = {State(): (0, None)}
    levels: list[list[State]] = [[State()], *([] for _ in range(faults))]
    ways: dict[str, list[str]] = {}
    for cost, level in enumerate(levels):
        for state in level:  # which grows meanwhile
            if met[state][0] < cost or (stop_at_first and ways):
                continue
            for labels, price, after, broken in steps(state, rules, faults - cost):
                if after == state and labels == ["time passes"]:  # what waiting makes of a state is another state
                    broken = "" if ends(state, rules) else STUCK
                if broken and broken not in ways:
                    ways[broken] = [*_way(met, state, rules), *labels]
                if not broken and (after not in met or met[after][0] > cost + price):
                    met[after] = (cost + price, state)
                    levels[cost + price].append(after)
    return len(met), ways


def _way(met: Met, state: State, rules: Rules) -> list[str]:
    """The steps that lead to a state."""
    cost, before = met[state]
    if before is None:
        return []
    taken = steps(before, rules, cost - met[before][0])
    return _way(met, before, rules) + next(
        labels for labels, _, after, broken in taken if after == state and not broken
    )
