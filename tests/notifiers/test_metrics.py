"""METRICS_FILE as a collector reads it: the names that are promised, counts that only grow, no location."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from providers.base import Answer, TokenRequest, Verdict
from tests.conftest import World
from tests.notifiers.news_world import settings_for, surroundings_for
from tests.notifiers.summaries import finished, summary_of
from tests.refresh.runs.faults_world import SqliteRows
from tests.world.clock import START, FakeClock
from tests.world.program import ROOT
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import Outcome
from token_refresh.diagnosis.row_state import State
from token_refresh.notifiers import messages
from token_refresh.notifiers.channels import notifiers_of
from token_refresh.notifiers.history import STORE_CALLS
from token_refresh.notifiers.metrics import Numbers, TimedTransport, make_provider_seconds, write_metrics
from token_refresh.notifiers.summary import Facts
from token_refresh.notifiers.watch import Limit
from token_refresh.stores.base import StoreUnavailableError, Usage

NAMES = {
    "token_refresh_run_timestamp_seconds",
    "token_refresh_run_success_timestamp_seconds",
    "token_refresh_run_duration_seconds",
    "token_refresh_run_exit_code",
    "token_refresh_outcomes_total",
    "token_refresh_tokens",
    "token_refresh_next_expiry_timestamp_seconds",
    "token_refresh_refresh_token_end_timestamp_seconds",
    "token_refresh_unreadable_cells",
    "token_refresh_store_calls_total",
    "token_refresh_store_calls_month",
    "token_refresh_store_calls_quota",
    "token_refresh_journal_entries",
    "token_refresh_store_connections",
}
LABELS = ("provider", "outcome", "state", "step")
OF_THE_SERVICE = {"token_refresh_provider_seconds"}


class Unreachable:
    """A transport that sends nothing."""

    def post(self, request: TokenRequest) -> Answer:
        return Answer(Verdict.NOT_ACTED)


FACTS = Facts(
    tokens={("acme", State.VALID): 3, ("acme", State.LOGIN_NEEDED): 1, ("google", State.VALID): 2},
    next_expiry={"acme": START + timedelta(hours=1)},
    refresh_token_end={"google": START + timedelta(days=20)},
    unreadable_cells=1,
    journal_entries={"lost": 2},
    usage=Usage(120, 900, 0),
    monthly_calls=1000,
)
Samples = Mapping[tuple[str, tuple[str, ...]], float]


def numbers(facts: Facts | None = FACTS, **more: Any) -> Numbers:
    run = finished(("a-location", Outcome.REFRESHED))
    run.started_at = START - timedelta(seconds=5)
    usual: dict[str, Any] = {
        "counts": {("acme", "refreshed"): 7, ("", STORE_CALLS): 40},
        "success": START,
        "connections": {"idle": 1},
    }
    return Numbers(summary_of(run, facts=facts, exit_code=1), **(usual | more))


def read(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, tuple(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_names_are_those_that_are_promised_and_each_is_explained() -> None:
    text = generate_latest(numbers()).decode()
    samples = read(text)
    assert {name for name, _ in samples} == NAMES
    assert set(re.findall(r"(?m)^# HELP (\S+) \S", text)) == NAMES
    assert "_created" not in text
    assert "a-location" not in text


def test_how_long_each_provider_took_is_said_in_whole_histograms_and_nothing_of_other_requests() -> None:
    seconds = make_provider_seconds()
    transport = TimedTransport(Unreachable(), seconds)
    for provider in ("acme", "acme", "google"):
        transport.post(TokenRequest("https://id.example/token", {}, b"", host_is_fixed=True, provider=provider))
    text = generate_latest(numbers(provider_seconds=seconds)).decode()
    samples = read(text)
    assert samples["token_refresh_provider_seconds_count", ("acme",)] == 2
    assert samples["token_refresh_provider_seconds_count", ("google",)] == 1
    assert {name for name, _ in samples} - NAMES == {
        f"{one}_{end}" for one in OF_THE_SERVICE for end in ("bucket", "count", "sum")
    }
    assert "_created" not in text


def test_a_run_and_all_rows_are_said_in_numbers() -> None:
    samples = read(generate_latest(numbers()).decode())
    assert samples["token_refresh_run_timestamp_seconds", ()] == START.timestamp()
    assert samples["token_refresh_run_success_timestamp_seconds", ()] == START.timestamp()
    assert samples["token_refresh_run_duration_seconds", ()] == 5
    assert samples["token_refresh_run_exit_code", ()] == 1
    assert samples["token_refresh_store_calls_total", ()] == 40
    assert samples["token_refresh_tokens", ("acme", "login_needed")] == 1
    assert samples["token_refresh_tokens", ("google", "expired")] == 0  # a state that nobody is in is known, too
    assert samples["token_refresh_next_expiry_timestamp_seconds", ("acme",)] == START.timestamp() + 3600
    assert samples["token_refresh_unreadable_cells", ()] == 1
    assert samples["token_refresh_journal_entries", ("lost",)] == 2
    assert samples["token_refresh_journal_entries", ("sent",)] == 0
    assert samples["token_refresh_store_calls_month", ()] == 120
    assert samples["token_refresh_store_calls_quota", ()] == 1000


def test_each_outcome_of_a_provider_is_counted_from_nothing() -> None:
    samples = read(generate_latest(numbers()).decode())
    found = {labels[1]: count for (name, labels), count in samples.items() if name == "token_refresh_outcomes_total"}
    assert found == {**{str(outcome): 0 for outcome in Outcome}, "refreshed": 7}


def test_what_a_run_could_not_ask_stays_as_the_run_before_wrote_it(tmp_path: Path) -> None:
    """An alarm that goes out because the store is away would be a lie."""
    file = tmp_path / "token_refresh.prom"
    write_metrics(file, numbers())
    write_metrics(file, numbers(None, counts={("acme", "refreshed"): 8}))
    samples = read(file.read_text())
    assert samples["token_refresh_tokens", ("acme", "login_needed")] == 1
    assert samples["token_refresh_next_expiry_timestamp_seconds", ("acme",)] == START.timestamp() + 3600
    assert samples["token_refresh_outcomes_total", ("acme", "refreshed")] == 8


def test_a_history_that_cannot_be_asked_leaves_its_counts_and_the_run_is_said(tmp_path: Path, clock: FakeClock) -> None:
    """It may be in a database that is away."""
    file = tmp_path / "token_refresh.prom"
    write_metrics(file, numbers())

    def away(_: object) -> Any:
        raise StoreUnavailableError("the database cannot be used", "Start it.")

    settings = settings_for(tmp_path / "state", METRICS_FILE=str(file))
    around = surroundings_for(settings, clock)._replace(open_history=away)
    [notifier] = [one for one in notifiers_of(around) if one.name == "METRICS_FILE"]
    notifier.act(summary_of(finished(), exit_code=3), Limit(5))
    samples = read(file.read_text())
    assert samples["token_refresh_run_exit_code", ()] == 3
    assert samples["token_refresh_outcomes_total", ("acme", "refreshed")] == 7
    assert samples["token_refresh_store_calls_total", ()] == 40
    assert samples["token_refresh_tokens", ("acme", "login_needed")] == 1


def test_the_first_run_of_all_may_know_nothing_of_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "token_refresh.prom"
    write_metrics(file, numbers(None, success=None, counts={}))
    samples = read(file.read_text())
    assert samples["token_refresh_run_exit_code", ()] == 1
    assert not any(
        name in ("token_refresh_tokens", "token_refresh_run_success_timestamp_seconds") for name, _ in samples
    )


def test_the_file_is_replaced_whole_and_everybody_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, seen = tmp_path / "token_refresh.prom", []
    os.umask(os.umask(0o077))
    replace = Path.replace

    def note(self: Path, target: Path) -> Path:
        seen.append((self.name, stat.S_IMODE(self.stat().st_mode)))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note)
    write_metrics(file, numbers())
    [(name, mode)] = seen
    assert not name.endswith(".prom")
    assert (mode, stat.S_IMODE(file.stat().st_mode)) == (0o644, 0o644)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ActionableError, match="cannot be written"):
        write_metrics(tmp_path / "nowhere/x.prom", numbers())


def test_without_the_library_one_warning_says_how_to_install_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "find_spec", lambda _: None)
    world.program.settings["METRICS_FILE"] = str(tmp_path / "x.prom")
    result = world.program.run()
    assert result.code == 0
    assert result.err.count("METRICS_FILE: the package prometheus-client is missing. Run: ") == 1


def test_runs_write_the_file_and_their_counts_grow(world: World, tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "token_refresh.prom"
    file.parent.mkdir()
    world.program.settings["METRICS_FILE"] = str(file)
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    for count in (1, 2):
        assert world.program.run("--all").code == 0
        samples = read(file.read_text())
        assert samples["token_refresh_outcomes_total", ("acme", "refreshed")] == count
        assert samples["token_refresh_tokens", ("acme", "valid")] == 1
    assert samples["token_refresh_store_calls_total", ()] > 2


def test_a_folder_that_is_missing_is_one_warning_and_no_other_exit_code(world: World, tmp_path: Path) -> None:
    world.program.settings["METRICS_FILE"] = str(tmp_path / "nowhere/x.prom")
    result = world.program.run()
    assert result.code == 0
    assert result.err.count("METRICS_FILE: ") == 1


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana-dashboard.json"])
def test_rules_and_dashboard_use_metrics_that_there_are(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    used = set(re.findall(r"token_refresh_\w+", text))
    assert used
    assert used <= NAMES | {f"{one}_{end}" for one in OF_THE_SERVICE for end in ("bucket", "count", "sum")}


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    assert dashboard["title"]
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_the_page_names_every_metric() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert set(re.findall(r"token_refresh_\w+", page)) >= NAMES | OF_THE_SERVICE
