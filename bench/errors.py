"""Which classes carry an error, and which code decides what a process exits with. See `bench.structure`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from bench.source import Module

TELLING_CODE = 75  # sysexits' EX_TEMPFAIL: where it stands, the other exit codes are
CODES = frozenset({1, 2, 3, 4, TELLING_CODE})  # of failure
_RETURNS_CODE = re.compile(r"main|run|.*exit.*")  # functions in which a number that is returned is a code

# Errors


def families(trees: Iterable[ast.Module]) -> dict[str, str]:
    """The classes with an action, each with the one it comes from that has it first."""
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = {}
    for name in classes:
        above: str | None = name
        while above in classes:
            if _has_action(classes[above]):
                found[name] = above
            bases = [ast.unparse(base).rpartition(".")[2] for base in classes[above].bases]
            above = next((base for base in bases if base in classes), None)
    return found


def _has_action(node: ast.ClassDef) -> bool:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "action":
            return True
        if isinstance(part, ast.FunctionDef) and (part.name == "action" or "self.action = " in ast.unparse(part)):
            return True
    return False


def conversions(trees: Iterable[ast.Module]) -> set[tuple[str, str]]:
    """Which family becomes which other."""
    trees = list(trees)
    family = families(trees)
    found = set()
    for tree in trees:
        owners = {
            id(part): node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                sources = _sources(function, family, owners.get(id(function), ""))
                calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
                targets = set().union(*(_named(node, family) for node in (*calls, function.returns)))
                found |= {(one, other) for one in sources for other in targets if one != other}
    return found


def _sources(function: ast.FunctionDef, family: Mapping[str, str], owner: str) -> set[str]:
    """The families whose action a function reads."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    kinds = {one.arg: _named(one.annotation, family) for one in arguments}
    kinds["self"] = {family[owner]} if owner in family else set()
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name:
            kinds[node.name] = kinds.get(node.name, set()) | _named(node.type, family)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            name = ast.unparse(node.args[0])
            kinds[name] = kinds.get(name, set()) | _named(node.args[1], family)
    reads = (node for node in ast.walk(function) if isinstance(node, ast.Attribute) and node.attr == "action")
    return set().union(*(kinds.get(ast.unparse(node.value), set()) for node in reads))


def _named(node: ast.AST | None, family: Mapping[str, str]) -> set[str]:
    parts = list(ast.walk(node)) if node is not None else []
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    names |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
    return {family[name] for name in names if name in family}


# Exit codes


def exit_codes(modules: Iterable[Module]) -> Iterator[tuple[str, set[int]]]:
    """The functions, and modules and classes with tables, that name a code of failure, and which."""
    modules = list(modules)
    constants = {holder: names for module in modules for holder, names in _constants(module)}
    for module in modules:
        known = dict(_known_here(module, constants))
        for node in ast.walk(module.tree):
            codes = set[int]()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                codes = _codes_of_function(node, known)
            elif isinstance(node, ast.Module | ast.ClassDef):
                codes = _codes_of_tables(node, known)
            if codes:
                yield f"{module.short}.{getattr(node, 'name', 'table')}", codes


def _constants(module: Module) -> Iterator[tuple[str, dict[str, int]]]:
    """The codes that a module or class defines by name."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            names = {}
            for part in node.body:
                if isinstance(part, ast.Assign | ast.AnnAssign) and isinstance(part.value, ast.Constant):
                    target = part.targets[0] if isinstance(part, ast.Assign) else part.target
                    names[ast.unparse(target)] = part.value.value
            if TELLING_CODE in names.values():
                codes = {name: code for name, code in names.items() if isinstance(code, int) and code in CODES}
                yield (node.name if isinstance(node, ast.ClassDef) else module.name), codes


def _known_here(module: Module, constants: Mapping[str, dict[str, int]]) -> Iterator[tuple[str, int]]:
    """How a module may spell them: `BUSY`, `exits.BUSY`."""
    for holder, names in constants.items():
        last = holder.rpartition(".")[2]
        yield from ((f"{last}.{name}", code) for name, code in names.items())
        imported = {
            alias.asname or alias.name: alias.name
            for node in module.imports
            if isinstance(node, ast.ImportFrom) and node.module == holder
            for alias in node.names
        }
        yield from ((spelled, names[name]) for spelled, name in imported.items() if name in names)
        if module.name == holder:
            yield from names.items()


def _codes_of_function(function: ast.FunctionDef | ast.AsyncFunctionDef, known: Mapping[str, int]) -> set[int]:
    codes = set[int]()
    returns = _RETURNS_CODE.fullmatch(function.name)
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Compare | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_end = isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "os._exit", "SystemExit")
        if is_end or (returns and isinstance(node, ast.Return)):
            codes |= _numbers(node)
        codes |= _spelled(node, known)
        waiting += ast.iter_child_nodes(node)
    return codes


def _codes_of_tables(node: ast.Module | ast.ClassDef, known: Mapping[str, int]) -> set[int]:
    values = [part.value for part in node.body if isinstance(part, ast.Assign | ast.AnnAssign) and part.value]
    tables = [value for value in values if not isinstance(value, ast.Constant | ast.Name | ast.Attribute)]
    numbers = set[int]().union(*map(_numbers, tables))
    codes = {code for table in tables for part in ast.walk(table) for code in _spelled(part, known)}
    return codes | (numbers if TELLING_CODE in numbers else set())


def _spelled(node: ast.AST, known: Mapping[str, int]) -> set[int]:
    name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
    return {known[name]} if name in known else set()


def _numbers(node: ast.AST) -> set[int]:
    values = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and type(part.value) is int}
    return values & CODES
