"""What libraries log is said by the console, and nothing that may quote a request."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from token_refresh.base.errors import RetryLaterError
from token_refresh.terminal.console import Console
from token_refresh.terminal.log import log_to

OWN, OTHER, THIRD = "test_log.own", "test_log.other", "test_log.third"


@pytest.fixture
def console() -> Iterator[Console]:
    """One that all that is logged goes to."""
    root, disabled = logging.getLogger().handlers, logging.root.manager.disable
    console = Console()
    console.hide(["canary-secret"])
    log_to(console, OWN, [OTHER])
    yield console
    logging.getLogger().handlers = root
    logging.disable(disabled)


@pytest.mark.usefixtures("console")
def test_the_program_s_own_words_are_said_and_of_others_the_errors(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(OWN).info("one %s", "refreshed")
    logging.getLogger(OWN).debug("two")
    logging.getLogger(OTHER).warning("three")
    logging.getLogger(OTHER).error("four")
    logging.getLogger(THIRD).error("five")
    said = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["info: one refreshed", "error: four"]


@pytest.mark.usefixtures("console")
def test_an_exception_is_said_without_its_words_and_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("GET /connect?link=secret")
    except ValueError:
        logging.getLogger(OTHER).exception("Exception in ASGI application")
    said = capsys.readouterr().err
    assert "error: internal error: ValueError at test_log.py:" in said
    assert "secret" not in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("console")
def test_an_error_of_ours_keeps_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(OTHER).error("lost", exc_info=RetryLaterError("the store is away: canary-secret", "Wait."))
    assert "error: the store is away: […]. Wait." in capsys.readouterr().err
