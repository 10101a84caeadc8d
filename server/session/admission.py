"""Who may do what to a session: asked for every call that a node gets, of whoever calls.

To a stranger a session of somebody else's is one that is not there.
"""

import hmac

import msgspec

from server.callers import CALLER, OPEN, Right
from server.errors import COME_BACK, RateLimited
from server.session.hub import Hub
from server.session.ledger import Ledger
from server.session.state import Action, Spec
from server.session.store import Store
from server.session.tail import Tail


class Admission:
    """A node's doorkeeper; it raises `Unauthorized`, `Forbidden`, `NotFound`, `Gone` or `RateLimited`."""

    def __init__(self, store: Store, hub: Hub, ledger: Ledger) -> None:
        self._store = store
        self._hub = hub
        self._ledger = ledger

    async def check(self, right: Right, sid: str) -> None:
        """Let the caller pass who has that right."""
        if CALLER.get() is not OPEN:
            await self.owner(right, sid)

    async def owner(self, right: Right, sid: str) -> str | None:
        """Let the caller pass who has that right; return whose session it is."""
        return (await self._spec(right, sid)).principal

    async def _spec(self, right: Right, sid: str) -> Spec:
        caller = CALLER.get()
        caller.demand_known()
        spec = self._hub.spec(sid) or await self._look_up(sid)
        caller.demand(right, sid, spec.principal)
        return spec

    async def _look_up(self, sid: str) -> Spec:
        meta = await self._hub.present(sid, await self._store.peek(sid))
        return msgspec.json.decode(meta.spec, type=Spec)

    def read(self, tail: Tail) -> None:
        """Let the caller sit down at a tail."""
        if (caller := CALLER.get()) is not OPEN:
            spec = self._hub.spec(tail.sid)
            caller.demand(Right.READ, tail.sid, spec.principal if spec else None)
        if len(tail.viewers) >= (most := self._ledger.allowed.viewers):
            raise RateLimited(f"A session may have {most} viewers.", retry_after=COME_BACK)

    async def start(self, sid: str, seconds: float, fresh: bool) -> bool:
        """Let the caller start a session; return whether it is there already, and takes nothing more."""
        caller = CALLER.get()
        caller.demand_start()
        if not fresh and (await self._store.peek(sid)).meta is not None:
            return True
        self._ledger.memory.demand_room()
        if caller.principal is not None:
            await self._ledger.start(caller.principal, sid, seconds)
        return False

    async def control(self, sid: str, action: Action) -> str | None:
        """Let the caller pause, resume or abort; return in whose name a pause was counted, if it was."""
        if CALLER.get() is OPEN:
            return None
        spec = await self._spec(Right.CONTROL, sid)
        if spec.principal is None:
            return None
        if action is Action.PAUSE:
            await self._ledger.pause(spec.principal, sid, spec.pause_ttl)
            return spec.principal
        await self._ledger.resumed(spec.principal, sid)
        return None

    async def uncount(self, principal: str, sid: str) -> None:
        """Count a pause no more that has come to nothing."""
        await self._ledger.resumed(principal, sid)

    @staticmethod
    def secret(secret: bytes) -> bytes:
        """Return the key of the caller's idempotent ids, so that nobody meets another's by their keys."""
        principal = CALLER.get().principal
        if principal is None:
            return secret
        return hmac.digest(secret, b"who\0" + principal.encode(), "sha256")

    @staticmethod
    def operator() -> None:
        """Let the caller see everybody's sessions."""
        CALLER.get().demand_admin()
