"""One client of the load test: reads a session to its end, and checks every token of it."""

import random
import time
from collections.abc import Sequence

from server.client import Arrival, BrokenStream, Client, Reset, Stream, Unreachable
from server.errors import TokenwireError
from server.events import FINAL, Aborted, Content, Cursor, Done, FinalEvent
from server.ops.loadtest.plan import Plan
from server.ops.loadtest.tally import Tally

GATE_GRACE = 0.25
"""Seconds after a pause's answer within which what is above the gate may still be read.

The node that was asked sends none, another one none after 0.1; the rest is for the way here.
"""


class World:
    """What the clients of one process share: the plan, the text to expect, the tally, the dice."""

    def __init__(self, plan: Plan, text: Sequence[str], client: Client, tally: Tally) -> None:
        self.plan = plan
        self.text = text
        self.client = client
        self.tally = tally
        self.dice = random.Random()
        self.began = time.monotonic()
        self.viewers = 0

    def soon(self, period: float) -> float:
        """Return a time about a period from now, never for a period of 0."""
        return time.monotonic() + period * self.dice.uniform(0.5, 1.5) if period else float("inf")


class Course:
    """What has been done to one session, for its viewers to measure by; monotonic seconds."""

    def __init__(self, sid: str, asked: float) -> None:
        self.sid = sid
        self.asked = asked
        self.paused_at: float | None = None
        self.held_from = float("inf")
        self.gate = 0
        self.resumed_at = 0.0
        self.aborted_at: float | None = None
        self.end: Cursor | None = None


class Viewer:
    """One viewer of one session; `seen` tokens came, in order and each as it should be."""

    def __init__(self, world: World, course: Course, transport: str) -> None:
        self.seen = 0
        self.final: FinalEvent | None = None
        self.last: float | None = None
        self.read_at = 0.0
        self._end: Cursor | None = None
        self._world = world
        self._course = course
        self._transport = transport
        self._clear_from = self._dropped_at = 0.0
        self._resumes = self._wrong = False

    async def run(self) -> None:
        """Read to the end."""
        world, tally = self._world, self._world.tally
        drop_at = world.soon(world.plan.drop_every)
        stream = world.client.connect(self._course.sid, transport=self._transport)
        world.viewers += 1
        try:
            while batch := await stream.batch():
                now = time.monotonic()
                self._take(batch, now)
                if now >= drop_at:
                    drop_at = world.soon(world.plan.drop_every)
                    await self._drop(stream)
        except (TokenwireError, Unreachable, BrokenStream) as error:
            tally.find("broken", f"{self._course.sid}: {type(error).__name__}: {error}")
            self._wrong = True
        finally:
            world.viewers -= 1
            await stream.aclose()

    async def _drop(self, stream: Stream) -> None:
        if self.final is None:
            await stream.cut()
            self._world.tally.add("drops")
            self.last, self._dropped_at = None, time.monotonic()

    def resumed(self) -> None:
        """Measure the next token from the resume, and nothing across the pause."""
        self.last, self._resumes = None, True

    def _take(self, batch: Sequence[Arrival], now: float) -> None:
        before = self.seen
        for arrival in batch:
            if arrival.id is not None:
                self._check(arrival, now)
            elif isinstance(arrival.item, Reset):
                self._found("reset", arrival.item.reason)
        if self.seen > before:
            self._measure(before, now)

    def _check(self, arrival: Arrival, now: float) -> None:
        course, text, id, item = self._course, self._world.text, arrival.id, arrival.item
        assert id is not None
        if course.held_from < now and id.seq > course.gate:
            self._found("sent in a pause", f"{id}, gate {course.gate}")
        if isinstance(item, Content):
            if self.seen >= len(text) or item.content != text[self.seen]:
                self._found("wrong token", f"{id}: {item.content!r}")
            self.seen += 1
        elif isinstance(item, FINAL):
            self.final, self._end = item, id
            if course.aborted_at is not None:
                self._world.tally.spread("abort").add(now - course.aborted_at)
            return
        if id.seq != self.seen:
            self._found("out of order", f"{id} as number {self.seen}")

    def _measure(self, before: int, now: float) -> None:
        world, course, tally = self._world, self._course, self._world.tally
        fresh = self.seen - before
        second = tally.second(now - world.began)
        second.tokens += fresh
        tally.add("tokens", fresh)
        if not before:
            tally.spread("first_token").add(now - course.asked)
        if self._dropped_at:
            if course.paused_at is None and course.resumed_at < self._dropped_at:
                tally.spread("reconnect").add(now - self._dropped_at)
            self._clear_from, self._dropped_at = now, 0.0
        if self._resumes:
            tally.spread("resume").add(now - course.resumed_at)
            self._resumes = False
        if self.last is not None:
            tally.spread("gap").add(now - self.last)
        if fresh > 1:
            tally.spread("gap").add(0.0, fresh - 1)
        self.last = self.read_at = now
        self._lateness(before, now)

    def _lateness(self, before: int, now: float) -> None:
        course, tally, rate = self._course, self._world.tally, self._world.plan.rate
        if course.paused_at is not None:
            return
        clear, spread = max(course.resumed_at, self._clear_from), tally.spread("end_to_end")
        for place in range(before, self.seen):
            due = course.asked + place / rate
            if due >= clear:
                spread.add(now - due)
        second = tally.second(now - self._world.began)
        if course.asked + before / rate >= clear:
            second.late = max(second.late, now - course.asked - before / rate)

    def judge(self) -> bool:
        """Say whether this viewer got all, once the session is over; note what it did not."""
        course, whole = self._course, len(self._world.text)
        if self.final is None:
            self._found("unfinished", f"{self.seen} of {whole} tokens, no end")
        elif course.aborted_at is not None and isinstance(self.final, Aborted):
            if course.end is not None and self._end != course.end:
                self._found("wrong end", f"{self._end}, but the abort was answered {course.end}")
        elif not isinstance(self.final, Done):
            self._found("failed", str(self.final))
        elif self.seen != whole:
            self._found("tokens lost", f"{self.seen} of {whole} tokens, and then the end")
        return not self._wrong

    def _found(self, what: str, detail: str) -> None:
        self._wrong = True
        self._world.tally.find(what, f"{self._course.sid} over {self._transport}: {detail}")
