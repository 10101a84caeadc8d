"""A node that counts its tasks when it gets SIGUSR2: `python -m tests.fuzz.probe [its flags]`."""

import asyncio
import gc
import os
import signal
import sys

from server import cli


def told(*_: object) -> None:
    """Write the number of tasks, as a line."""
    gc.collect()
    os.write(sys.stdout.fileno(), b"%d\n" % len(asyncio.all_tasks()))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, told)
    sys.exit(cli.main(sys.argv[1:]))
