"""Words for people: on stderr, as text or as JSON lines. Data goes to stdout, elsewhere."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import AnswerNotSaved
from token_refresh.base.text import Redactor, one_line, sentences
from token_refresh.terminal.process import silence

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Console:
    """Where a command says what it does.

    Args:
        as_json: stdout carries one JSON object, so nothing else may go there.

    Attributes:
        as_lines: one object a line, for each round of a command that goes on.
        verb: which command speaks.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.as_lines = False
        self.verb = ""
        self._level = "INFO"
        self._format = "text"
        self._redacted = Redactor()
        self._has_answered = False
        self._is_stdout_reserved = as_json
        self._not_saved: list[AnswerNotSaved] = []
        self._not_saved_to_show: list[AnswerNotSaved] = []

    def reserve_stdout(self) -> None:
        """Keep it for the command's data: another program reads it as one value."""
        self._is_stdout_reserved = True

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, wherever they would be said."""
        self._redacted = Redactor(secrets)

    def configure(self, level: str, log_format: str) -> None:
        """Take `LOG_LEVEL` and `LOG_FORMAT`."""
        self._level = level
        self._format = log_format

    @property
    def is_for_machines(self) -> bool:
        """Whether stderr is read by a program, so that nothing may be drawn there."""
        return self._format == "json"

    def error(self, what: str, action: str = "", **facts: Any) -> None:
        """What went wrong, then what to do; `facts` are further fields of a JSON line."""
        self._say("ERROR", what, action, **facts)

    def warn(self, what: str, action: str = "", **facts: Any) -> None:
        """What a person should know soon."""
        self._say("WARNING", what, action, **facts)

    def info(self, what: str, action: str = "", **facts: Any) -> None:
        """How things go."""
        self._say("INFO", what, action, **facts)

    def data(self, text: str) -> None:
        """A line of the command's answer, on stdout."""
        self.piece(f"{text}\n")

    def piece(self, text: str) -> None:
        """A part of the command's answer, on stdout, as it is."""
        self._has_answered = True
        to_stdout(text)

    def object(self, content: dict[str, Any]) -> None:
        """The command's answer as JSON, on stdout, with the answers that could not be saved as its `unsaved`."""
        if self._not_saved_to_show:
            content = content | {"unsaved": [_answer_object(answer) for answer in self._not_saved_to_show]}
            self._not_saved_to_show = []
        self.data(json.dumps(content, indent=None if self.as_lines else 2))

    def error_object(self, error: ActionableError) -> None:
        """With `--json`: the error that ended the command as its one object on stdout, unless an answer is there."""
        if self.as_json and (self.as_lines or not self._has_answered):
            words = {"message": self._redacted(str(error)), "action": self._redacted(error.action)}
            with contextlib.suppress(ActionableError, BrokenPipeError):  # it has been said on stderr already
                self.object({"error": {"code": error.kind.value, **words}})

    def answer_not_saved(self, answer: AnswerNotSaved) -> None:
        """Say it at every log level.

        An answer that no file holds goes to stderr and to stdout (with `--json` as a part of the object): either may
        be on a full disk, or read by nobody.
        """
        self._not_saved.append(answer)
        self._not_saved_to_show.append(answer)
        facts = {"code": answer.code, "location_id": answer.location_id, "provider": answer.provider}
        line = self._line("ERROR", str(answer), answer.action, **facts)
        to_stderr(line)
        if answer.file is None and not self._is_stdout_reserved:
            with contextlib.suppress(ActionableError, OSError, ValueError):
                to_stdout(line)

    def end_not_saved(self) -> bool:
        """At the end of a command, or of a round: whether an answer is not saved, of this round or an earlier one.

        With `--json` what no object has shown yet, as where the reader of stdout has gone, is shown now.
        """
        if self._not_saved_to_show and self.as_json and (self.as_lines or not self._has_answered):
            with contextlib.suppress(ActionableError, OSError, ValueError):
                self.object({})
        self._not_saved = [answer for answer in self._not_saved if answer.is_left]
        return bool(self._not_saved)

    def _say(self, level: str, what: str, action: str, **facts: Any) -> None:
        if _LEVELS.index(level) >= _LEVELS.index(self._level):
            to_stderr(self._line(level, what, action, **facts))

    def _line(self, level: str, what: str, action: str, **facts: Any) -> str:
        what, action = self._redacted(what), self._redacted(action)
        facts = {name: self._redacted(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if self._format == "json":
            line = {"time": moment, "level": level, "message": what, "action": action or None, **facts}
            text = json.dumps({name: value for name, value in line.items() if value is not None})
        else:
            text = f"{moment} {level.lower()}: {one_line(sentences(what, action))}"
        return f"{text}\n"


def _answer_object(answer: AnswerNotSaved) -> dict[str, str | None]:
    return {
        "location_id": answer.location_id,
        "provider": answer.provider,
        "sealed": answer.sealed,
        "file": str(answer.file) if answer.file is not None else None,
    }


def to_stdout(text: str) -> None:
    """Write data.

    Raises:
        BrokenPipeError: whoever read it has enough.
        ActionableError: it cannot be written, as on a full disk, or where the caller closed it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
        raise
    except OSError as error:
        silence(sys.stdout)
        what = f"the output cannot be written ({error.strerror})"
        raise ActionableError(what, "Free the disk, or send it elsewhere.", Kind.STOPPED) from None


def to_stderr(text: str, stream: TextIO | None = None) -> None:
    """Write words. That nobody reads them must not end a run half-way."""
    stream = stream or sys.stderr
    try:
        stream.write(text)
        stream.flush()
    except RuntimeError:
        pass  # a signal handler's words in the middle of others
    except (OSError, ValueError):
        silence(stream)
