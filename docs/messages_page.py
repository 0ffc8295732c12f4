"""`docs/messages.md`: the table of error kinds, and every message of the source with what to do about it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from token_refresh.base.errors import MEANINGS, Kind
from token_refresh.base.program import INTERRUPTED

_ROOT = Path(__file__).resolve().parents[1]
_OPEN = "…"  # what a message fills in
_FROM_PROGRAM = {"TOKEN_MANAGER": "token_manager.py", "ONBOARD_CLIENT": "onboard_client.py", "INTERRUPTED": INTERRUPTED}
_MOST_WAYS = 4  # of one message that is put together from parts
# By the first part of the path that fits; the last one fits all.
_SECTIONS = {
    "Settings": ("token_refresh/settings.py", "token_refresh/base/child.py"),
    "The table or database": ("token_refresh/stores/",),
    "Providers": ("providers/", "token_refresh/net/"),
    "Keys and encrypted values": ("crypto.py", "token_refresh/keys/", "token_refresh/stores/sealed.py"),
    "Adding and removing clients, logging in": ("token_refresh/clients/", "token_refresh/terminal/"),
    "Export and import": ("token_refresh/transfer/",),
    "For programs": ("token_refresh/library/", "token_refresh/service/", "token_refresh/access/"),
    "What `doctor` finds": ("token_refresh/diagnosis/", "token_refresh/commands/doctor.py"),
    "Messages, metrics and monitors": ("token_refresh/notifiers/",),
    "Runs, the journal, and other commands": ("",),
}
_HEAD = """# Every message and its fix

Made by `make docs` of the program itself. A `…` stands for what a message fills in. What comes up most is in
[troubleshooting](troubleshooting.md), with what three commands say of it; the words are explained in [words](words.md).

With `--json` an error has a `code`, and so have the lines of `LOG_FORMAT=json`. It decides the exit code of a command,
the status of the HTTP service, and the class that a program catches:

| code | means | exit code | HTTP status | class |
|---|---|---|---|---|
"""
_Found = tuple[str, str]  # a message, and what to do


def page() -> str:
    """The page as it should be now."""
    found: dict[str, set[_Found]] = defaultdict(set)
    for path in _sources():
        section = next(name for name, starts in _SECTIONS.items() if path.startswith(starts))
        found[section] |= set(_messages(ast.parse((_ROOT / path).read_text(encoding="utf-8"))))
    tables = [_section(name, found[name]) for name in _SECTIONS if found[name]]
    return _HEAD + "\n".join([*_kinds(), "", *tables])


def _sources() -> Iterator[str]:
    for room in ("providers", "token_refresh"):
        yield from sorted(path.relative_to(_ROOT).as_posix() for path in (_ROOT / room).rglob("*.py"))
    yield "crypto.py"


def _kinds() -> Iterator[str]:
    source = (_ROOT / "token_refresh/base/errors.py").read_text(encoding="utf-8")
    comments = dict(re.findall(r'^    [A-Z_]+ = "(\w+)"  # (.*)$', source, re.MULTILINE))
    for kind in Kind:
        code, status, caught = MEANINGS[kind]
        yield f"| `{kind}` | {comments.get(kind, '')} | {code} | {status} | `{caught.__name__}` |"


def _section(name: str, found: set[_Found]) -> str:
    ordered = sorted(found, key=lambda one: (one[0].lower(), one))
    rows = [f"| {_cell(message)} | {_cell(action)} |" for message, action in ordered]
    return "\n".join([f"## {name}", "", "| message | to do |", "|---|---|", *rows, ""])


def _cell(text: str) -> str:
    """As it may stand in a table of Markdown; what stands between backticks is literal there already."""
    parts = " ".join(text.split()).replace("|", r"\|").split("`")
    return "`".join(part if number % 2 else re.sub(r"([<>*_])", r"\\\1", part) for number, part in enumerate(parts))


def _messages(module: ast.Module) -> Iterator[_Found]:
    """Each call of the module that makes an error, a warning or a finding of two texts."""
    constants = _texts_of(module.body)
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner: dict[ast.AST, Mapping[str, ast.expr]] = {}
    for one in functions:
        known = {**constants, **_texts_of(list(ast.walk(one)))}
        inner |= dict.fromkeys(ast.walk(one), known)
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and (pair := _pair(call)):
            there = inner.get(call, constants)
            ways = [(what, fix) for what in _ways(pair[0], there) for fix in _ways(pair[1], there)]
            yield from ((what, fix) for what, fix in ways if fix != _OPEN and re.search(r"\w{3}", what))


def _pair(call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """What it says and what to do, where it says both."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    first = 2 if name == "Check" else 0
    is_ours = name in ("Check", "problem", "warn") or (name.endswith("Error") and name != "OSError")
    return (call.args[first], call.args[first + 1]) if is_ours and len(call.args) > first + 1 else None


def _texts_of(nodes: list[ast.stmt] | list[ast.AST]) -> dict[str, ast.expr]:
    """Names that are given a text once."""
    given = [node for node in nodes if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    names = [node.targets[0].id for node in given if isinstance(node.targets[0], ast.Name)]
    return {name: node.value for name, node in zip(names, given, strict=True) if names.count(name) == 1}


def _ways(node: ast.expr, known: Mapping[str, ast.expr]) -> list[str]:
    """The texts that an expression may be; what the source does not show is left open."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp():
            return [*_ways(node.body, known), *_ways(node.orelse, known)]
        case ast.BinOp(op=ast.Add()):
            return _joined([_ways(node.left, known), _ways(node.right, known)])
        case ast.JoinedStr():
            return _joined([_ways(part, known) for part in node.values])
        case ast.FormattedValue(value=ast.Call(func=ast.Name()) as call) | (ast.Call(func=ast.Name()) as call):
            return _made(call, known)
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name) if name in _FROM_PROGRAM:
            return [_FROM_PROGRAM[name]]
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name) if name in known:
            return _ways(known[name], {other: value for other, value in known.items() if other != name})
        case _:
            return [_OPEN]


def _made(call: ast.Call, known: Mapping[str, ast.expr]) -> list[str]:
    """The texts of a call of a function of ours that words a message."""
    match call:
        case ast.Call(func=ast.Name(id="counted"), args=[_, *words]):
            return _plurals(words, known)
        case ast.Call(func=ast.Name(id="flag"), args=[name, _]):
            return [f"{text} {_OPEN}" for text in _ways(name, known)]
        case _:
            return [_OPEN]


def _plurals(words: list[ast.expr], known: Mapping[str, ast.expr]) -> list[str]:
    """What `text.counted` makes of any number but one."""
    ending = "s" if len(words) == 1 else ""
    return [f"{_OPEN} {word}{ending}" for word in _ways(words[-1], known)]


def _joined(parts: list[list[str]]) -> list[str]:
    texts = [""]
    for part in parts:
        texts = [text + one for text in texts for one in (part if len(texts) * len(part) <= _MOST_WAYS else [_OPEN])]
    return texts
