"""Traces one refresh token through one run. `bench.structure` starts it in the checkout that it measures.

A function of ours is a call on the token's path if the token came into it, as an argument (`self` is none) or as its
result, and it did more than look:

- it was handed the token itself, as a text or bytes that hold it, alone or in tuples, lists, sets and mappings;
- or it gave it back, itself or inside an object;
- or it handed the object that holds it on, to a call that counts or to a function of a library;
- or it kept it: the object that the method belongs to holds it afterwards, and did not before.

Who is given a row and only says whether it is due is named apart. "The token" is the plain refresh token, its sealed
cell, its successor, the answer that holds the successor (in base64 too), and whatever those are sealed as on the path.
Objects are dataclasses, of which every field is looked at; of a mapping, its values. A function inside another counts
as that one; a lambda or a comprehension is no function but part of an expression. Code in C cannot be traced, nor
can what is handed over in a queue; both ends of the queue are seen.

The classes are our dataclasses that held the token where such a call was handed it or gave it back, however deep.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import itertools
import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer
from tests.world.program import Program

NOT_OURS = ("tests", "bench", "examples", "docs", "deploy", ".venv", "node_modules")
DEPTH = 8  # objects within objects; a settled task of today holds its row's cell at the fourth
PROVIDER, CLIENT_ID, SECRET, LOCATION = "acme", "app", "the client's secret", "loc1"

Place = tuple[str, str]  # module, function
Find = tuple[str, tuple[str, ...]]  # what was found, and our classes around it


@dataclasses.dataclass
class _Call:
    """A call of ours that has not returned yet."""

    frame: FrameType
    at: int
    came_in: list[Find]
    kept_before: bool
    is_handed_on: bool = False


class Tracer:
    """What `sys.setprofile` calls.

    Args:
        root: the checkout.
        known: what to look for, and its name.
        issued: the refresh tokens that the provider has issued by now.
    """

    def __init__(self, root: Path, known: Mapping[str, str], issued: Callable[[], Iterable[str]]) -> None:
        self._root = f"{root}{os.sep}"
        self._others = tuple(f"{root}{os.sep}{name}{os.sep}" for name in NOT_OURS)
        self._names: dict[str, str] = {}
        self._issued = issued
        self._thread = threading.local()
        self._numbers = itertools.count()
        self.calls: dict[Place, tuple[int, set[str]]] = {}
        self.looks: dict[Place, int] = {}
        self.classes: dict[str, int] = {}
        for text, name in known.items():
            self._learn(text, name)

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        """See `sys.setprofile`."""
        code = frame.f_code
        if event not in ("call", "return") or code.co_name.startswith("<"):
            return
        calls: list[_Call] = self._thread.__dict__.setdefault("calls", [])
        if self._is_ours(code.co_filename):
            for token in list(self._issued()):
                self._learn(token, "successor")
            if event == "call":
                calls.append(self._begun(frame))
            elif calls:
                self._end(calls, result)
        elif event == "call" and calls and _caller(frame) is calls[-1].frame and code.co_name != "__get__":
            calls[-1].is_handed_on |= any(self._find(frame.f_locals[name]) for name in _parameters(code, frame))

    def _begun(self, frame: FrameType) -> _Call:
        given = [frame.f_locals[name] for name in _parameters(frame.f_code, frame) if name not in ("self", "cls")]
        came_in = self._find(given)
        return _Call(frame, next(self._numbers), came_in, bool(came_in) and self._is_kept(frame))

    def _end(self, calls: list[_Call], result: Any) -> None:
        call = calls.pop()
        code = call.frame.f_code
        place = str(call.frame.f_globals["__name__"]), code.co_qualname.partition(".<locals>")[0]
        if call.came_in and isinstance(result, str) and result.startswith("sealed:"):
            self._learn(result, f"sealed {call.came_in[0][0].removeprefix('sealed ')}")
        given_back = self._find(result)
        is_text = any(not around for _, around in call.came_in)
        is_kept = bool(call.came_in) and not call.kept_before and self._is_kept(call.frame)
        counts = bool(given_back) or (bool(call.came_in) and (is_text or call.is_handed_on or is_kept))
        if counts:
            at = call.at if call.came_in else next(self._numbers)
            first, carried = self.calls.get(place, (at, set()))
            self.calls[place] = min(first, at), carried | {name for name, _ in call.came_in + given_back}
            for one in (one for _, around in call.came_in + given_back for one in around):
                self.classes.setdefault(one, at)
        elif call.came_in:
            self.looks.setdefault(place, call.at)
        # A call between that was handed nothing itself, a transaction around a closure, only passes on.
        if calls and (counts if call.came_in else call.is_handed_on):
            calls[-1].is_handed_on = True

    def _is_kept(self, frame: FrameType) -> bool:
        return bool(self._find(list(getattr(frame.f_locals.get("self"), "__dict__", {}).values())))

    def _is_ours(self, file: str) -> bool:
        return file.startswith(self._root) and not file.startswith(self._others)

    def _learn(self, text: str, name: str) -> None:
        """Also as it looks in base64, where its place decides which of three spellings."""
        if text in self._names:
            return
        self._names[text] = name
        for shift in range(3):
            spelling = base64.b64encode(bytes(shift) + text.encode()).decode().rstrip("=")
            self._names.setdefault(spelling[4 if shift else 0 : -1], name)

    def _find(self, thing: Any) -> list[Find]:
        return list(self._search(thing, (), set(), DEPTH))

    def _search(self, thing: Any, around: tuple[str, ...], seen: set[int], depth: int) -> Iterator[Find]:
        if isinstance(thing, bytes | bytearray):
            thing = thing.decode("latin-1")
        if isinstance(thing, str):
            yield from ((name, around) for text, name in list(self._names.items()) if text in thing)
            return
        if id(thing) in seen or not depth:
            return
        seen.add(id(thing))
        parts: Iterable[Any] = ()
        if isinstance(thing, Mapping):
            parts = thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            parts = thing
        elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            parts = (getattr(thing, one.name, None) for one in dataclasses.fields(thing))
        if self._is_ours(getattr(sys.modules.get(type(thing).__module__), "__file__", None) or ""):
            around = (*around, f"{type(thing).__module__}.{type(thing).__qualname__}")
        for part in list(parts):
            yield from self._search(part, around, seen, depth - 1)


def _parameters(code: CodeType, frame: FrameType) -> list[str]:
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    count = code.co_argcount + code.co_kwonlyargcount + stars
    return [name for name in code.co_varnames[:count] if name in frame.f_locals]


def _caller(frame: FrameType) -> FrameType | None:
    back = frame.f_back
    while back is not None and back.f_code.co_name.startswith("<"):
        back = back.f_back
    return back


def _cell(home: Path) -> str:
    with closing(sqlite3.connect(home / "state" / "tokens.sqlite3")) as database:
        return str(database.execute("SELECT encrypted_refresh FROM credentials").fetchone()[0])


def trace(root: Path, home: Path) -> Tracer:
    """Refresh one row on the embedded database, at a provider on loopback, and trace its token."""
    clock = FakeClock()
    with OAuthServer(clock=clock.timestamp) as oauth:
        own = home / "providers.toml"
        own.write_text(f'[{PROVIDER}]\nname = "Acme"\ntoken_url = "{oauth.token_url(PROVIDER)}"\n')
        program = Program(home, {"PROVIDERS_FILE": str(own), "REFRESH_INTERVAL": "1800"}, clock)
        oauth.add_client(PROVIDER, CLIENT_ID, SECRET)
        token = oauth.grant(PROVIDER, CLIENT_ID, location_id=LOCATION)
        line = (LOCATION, PROVIDER, CLIENT_ID, SECRET, token)
        saved = program.onboard("--from-csv", program.csv(line), "--no-check")  # so that the next run refreshes it
        assert saved.code == 0, saved.said
        cell = _cell(home)
        tracer = Tracer(root, {token: "token", cell: "cell"}, lambda: oauth.tokens)
        threading.setprofile(tracer)
        sys.setprofile(tracer)
        try:
            result = program.run("refresh")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        assert result.code == 0, result.said
        assert _cell(home) != cell, result.said
    return tracer


def main(root: Path) -> None:
    """Print what was found, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        tracer = trace(root, Path(folder))
    calls = sorted(tracer.calls.items(), key=lambda one: one[1][0])
    looks = sorted(tracer.looks.items(), key=lambda one: one[1])
    content = {
        "calls": [[*place, ", ".join(sorted(carried))] for place, (_, carried) in calls],
        "looks": [list(place) for place, _ in looks if place not in tracer.calls],
        "classes": sorted(tracer.classes, key=lambda one: tracer.classes[one]),
    }
    print(json.dumps(content))


if __name__ == "__main__":
    main(Path.cwd().resolve())
