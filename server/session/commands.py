"""Redis' keys and the commands that are no script: the only place that knows a session's key's name.

All keys of a session share one slot: `tw:{sid}:m` its hash, `tw:{sid}:l` its log, `tw:{sid}:v` its
viewers by node; `tw:{sid}:n` rings when the log grew, `tw:{sid}:c` when anything else changed.
"""

from collections.abc import Sequence

from server.events import Cursor
from server.session import answers
from server.session.answers import Read
from server.session.codec import Codec
from server.session.jobs import checked
from server.session.link import Command, Reply
from server.session.log import Entry

PAGE = 2000
SPEC = b"spec"
"""The place of a session's spec, for the codec."""


def log_channel(sid: str) -> str:
    """Return the channel that rings when the log grew."""
    return f"tw:{{{sid}}}:n"


def control_channel(sid: str) -> str:
    """Return the channel that rings when anything but the log changed."""
    return f"tw:{{{sid}}}:c"


def keys_of(sid: str) -> tuple[str, str, str]:
    """Return the keys that each script gets: hash, log, viewers."""
    return f"tw:{{{sid}}}:m", f"tw:{{{sid}}}:l", f"tw:{{{sid}}}:v"


def append_command(sid: str, entry: Entry, codec: Codec) -> Command:
    """Return the hot path: append, under the id that is the fence."""
    id, fields = f"{entry.epoch}-{entry.last}", codec.fields(sid, entry)
    return ("XADD", f"tw:{{{sid}}}:l", "NOMKSTREAM", id, *fields)


def ring_command(sid: str) -> Command:
    """Return the bell that says that the log grew; answered with how many heard it."""
    return ("PUBLISH", log_channel(sid), b"")


def gate_command(sid: str) -> Command:
    """Return the look whether the gate is shut."""
    return ("HGET", f"tw:{{{sid}}}:m", "gate")


def read_commands(sid: str, top: Cursor, count: int = PAGE) -> Sequence[Command]:
    """Return a read from entry `top` (inclusive, so that a rolled-back log shows) on."""
    meta, log, _ = keys_of(sid)
    start = str(top) if top.epoch else "-"
    return (
        ("TIME",),
        ("XRANGE", log, start, "+", "COUNT", count),
        # After the log: an event appended behind a pause must not be read without its gate.
        ("HMGET", meta, *answers.META_FIELDS),
    )


def parse_read(sid: str, replies: Sequence[Reply], codec: Codec) -> Read:
    """Read what `read_commands` got; raise `StoreUnavailable` if Redis refused."""
    time, rows, fields = checked(replies)
    meta = answers.parse_meta(fields, answers.parse_time(time))
    if meta is not None:
        meta = meta._replace(spec=codec.open(sid, SPEC, meta.spec))
    return Read(meta, codec.entries(sid, rows))
