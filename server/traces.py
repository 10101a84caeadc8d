"""What a log may say of an error (pure)."""

import traceback


def trace(error: BaseException) -> str:
    """Return an error's type and where it came from, not what it says: that may be a prompt or a key."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join([type(error).__name__, *lines, f"\n after {trace(cause)}" if cause else ""])
