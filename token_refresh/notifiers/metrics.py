"""METRICS_FILE and the service's `/metrics`: one run and all rows in numbers, in Prometheus' text format.

No label holds a location: a metric is kept for every value of its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Outcome
from token_refresh.base.files import replace_file
from token_refresh.base.program import install_extra
from token_refresh.diagnosis.row_state import State
from token_refresh.journal.entries import Step
from token_refresh.notifiers.history import STORE_CALLS
from token_refresh.notifiers.summary import Facts, RunSummary

if TYPE_CHECKING:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

Values = Mapping[Any, float]
"""Numbers by the values of their labels."""
READABLE = 0o644  # a collector is another user


@dataclass(frozen=True, eq=False)  # a registry hashes it
class Numbers:
    """All that the metrics are made of.

    Attributes:
        summary: of the last run.
        counts, success: see `History.counts` and `History.last_success`.
        connections: of a process that goes on, how many connections to the store are `used` and `idle`.
        before: what the file says of the rows, for a run that could not look at them.
    """

    summary: RunSummary
    counts: Mapping[tuple[str, str], int]
    success: datetime | None
    connections: Mapping[str, int] = field(default_factory=dict)
    before: Iterable[Metric] = ()

    def collect(self) -> Iterable[Metric]:
        """What a registry of prometheus_client asks for."""
        yield from self._of_run()
        facts = self.summary.facts
        yield from _of_rows(facts) if facts is not None else self.before

    def _of_run(self) -> Iterable[Metric]:
        summary, run = self.summary, self.summary.run
        yield _gauge("run_timestamp_seconds", "When the last run ended.", summary.ended_at.timestamp())
        success = "When the last run ended with exit code 0 or 1."
        yield _gauge("run_success_timestamp_seconds", success, self.success.timestamp() if self.success else None)
        duration = (summary.ended_at - run.started_at).total_seconds()
        yield _gauge("run_duration_seconds", "How long the last run took.", duration)
        yield _gauge("run_exit_code", "What the last run ended with; see docs/commands.md.", summary.exit_code)
        providers = {provider for provider, _ in self.counts if provider}
        ends = {(one, str(outcome)): self.counts.get((one, outcome), 0) for one in providers for outcome in Outcome}
        yield _counter("outcomes", "How many rows came to which end.", ("provider", "outcome"), ends)
        calls = {(): self.counts.get(("", STORE_CALLS), 0)}
        yield _counter("store_calls", "Calls to the store: requests to Airtable, transactions.", (), calls)
        by_state = {(state,): count for state, count in self.connections.items()}
        yield _gauges("store_connections", "Connections to the store, of the service.", ("state",), by_state)


def text_of(numbers: Numbers) -> bytes:
    """The text that a collector reads."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast("Collector", numbers))
    return generate_latest(registry)


def write_metrics(file: Path, numbers: Numbers) -> None:
    """Replace the file in one step, so that a collector never reads half of it.

    Raises:
        ActionableError: it cannot be written.
    """
    try:
        replace_file(file, text_of(replace(numbers, before=_before(file))), READABLE)
    except ImportError:
        what = "the package prometheus-client is not installed"
        action = install_extra("notify")
    except OSError as error:
        what = f"{file} cannot be written ({error.strerror})"
        action = "Make its folder, for this user to write in."
    else:
        return
    raise ActionableError(what, action, Kind.CONFIGURATION)


def _of_rows(facts: Facts) -> Iterable[Metric]:
    providers = {provider for provider, _ in facts.tokens}
    tokens = {(one, str(state)): facts.tokens.get((one, state), 0) for one in providers for state in State}
    yield _gauges("tokens", "How many rows are in which state.", ("provider", "state"), tokens)
    for name, words, ends in (
        ("next_expiry", "When the first access token ends.", facts.next_expiry),
        ("refresh_token_end", "When the first refresh token ends, where that is known.", facts.refresh_token_ends),
    ):
        values = {(provider,): end.timestamp() for provider, end in ends.items()}
        yield _gauges(f"{name}_timestamp_seconds", words, ("provider",), values)
    unreadable = "Encrypted values that cannot be decrypted, as far as was seen."
    yield _gauge("unreadable_cells", unreadable, facts.unreadable_cells)
    steps = {(str(step),): facts.journal_entries.get(step, 0) for step in Step}
    yield _gauges("journal_entries", "Refreshes that are not finished, in this machine's journal.", ("step",), steps)
    usage = facts.usage
    month = "Calls to Airtable this month, from this machine."
    yield _gauge("store_calls_month", month, usage.calls if usage else None)
    yield _gauge("store_calls_quota", "Calls a month that the plan has.", usage.limit if usage else None)


def _before(file: Path) -> list[Metric]:
    """What the file says of the rows."""
    from prometheus_client.parser import text_string_to_metric_families

    names = {family.name for family in _of_rows(Facts())}
    with suppress(OSError, ValueError):
        return [one for one in text_string_to_metric_families(file.read_text()) if one.name in names]
    return []


def _gauge(name: str, words: str, value: float | None) -> Metric:
    """One number; none where it is not known."""
    return _gauges(name, words, (), {} if value is None else {(): value})


def _gauges(name: str, words: str, labels: tuple[str, ...], values: Values) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"token_refresh_{name}", words, labels=labels), values)


def _counter(name: str, words: str, labels: tuple[str, ...], values: Values) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"token_refresh_{name}", words, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family
