"""A node that is broken on purpose: `python -m tests.chaos.mutant NAME [flags of the server]`."""

import sys
from math import inf
from typing import Any

from server.session import hub, scripts
from server.session.appender import Appender
from server.session.follower import Follower
from server.session.tail import Tail
from tests.mutants import named, serve


def deliver_before_the_log() -> None:
    """Show tokens that Redis does not have yet."""
    load = Appender._load

    def early(self: Appender) -> Any:
        entry = load(self)
        if not entry.final:
            self._tail.absorb((entry,))
        return entry

    Appender._load = early  # type: ignore[method-assign]


def acknowledge_what_was_lost() -> None:
    """Take an append whose answer got lost for one that landed."""

    def lost(self: Appender) -> None:
        self._queued = self.airborne = False
        if self.flight is not None:
            self.landed(self.flight)

    Appender.lost = lost  # type: ignore[method-assign]
    Appender.check = lambda self: None  # type: ignore[method-assign]


def ignore_the_gate() -> None:
    """Deliver whatever the log has."""
    Tail.limit = property(lambda self: len(self.log.lines))  # type: ignore[assignment]


def hear_no_bell() -> None:
    """Miss every ring, and never look by the clock."""
    hub.Hub.rung = lambda self, channel: None  # type: ignore[method-assign]
    take = Follower.take

    def taken(self: Follower, read: Any) -> None:
        take(self, read)
        self.due = inf

    Follower.take = taken  # type: ignore[method-assign]


def forget_the_end() -> None:
    """Lose the final event of a session that ended by itself."""
    add = Appender.add

    def without_end(self: Appender, line: bytes, final: bool = False) -> None:
        if not final:
            add(self, line, final)

    Appender.add = without_end  # type: ignore[method-assign]


def reuse_an_epoch() -> None:
    """Close logs under the epoch that their producer still writes under."""
    load = scripts.load

    def loaded(flags: bool) -> Any:
        patched = {}
        for name, script in load(flags).items():
            old = b"  return math.max(epoch + 1, (top and top.epoch or 0) + 1, now())"
            source = script.source.replace(old, b"  return math.max(epoch, top and top.epoch or 0, 1)")
            patched[name] = scripts.Script(source, scripts.sha1(source).hexdigest())
        return patched

    scripts.load = loaded


MUTANTS = named(
    deliver_before_the_log, acknowledge_what_was_lost, ignore_the_gate, hear_no_bell,
    forget_the_end, reuse_an_epoch,
)  # fmt: skip

if __name__ == "__main__":
    serve(MUTANTS, sys.argv[1], flags=sys.argv[2:])
