"""One input into one target: all is well, or a finding; too long and too much memory are some, too."""

import gc
import hashlib
import resource
import signal
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLOW = 1.0
"""Seconds of this process' time, so that nothing depends on what else the machine does."""
PEAK = 64 << 20
"""Bytes that one input may make a process grow."""
RISE = 64 << 10
"""Bytes that may be left behind by rounds of inputs that were run before."""
ROUNDS = 5

Run = Callable[[bytes], object]


class Hang(BaseException):
    """An input takes too long; no `except Exception` of what is tested may keep that to itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong; findings of one `kind` are the same one."""

    kind: str
    data: bytes
    told: str

    @property
    def name(self) -> str:
        """A file's name for its input."""
        return hashlib.sha256(self.kind.encode()).hexdigest()[:12]


@contextmanager
def watched() -> Iterator[None]:
    """Let `verdict` interrupt what hangs, meanwhile."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def verdict(run: Run, data: bytes) -> Finding | None:
    """Run one input; return what is wrong. Call it within `watched`."""
    peak, began = _peak(), time.process_time()
    try:
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        run(data)
        signal.setitimer(signal.ITIMER_PROF, 0)
    except (Exception, Hang) as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        return Finding(_kind(error), data, "".join(traceback.format_exception(error)))
    took, grown = time.process_time() - began, _peak() - peak
    if took > SLOW:
        return Finding("Hang", data, f"took {took:.1f} s")
    if grown > PEAK:
        return Finding("memory", data, f"grew by {grown >> 20} MiB")
    return None


def left_behind(run: Run, inputs: Iterable[bytes]) -> Finding | None:
    """Run inputs again and again; return a finding if memory goes on rising."""
    inputs = list(inputs)
    tracemalloc.start()
    try:
        held = []
        for _ in range(ROUNDS):
            for data in inputs:
                verdict(run, data)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    rise = held[-1] - held[1]
    if rise <= RISE:
        return None
    return Finding("leak", b"\n".join(inputs[:1]), f"{len(inputs)} inputs leave {rise} bytes behind")


def _peak() -> int:
    """Return the most bytes that this process ever held."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _kind(error: BaseException) -> str:
    """Name an error by its type and the last place in our code: where it was raised, but for a hang."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, Hang):
        frames.pop()  # the bell's own
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)] or frames
    inner = [frame for frame in ours if "/server/" in frame.filename] or ours
    last = inner[-1]
    name = Path(last.filename).name
    what = f": {error}" if isinstance(error, AssertionError) else ""
    where = last.name if isinstance(error, Hang) else f"{last.lineno} {last.name}"
    return f"{type(error).__name__} at {name}:{where}{what:.80}"
