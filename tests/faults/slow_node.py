"""A node that needs long to write a log anew, as on a busy machine; its flags as arguments."""

import sys
import time
from typing import Any

from server import cli
from server.session.store import Store

PER_LOG = 0.008
"""Seconds in which nothing else happens."""


def main() -> int:
    """Serve."""
    restore = Store.restore

    async def slow(self: Store, *arguments: Any) -> Any:
        time.sleep(PER_LOG)  # noqa: ASYNC251 - the loop has to stall
        return await restore(self, *arguments)

    Store.restore = slow  # type: ignore[method-assign, assignment]
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
