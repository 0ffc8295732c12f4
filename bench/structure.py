"""How the code is built, in figures: `python -m bench.structure [--root DIR] [--json] [--verbose]`.

`DIR` is another checkout, so that one script counts before and after. It may have its rooms at the top or in the
package `token_refresh/`, which is left out of the names here. What is counted:

calls, classes, modules
    The path of one refresh token through one run: see `bench/trace.py`, which runs in that checkout. The modules are
    those of the calls.
error forms
    What one failure is converted into between the place where it is found and what a person reads. A form is a
    class with an `action` (a field, a property, or set on `self`); its subclasses are the same form. It counts where
    code that a run and its report import, at once or later, converts it into another form or another into it: a
    function that reads the `action` of one (of a parameter annotated so, of an error caught as it, after
    `isinstance`, or of `self`) and makes or returns another. A form that is known by `getattr` alone, or sits in a
    field of something else, is not seen.
error families
    All forms in that code, converted into one another or not.
places that name an exit code
    Functions, and the tables of a module or class, that name a code of failure; comparing with one is none. A code is
    a constant that is defined beside one of 75; or a number where the process ends (`sys.exit`, `os._exit`,
    `SystemExit`), in a `return` of `main`, `run` and what has "exit" in its name, and in a table that holds a 75.
places that decide an exit code
    Those of them that choose: they name at least two. Who says only "done, or failed" chooses none.
lines
    Those with code: no blanks, comments, docstrings.
import levels, import cycles
    The longest chain of imports among a room's modules, counted in modules. Every import counts, also one inside a
    function or for types alone: a reader has to follow it. A cycle counts as one level. A package's `__init__`
    without code is no module.
commands that are no verbs
    Modules and packages directly in `commands/` without a function `run`; the room's own `__init__`, which finds the
    verb, is none of them.
long verbs
    Verbs of more than 100 lines.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import conversions, exit_codes, families
from bench.source import Module, imports_of, longest_chain, modules_of, reached, short

ROOT = Path(__file__).resolve().parents[1]
LONGEST_VERB = 100

# Each of these figures is to be at most so much.
GOALS: Mapping[str, int] = {
    "calls": 45,
    "classes": 8,
    "modules": 11,
    "error forms": 4,
    "places that decide an exit code": 1,
    "lines of the promise": 4_199,
    "lines of login": 599,
    "lines of service": 899,
    "lines of operations": 899,
    "import cycles": 0,
    "commands that are no verbs": 0,
    "long verbs": 0,
}
# From where an error of a row is found to where a person reads it, here and before the package.
RUN_AND_REPORT = ("refresh.run", "terminal.report", "refresher.run")
SUMS: Mapping[str, tuple[str, ...]] = {  # the last two of the promise are what its rooms were before the package
    "the promise": ("crypto", "providers.base", "net", "journal", "refresh", "stores.sealed", "refresher", "tls"),
    "login": ("clients.login", "terminal.login"),  # both before the terminal's part was taken out of the first
    "service": ("service",),
    "operations": ("notifiers", "base.child", "commands.notify", "commands.audit"),
}


@dataclass
class Structure:
    """The figures by name, and what each was counted from."""

    figures: dict[str, int] = field(default_factory=dict)
    details: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, found: Iterable[str]) -> None:
        """A figure that is the number of these."""
        self.details[name] = list(found)
        self.figures[name] = len(self.details[name])


def measure(root: Path) -> Structure:
    """All figures of a checkout."""
    modules = modules_of(root)
    structure = Structure()
    _add_path(structure, root)
    _add_errors(structure, modules)
    _add_exits(structure, modules.values())
    _add_sizes(structure, modules.values())
    _add_imports(structure, modules)
    _add_commands(structure, modules.values())
    return structure


def _add_path(structure: Structure, root: Path) -> None:
    command = [sys.executable, "-P", str(Path(__file__).with_name("trace.py"))]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    path = json.loads(process.stdout)
    structure.add("calls", (f"{short(module)}.{function}: {carried}" for module, function, carried in path["calls"]))
    structure.add("classes", map(short, path["classes"]))
    structure.add("modules", dict.fromkeys(short(module) for module, *_ in path["calls"]))
    structure.add("calls that only look", map(short, map(".".join, path["looks"])))


def _add_errors(structure: Structure, modules: Mapping[str, Module]) -> None:
    graph = {name: set(imports_of(module, modules)) for name, module in modules.items()}
    start = [name for name, module in modules.items() if module.short in RUN_AND_REPORT]
    trees = [modules[name].tree for name in sorted(reached(start, graph))]
    pairs = sorted(conversions(trees))
    structure.add("error families", sorted(set(families(trees).values())))
    structure.add("error forms", sorted({form for pair in pairs for form in pair}))
    structure.add("error conversions", map(" -> ".join, pairs))


def _add_exits(structure: Structure, modules: Iterable[Module]) -> None:
    places = dict(sorted(exit_codes(modules)))
    structure.add("places that name an exit code", places)
    deciding = (f"{name}: {', '.join(map(str, sorted(codes)))}" for name, codes in places.items() if len(codes) > 1)
    structure.add("places that decide an exit code", deciding)


def _add_sizes(structure: Structure, modules: Iterable[Module]) -> None:
    rooms = Counter[str]()
    for module in modules:
        rooms[module.room] += module.lines
    structure.figures |= {f"lines of {name}": lines_of(parts, modules) for name, parts in SUMS.items()}
    structure.figures |= {f"lines in {room}": count for room, count in sorted(rooms.items()) if count}


def lines_of(parts: Iterable[str], modules: Iterable[Module]) -> int:
    """The lines of these modules and packages, each named in short."""
    return sum(one.lines for one in modules if any(f"{one.short}.".startswith(f"{part}.") for part in parts))


def _add_imports(structure: Structure, modules: Mapping[str, Module]) -> None:
    counted = {name: module for name, module in modules.items() if module.lines}
    cycles = []
    for room in sorted({module.room for module in counted.values()}):
        inside = {name: module for name, module in counted.items() if module.room == room}
        graph = {name: set(imports_of(module, inside)) - {name} for name, module in inside.items()}
        chain, found = longest_chain(graph)
        cycles += [" = ".join(cycle) for cycle in found]
        if len(inside) > 1:
            structure.figures[f"modules in {room}"] = len(inside)
            structure.add(f"import levels in {room}", map(short, chain))
    structure.add("import cycles", cycles)


def _add_commands(structure: Structure, modules: Iterable[Module]) -> None:
    verbs, others = commands_of(modules)
    structure.add("verbs", (one.short for one in verbs))
    structure.add("commands that are no verbs", (one.short for one in others))
    structure.add("long verbs", (f"{one.short}: {one.lines}" for one in verbs if one.lines > LONGEST_VERB))


def commands_of(modules: Iterable[Module]) -> tuple[list[Module], list[Module]]:
    """The verbs, and what is beside them."""
    inside = [one for one in modules if one.room == "commands" and one.short.count(".") <= 1]
    verbs = [one for one in inside if any(isinstance(n, ast.FunctionDef) and n.name == "run" for n in one.tree.body)]
    return verbs, [one for one in inside if one not in verbs and one.short != "commands"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.structure", description="How the code is built, in figures.")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="another checkout")
    parser.add_argument("--json", action="store_true", help="one JSON object: figures, goals, details")
    parser.add_argument("--verbose", action="store_true", help="also what each figure was counted from")
    arguments = parser.parse_args()
    structure = measure(arguments.root.resolve())
    if arguments.json:
        print(json.dumps({"figures": structure.figures, "goals": dict(GOALS), "details": structure.details}))
        return
    for name, figure in structure.figures.items():
        goal = f"   at most {GOALS[name]:,}" if name in GOALS else ""
        print(f"{name:<36}{figure:>8,}{goal}")
        for number, line in enumerate(structure.details.get(name, []) if arguments.verbose else [], 1):
            print(f"    {number:>3} {line}")


if __name__ == "__main__":
    main()
