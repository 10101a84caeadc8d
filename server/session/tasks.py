"""Tasks that nobody waits for: kept until they end, and their failures logged."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from server.errors import StoreUnavailable
from server.traces import trace

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one owner. That Redis was away is no failure."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` in a task of its own."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, StoreUnavailable):
            log.error("a task failed: %s", trace(error))

    async def finish(self) -> None:
        """Await them all."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Cancel and await them all."""
        for task in self._tasks:
            task.cancel()
        await self.finish()
