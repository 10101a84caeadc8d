"""Ends sessions that nobody watches and whose producer is gone: any node may, one will."""

import asyncio
import logging
import random
import time

from server.counts import COUNTS
from server.errors import StoreUnavailable
from server.session.answers import Flag
from server.session.directory import TTL, Directory
from server.session.hub import PRODUCER_LOST
from server.session.store import Store

log = logging.getLogger(__name__)

INTERVAL = 0.4
BATCH = 100


async def sweep_for_ever(
    store: Store, directory: Directory, node: str, secret: bytes, tombstone: float
) -> None:
    """Look for lapsed leases, again and again; nodes look at different moments."""
    while True:
        await asyncio.sleep(INTERVAL * random.uniform(0.75, 1.25))
        try:
            await directory.keep(secret)
            await sweep(store, directory, node, tombstone)
        except StoreUnavailable:
            log.debug("the sweep waits for the store")


async def sweep(store: Store, directory: Directory, node: str, tombstone: float) -> None:
    """Claim every session whose lease has lapsed, and take what is over off the list."""
    lapsed = await directory.lapsed(await directory.now_ms(), BATCH)
    over = []
    for sid in lapsed:
        flag = await store.claim(sid, node, PRODUCER_LOST, tombstone)
        COUNTS.takeovers += flag is Flag.OK
        if flag is not Flag.HELD:
            over.append(sid)
    if over:
        await directory.forget(over, int((time.time() - TTL) * 1000))
