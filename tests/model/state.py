"""What a row, its provider and the state folders around it hold. Times and texts are left out; tokens are numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

FRESH, DUE, LAST_MINUTE, IMPOSSIBLE = range(4)  # what the row's expiry says; a missing one is its last minute, too
KINDS = ("never", "once", "family", "grace", "until_used")
STORES = ("database", "airtable")
NOBODY, STRANGER, BEFORE_THE_CLONE = -1, 2, 3  # 0 and 1 are the installations


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
    expiry: int = LAST_MINUTE
    dead: int = 0
    by: int = 0
    claim: int = NOBODY
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
    expiry: int = FRESH
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

    def is_at(self, *steps: str) -> bool:
        """Whether an entry is at one of these steps."""
        return any(one.step in steps for one in self.entries)

    def put(self, entry: Entry) -> Installation:
        """With this entry."""
        return self._replace(entries=(*(one for one in self.entries if one.token != entry.token), entry))

    def drop(self, token: int, *spent: int) -> Installation:
        """Without the entry about a token; these are remembered as spent."""
        entries = tuple(one for one in self.entries if one.token != token)
        return self._replace(entries=entries, spent=self.spent.union(spent))

    def aged(self, later: Callable[[int], int], *, waits: bool) -> Installation:
        """At another time."""
        entries = [entry._replace(waits=waits, expiry=later(entry.expiry)) for entry in self.entries]
        return self._replace(entries=tuple(entries))


class Run(NamedTuple):
    """A process at work: where it is, the token that was sent, what came for it, what follows.

    `over`: the token in the row that a replay goes over, where that is an older one.
    """

    who: int
    at: str
    token: int
    answer: tuple[str, int] = ("", 0)
    end: tuple[str, int] = ("", 0)
    sends: int = 0
    is_replay: bool = False
    is_proof: bool = False
    over: int = 0

    def is_over(self, row: Row) -> bool:
        """Whether the row holds what it goes over."""
        return row.token == (self.over or self.token)


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

    def put(self, who: int, folder: Installation) -> State:
        """With this folder for an installation."""
        return self._replace(folders=tuple(folder if at == who else one for at, one in enumerate(self.folders)))

    def is_held(self, *, is_readable: bool = False) -> bool:
        """Whether a token that works, of the grant that counts, is somewhere, whole.

        In the row, a kept answer, as the predecessor of an unproven one, or in a process. `is_readable`: not in an
        answer of unknown form nor, once somebody has put back an older row, behind a failure.
        """
        hidden = {"unknown", "failed" if self.is_lost else ""} if is_readable else set()
        places = {self.row.token, self.row.previous, self.run.answer[1] if self.run is not None else 0}
        for entry in [entry for folder in self.folders for entry in folder.entries]:
            places.update(token for form, token in entry.answers if form not in hidden)
            places.add(entry.previous if entry.step != "superseded" else 0)
        return any(map(self.is_good, places - {0}))

    def is_good(self, token: int) -> bool:
        """Whether the provider accepts this token of the grant that counts, for as long as it takes."""
        grant, status, _ = self.book[token - 1]
        return grant == self.theirs and status in ("good", "kept")

    def canonical(self, rules: Rules) -> State:
        """The same without what makes no difference. Tokens and grants are numbered in the order they are met in."""
        order: dict[int, int] = {0: 0}

        def number(token: int) -> int:
            return order.setdefault(token, len(order))

        row, book, is_alone = self.row, self.book, len(self.folders) == 1
        names = rules.store == "airtable" or any(
            one.is_twin for one in self.folders
        )  # else nobody asks who refreshed a row
        row = row._replace(token=number(row.token), dead=int(row.dead == row.token), previous=number(row.previous))
        row = row._replace(by=row.by if names else 0)
        snapshot = number(self.snapshot) if is_alone else 1  # which is put back where there is one machine
        flying, folders = number(self.flying), []
        for folder in self.folders:
            entries = []
            for entry in folder.entries:
                is_forgotten = entry.step == "superseded" and book[entry.token - 1].grant != self.theirs
                if is_forgotten and entry.token not in order:  # nobody asks for it any more: it is kept for good
                    continue
                answers = [one for one in entry.answers[:-1] if self._matters(entry, *one, rules)] + [
                    *entry.answers[-1:]
                ]
                refuted = sorted(number(one) for one in entry.refuted if any(one == token for _, token in answers))
                may_be_stored = entry.step in ("answered", "superseded") and answers[-1:] and answers[-1][0] == "pair"
                entries.append(
                    entry._replace(
                        token=number(entry.token),
                        answers=tuple((form, number(token)) for form, token in answers),
                        successor=number(entry.successor),
                        previous=number(entry.previous),
                        waits=entry.waits and flying > 0,
                        expiry=entry.expiry if may_be_stored else FRESH,
                        refuted=tuple(refuted),
                    )
                )
            folders.append(folder._replace(entries=tuple(entries), ignores=folder.ignores and names))
        for token in list(order)[1:]:
            number(book[token - 1].parent)
        grants, tokens = {0: 0, self.theirs: min(self.theirs, 1)}, []
        for grant, status, parent in [book[token - 1] for token in list(order)[1:]]:
            tokens.append(Token(grants.setdefault(grant, len(grants)), status, order.get(parent, 0)))
        known = [
            one._replace(spent=frozenset([order[token] for token in one.spent if rules.is_strict and token in order]))
            for one in folders
        ]
        theirs = grants[self.theirs]
        return State(row, tuple(tokens), tuple(known), None, flying, self.jumped, snapshot, theirs, self.is_lost)

    def _matters(self, entry: Entry, form: str, token: int, rules: Rules) -> bool:
        """Whether an answer before the last does."""
        if token == 0 or form == "pair" or self.book[token - 1].status not in ("spent", "dead"):
            return token > 0
        is_tried = token in entry.refuted and rules.has("all refused successors are remembered")
        return form == "failed" and not is_tried
