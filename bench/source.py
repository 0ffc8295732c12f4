"""The modules of a checkout: their code lines, and who imports whom."""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "token_refresh"
NOT_OURS = ("tests", "bench", "examples", "docs", "deploy", "build", "dist", "node_modules")

Graph = Mapping[str, set[str]]


@dataclass(frozen=True, eq=False)
class Module:
    """A file of code; `name` as it is imported, `short` without the package's."""

    name: str
    short: str
    is_package: bool
    source: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.source)

    @functools.cached_property
    def imports(self) -> Sequence[ast.Import | ast.ImportFrom]:
        """Its imports, also those inside functions."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Import | ast.ImportFrom)]

    @functools.cached_property
    def lines(self) -> int:
        """How many lines hold code."""
        return code_lines(self.source)

    @property
    def room(self) -> str:
        """Where it belongs."""
        return self.short.partition(".")[0]


def modules_of(root: Path) -> dict[str, Module]:
    """The modules of the product, by name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in NOT_OURS or parts[0].startswith("."):
            continue
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = Module(name, short(name), is_package, path.read_text(encoding="utf-8"))
    return found


def short(name: str) -> str:
    """A name without the package's."""
    return name.removeprefix(f"{PACKAGE}.")


def code_lines(source: str) -> int:
    """How many lines hold code."""
    idle = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in idle]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines -= _docstring_lines(node)
    return len(lines)


def _docstring_lines(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    if ast.get_docstring(node) is None:
        return set()
    return set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))


def imports_of(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    """Which of these modules it imports, anywhere in it."""
    for node in module.imports:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        else:
            parts = module.name.split(".")
            above = parts[: len(parts) - node.level + module.is_package] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = (f"{source}.{alias.name}" for alias in node.names)
            yield from (one for name in names if (one := name if name in modules else source) in modules)


def reached(starts: Iterable[str], graph: Graph) -> set[str]:
    """These, and whatever they lead to."""
    seen = set[str]()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def longest_chain(graph: Graph) -> tuple[list[str], list[list[str]]]:
    """The longest path through a graph, in which a cycle is one node; and the cycles."""
    below = {name: reached(graph[name], graph) for name in graph}
    cycle_of = {name: sorted({name, *(one for one in below[name] if name in below[one])}) for name in graph}

    @functools.cache
    def chain(name: str) -> list[str]:
        following = {cycle_of[one][0] for member in cycle_of[name] for one in graph[member]} - {name}
        return [" = ".join(cycle_of[name]), *max(map(chain, sorted(following)), key=len, default=[])]

    longest = max((chain(cycle_of[name][0]) for name in sorted(graph)), key=len, default=[])
    return longest, [cycle for name, cycle in cycle_of.items() if len(cycle) > 1 and name == cycle[0]]
