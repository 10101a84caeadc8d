"""A child that ends with this process, even with one that is killed; in good order, by SIGTERM."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

# Linux: the kernel sends SIGTERM when the thread that started Valkey ends. A launcher asks for it
# and then becomes Valkey: Python code between fork and exec would not be safe beside threads.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
# Elsewhere: a shell waits for the end of a pipe that nobody but this process holds open.
_GUARD = 'trap "" TERM; "$@" & read -r _; kill "$!"; wait "$!"'


def spawn(command: Sequence[Path | str], lock: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start `command`, which holds `lock` from here on; for a thread that lives as long as it shall."""
    if sys.platform == "linux":
        held = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
    else:
        held = ["/bin/sh", "-c", _GUARD, "sh"]
    return subprocess.Popen(
        [*held, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock.fileno(),),
        start_new_session=True,  # a Ctrl-C is for us alone: the child has to outlive us
    )


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    """End the child in good order, or by force after `patience` seconds."""
    assert process.stdin
    process.stdin.close()  # ends the guard, which does not listen to signals
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
