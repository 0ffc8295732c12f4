"""Which table, with which token, how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from requests.adapters import BaseAdapter

TIMEOUT_SECONDS = (10, 60)  # connect, read
ANSWER_SECONDS = 45.0  # the body of one answer


@dataclass(frozen=True)
class AirtableOptions:
    """Which table, with which token; `identity` names the base however it is addressed; `schema_file` keeps the known
    columns for a day, `pace_file` the pace and the calls of the base; `adapter` sends requests, and knows whom to trust
    under TLS. It is closed with the store, but where several stores share it (`is_adapter_shared`). `say_outage` is
    called when Airtable begins to be waited for, with what happened and what follows; `shorten` when somebody wants the
    end, with how many seconds the headers of an answer may take from now on, those that are waited for, too."""

    api_key: str = field(repr=False)
    base_id: str
    identity: str
    table_name: str
    id_field: str
    endpoint_url: str
    requests_per_second: float
    schema_file: Path
    pace_file: Path
    adapter: BaseAdapter = field(repr=False)
    is_adapter_shared: bool = False
    say_outage: Callable[[str, str], None] = lambda _what, _what_follows: None
    shorten: Callable[[float], None] = lambda _seconds: None
    proxy: str | None = None
    timeout_seconds: tuple[float, float] = TIMEOUT_SECONDS
    answer_seconds: float = ANSWER_SECONDS
