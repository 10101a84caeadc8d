"""What may happen to a session: statuses, the table of transitions, its facts (pure).

The rules:
- A session runs until its log is closed by one final event, and never runs again.
- Pausing shuts a gate on delivery; it does not touch the log, so a session may end while paused,
  and its end is delivered after the resume.
- Aborting closes the log and lifts the gate: whoever stops an answer sees the end of it.
- What is asked twice is answered twice the same.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from server.events import Aborted, Done, Error, FinalEvent
from server.upstream import Request, Takeover


class Status(StrEnum):
    """Where a session's log stands: derived from its final event, stored nowhere."""

    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    ERROR = "error"


class Action(StrEnum):
    """What may be done to a session."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    FINISH = "finish"
    FAIL = "fail"


class State(NamedTuple):
    """A status, and whether the gate is shut."""

    status: Status
    paused: bool = False


RUNNING: Final = State(Status.RUNNING)
PAUSED: Final = State(Status.RUNNING, paused=True)
DONE: Final = State(Status.DONE)
DONE_HELD: Final = State(Status.DONE, paused=True)
ABORTED: Final = State(Status.ABORTED)
ERROR: Final = State(Status.ERROR)
ERROR_HELD: Final = State(Status.ERROR, paused=True)

_ENDED: Final = dict.fromkeys(Action)

TRANSITIONS: Final[dict[State, dict[Action, State | None]]] = {
    RUNNING: {
        Action.PAUSE: PAUSED,
        Action.RESUME: RUNNING,
        Action.ABORT: ABORTED,
        Action.FINISH: DONE,
        Action.FAIL: ERROR,
    },
    PAUSED: {
        Action.PAUSE: PAUSED,
        Action.RESUME: RUNNING,
        Action.ABORT: ABORTED,
        Action.FINISH: DONE_HELD,
        Action.FAIL: ERROR_HELD,
    },
    DONE_HELD: _ENDED | {Action.PAUSE: DONE_HELD, Action.RESUME: DONE, Action.ABORT: DONE},
    ERROR_HELD: _ENDED | {Action.PAUSE: ERROR_HELD, Action.RESUME: ERROR, Action.ABORT: ERROR},
    DONE: _ENDED | {Action.PAUSE: DONE, Action.RESUME: DONE, Action.ABORT: DONE},
    ABORTED: _ENDED | {Action.PAUSE: ABORTED, Action.RESUME: ABORTED, Action.ABORT: ABORTED},
    ERROR: _ENDED | {Action.PAUSE: ERROR, Action.RESUME: ERROR, Action.ABORT: ERROR},
}
"""What each action leads to; None: it cannot happen there (a log has one final event)."""


class Gate(StrEnum):
    """What an action does to the gate."""

    SHUT = "shut"
    LIFT = "lift"


EFFECT: Final = {Action.PAUSE: Gate.SHUT, Action.RESUME: Gate.LIFT, Action.ABORT: Gate.LIFT}

_FINAL_STATUS: Final[dict[type[FinalEvent], Status]] = {
    Done: Status.DONE,
    Aborted: Status.ABORTED,
    Error: Status.ERROR,
}


def status_of(final: FinalEvent | None) -> Status:
    """Return the status of a log that ends in `final`, or in none yet."""
    return Status.RUNNING if final is None else _FINAL_STATUS[type(final)]


class OnBusy(StrEnum):
    """What a prompt does while its conversation's newest session is running."""

    REJECT = "reject"
    ABORT_PREVIOUS = "abort_previous"
    PARALLEL = "parallel"


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is fixed when a session starts; times in seconds, `created` in Unix milliseconds.

    `principal` is whose it is; None: of whoever knows its id. `request` is kept only for an heir; `echo`
    is what a foreign dialect keeps, to say the same on every node.
    """

    model: str
    created: int
    conversation: str | None
    ttl: float
    orphan_ttl: float | None
    hold_limit: int
    pause_ttl: float
    principal: str | None = None
    takeover: Takeover = Takeover.ERROR
    request: Request | None = None
    echo: dict[str, Any] | None = None


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the producer says once its upstream is closed; times in milliseconds."""

    node: str
    upstream_closed: bool = True
    upstream_close_ms: float | None = None
    timings: dict[str, float] | None = None


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    names = {state: _name(state) for state in TRANSITIONS}
    lines = ["stateDiagram-v2", "    [*] --> running"]
    for state, row in TRANSITIONS.items():
        targets: dict[State, list[str]] = {}
        for action, target in row.items():
            if target is not None and target != state:
                targets.setdefault(target, []).append(action)
        lines += [
            f"    {names[state]} --> {names[target]}: {', '.join(actions)}"
            for target, actions in targets.items()
        ]
    lines += [f"    {name} --> [*]" for state, name in names.items() if _is_end(state)]
    return "\n".join(lines)


def _name(state: State) -> str:
    if not state.paused:
        return str(state.status)
    return "paused" if state.status is Status.RUNNING else f"{state.status}_held"


def _is_end(state: State) -> bool:
    return not state.paused and state.status is not Status.RUNNING


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller may choose for a session; None takes the setting (no limit, for `orphan_ttl`)."""

    conversation: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    on_busy: OnBusy = OnBusy.REJECT
    ttl: Annotated[float, msgspec.Meta(ge=1, le=604_800)] | None = None
    orphan_ttl: Annotated[float, msgspec.Meta(ge=0, le=604_800)] | None = None
    hold_limit: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | None = None
    pause_ttl: Annotated[float, msgspec.Meta(gt=0, le=604_800)] | None = None
