"""A producer's lease: granted by Redis' clock, trusted by this machine's.

It is for liveness: who holds none is replaced. Safety is the epoch's; only healing a lost log also asks
whether the lease still runs, since nobody else can have closed the log before.
"""

import logging
import time

from server.errors import StoreUnavailable
from server.events import Cursor
from server.session.answers import Flag, Renewal, Turn
from server.session.store import Identity, Store

log = logging.getLogger(__name__)


def boottime() -> float:
    """Return seconds that also pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """One producer's lease of `seconds`; what the last renewal told of the viewers of all nodes.

    `report` goes with every renewal, so that no loss of Redis can swallow it. `size` is the
    bytes of its events, `until_ms` the end by Redis' clock.
    """

    def __init__(self, who: Identity, store: Store, seconds: float) -> None:
        self.seconds = seconds
        self.report = b""
        self.size = 0
        self.viewers = 0
        self.watched = False
        self.until_ms = int((time.time() + seconds) * 1000)
        self._who = who
        self._store = store
        self._until = boottime() + seconds

    def begin(self, epoch: int) -> None:
        """Learn when it was granted: an epoch is Redis' clock, and ours may be wrong."""
        self.until_ms = epoch + int(self.seconds * 1000)

    @property
    def left(self) -> float:
        """The seconds that are left of it, by a clock that also counts the machine's sleep."""
        return self._until - boottime()

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.left > 0

    async def renew(self) -> Renewal:
        """Renew, and return what Redis holds; raise `StoreUnavailable`."""
        asked = boottime()
        renewal = await self._store.renew(
            self._who, self.seconds, self._redis_ms(), self.report, self.size
        )
        if renewal.flag is Flag.OK:
            self._granted(asked, renewal.now_ms)
            self.viewers, self.watched = renewal.viewers, renewal.watched
        return renewal

    async def regain(self, top: Cursor, turn: Turn) -> Flag:
        """Have it named again by a Redis that lost it, before the log up to `top` is there again."""
        asked = boottime()
        flag, now_ms = await self._store.regain(self._who, top, self.seconds, turn, self.until_ms)
        if flag is Flag.OK:
            self._granted(asked, now_ms)
        return flag

    def _granted(self, asked: float, now_ms: int) -> None:
        self._until = asked + self.seconds
        self.until_ms = now_ms + int(self.seconds * 1000)

    async def release(self) -> bool:
        """Give the lease back, so that nobody waits for it to lapse; a renewal after that is the same.

        Return False if it was kept: this producer has ended, and its log has lost something.
        """
        seconds, self.seconds = self.seconds, 0.0
        try:
            seen = await self.renew()
        except StoreUnavailable:
            log.info("a lease is left to lapse")
            return True
        kept = bool(self.report) and seen.flag is Flag.OK and not seen.dense
        self.seconds = seconds if kept else 0.0
        return not kept

    def _redis_ms(self) -> int:
        # Only for the directory, whose sweep asks Redis' clock again.
        return self.until_ms - int((self._until - boottime()) * 1000)
