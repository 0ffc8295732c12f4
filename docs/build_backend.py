"""The build backend: setuptools, and before it what is made of the parser and goes into each package.

Completion and manual pages are written to `share/`. An sdist carries them, so what is built of it needs none of the
program's libraries; a build from a clone imports the program, and asks for them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeAlias

from setuptools import build_meta
from setuptools.build_meta import build_editable, get_requires_for_build_editable, prepare_metadata_for_build_editable

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
]

_ROOT = Path(__file__).resolve().parents[1]
_IS_SDIST = (_ROOT / "PKG-INFO").exists()

_Settings: TypeAlias = dict[str, str | list[str] | None] | None


def get_requires_for_build_sdist(config_settings: _Settings = None) -> list[str]:
    """What the program imports, beside what setuptools wants."""
    return [*build_meta.get_requires_for_build_sdist(config_settings), *_imported()]


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """The same for a wheel."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_imported()]


def build_sdist(sdist_directory: str, config_settings: _Settings = None) -> str:
    """Write `share/`, then the sdist; its file name."""
    _make_share()
    return str(build_meta.build_sdist(sdist_directory, config_settings))


def build_wheel(wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None) -> str:
    """Write `share/`, then the wheel; its file name."""
    _make_share()
    return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def _imported() -> list[str]:
    if _IS_SDIST:
        return []
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["completion"]]


def _make_share() -> None:
    if not _IS_SDIST:
        from docs.manual import write  # needs the program's libraries

        write(_ROOT / "share")
