"""A node that loses or repeats tokens: `python -m tests.loadtest.mutant NAME ODDS [flags]`.

Nothing is left to dice: it is each ODDS-th token.
"""

import itertools
import sys
from collections.abc import Iterator

from server.session.appender import Appender
from server.session.tail import Tail
from server.session.viewer import Encoding
from server.wire.frames import Frames
from tests.mutants import named, serve


def every(odds: int) -> Iterator[bool]:
    """Say yes once in `odds` times."""
    return (count % odds == 0 for count in itertools.count(1))


def lose_on_the_wire(odds: int) -> None:
    """The log has the token, its readers do not get it."""
    _frames_as(odds, b"")


def repeat_on_the_wire(odds: int) -> None:
    """The token comes twice, under one id."""
    _frames_as(odds, None)


def _frames_as(odds: int, instead: bytes | None) -> None:
    fate, plain = every(odds), Frames.slice

    def slice(self: Frames, log: object, start: int, stop: int) -> bytes:
        known = len(self.frames)
        plain(self, log, known, stop)  # type: ignore[arg-type]
        for at in range(known, len(self.frames)):
            if next(fate):
                self.frames[at] = self.frames[at] * 2 if instead is None else instead
        return b"".join(self.frames[start:stop])

    Frames.slice = slice  # type: ignore[method-assign,assignment]


def lose_on_delivery(odds: int) -> None:
    """One viewer is not sent a token; counted are those that all viewers are sent."""
    fate, plain = every(odds), Tail.slice

    def slice(self: Tail, encoding: Encoding, start: int, stop: int) -> bytes:
        sent = [at for at in range(start, stop) if not next(fate)]
        if len(sent) == stop - start:
            return plain(self, encoding, start, stop)
        return b"".join(plain(self, encoding, at, at + 1) for at in sent)

    Tail.slice = slice  # type: ignore[method-assign]


def lose_before_the_log(odds: int) -> None:
    """The model said it, the log never had it: what readers get has no hole."""
    fate, add = every(odds), Appender.add

    def careless(self: Appender, line: bytes, final: bool = False) -> None:
        if final or not next(fate):
            add(self, line, final)

    Appender.add = careless  # type: ignore[method-assign]


def swap_before_the_log(odds: int) -> None:
    """Two neighbours change places: nothing is missing, and nothing is right."""
    fate, add = every(odds), Appender.add
    held: dict[Appender, bytes] = {}

    def careless(self: Appender, line: bytes, final: bool = False) -> None:
        before = held.pop(self, None)
        if before is None and not final and next(fate):
            held[self] = line
            return
        lines = [line] if before is None else [before, line] if final else [line, before]
        for one in lines[:-1]:
            add(self, one)
        add(self, lines[-1], final)

    Appender.add = careless  # type: ignore[method-assign]


def leak_in_a_pause(odds: int) -> None:
    """Every gate stands `odds` tokens too far."""
    limit = Tail.limit.fget  # type: ignore[attr-defined]
    Tail.limit = property(  # type: ignore[assignment]
        lambda self: min(len(self.log.lines), limit(self) + odds)
    )


MUTANTS = named(
    lose_on_the_wire, repeat_on_the_wire, lose_on_delivery, lose_before_the_log, swap_before_the_log,
    leak_in_a_pause,
)  # fmt: skip

if __name__ == "__main__":
    serve(MUTANTS, sys.argv[1], int(sys.argv[2]), flags=sys.argv[3:])
