"""The read gate: who may deliver what while a session is paused.

A node learns of the gate with its own control's answer, with each append (the producer's node) or
with each read (any other). A read and an append are two commands each, between which anything may
happen; their answers may be taken later still.
"""

from collections.abc import Iterator
from typing import NamedTuple

Gate = tuple[int, int | None]
"""A turn, which every pause and resume raises, and the highest seq that may be delivered."""

OPEN: Gate = (0, None)


class GateSetup(NamedTuple):
    """One search; each rule switched off is a mutant."""

    log_before_gate: bool = True
    """Read and append ask for the gate after they touched the log."""
    in_order: bool = True
    """A node takes its answers in the order in which Redis gave them."""
    turns: bool = True
    """A node ignores a gate older than the one it knows, and puts a lost one back."""
    events: int = 4
    pauses: int = 2
    rollbacks: int = 0


class Node(NamedTuple):
    """What a node has delivered and knows; `log` and `asked` are answers it has not taken yet."""

    delivered: int = 0
    gate: Gate = OPEN
    log: int | None = None
    asked: Gate | None = None
    told: int = 0
    """Ghost: the latest turn it was ever told of."""


class GateState(NamedTuple):
    """`head` and `gate` in Redis, `memory` at the producer, W on its node, V on another."""

    head: int = 0
    gate: Gate = OPEN
    replica: tuple[int, Gate] = (0, OPEN)
    memory: int = 0
    w: Node = Node()
    v: Node = Node()
    turn: int = 0
    held: Gate = OPEN
    """Ghost: what the last control that was answered said."""
    pauses: int = 0
    rollbacks: int = 0
    wrong: str = ""


Steps = Iterator[tuple[str, GateState, bool]]


def gate_start(setup: GateSetup) -> GateState:
    """Return the state in which the search begins."""
    return GateState(pauses=setup.pauses, rollbacks=setup.rollbacks)


def gate_steps(state: GateState, setup: GateSetup) -> Steps:
    """Yield every step that is possible."""
    yield from _command(state, setup, "w")
    yield from _command(state, setup, "v")
    yield from _control(state, setup)
    if state.head < state.memory:
        yield "P restores", state._replace(head=state.memory), False
    known = max(state.w.gate, state.v.gate)
    if setup.turns and known > state.gate:
        yield "a lost gate is put back", state._replace(gate=known), False
    if state.rollbacks:
        yield "the replica catches up", state._replace(replica=(state.head, state.gate)), True
        head, gate = state.replica
        lost = state._replace(head=head, gate=gate, rollbacks=state.rollbacks - 1)
        yield "Redis rolls back", lost, True


def _node(state: GateState, name: str) -> Node:
    return state.w if name == "w" else state.v


def _with(state: GateState, name: str, node: Node) -> GateState:
    return state._replace(w=node) if name == "w" else state._replace(v=node)


def _command(state: GateState, setup: GateSetup, name: str) -> Steps:
    """A read or an append: the log, the gate, in one order or the other; then take the answers."""
    node = _node(state, name)
    if node.log is not None and node.asked is not None:
        yield f"{name} takes its answers", _take(state, setup, name), False
    if node.log is None and (node.asked is not None or setup.log_before_gate):
        yield from _touch_log(state, setup, name)
    first = not setup.log_before_gate and (node.gate != state.gate or node.delivered < setup.events)
    if node.asked is None and (node.log is not None or first):
        yield f"{name} asks for the gate", _with(state, name, node._replace(asked=state.gate)), False


def _touch_log(state: GateState, setup: GateSetup, name: str) -> Steps:
    node = _node(state, name)
    if name == "v" or state.memory == setup.events:
        # Rung for: there is something to deliver, or another gate.
        if node.gate != state.gate or (node.delivered < state.head and state.gate[1] is None):
            yield f"{name} reads", _with(state, name, node._replace(log=state.head)), False
    elif state.head == state.memory:
        head = state.head + 1
        yield "w appends", state._replace(head=head, memory=head, w=node._replace(log=head)), False


def _take(state: GateState, setup: GateSetup, name: str) -> GateState:
    node = _node(state, name)
    assert node.log is not None
    assert node.asked is not None
    gate = max(node.asked, node.gate) if setup.turns else node.asked
    limit = node.log if gate[1] is None else min(node.log, gate[1])
    told = max(node.told, node.asked[0])
    grown = Node(max(node.delivered, limit), gate, told=told)
    return _judged(_with(state, name, grown), setup, name, node.delivered)


def _judged(state: GateState, setup: GateSetup, name: str, before: int) -> GateState:
    """A shut gate holds for all; after a rollback, for those who were told of it."""
    node, (turn, seq) = _node(state, name), state.held
    knows = not setup.rollbacks or node.told >= turn
    if seq is not None and knows and before < node.delivered > seq:
        return state._replace(wrong=f"{name} delivers {node.delivered} above the gate {seq}")
    if seq is not None and node.told >= turn and node.gate[1] is None:
        return state._replace(wrong=f"{name} lifts a gate that nobody lifted")
    return state


def _control(state: GateState, setup: GateSetup) -> Steps:
    """Pause or resume, asked of W's node, of V's, or of a third; the node asked knows at once."""
    if not state.pauses:
        return
    shut = state.gate[1] is None
    turn = state.turn + 1
    gate: Gate = (turn, state.head if shut else None)
    done = state._replace(gate=gate, turn=turn, held=gate, pauses=state.pauses - 1)
    seen = max(state.w.delivered, state.v.delivered)
    if shut and seen > state.head and not setup.rollbacks:
        done = done._replace(wrong="a gate below what was delivered")
    for name in ("w", "v", "x"):
        node = _node(state, name)
        label = f"{'pause' if shut else 'resume'} through {name}: {gate[1]}"
        if name == "x":
            yield label, done, True
        elif node.asked is None or not setup.in_order:
            # Answers still to be taken were given before; in order, they would be taken first.
            yield label, _with(done, name, node._replace(gate=gate, told=turn)), True


def gate_quiescent(state: GateState) -> str:
    """With the gate open, everything is delivered to everyone."""
    behind = min(state.w.delivered, state.v.delivered) < state.memory
    return "an open gate, and yet not all delivered" if behind and state.gate[1] is None else ""


def gate_wrong(state: GateState) -> str:
    """Say what is wrong with a state."""
    return state.wrong
