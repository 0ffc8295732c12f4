"""A run that finds nothing due costs the same whether the catalogue has the entries it has or a hundred more."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.figure import Figure
from bench.idle import FEW_ROWS, LIFETIME_SECONDS, URL, fill_fresh
from bench.world import Cost, cost, installation, scratch
from providers.entries import make_provider
from providers.index import INDEX_FILE, index_of
from providers.registry import read_catalog
from tests.world.program import Program

MORE = 100
ROUNDS = 25
# As real providers have them; each that is longer than REFRESH_INTERVAL asks for has a cut-off of its own.
LIFETIMES_SECONDS = (3600, 3600, 3600, 3600, 3600, 3600, 1800, 7200, 28_800, 86_400, 43_200, 172_800, 5_184_000)


def catalogue_size() -> list[Figure]:
    """The processor time of an idle run on SQLite."""
    with scratch() as folder:
        programs = [installation(folder / name, URL, LIFETIME_SECONDS) for name in ("usual", "large")]
        for program in programs:
            fill_fresh(program, FEW_ROWS)
        _grow(programs[1].install() / "providers/catalog")
        costs: list[list[Cost]] = [[], []]
        for _ in range(1 + ROUNDS):
            for program, taken in zip(programs, costs, strict=True):
                taken.append(_run(program))
        usual, large = (min(one.processor for one in taken[1:]) for taken in costs)  # the first compiles and caches
    count = len(read_catalog())
    return [
        Figure(
            f"idle run with {count + MORE} providers / with {count}, processor, SQLite", large / usual, "1.05",
            f"{1000 * large:.0f} ms / {1000 * usual:.0f} ms",
        )
    ]  # fmt: skip


def _grow(catalog: Path) -> None:
    made = []
    for number in range(MORE):
        lifetime = LIFETIMES_SECONDS[number % len(LIFETIMES_SECONDS)]
        table = {"name": f"More {number}", "token_url": f"https://{number}.example/token", "lifetime": lifetime}
        made.append(make_provider(f"more-{number}", table))
        lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in table.items()]
        (catalog / f"more-{number}.toml").write_text("\n".join(lines))
    (catalog / INDEX_FILE.name).write_text(index_of([*read_catalog(), *made]))


def _run(program: Program) -> Cost:
    environment = program.environment({"PYTHONDONTWRITEBYTECODE": ""})
    return cost([sys.executable, str(program.install() / "token_manager.py")], environment)
