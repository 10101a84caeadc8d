"""Logging: one line a record, as text or as JSON, with the request and the session at hand."""

import asyncio
import json
import logging
import time
from typing import Any

from server.traces import trace
from server.trail import REQUEST, SESSION

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One JSON object a record: `time` (UTC), `level`, `logger`, `message`, what it is about, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        } | _about()
        if record.exc_info and record.exc_info[1]:
            line["error"] = trace(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """One line for a terminal; what it is about comes last."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without the stack."""
        about = "".join(f" {name}={value}" for name, value in _about().items())
        return super().formatMessage(record) + about

    def formatException(self, ei: Any) -> str:
        """Return the stack; what an error says may be a prompt or a key."""
        return trace(ei[1])


def _about() -> dict[str, str]:
    facts = {"request": REQUEST.get(), "session": SESSION.get()}
    return {name: value for name, value in facts.items() if value}


def configure(level: str, form: str) -> None:
    """Log to standard error from `level` on, in the form `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def tell_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what an event loop met that nobody handled (the loop's exception handler).

    Of its words only the first are the loop's own: callbacks and tasks follow with their arguments, and
    with what an error says.
    """
    kind = context.get("message") or "Unhandled exception in event loop"
    what = kind.partition("(")[0].partition("<")[0].strip()
    task = context.get("task") or context.get("future")
    if isinstance(task, asyncio.Task):
        what += f" in {getattr(task.get_coro(), '__qualname__', '?')}"
    error = context.get("exception")
    log.error("%s: %s", what, trace(error) if error is not None else "no exception")
