"""The licences of what is installed; a licence that a small company could not use fails.

    python -m tests.licences

Told from the packages' own metadata: the SPDX expression, else the classifiers, else the free text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

# These demand the source of what uses them, or of what is offered over a network, or forbid use for money. LGPL and
# MPL bind changes to themselves alone.
_UNUSABLE = re.compile(
    r"\bA?GPL|(?<!Lesser )\bGeneral Public License|Affero|SSPL|Server Side Public|Commons Clause|BUSL|Business Source"
    r"|NonCommercial|Non-Commercial|\bCC-BY-NC|Proprietary|Elastic",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r"\s+OR\s+")
_LONGEST = 100  # some put the whole text of the licence there


def licence_of(package: Distribution) -> str:
    """What the package says of its licence; empty where it says nothing."""
    said = {name: package.metadata.get_all(name) or [] for name in ("License-Expression", "Classifier", "License")}
    classifiers = [line for line in said["Classifier"] if line.startswith("License ::")]
    named = ", ".join(line.rpartition(" :: ")[2] for line in classifiers)
    free = "".join(said["License"]).strip().partition("\n")[0][:_LONGEST]
    return "".join(said["License-Expression"]) or named or free


def is_usable(licence: str) -> bool:
    """Whether one of the alternatives can be used; one that is not named cannot."""
    return any(part.strip() and not _UNUSABLE.search(part) for part in _ALTERNATIVE.split(licence))


def unusable(packages: Iterable[Distribution]) -> list[str]:
    """The packages that cannot be used, each with its licence."""
    found = {package.name: licence_of(package) for package in packages}
    return [f"{name}: {licence or 'names no licence'}" for name, licence in found.items() if not is_usable(licence)]


def main() -> int:
    """List all; 1 where one cannot be used."""
    for package in sorted(distributions(), key=lambda one: one.name.lower()):
        print(f"{package.name} {package.version}: {licence_of(package)}")
    bad = unusable(distributions())
    print("\n".join(["Cannot be used:", *bad]) if bad else "All can be used.", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
