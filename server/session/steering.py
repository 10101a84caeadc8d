"""What a client may do to a session, from any node: pause, resume, abort, delete.

Redis decides in one step. This node shuts its own gate before it answers; it answers an abort when the
producer, wherever it is, has closed its upstream, and it stands by what it answered: what a failover
loses of an abort or a deletion it does again.
"""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from server.counts import COUNTS
from server.errors import Gone, StoreUnavailable
from server.events import Aborted, AbortReason, decode_final, encode
from server.session import snapshot
from server.session.answers import Controlled, Flag
from server.session.hub import Hub
from server.session.log import Entry
from server.session.producers import Producers, Rules
from server.session.scripts import PATIENCE
from server.session.state import EFFECT, Action, Gate, Report, status_of
from server.session.store import Store
from server.session.tasks import Tasks
from server.session.viewer import Ending

CONFIRM = 2.0
_FINALS = {Action.ABORT: encode(Aborted(AbortReason.USER))}
_ORPHANED = encode(Aborted(AbortReason.ORPHANED))


class Steering:
    """Controls sessions; `producers` is set once they exist, since each needs the other."""

    producers: Producers

    def __init__(self, store: Store, hub: Hub, rules: Rules, tasks: Tasks) -> None:
        self._store = store
        self._hub = hub
        self._rules = rules
        self._tasks = tasks

    async def orphaned(self, sid: str) -> None:
        """End a session that nobody watches."""
        await self.apply(sid, Action.ABORT, _ORPHANED)

    async def control(self, sid: str, action: Action) -> dict[str, Any]:
        """Pause, resume or abort; asked twice, it answers twice the same."""
        result = await self.apply(sid, action, _FINALS.get(action, b""))
        final = decode_final(result.final) if result.final else None
        answer = {
            "id": str(result.cursor),
            "status": status_of(final),
            "paused": result.turn.gate is not None,
            "gate": result.turn.gate,
        }
        return answer | (await self._confirmed(sid) if action is Action.ABORT else {})

    async def end(self, sid: str) -> None:
        """Abort for a prompt that takes its place; that the upstream closes is seen to behind."""
        await self.apply(sid, Action.ABORT, _FINALS[Action.ABORT])
        self._tasks.spawn(self._confirmed(sid))

    async def apply(self, sid: str, action: Action, final: bytes) -> Controlled:
        """Do it, in Redis and on this node; raise `NotFound` or `Gone`."""
        pause_ttl = self._hub.pause_ttl(sid, self._rules.pause_ttl)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while True:
            result = await self._store.control(sid, EFFECT[action], pause_ttl, final)
            if result.flag is Flag.DELETED:
                raise Gone()
            # A log that is not there may be healing: its producer writes it anew from memory.
            missing = result.flag in (Flag.GONE, Flag.LOST)
            if not missing or loop.time() >= deadline:
                break
            known = result.flag is Flag.LOST or sid in self._hub.followers
            if not known and await self._hub.settled(sid):
                break
            await asyncio.sleep(0.05)
        if missing:
            raise await self._hub.absent(sid)
        self._take(sid, result)
        COUNTS.controls[action.value] += 1
        return result

    def _take(self, sid: str, result: Controlled) -> None:
        follower = self._hub.followers.get(sid)
        if follower is None:
            return
        tail = follower.tail
        if result.closing is not None and result.closing.first == tail.log.head + 1:
            tail.absorb((result.closing,), result.turn)
        tail.mind(result.turn)
        follower.ring()
        if follower.learned is not None:
            follower.learned()

    async def _confirmed(self, sid: str) -> dict[str, Any]:
        """Wait, bounded, until the producer has closed its upstream; else go on asking behind."""
        producer = self.producers.get(sid)
        report: Report | None = None
        entry: Entry | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM):
                if producer is not None:
                    report = await asyncio.shield(producer.closed)
                else:
                    report, entry = await self._insist(sid)
        if report is None and producer is None:
            self._tasks.spawn(self._insist(sid))
        # An abort that Redis lost may have found an end when it came again.
        return (snapshot.ended(entry) if entry else {}) | snapshot.closing(report)

    async def _insist(self, sid: str) -> tuple[Report | None, Entry | None]:
        """Ask until the producer reports; return that and the log's end. Abort again if Redis lost that.

        A producer without a lease, or a log that is gone, may come back while Redis may still roll
        back or the producer heal: as long as a producer lingers.
        """
        rounds = 0
        absent_since: float | None = None
        while True:
            read = await self._store.peek(sid)
            meta, closed = read.meta, read.closed
            if meta is not None and meta.gone:
                return None, None
            if meta is not None and meta.report and closed:
                return msgspec.json.decode(meta.report, type=Report), read.entries[-1]
            now = asyncio.get_running_loop().time()
            if meta is not None and meta.lease > 0:
                absent_since = None
            absent_since = absent_since or now
            if now - absent_since > self._rules.linger + self._rules.lease:
                return None, None
            if meta is not None and not closed:
                await self._store.control(sid, Gate.LIFT, final=_FINALS[Action.ABORT])
            rounds += 1
            if rounds % 20 == 0:
                await self._store.ring(sid)
            await asyncio.sleep(0.005 if rounds < 100 else 0.1)

    async def delete(self, sid: str) -> None:
        """Abort if live, wait for the upstream to be closed, and wipe the log for good."""
        # One that is gone just now its producer may be about to restore: the tombstone prevents that.
        with suppress(Gone):
            await self.control(sid, Action.ABORT)
        await self.wipe(sid)
        if (follower := self._hub.followers.get(sid)) is not None:
            follower.tail.end(Ending.GONE)
            self._hub.close(sid)
        self._tasks.spawn(self._keep_wiped(sid))

    async def wipe(self, sid: str) -> None:
        """Delete what Redis holds of a session, and let nobody write it again."""
        await self._store.wipe(sid, self._rules.linger + 5 * self._rules.lease)

    async def _keep_wiped(self, sid: str) -> None:
        """Wipe again if Redis lost the tombstone, for as long as a producer could restore."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._rules.linger + self._rules.lease
        while loop.time() < until:
            await asyncio.sleep(self._rules.lease / 3)
            with suppress(StoreUnavailable):
                read = await self._store.peek(sid)
                if read.meta is None or not read.meta.gone:
                    await self.wipe(sid)
