"""What a run recorded: JSON lines of every process, read back and put in order (pure).

A record is a dict with `at` (monotonic seconds, one clock for all processes of a machine) and `kind`:

| kind | fields |
| --- | --- |
| `started` | `sid`, `seed`, `tokens`, `key` (or None), `script` (its upstream's): a start's answer |
| `attach` | `client`, `conn`, `sid`, `node`, `transport`, `after` |
| `event` | `client`, `conn`, `sid`, `id`, `line` (the event's JSON without its id) |
| `notice` | `client`, `conn`, `sid`, `type`, `facts` |
| `closed` | `client`, `conn`, `sid`, `how` (final, gone, broken, …) |
| `asked`, `answered` | `call`, `sid`, `action`; `conn` for an in-band one, else None; `answer` |
| `upstream` | `seed`, `sent` (tokens), `closed_at`, `closed_by_peer` |
| `log` | `sid`, `entries` (list of [epoch, first, ordinal, lines, final]); None: gone by then |
| `fault` | `name`, `lasted` (seconds): `at` is when it began |
| `clock` | `wall`: what the wall clock, by which epochs are minted, is ahead of `at`, in seconds |
| `exited` | `name`, `code`: how a process of clients ended |
| `resources` | `when` (before, after), `what`, `count` |
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass
class Session:
    """All that was recorded of one session."""

    sid: str
    seed: str = ""
    tokens: int = 0
    key: str | None = None
    script: str = "whole"
    started_at: float = 0.0
    log: list[Any] | None = None
    log_at: float = 0.0
    read_back: bool = False
    clients: defaultdict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    asked: dict[str, Record] = field(default_factory=dict)
    answered: list[Record] = field(default_factory=list)
    upstreams: list[Record] = field(default_factory=list)

    @property
    def lines(self) -> list[tuple[int, str]]:
        """The log's events with their epochs; event `seq` is at `seq - 1` if the log is dense."""
        return [(epoch, line) for epoch, _, _, lines, _ in self.log or () for line in lines]

    def events(self) -> Iterator[tuple[str, Record]]:
        """Yield each event that a client was sent, with the client's name."""
        for client, records in self.clients.items():
            yield from ((client, record) for record in records if record["kind"] == "event")


@dataclass
class History:
    """A run: its sessions, and what is not about one of them."""

    sessions: dict[str, Session]
    faults: list[Record] = field(default_factory=list)
    resources: list[Record] = field(default_factory=list)
    exits: list[Record] = field(default_factory=list)
    wall: float = 0.0


def cursor(id: str) -> tuple[int, int]:
    """Return an event id's epoch and seq."""
    epoch, seq = id.split("-")
    return int(epoch), int(seq)


def meeting(history: History, since: float, until: float) -> Iterator[Record]:
    """Yield each fault that was going on in that time."""
    for fault in history.faults:
        if fault["at"] <= until and since <= fault["at"] + fault["lasted"]:
            yield fault


def read(folder: Path) -> list[Record]:
    """Read every history of a run; a line that a killed process left half written is dropped."""
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                records.append(json.loads(line))
    return records


def arrange(records: Iterable[Record]) -> History:
    """Put records in order, by session."""
    history = History({})
    upstreams: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record["at"]):
        kind = record["kind"]
        if kind == "fault":
            history.faults.append(record)
        elif kind == "resources":
            history.resources.append(record)
        elif kind == "exited":
            history.exits.append(record)
        elif kind == "clock":
            history.wall = record["wall"]
        elif kind == "upstream":
            upstreams[record["seed"]].append(record)
        elif (sid := record["sid"]) in history.sessions or kind == "started":
            # Of others no client was told the name.
            _add(history.sessions.setdefault(sid, Session(sid)), record)
    for session in history.sessions.values():
        session.upstreams = upstreams.get(session.seed, [])
    return history


def _add(session: Session, record: Record) -> None:
    kind = record["kind"]
    if kind == "started":
        session.seed, session.tokens, session.key = record["seed"], record["tokens"], record["key"]
        session.script, session.started_at = record["script"], record["at"]
    elif kind == "log":
        # What was read before Redis lost all at once is better than nothing.
        if record["entries"]:
            session.log, session.log_at = record["entries"], record["at"]
        session.read_back = True
    elif kind == "asked":
        session.asked[record["call"]] = record
    elif kind == "answered":
        session.answered.append(record)
    else:
        session.clients[record["client"]].append(record)
