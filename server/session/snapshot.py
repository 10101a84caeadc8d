"""A session as clients see it: the session object, the notice on attaching, the abort's answer (pure)."""

from typing import Any

import msgspec

from server.events import Content, Cursor, Done, FinalEvent, decode, decode_final
from server.session.answers import Meta, Read
from server.session.log import Entry, Log
from server.session.state import Report, Spec, status_of
from server.session.tail import Tail


def notice(tail: Tail, model: str) -> dict[str, Any]:
    """Return what the `session` notice says: where the log stands as this client may know it."""
    return {
        "id": tail.sid,
        "status": status_of(_final(tail.log)),
        "epoch": tail.log.epoch,
        "seq": tail.log.head,
        "paused": tail.gate is not None,
        "gate": tail.gate,
        "model": model,
    }


def session(sid: str, read: Read, viewers: int) -> dict[str, Any]:
    """Return the whole session object from its whole log."""
    assert read.meta is not None
    log = Log(read.entries)
    final = _final(log)
    events = map(decode, log.lines)
    text = "".join(event.content for event in events if isinstance(event, Content))
    return (
        _facts(sid, read.meta)
        | {"status": status_of(final), "epoch": log.epoch, "seq": log.head}
        | {"viewers": viewers, "text": text}
        | {"usage": final.usage if isinstance(final, Done) else None}
    )


def summary(sid: str, read: Read) -> dict[str, Any]:
    """Return the session object as far as its last entry shows it: no text, no usage."""
    assert read.meta is not None
    top = read.entries[-1] if read.entries else None
    final = decode_final(top.lines[-1]) if top and top.final else None
    cursor = Cursor(top.epoch, top.last) if top else Cursor(read.meta.epoch, 0)
    return _facts(sid, read.meta) | {
        "status": status_of(final),
        "epoch": cursor.epoch,
        "seq": cursor.seq,
    }


def pushed(tail: Tail, duplicate: bool) -> dict[str, Any]:
    """Return the answer to a push: where the log stands with it."""
    cursor = Cursor(tail.log.epoch, tail.log.head)
    facts = {"session": tail.sid, "id": str(cursor), "status": status_of(_final(tail.log))}
    return facts | {"duplicate": duplicate}


def ended(entry: Entry) -> dict[str, Any]:
    """Return what an abort says of a log that has ended."""
    id, final = Cursor(entry.epoch, entry.last), decode_final(entry.lines[-1])
    return {"id": str(id), "status": status_of(final)}


def closing(report: Report | None) -> dict[str, Any]:
    """Return what an abort says of the upstream."""
    if report is None:
        return {"upstream_closed": False, "upstream_close_ms": None, "node": None}
    return {
        "upstream_closed": report.upstream_closed,
        "upstream_close_ms": report.upstream_close_ms,
        "node": report.node,
    }


def _facts(sid: str, meta: Meta) -> dict[str, Any]:
    spec = msgspec.json.decode(meta.spec, type=Spec)
    report = msgspec.json.decode(meta.report, type=Report) if meta.report else None
    return {
        "id": sid,
        "conversation": spec.conversation,
        "model": spec.model,
        "created": spec.created,
        "paused": meta.turn.gate is not None,
        "gate": meta.turn.gate,
        "timings": report.timings if report else None,
    }


def _final(log: Log) -> FinalEvent | None:
    return decode_final(log.lines[-1]) if log.closed else None
