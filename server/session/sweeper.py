"""Finds sessions whose producer is gone, also those that nobody watches: any node may, one will."""

import asyncio
import logging
import random
import time

from server.errors import StoreUnavailable
from server.session.answers import Flag
from server.session.directory import TTL, Directory
from server.session.heirs import Heirs

log = logging.getLogger(__name__)

INTERVAL = 0.4
BATCH = 100


async def sweep_for_ever(heirs: Heirs, directory: Directory, secret: bytes) -> None:
    """Look for lapsed leases, again and again; nodes look at different moments."""
    while True:
        await asyncio.sleep(INTERVAL * random.uniform(0.75, 1.25))
        try:
            await directory.keep(secret)
            await sweep(heirs, directory)
        except StoreUnavailable:
            log.debug("the sweep waits for the store")


async def sweep(heirs: Heirs, directory: Directory) -> None:
    """Take over every session whose lease has lapsed, and take what is over off the list."""
    lapsed = await directory.lapsed(await directory.now_ms(), int(heirs.far * 1000), BATCH)
    over = []
    for sid in lapsed:
        if await heirs.succeed(sid) is not Flag.HELD:
            over.append(sid)
    if over:
        await directory.forget(over, int((time.time() - TTL) * 1000))
