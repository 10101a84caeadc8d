"""W2, W4, W5: one session, many viewers."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from bench.rig import Rig, second_node
from bench.sizes import LOG, RATE, Sizes
from bench.usage import Usage

Rigged = Callable[..., AbstractContextManager[Rig]]
Metrics = dict[str, float]

AT_ONCE = 100
FIRST = 100


def w2(rigged: Rigged, sizes: Sizes, viewers: int, tokens: int, view: str) -> Metrics:
    """Measure the cost and the delay of a delivery, from the first token to the last viewer."""
    with rigged() as rig:
        sid = rig.start(f"rate={RATE} count={tokens} gate=open")
        began = time.monotonic()
        rig.attach(sid, rig.target.views[view], viewers)
        attached = time.monotonic() - began
        held = rig.load.answered - rig.load.refused
        rig.load.run(0.3)
        rig.load.restart_clock()
        usage = Usage(rig)
        began = time.monotonic()
        rig.release("open")
        wanted = viewers * tokens
        rig.load.run(sizes.patience, lambda: rig.load.tokens >= wanted)
        report = usage.report(rig.load.tokens)
        report["seconds"] = time.monotonic() - began
        lost = wanted - rig.load.tokens
        counts = {"lost": lost, "gaps": rig.load.gaps, "connects_s": held / attached}
        return report | rig.load.delays.summary() | counts


def w4(rigged: Rigged, sizes: Sizes) -> Metrics:
    """Measure the memory of viewers that wait for a first token, and how fast they connect."""
    with rigged() as rig:
        sid = rig.start(f"rate={RATE} count=10 gate=idle")
        view = rig.target.views["sse"]
        viewers = rig.attach(sid, view, FIRST)
        rig.load.run(0.5)
        memory, found = rig.server.memory(), {}
        for wanted in sizes.idle:
            began = time.monotonic()
            more = rig.attach(sid, view, wanted - len(viewers))
            found["connects_s"] = len(more) / (time.monotonic() - began)
            viewers += more
            rig.load.run(0.5)
            found["bytes"] = (rig.server.memory() - memory) / (wanted - FIRST)
            found[f"bytes_{wanted}"] = found["bytes"]
        return found | {"held": sum(one.open and one.status == 200 for one in viewers)}


def _replay(rig: Rig, sid: str, clients: int, patience: float) -> Metrics:
    # One client reads every token; the others count them, or reading would take longer than writing.
    load = rig.new_load()
    began, cpu = time.monotonic_ns(), time.process_time()
    readers = rig.attach(sid, rig.target.replay, 1, take="each")
    readers += rig.attach(sid, rig.target.replay, clients - 1, take="count", window=AT_ONCE)
    load.run(patience, lambda: load.tokens >= clients * LOG)
    seconds = (max(reader.last_ns for reader in readers) - began) / 1e9
    return {
        f"ms_{clients}": seconds * 1e3,
        f"wrong_{clients}": sum(reader.seen != LOG or reader.gaps > 0 for reader in readers),
        f"load_share_{clients}": (time.process_time() - cpu) / seconds,
    }


def w5(rigged: Rigged, sizes: Sizes, cold: bool) -> Metrics:
    """Time a replay of a finished log; `cold`: from a node that never saw the session."""
    found: Metrics = {}
    with rigged() as rig:
        sid = rig.start(f"rate=0 count={LOG}")
        rig.attach(sid, rig.target.views["sse"], 1, take="count")
        if not rig.load.run(sizes.patience, lambda: rig.load.tokens >= LOG):
            raise RuntimeError(f"only {rig.load.tokens} tokens of the log came")
        for clients in sizes.replays:
            with second_node(rig) if cold else nullcontext():
                found |= _replay(rig, sid, clients, sizes.patience)
    return found
