"""What a row, its provider and the state folders around it hold. Times and texts are left out; tokens are numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FRESH, DUE, LAST_MINUTE, IMPOSSIBLE = range(4)  # what the row's expiry says; a missing one is its last minute, too
KINDS = ("never", "once", "family", "grace", "until_used")
STORES = ("database", "airtable")
NOBODY, STRANGER, BEFORE_THE_CLONE = -1, 2, 3  # 0 and 1 are the installations


class Token(NamedTuple):
    """A refresh token at its provider: `good`, `used` (accepted for now all the same), `spent` or `dead`.

    `parent` is accepted until this one is used.
    """

    grant: int
    status: str
    parent: int = 0


class Row(NamedTuple):
    """The row: `by` refreshed it, `claim` has it; it reads `reauthorize` where `dead` is the token in it."""

    token: int
    expiry: int = LAST_MINUTE
    dead: int = 0
    by: int = 0
    claim: int = NOBODY


class Entry(NamedTuple):
    """A journal entry. `answers`: form and token; `waits`: its request is younger than 90 seconds;
    `refuted`: successors that were refused."""

    token: int
    step: str = "sent"
    answers: tuple[tuple[str, int], ...] = ()
    successor: int = 0
    waits: bool = True
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
        return next((one for one in self.entries if one.token == token), None)

    def proved_by(self, token: int) -> Entry | None:
        """The one whose unproven successor a token is."""
        return next((one for one in self.entries if one.step == "unproven" and one.successor == token), None)

    def put(self, entry: Entry) -> Installation:
        """With this entry."""
        return self._replace(entries=(*(one for one in self.entries if one.token != entry.token), entry))

    def drop(self, token: int, *spent: int) -> Installation:
        """Without the entry about a token; these are remembered as spent."""
        entries = tuple(one for one in self.entries if one.token != token)
        return self._replace(entries=entries, spent=self.spent.union(spent))


class Run(NamedTuple):
    """A process at work: where it is, the token that it read, what came for it, what follows."""

    who: int
    at: str
    token: int
    answer: tuple[str, int] = ("", 0)
    end: tuple[str, int] = ("", 0)
    sends: int = 0
    is_replay: bool = False
    is_proof: bool = False


@dataclass(frozen=True)
class Rules:
    """Which provider and store, and which rules are broken on purpose.

    `kind`: one of `KINDS`; `store`: one of `STORES`; `machines`: how many may get a state folder, one or two.
    """

    kind: str
    store: str
    broken: frozenset[str] = frozenset()
    machines: int = 2

    @property
    def is_strict(self) -> bool:
        """Whether a second use of a token is refused, or worse."""
        return self.kind in ("once", "family")

    def has(self, rule: str) -> bool:
        """Whether a rule holds."""
        return rule not in self.broken


class State(NamedTuple):
    """All of it.

    `theirs` is the grant that a person put into the row last; `is_lost`: it was lost where no program can help it.
    `flying`: a token that a killed run sent and that has not arrived; `jumped`: the clock jumped ahead meanwhile.
    """

    row: Row
    book: tuple[Token, ...]
    folders: tuple[Installation, ...] = (Installation(),)
    run: Run | None = None
    flying: int = 0
    jumped: bool = False
    snapshot: int = 1
    theirs: int = 1
    is_lost: bool = False

    def places(self, *, is_readable: bool = False) -> set[int]:
        """Where refresh tokens are, whole: the row, kept answers, the predecessors of unproven ones, a process.

        `is_readable`: not in an answer of unknown form, nor, once somebody has put back an older row, behind a failure.
        """
        hidden = {"unknown", "failed" if self.is_lost else ""} if is_readable else set()
        found = {self.row.token}
        for folder in self.folders:
            for entry in folder.entries:
                found.update(token for form, token in entry.answers if form not in hidden)
                found.add(entry.token if entry.successor and entry.step in ("unproven", "answered") else 0)
        if self.run is not None:
            found.add(self.run.answer[1])
        return found - {0}

    def is_held(self, *, is_readable: bool = False) -> bool:
        """Whether a token that works, of the grant that counts, is in one of those places."""
        return any(self.is_good(token) for token in self.places(is_readable=is_readable))

    def is_good(self, token: int) -> bool:
        """Whether the provider accepts this token of the grant that counts, for as long as it takes."""
        grant, status, _ = self.book[token - 1]
        return grant == self.theirs and (status == "good" or status == "kept")

    def canonical(self, rules: Rules) -> State:
        """The same, without what makes no difference: tokens and grants are numbered in the order they are met in."""
        order: dict[int, int] = {0: 0}

        def number(token: int) -> int:
            return order.setdefault(token, len(order))

        row, book = self.row, self.book
        row = Row(number(row.token), row.expiry, int(row.dead == row.token), row.by, row.claim)
        snapshot, flying = number(self.snapshot), number(self.flying)
        folders = []
        for folder in self.folders:
            entries = []
            for entry in folder.entries:
                if (
                    entry.step == "superseded"
                    and book[entry.token - 1].grant != self.theirs
                    and entry.token not in order
                ):
                    continue  # of a grant that nobody asks for any more: it is kept for good
                last = len(entry.answers) - 1
                answers = tuple(
                    [(form, number(token)) for at, (form, token) in enumerate(entry.answers) if token or at == last]
                )
                token, successor, waits = number(entry.token), number(entry.successor), entry.waits and flying > 0
                refuted = tuple(sorted(map(number, entry.refuted)))
                entries.append(Entry(token, entry.step, answers, successor, waits, entry.lost, refuted))
            folders.append(folder._replace(entries=tuple(entries)))
        for token in list(order)[1:]:
            number(book[token - 1].parent)
        grants = {0: 0, self.theirs: 1}  # a sample is of none
        tokens = [book[token - 1] for token in list(order)[1:]]
        numbered = tuple(
            [Token(grants.setdefault(one.grant, len(grants)), one.status, order.get(one.parent, 0)) for one in tokens]
        )
        known = [
            one._replace(spent=frozenset([order[token] for token in one.spent if rules.is_strict and token in order]))
            for one in folders
        ]
        return State(row, numbered, tuple(known), None, flying, self.jumped, snapshot, 1, self.is_lost)
