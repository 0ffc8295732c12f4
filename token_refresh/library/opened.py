"""What every call of the library begins with: the table opened, and closed again at its end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from token_refresh.base.errors import NoSuchTokenError
from token_refresh.base.events import RowFinished
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.stop import Stop
from token_refresh.diagnosis.row_state import RowStatus, row_status
from token_refresh.library.views import TokenView, view_of
from token_refresh.refresh.due import DuePolicy
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row
from token_refresh.stores.sealed import SealedStore
from token_refresh.wiring import Runtime


class Opened:
    """What the parts of the library share.

    Args:
        runtime: opens store, journal and lock.
        wait_seconds: how long a call waits for another run, or for who is refreshing its row.
    """

    def __init__(self, runtime: Runtime, wait_seconds: float) -> None:
        self._ending = Stop()
        calls = _Calls(runtime.close)
        self._runtime = runtime._replace(
            open_store=partial(calls.opened, runtime.open_store),
            close=calls.close,
            record_rows=partial(calls.record, runtime.record_rows),
            run_context_around=partial(_at_work, self._ending, runtime.run_context_around),
            bystander_context_around=partial(_at_work, self._ending, runtime.bystander_context_around),
        )
        self._wait_seconds = wait_seconds

    @property
    def is_at_work(self) -> bool:
        """Whether something is under way that holds a token, or may get one: whatever else is open only reads."""
        return self._ending.is_forwarding

    @contextmanager
    def _open(self, wait_seconds: float) -> Iterator[RunContext]:
        runtime = self._runtime
        with runtime.lock(wait_seconds), runtime.open_store() as store, runtime.run_context_around(store) as context:
            yield context

    def _row(self, store: SealedStore, row_id: str) -> tuple[Row, str]:
        """The row of that id, complete, and the slug of its provider.

        Raises:
            NoSuchTokenError: there is none.
        """
        row = store.store.read([row_id], complete=True).get(row_id)
        if row is None:
            action = f"It may have been deleted. See: {TOKEN_MANAGER} status"
            raise NoSuchTokenError("there is no row of this id", action)
        return row, self._runtime.job_factory(store).provider_name(row)

    def _view(self, store: SealedStore, row_id: str) -> TokenView:
        row, _ = self._row(store, row_id)
        return view_of(self._status(self._runtime.remembered(store.store).added_to(row)))

    def _status(self, row: Row) -> RowStatus:
        """The row with its state; what is remembered of its failures has been added to it."""
        runtime = self._runtime
        policy = DuePolicy(math.ceil(runtime.refresh_interval), math.ceil(runtime.expiry_buffer))
        return row_status(row, runtime.catalog, runtime.default_provider, policy, runtime.clock.now())


class _Calls:
    """The calls that are open now: where a manager is closed meanwhile, the last of them releases the connections."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._lock = threading.Lock()
        self._open = 0
        self._is_closed = False

    @contextmanager
    def opened(self, open_store: Callable[[], AbstractContextManager[SealedStore]]) -> Iterator[SealedStore]:
        with self._lock:
            self._is_closed = self._is_closed and self._open > 0  # a later call may keep what it opens
            self._open += 1
        try:
            with open_store() as store:
                yield store
        finally:
            with self._lock:
                self._open -= 1
            self._release_last()

    def record(self, record_rows: Callable[[Sequence[RowFinished]], None], rows: Sequence[RowFinished]) -> None:
        """What a call may do when its table is closed already."""
        record_rows(rows)
        self._release_last()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._release_last()

    def _release_last(self) -> None:
        if self._is_closed and not self._open:
            self._release()


@contextmanager
def _at_work(
    ending: Stop, context_around: Callable[[SealedStore], AbstractContextManager[RunContext]], store: SealedStore
) -> Iterator[RunContext]:
    """What waits for an outage of the store keeps the program from its end: none is waited out then."""
    with ending.forwarding_to(lambda _: store.store.hurry()), context_around(store) as context:
        yield context
