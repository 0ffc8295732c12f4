"""What tasks ask for while an answer is under way is answered together."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from token_refresh.library.batches import Batches

PATIENCE_SECONDS = 60
A_MOMENT_SECONDS = 5


class Echo:
    """Answers what it is asked, each batch when the test says so."""

    def __init__(self) -> None:
        self.batches = Batches(self._act)
        self.seen: list[list[str]] = []
        self.go = asyncio.Semaphore(0)

    async def _act(self, asked: list[str]) -> list[str]:
        self.seen.append(asked)
        await self.go.acquire()
        return [f"answer to {one}" for one in asked]

    async def asked(self, *names: str) -> list[asyncio.Task[str]]:
        """A task for each, all of which wait now."""
        tasks = [asyncio.create_task(self.batches.join(name)) for name in names]
        for _ in range(len(names) + 3):
            await asyncio.sleep(0)
        return tasks


def test_those_who_ask_while_others_are_answered_are_answered_together_each_in_its_place() -> None:
    async def main() -> None:
        echo = Echo()
        first = await echo.asked("a", "b")
        later = await echo.asked("c", "d", "e")
        assert echo.seen == [["a", "b"]]
        echo.go.release()
        echo.go.release()
        assert await asyncio.gather(*first, *later) == [f"answer to {name}" for name in "abcde"]
        assert echo.seen == [["a", "b"], ["c", "d", "e"]]

    asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))


def test_whoever_is_cancelled_leaves_the_others_their_answers() -> None:
    async def main() -> None:
        echo = Echo()
        one, other = await echo.asked("a", "b")
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        echo.go.release()
        assert await other == "answer to b"

    asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))


def test_a_loop_that_was_cut_off_in_the_middle_keeps_the_next_one_from_nothing() -> None:
    """As where a program runs one loop after the other, or forks and begins its own."""
    echo = Echo()

    async def cut_off() -> None:
        await echo.asked("a")
        raise KeyboardInterrupt

    async def after() -> str:
        echo.go = asyncio.Semaphore(1)
        return await echo.batches.join("b")

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(cut_off())
    assert asyncio.run(asyncio.wait_for(after(), PATIENCE_SECONDS)) == "answer to b"


def test_where_every_task_of_a_loop_was_cancelled_whoever_asks_afterwards_is_answered() -> None:
    async def main() -> None:
        echo = Echo()
        await echo.asked("a", "b")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        [*later] = await echo.asked("c")
        echo.go.release()
        assert await asyncio.wait_for(later[0], A_MOMENT_SECONDS) == "answer to c"

    asyncio.run(main())


def test_where_the_worker_alone_is_cut_off_nobody_waits_for_ever() -> None:
    """Whom it had taken along, and who came meanwhile."""

    async def main() -> None:
        echo = Echo()
        tasks = [*await echo.asked("a"), *await echo.asked("b")]
        [worker] = asyncio.all_tasks() - {asyncio.current_task(), *tasks}
        worker.cancel()
        ends = asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in await asyncio.wait_for(ends, A_MOMENT_SECONDS)] == [asyncio.CancelledError] * 2

    asyncio.run(main())


def test_a_mistake_in_answering_is_raised_to_all_who_asked_and_not_to_whoever_asks_next() -> None:
    async def main() -> None:
        mistakes = [RuntimeError("cannot schedule new futures after shutdown")]

        async def act(asked: list[str]) -> list[str]:
            if mistakes:
                raise mistakes.pop()
            return asked

        batches = Batches(act)
        ends = asyncio.gather(batches.join("a"), batches.join("b"), return_exceptions=True)
        assert [type(end) for end in await asyncio.wait_for(ends, A_MOMENT_SECONDS)] == [RuntimeError] * 2
        assert await asyncio.wait_for(batches.join("c"), A_MOMENT_SECONDS) == "c"

    asyncio.run(main())
