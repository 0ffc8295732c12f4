"""What a row, its provider and the state folders around it hold. Times and texts are left out; tokens are numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

KINDS = ("never", "once", "family", "grace", "until_used")
STORES = ("database", "airtable")
LOST = "a living grant is lost"
SPENT = "a token that is known to be spent is sent where that kills"
CALLED_DEAD = "a living grant is called dead"

_SHARED: dict[Any, Any] = {}  # equal parts of states are one object, which keeps millions of them small
_OTHER, _NONE = {0: 1, 1: 0}, frozenset[int]()


class Expiry:
    """What the row's says; a missing one is its last minute, too."""

    FRESH, DUE, LAST_MINUTE, IMPOSSIBLE = range(4)


class Who:
    """Who refreshed a row, or claimed it, where that is neither installation, 0 or 1."""

    NOBODY, STRANGER, BEFORE_THE_CLONE = -1, 2, 3


class Rules(NamedTuple):
    """Which provider and store. `machines`: how many may get a state folder, one or two."""

    kind: str
    store: str
    machines: int = 2

    @property
    def is_strict(self) -> bool:
        """Whether a second use of a token is refused, or worse."""
        return self.kind in ("once", "family")


class Token(NamedTuple):
    """A refresh token at its provider: `good`, `used` (accepted for now all the same), `kept`, `spent` or `dead`.

    `kept` is accepted until its successor is used, whose `parent` it is. `grant` is 0 where no provider made it.
    """

    grant: int
    status: str
    parent: int = 0


class Row(NamedTuple):
    """The row: `by` refreshed it, `claim` has it; it reads `reauthorize` where `dead` is the token in it.

    `previous`: in a database, the token before an unproven one.
    """

    token: int
    expiry: int = Expiry.LAST_MINUTE
    dead: int = 0
    by: int = 0
    claim: int = Who.NOBODY
    previous: int = 0


class Entry(NamedTuple):
    """A journal entry. `answers`: form and token; `waits`: its request is younger than 90 seconds;
    `expiry`: what the row's would say by its last answer; `successor`: to be proved, and what it replaces is kept as
    `previous`; `refuted`: successors that were refused."""

    token: int
    step: str = "sent"
    answers: tuple[tuple[str, int], ...] = ()
    successor: int = 0
    previous: int = 0
    waits: bool = True
    expiry: int = Expiry.FRESH
    lost: bool = False
    refuted: tuple[int, ...] = ()


class Installation(NamedTuple):
    """A state folder. `ignores`: what others stamped so far does not count, by `--takeover`."""

    entries: tuple[Entry, ...] = ()
    spent: frozenset[int] = frozenset()
    is_copy: bool = False
    is_twin: bool = False
    ignores: bool = False

    def entry(self, token: int) -> Entry | None:
        """The one about a token."""
        for one in self.entries:
            if one.token == token:
                return one
        return None

    def proved_by(self, token: int) -> Entry | None:
        """The one whose unproven successor a token is."""
        return next((one for one in self.entries if one.step == "unproven" and one.successor == token), None)

    def is_at(self, *steps: str) -> bool:
        """Whether an entry is at one of these steps."""
        return any(one.step in steps for one in self.entries)

    def put(self, entry: Entry) -> Installation:
        """With this entry."""
        return Installation((*[one for one in self.entries if one.token != entry.token], entry), *self[1:])

    def drop(self, token: int, *spent: int) -> Installation:
        """Without the entry about a token; these are remembered as spent."""
        entries = tuple([one for one in self.entries if one.token != token])
        return Installation(entries, self.spent.union(spent), *self[2:])


class State(NamedTuple):
    """All of it, while nothing is at work; at first a row with a fresh grant that is due.

    `flying`: a token that a killed run sent and that has not arrived; `jumped`: the clock jumped ahead meanwhile.
    `theirs` is the grant that a person put into the row last; `is_lost`: it was lost where no program can help it.
    """

    row: Row = Row(1)
    book: tuple[Token, ...] = (Token(1, "good"),)
    folders: tuple[Installation, ...] = (Installation(),)
    flying: int = 0
    jumped: bool = False
    snapshot: int = 1
    theirs: int = 1
    is_lost: bool = False


@dataclass
class Sent:
    """A token that a run sent, or sends again: what came for it, and what is made of that.

    `over`: the token in the row that a replay goes over, where that is an older one. `repeats`: it is sent once more
    where its answer is lost.
    """

    who: int
    token: int
    answer: tuple[str, int] = ("", 0)
    end: str = ""
    sends: int = 0
    repeats: bool = False
    is_replay: bool = False
    is_proof: bool = False
    over: int = 0


class Simulation:
    """A state while something happens to it.

    `choose` is asked wherever faults may strike a run: it gets what may happen, and returns what does. Without it
    nothing does, and nothing is judged. `in_memory`: tokens that a process has; `is_clash`: two machines are at work at
    once that know nothing of each other; `broken`: the promise that broke first.
    """

    def __init__(self, state: State, rules: Rules, choose: Choose | None = None) -> None:
        self.row, book, folders, self.flying, self.jumped, self.snapshot, self.theirs, self.is_lost = state
        self.book, self.folders, self.rules, self.choose = list(book), list(folders), rules, choose
        self.in_memory: tuple[int, ...] = ()
        self.is_clash = False
        self.labels: list[str] = []
        self.broken = ""

    def undisturbed(self, act: Callable[..., object], *arguments: Any, **more: Any) -> None:
        """Let something happen without faults."""
        choose, self.choose = self.choose, None
        act(self, *arguments, **more)
        self.choose = choose

    def status(self, token: int) -> str:
        """What the provider makes of a token."""
        return self.book[token - 1].status

    def is_good(self, token: int) -> bool:
        """Whether the provider accepts this token of the grant that counts, for as long as it takes."""
        grant, status, _ = self.book[token - 1]
        return grant == self.theirs and status in ("good", "kept")

    def is_held(self, *hidden: str) -> bool:
        """Whether a token that works, of the grant that counts, is somewhere where a run or a command finds it.

        In the row, in a process, or in the journal, as the predecessor of the row's token or in a kept answer, other
        than those of `hidden` forms.
        """
        places = {self.row.token, self.row.previous, *self.in_memory}
        for folder in self.folders:
            led_here = {self.row.token}
            for _ in folder.entries:
                led_here.update(one.token for one in folder.entries if one.successor in led_here)
            for one in folder.entries:
                answers = one.answers if one.token in led_here else one.answers[-1:] if one.step == "superseded" else ()
                places.update(token for form, token in answers if form not in hidden)
                places.add(one.previous if one.token in led_here and one.step != "superseded" else 0)
        return any(map(self.is_good, places - {0}))

    def judge(self, *, is_excused: bool = False) -> None:
        """Whether the grant that counts is lost, and what that breaks; `is_excused`: no program could help it."""
        token = self.row.token
        if not self.is_good(token) and not self.is_held():
            self.broken = self.broken or ("" if self.is_lost or is_excused or self.is_clash else LOST)
            self.is_lost = True
        elif self.is_good(token) and self.status(token) == "good":
            self.is_lost = False
        if self.row.dead == token and self.is_good(token):
            self.broken = self.broken or CALLED_DEAD

    def is_at(self, state: State) -> bool:
        """Whether nothing has changed since that one."""
        now = self.row, tuple(self.book), tuple(self.folders), self.flying, self.jumped
        return now == state[:5] and self.is_lost == state.is_lost

    def frozen(self) -> State:
        """The state now without what makes no difference, its tokens and grants numbered in the order they come in."""
        (token, expiry, dead, by, claim, previous), book, share = self.row, self.book, _SHARED.setdefault
        folders, order = self.folders, {0: 0}
        if len(folders) > 1 and _rank(folders[0]) < _rank(folders[1]):  # either machine may be the first
            folders, by, claim = folders[::-1], _OTHER.get(by, by), _OTHER.get(claim, claim)
        has_names = self.rules.store == "airtable" or folders[0].is_twin or folders[-1].is_twin

        def number(token: int) -> int:
            return order.setdefault(token, len(order))

        # Who refreshed it is asked where there are names; a table is restored where there is one machine.
        row = Row(number(token), expiry, int(dead == token), by if has_names else 0, claim, number(previous))
        snapshot = number(self.snapshot) if len(folders) == 1 else 1
        flying, kept = number(self.flying), list[tuple[Entry, ...]]()
        for folder in folders:
            kept.append(tuple([self._numbered(one, number) for one in folder.entries if self._is_known(one, order)]))
        for one in list(order)[1:]:
            number(book[one - 1].parent)
        grants, tokens = {0: 0, self.theirs: min(self.theirs, 1)}, list[Token]()
        for one in list(order)[1:]:
            grant, status, parent = book[one - 1]
            tokens.append(Token(grants.setdefault(grant, len(grants)), status, order.get(parent, 0)))
        parts = []
        for (_, spent, is_copy, is_twin, ignores), entries in zip(folders, kept, strict=True):
            numbers = frozenset([order[one] for one in spent if one in order]) if self.rules.is_strict else _NONE
            parts.append(Installation(share(entries, entries), numbers, is_copy, is_twin, ignores and has_names))
        row, book_now, folders_now = [share(one, one) for one in (row, tuple(tokens), tuple(parts))]
        return State(row, book_now, folders_now, flying, self.jumped, snapshot, grants[self.theirs], self.is_lost)

    def _is_known(self, entry: Entry, order: dict[int, int]) -> bool:
        """Whether somebody may ask for it: a superseded one of another grant is kept for good."""
        is_of_theirs = self.book[entry.token - 1].grant == self.theirs
        return entry.step != "superseded" or is_of_theirs or entry.token in order

    def _numbered(self, entry: Entry, number: Callable[[int], int]) -> Entry:
        token, step, all_answers, successor, previous, waits, expiry, lost, refuted = entry
        if not all_answers:
            return Entry(number(token), step, waits=waits and self.flying > 0, lost=lost)
        answers = (*(one for one in all_answers[:-1] if self._matters(*one)), *all_answers[-1:])
        ends = [(form, number(token)) for form, token in answers]
        may_be_stored = step in ("answered", "superseded") and answers and answers[-1][0] == "pair"
        tried = sorted([number(one) for one in refuted if one in [token for _, token in answers]])
        tokens = number(token), step, tuple(ends), number(successor), number(previous)
        return Entry(*tokens, waits and self.flying > 0, expiry if may_be_stored else Expiry.FRESH, lost, tuple(tried))

    def _matters(self, form: str, token: int) -> bool:
        """Whether an answer before the last does."""
        return token > 0 and (form == "failed" or self.status(token) not in ("spent", "dead"))


def _rank(folder: Installation) -> Any:
    """An order of state folders that does not look at the numbers of tokens."""
    return (
        folder.is_copy,
        folder.is_twin,
        folder.ignores,
        [(one.step, one.lost, len(one.answers)) for one in folder.entries],
    )


Choose = Callable[[Simulation, Sent, Callable[[], list[str]]], str]
