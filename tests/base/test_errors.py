"""One family of errors, and one table that says what each kind means outside."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import CatalogError
from providers.base import ProviderError
from token_refresh.base.errors import (
    MEANINGS,
    ActionableError,
    Kind,
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    RunError,
    SeveralTokensError,
    TokenError,
    actionable_error,
    capture_error,
    exit_code,
    http_status,
    internal_error,
    library_error,
    unwrap,
)
from token_refresh.base.events import Outcome, RowFinished
from token_refresh.clients.credential import AdmissionError
from token_refresh.journal.file import JournalError
from token_refresh.journal.lock import LockedError
from token_refresh.journal.state_folder import StateError
from token_refresh.settings import SettingsError
from token_refresh.stores.base import StoreQuotaError, StoreRefusedError, StoreUnavailableError
from token_refresh.stores.sealed import CellError
from token_refresh.transfer.layouts.sealing import _NotTakenError

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-refresh-token"
KINDS = st.sampled_from(list(Kind))

# What docs/commands.md, docs/library.md and the service promise, kind by kind.
PROMISED = {
    "usage": (2, 400, MisconfiguredError),
    "configuration": (2, 500, MisconfiguredError),
    "busy": (75, 503, RetryLaterError),
    "store_unavailable": (3, 503, RetryLaterError),
    "stopped": (4, 503, RetryLaterError),
    "row": (1, 500, MisconfiguredError),
    "login_needed": (1, 401, LoginAgainError),
    "retry_later": (1, 503, RetryLaterError),
    "not_found": (1, 404, NoSuchTokenError),
    "several": (2, 409, SeveralTokensError),
    "conflict": (1, 409, MisconfiguredError),
    "disabled": (1, 409, MisconfiguredError),
    "unreadable_cell": (2, 500, MisconfiguredError),
    "internal": (1, 500, TokenError),
    "expired": (2, 503, RetryLaterError),
    "not_checked": (3, 503, RetryLaterError),
    "unauthorized": (2, 401, MisconfiguredError),
    "forbidden": (2, 403, MisconfiguredError),
    "invalid": (2, 422, MisconfiguredError),
    "method_not_allowed": (2, 405, MisconfiguredError),
    "too_large": (2, 413, MisconfiguredError),
    "too_many_requests": (1, 429, RetryLaterError),
    "host": (2, 400, MisconfiguredError),
}

# Never met by a person: they only carry a decision from one function of a module to another.
INNER = {
    "PrivateAddressError",
    "_NoExportError",
    "_OneByOneError",
    "_LostError",
    "_PrivateAddressError",
    "SenselessError",
    "EndlessAnswerError",
    "UnfitPythonError",  # an `ImportError`, readable by every Python: it says that nothing else of ours can be imported
}


def test_each_kind_has_an_exit_code_a_status_and_a_class() -> None:
    assert set(PROMISED) == set(Kind) == set(MEANINGS)
    for kind in Kind:
        assert (exit_code([kind]), http_status(kind), type(library_error(ActionableError("a", "b", kind)))) == PROMISED[
            kind.value
        ]


@pytest.mark.parametrize("kind", Kind)
def test_the_librarys_error_keeps_words_and_kind(kind: Kind) -> None:
    error = library_error(ActionableError("what", "Do it.", kind))
    assert (str(error), error.action, error.kind) == ("what", "Do it.", kind)


@given(st.lists(KINDS), st.randoms(use_true_random=False))
def test_of_several_kinds_the_gravest_is_the_exit_code_whatever_their_order(kinds: list[Kind], random: object) -> None:
    shuffled = sorted(kinds, key=lambda _: random.random())  # type: ignore[attr-defined]
    codes = {PROMISED[kind.value][0] for kind in kinds}
    assert exit_code(shuffled) == next((code for code in (2, 75, 3, 4, 1) if code in codes), 0)


@given(st.lists(KINDS), st.lists(KINDS))
def test_more_failures_never_make_the_exit_code_milder(some: list[Kind], more: list[Kind]) -> None:
    order = [0, 1, 4, 3, 75, 2]
    assert order.index(exit_code([*some, *more])) == max(order.index(exit_code(some)), order.index(exit_code(more)))


FAMILY = [
    (LockedError("a run", "Wait."), Kind.BUSY, RetryLaterError),
    (StoreUnavailableError("away", "Wait."), Kind.STORE_UNAVAILABLE, RetryLaterError),
    (StoreQuotaError("spent", "Wait."), Kind.STORE_UNAVAILABLE, RetryLaterError),
    (StoreRefusedError("no", "Fix it."), Kind.CONFIGURATION, MisconfiguredError),
    (RunError("no", "Fix it."), Kind.CONFIGURATION, MisconfiguredError),
    (JournalError("full", "Free it."), Kind.CONFIGURATION, MisconfiguredError),
    (StateError("no", "Fix it."), Kind.CONFIGURATION, MisconfiguredError),
    (SettingsError(["A is wrong. Fix A.", "B is wrong. Fix B."]), Kind.CONFIGURATION, MisconfiguredError),
    (CatalogError("no", "Fix it."), Kind.CONFIGURATION, MisconfiguredError),
    (CellError("encrypted_refresh", "is not", "Fix it."), Kind.UNREADABLE_CELL, MisconfiguredError),
    (ProviderError("unknown", "Fix it."), Kind.ROW, MisconfiguredError),
    (AdmissionError("no", "Fix it."), Kind.ROW, MisconfiguredError),
    (_NotTakenError("no", "Fix it."), Kind.ROW, MisconfiguredError),
    (TokenError("no", "Report it."), Kind.INTERNAL, TokenError),
    (RetryLaterError("away", "Wait."), Kind.RETRY_LATER, RetryLaterError),
    (LoginAgainError("dead", "Log in."), Kind.LOGIN_NEEDED, LoginAgainError),
    (NoSuchTokenError("none", "Look."), Kind.NOT_FOUND, NoSuchTokenError),
    (MisconfiguredError("no", "Fix it."), Kind.CONFIGURATION, MisconfiguredError),
    (SeveralTokensError("two", "Name one."), Kind.SEVERAL, SeveralTokensError),
]


@pytest.mark.parametrize(("error", "kind", "library_class"), FAMILY)
def test_each_class_has_its_kind_and_meets_programs_as_one_of_a_few(
    error: ActionableError, kind: Kind, library_class: type[TokenError]
) -> None:
    def act() -> str:
        raise error

    answer = capture_error(act)
    assert isinstance(answer, TokenError)
    assert (type(answer), answer.kind, str(answer), answer.action) == (library_class, kind, str(error), error.action)


@pytest.mark.long
def test_every_error_class_is_of_the_family() -> None:
    """Those of `crypto` are wrapped in `CellError` and by the settings: it imports nothing of ours."""
    strays = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if parts[0] in ("providers", "token_refresh"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and node.name not in INNER:
                    made = getattr(importlib.import_module(name), node.name)
                    strays += [] if issubclass(made, ActionableError) else [node.name]
    assert strays == []


def test_a_file_that_cannot_be_used_is_named() -> None:
    error = actionable_error(PermissionError(13, "Permission denied", "/state"))
    assert (str(error), error.kind) == ("/state cannot be used (Permission denied)", Kind.CONFIGURATION)
    assert "permissions" in error.action


def test_an_interrupt_is_a_stop() -> None:
    assert actionable_error(KeyboardInterrupt()).kind is Kind.STOPPED


def test_a_strangers_error_is_reported_by_its_place_and_keeps_nothing_of_its_words() -> None:
    def act() -> str:
        try:
            raise ValueError(f"body: {SECRET}")
        except ValueError as cause:
            raise KeyError(SECRET) from cause

    with pytest.raises(TokenError, match=r"internal error: KeyError at test_errors\.py:") as caught:
        unwrap(capture_error(act))
    error = caught.value
    assert (type(error), error.kind) == (TokenError, Kind.INTERNAL)
    assert (error.__cause__, error.__context__) == (None, None)
    words = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert SECRET not in words


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert str(internal_error(KeyError(SECRET))) == "internal error: KeyError"


def test_an_answer_is_given_as_it_is() -> None:
    assert unwrap(capture_error(lambda: "token")) == "token"


def test_each_caller_gets_an_error_of_its_own() -> None:
    shared = RetryLaterError("away", "Wait.", Kind.STORE_UNAVAILABLE)
    for _ in range(2):
        with pytest.raises(RetryLaterError) as caught:
            unwrap(shared)
        assert caught.value is not shared
        assert caught.value.kind is Kind.STORE_UNAVAILABLE
    assert shared.__traceback__ is None


@pytest.mark.parametrize(
    ("outcome", "library_class"),
    [
        (Outcome.TRANSIENT, RetryLaterError),
        (Outcome.UNKNOWN, RetryLaterError),
        (Outcome.CHANGED, RetryLaterError),
        (Outcome.REAUTHORIZE, LoginAgainError),
        (Outcome.OPERATOR, MisconfiguredError),
        (None, MisconfiguredError),
    ],
)
def test_an_outcome_says_whether_to_wait_to_log_in_or_to_fix(
    outcome: Outcome | None, library_class: type[TokenError]
) -> None:
    error = RowFinished("loc1", "acme", outcome, "HTTP 400", "Do it.").as_error()
    assert type(error) is library_class
    assert (str(error), error.action) == (f"loc1 acme: {outcome}, HTTP 400", "Do it.")


def test_who_names_no_provider_among_several_has_something_to_fix() -> None:
    assert issubclass(SeveralTokensError, MisconfiguredError)


def test_the_module_is_light() -> None:
    """It is imported before anything else, also by a start that finds another run active."""
    code = "import sys, token_refresh.base.errors; print(*sorted(sys.modules))"
    command, alone = [sys.executable, "-c", code], {"PATH": os.environ["PATH"]}  # without what counts covered lines
    loaded = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True).stdout
    assert not {"traceback", "dataclasses", "json", "logging"} & set(loaded.split())
