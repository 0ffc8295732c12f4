"""How this program is called here, and by which Python. Any Python from 3.6 on can read it: it explains what is wrong.

Attributes:
    TOKEN_MANAGER: what a person types here to call `token_manager.py`; messages say it.
    ONBOARD_CLIENT: the same for `onboard_client.py`.
    SERVICE: the same for the HTTP service.
    STORE_WAITING: what to do where new tokens wait in the journal.
    RESTORE_KEY: what to do where a key is missing.
    VERSION: of the program.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Optional

NEEDED = (3, 11)
VERSION = "0.2.0"

_ROOT = Path(__file__).absolute().parents[2]
_IS_INSTALLED = _ROOT.name in ("site-packages", "dist-packages")
_CALLED = Path((getattr(sys, "argv", None) or [""])[0])  # another program may be the one that was called
_IS_COMMAND = _CALLED.name.startswith("token-refresh")
_PYTHON = Path(sys.executable or "python3")
_OWN_PYTHON = _ROOT / ".venv/bin/python"  # README.md makes it


INTERRUPTED = "interrupted; nothing half-written is left behind"


class UnfitPythonError(ImportError):
    """This Python cannot run the program; a program that imports us gets it.

    Args:
        what: what is wrong with it.

    Attributes:
        what: see above.
        action: what to do.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.action = _python_action()
        super().__init__(what + ". " + self.action)


class Starting:
    """While inside, what this Python cannot import is explained, and Ctrl-C leaves no traceback of a script.

    Args:
        is_script: nobody imports us: the explanation is printed, and the process ends with 2, or 4 after Ctrl-C.

    Raises:
        UnfitPythonError: on entry, when the Python is too old; on leaving, when a package is missing or too old.
    """

    def __init__(self, *, is_script: bool) -> None:
        self._is_script = is_script

    def __enter__(self) -> None:
        if sys.version_info[:2] < NEEDED:
            found = ".".join(map(str, sys.version_info[:3]))
            self._refuse(UnfitPythonError(f"Python 3.11 or newer is needed, and {_PYTHON} is {found}"))

    def __exit__(self, kind: object, error: Optional[BaseException], __: object) -> None:  # noqa: UP045
        if isinstance(error, ImportError) and not isinstance(error, UnfitPythonError):
            self._refuse(unfit(error))
        if isinstance(error, KeyboardInterrupt) and (self._is_script or _IS_COMMAND):
            _end("stopped", INTERRUPTED, "", 4)

    def _refuse(self, error: UnfitPythonError) -> None:
        if not self._is_script:
            raise error from None
        _end("configuration", error.what, error.action, 2)


def _end(code: str, what: str, action: str, status: int) -> None:
    """Say it, as JSON too where that is wanted, and end the process."""
    if "--json" in sys.argv:
        import json  # most runs say nothing of the kind

        said = {"code": code, "message": what, "action": action}
        sys.stdout.write(json.dumps({"error": said}) + "\n")
    sys.stderr.write("error: " + what + (". " + action if action else "") + "\n")
    sys.exit(status)


def unfit(error: ImportError) -> UnfitPythonError:
    """An import that failed, as what it means: a package is missing, or it is not the one that the program needs."""
    name = (error.name or "").partition(".")[0] or "a package"
    lacks = "lacks the package" if isinstance(error, ModuleNotFoundError) else "has an unfit version of the package"
    return UnfitPythonError(f"{_PYTHON} {lacks} {name}")


def _shown(path: Path) -> str:
    """A path as a person may type it here: relative where it lies below the current folder."""
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())))
    except (OSError, ValueError):  # the folder is gone, or another one
        return shlex.quote(str(path))


def _called(script: str, installed: str) -> str:
    """How the script, or `-m MODULE`, is called here; `pip install` makes it the command `installed`."""
    if not (_IS_COMMAND or _IS_INSTALLED):
        return _shown(_PYTHON) + " " + (script if script.startswith("-m ") else _shown(_ROOT / script))
    folder = _CALLED.absolute().parent if _IS_COMMAND else _PYTHON.parent
    return installed if str(folder) in os.get_exec_path() else _shown(folder / installed)


def _python_action() -> str:
    if _PYTHON.parent != _OWN_PYTHON.parent and _OWN_PYTHON.exists():
        return f"Use {_shown(_OWN_PYTHON)} instead."
    if _IS_INSTALLED:
        return "Install token-refresh again, by a Python that is new enough."
    make = "python3.11 -m venv --clear " + _shown(_ROOT / ".venv")
    install = _shown(_OWN_PYTHON) + " -m pip install --require-hashes -r " + _shown(_ROOT / "requirements.txt")
    return f"Install Python 3.11 or newer, then: {make} && {install}"


def install_extra(name: str) -> str:
    """What a person runs for the packages of an optional part, `notify` or the like, with the Python that runs."""
    pip = _shown(_PYTHON) + " -m pip install "
    if _IS_INSTALLED:
        from importlib.util import find_spec

        if find_spec("pip") is None:  # uv makes environments without it, by itself and for pipx
            pip = "uv pip install --python " + _shown(_PYTHON) + " "
        return f"Run: {pip}'token-refresh[{name}]'"
    return f"Run: {pip}--require-hashes -r {_shown(_ROOT / 'requirements' / (name + '.txt'))}"


def flag(name: str, text: str) -> str:
    """A flag with what somebody wrote, as a shell takes it: into a table anybody may have written anything."""
    return name + ("=" if text.startswith("-") else " ") + shlex.quote(text)


def whose(location_id: str, provider: str) -> str:
    """The row that a verb is for, as a shell takes it: with its provider, for its location may have several."""
    return flag("--provider", provider) + (" -- " if location_id.startswith("-") else " ") + shlex.quote(location_id)


TOKEN_MANAGER = _called("token_manager.py", "token-refresh")
ONBOARD_CLIENT = _called("onboard_client.py", "token-refresh-onboard")
SERVICE = _called("-m token_refresh.service", "token-refresh-service")
STORE_WAITING = f"Store them: {TOKEN_MANAGER} recover --replay"
RESTORE_KEY = "Restore that key."
