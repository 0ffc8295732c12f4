"""METRICS_FILE and the service's `/metrics`: one run and all rows in numbers, in Prometheus' text format.

No label holds a location: a metric is kept for every value of its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from providers.base import Answer, RawAnswer, TokenRequest
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Outcome
from token_refresh.base.files import replace_file
from token_refresh.diagnosis.row_state import State
from token_refresh.journal.entries import Step
from token_refresh.net.transport import EXCHANGE_SECONDS, Transport
from token_refresh.notifiers.history import STORE_CALLS
from token_refresh.notifiers.summary import Facts, RunSummary

READABLE = 0o644  # a collector is another user
Values = Mapping[Any, float]
"""Numbers by the values of their labels."""
_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


@dataclass(frozen=True, eq=False)  # a registry hashes it
class Numbers(Collector):
    """All that the metrics are made of, for a registry of prometheus_client.

    Attributes:
        summary: of the last run.
        counts: see `History.counts`; None where the history cannot be asked.
        success: see `LastRun.success_at`.
        connections: of a process that goes on, how many connections to the store are `used` and `idle`.
        provider_seconds: see `TimedTransport`; of a process that goes on.
        before: what the file says of all that is not known.
    """

    summary: RunSummary
    counts: Mapping[tuple[str, str], int] | None
    success: datetime | None
    connections: Mapping[str, int] = field(default_factory=dict)
    provider_seconds: Histogram | None = None
    before: Iterable[Metric] = ()

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        summary, facts = self.summary, self.summary.facts
        duration = (summary.ended_at - summary.run.started_at).total_seconds()
        yield _gauge("run_timestamp_seconds", "When the last run ended.", summary.ended_at.timestamp())
        success = self.success.timestamp() if self.success else None
        yield _gauge("run_success_timestamp_seconds", "When the last run ended with exit code 0 or 1.", success)
        yield _gauge("run_duration_seconds", "How long the last run took.", duration)
        yield _gauge("run_exit_code", "What the last run ended with; see docs/commands.md.", summary.exit_code)
        connections = {(state,): count for state, count in self.connections.items()}
        yield _gauges("store_connections", "Connections to the store, of the service.", connections, "state")
        yield from _of_history(self.counts) if self.counts is not None else ()
        yield from _of_rows(facts) if facts is not None else ()
        yield from _without_created(self.provider_seconds) if self.provider_seconds is not None else ()
        yield from self.before


class TimedTransport:
    """A `Transport` that notes how long each provider took to answer, or not to."""

    def __init__(self, transport: Transport, seconds: Histogram) -> None:
        self._transport = transport
        self._seconds = seconds

    def post(self, request: TokenRequest) -> RawAnswer | Answer:
        """See `Transport.post`."""
        with self._seconds.labels(request.provider).time():
            return self._transport.post(request)


def make_provider_seconds() -> Histogram:
    """Begins empty; used by any thread."""
    buckets = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, EXCHANGE_SECONDS)
    words = "How long providers take to answer, of the service."
    return Histogram("token_refresh_provider_seconds", words, ["provider"], registry=None, buckets=buckets)


def text_of(numbers: Numbers) -> bytes:
    """What a collector reads."""
    return generate_latest(numbers)


def write_metrics(file: Path, numbers: Numbers) -> None:
    """Replace the file in one step, so that a collector never reads half of it.

    Raises:
        ActionableError: it cannot be written.
    """
    names, before = {family.name for family in numbers.collect()}, list[Metric]()
    with suppress(OSError, ValueError):
        before = [one for one in text_string_to_metric_families(file.read_text()) if one.name not in names]
    try:
        replace_file(file, text_of(replace(numbers, before=before)), READABLE)
    except OSError as error:
        what, action = f"{file} cannot be written ({error.strerror})", "Make its folder, for this user to write in."
        raise ActionableError(what, action, Kind.CONFIGURATION) from None


def _without_created(histogram: Histogram) -> Iterable[Metric]:
    for family in histogram.collect():
        family.samples = [one for one in family.samples if not one.name.endswith("_created")]
        yield family


def _of_history(counts: Mapping[tuple[str, str], int]) -> Iterable[Metric]:
    words, calls = "Calls to the store: requests to Airtable, transactions.", counts.get(("", STORE_CALLS), 0)
    yield CounterMetricFamily("token_refresh_store_calls", words, calls)
    providers = {provider for provider, _ in counts if provider}
    outcomes = {(one, str(end)): counts.get((one, end), 0) for one in providers for end in Outcome}
    words, labels = "How many rows came to which end.", ("provider", "outcome")
    yield _filled(CounterMetricFamily("token_refresh_outcomes", words, labels=labels), outcomes)


def _of_rows(facts: Facts) -> Iterable[Metric]:
    providers, usage = {provider for provider, _ in facts.tokens}, facts.usage
    tokens = {(one, str(state)): facts.tokens.get((one, state), 0) for one in providers for state in State}
    yield _gauges("tokens", "How many rows are in which state.", tokens, "provider", "state")
    words = "When the first access token ends."
    yield _gauges("next_expiry_timestamp_seconds", words, _times(facts.next_expiry), "provider")
    words = "When the first refresh token ends, where that is known."
    yield _gauges("refresh_token_end_timestamp_seconds", words, _times(facts.refresh_token_end), "provider")
    words = "Encrypted values that cannot be decrypted, as far as was seen."
    yield _gauge("unreadable_cells", words, facts.unreadable_cells)
    steps = {(str(step),): facts.journal_entries.get(step, 0) for step in Step}
    yield _gauges("journal_entries", "Refreshes that are not finished, in this machine's journal.", steps, "step")
    words = "Calls to Airtable this month, from this machine."
    yield _gauge("store_calls_month", words, usage.calls if usage else None)
    yield _gauge("store_calls_quota", "Calls a month that the plan has.", facts.monthly_calls if usage else None)


def _times(ends: Mapping[str, datetime]) -> dict[tuple[str, ...], float]:
    return {(provider,): end.timestamp() for provider, end in ends.items()}


def _gauge(name: str, words: str, value: float | None) -> Metric:
    """One number; none where it is not known."""
    return GaugeMetricFamily(f"token_refresh_{name}", words, value)


def _gauges(name: str, words: str, values: Values, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"token_refresh_{name}", words, labels=labels), values)


def _filled(family: _Family, values: Values) -> _Family:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family
