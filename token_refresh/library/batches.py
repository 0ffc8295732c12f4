"""What tasks ask for while an answer is under way, answered together: one trip to the store for all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

MOST = 32  # more would keep the loop idle meanwhile

_Asked = TypeVar("_Asked")
_T = TypeVar("_T")


class Batches(Generic[_Asked, _T]):
    """Whoever asks while a batch is answered is in the next one. Each event loop has its own.

    Args:
        act: answers a batch, each in its place; never raises.
    """

    def __init__(self, act: Callable[[list[_Asked]], Awaitable[list[_T]]]) -> None:
        self._act = act
        self._waiting = WeakKeyDictionary[asyncio.AbstractEventLoop, list[tuple[_Asked, asyncio.Future[_T]]]]()
        self._workers = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]]()

    async def join(self, asked: _Asked) -> _T:
        """The answer. Whoever is cancelled leaves the others theirs."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()
        self._waiting.setdefault(loop, []).append((asked, answer))
        if loop not in self._workers:
            self._workers[loop] = loop.create_task(self._work(loop))
        return await answer

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[tuple[_Asked, asyncio.Future[_T]]] = []
        try:
            while waiting := self._waiting.get(loop):
                count = 0
                while count < len(waiting) < MOST:  # while each turn of the loop brings more who ask
                    count = len(waiting)
                    await asyncio.sleep(0)
                batch = self._waiting.pop(loop)
                answers = await self._act([asked for asked, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        except BaseException as error:  # cancelled with every task of its loop, or a mistake: nobody waits for ever
            for _, future in batch + self._waiting.pop(loop, []):
                if not future.done():
                    future.set_exception(error)
            raise
        finally:
            del self._workers[loop]
