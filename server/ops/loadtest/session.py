"""One session of the load test: started, watched, paused, resumed, perhaps aborted, and judged."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from server.client import Client, Report, Stream, Unreachable
from server.errors import TokenwireError
from server.events import Content, Cursor
from server.ops.asking import CREDENTIAL
from server.ops.loadtest.plan import Plan
from server.ops.loadtest.viewer import GATE_GRACE, Course, Viewer, World

PROMPT = "a test of load"
KEPT = 60
"""Seconds that the server keeps a session of ours, and runs one that nobody watches any more."""
FAILED = (TokenwireError, Unreachable)


def client(plan: Plan, patience: float, tell: Callable[[Report], None]) -> Client:
    """Return a client of the server; it shows the key in $TW_TOKEN, if there is one."""
    key = os.environ.get(CREDENTIAL)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Client(plan.url, headers=headers, patience=patience, tell=tell)


async def start(client: Client, plan: Plan, rate: float) -> Stream:
    """Start a session of the built-in model, which says the same each time."""
    return await client.start(
        PROMPT,
        model="demo",
        rate=rate,
        tokens=plan.tokens,
        seed=plan.seed,
        options={"ttl": KEPT, "orphan_ttl": KEPT},
    )


async def reference(client: Client, plan: Plan) -> list[str]:
    """Return the tokens that every session is to say; raise what starting one raises."""
    async with await start(client, plan, rate=0) as stream:
        return [item.content async for item in stream if isinstance(item, Content)]


async def run(world: World, index: int) -> None:
    """Run session `index` of the plan to its end, and judge its viewers."""
    plan, tally = world.plan, world.tally
    await asyncio.sleep(plan.ramp * index / plan.sessions)
    asked = time.monotonic()
    try:
        stream = await start(world.client, plan, plan.rate)
    except FAILED as error:
        tally.find("not started", f"session {index}: {type(error).__name__}: {error}")
        return
    tally.add("sessions")
    course = Course(stream.sid, asked)
    places = range(index * plan.viewers, (index + 1) * plan.viewers)
    viewers = [Viewer(world, course, plan.transports[at % len(plan.transports)]) for at in places]
    steering = asyncio.create_task(_steer(world, course, viewers))
    try:
        await asyncio.gather(*(viewer.run() for viewer in viewers))
    finally:
        if course.aborted_at is None:  # an abort is answered after the viewers saw the end
            steering.cancel()
        await asyncio.wait((steering,))
        tally.add("whole", sum([viewer.judge() for viewer in viewers]))


async def _steer(world: World, course: Course, viewers: Sequence[Viewer]) -> None:
    plan, dice = world.plan, world.dice
    aborts = dice.random() < plan.abort_share
    abort_at = course.asked + plan.duration * dice.uniform(0.3, 0.7) if aborts else float("inf")
    pause_at = world.soon(plan.pause_every)
    while (at := min(abort_at, pause_at)) < float("inf"):
        await asyncio.sleep(at - time.monotonic())
        try:
            if at == abort_at:
                await _abort(world, course)
                return
            await _pause(world, course, viewers)
        except FAILED as error:
            world.tally.find("call failed", f"{course.sid}: {type(error).__name__}: {error}")
            return
        pause_at = world.soon(plan.pause_every)


async def _abort(world: World, course: Course) -> None:
    course.aborted_at = asked = time.monotonic()
    answer = await world.client.abort(course.sid)
    if answer["status"] != "aborted":
        return  # it had ended by itself
    course.end = Cursor.parse(answer["id"])
    world.tally.add("aborts")
    world.tally.spread("abort_answer").add(time.monotonic() - asked)
    if not answer["upstream_closed"]:
        world.tally.find("upstream left open", course.sid)


async def _pause(world: World, course: Course, viewers: Sequence[Viewer]) -> None:
    tally = world.tally
    course.paused_at = asked = time.monotonic()
    try:
        answer = await world.client.pause(course.sid)
        if answer["paused"]:
            answered = time.monotonic()
            tally.add("pauses")
            tally.spread("pause_answer").add(answered - asked)
            course.gate, course.held_from = answer["gate"], answered + GATE_GRACE
        await asyncio.sleep(world.plan.pause_for)
        for viewer in viewers:
            if answer["paused"] and viewer.final is None:
                tally.spread("pause").add(max(0.0, viewer.read_at - asked))
            viewer.resumed()
    finally:
        course.paused_at, course.held_from = None, float("inf")
        course.resumed_at = time.monotonic()
    await world.client.resume(course.sid)
