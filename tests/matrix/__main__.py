"""Write docs/clients-matrix.md from a run of every client: `python -m tests.matrix`."""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.matrix import trial
from tests.matrix.packages import version
from tests.matrix.table import CLIENTS, Client
from tests.redis_server import RedisServer, binaries

ABORT_MS = 250.0
PAGE = Path(__file__).parents[2] / "docs" / "clients-matrix.md"
HEAD = """\
# Other people's clients

Made by `python -m tests.matrix`: packages as they come from their registries, against two nodes behind
a proxy that resets the connection in mid-stream and then leads to the other node. The text is compared
byte for byte; *aborts* is the time from the client's own abort until the upstream saw its connection
closed; *errors* is what a failed upstream is to the client.

| client | version | speaks | streams | resumes after a cut | aborts | errors |
| --- | --- | --- | --- | --- | --- | --- |
"""


def row(client: Client, told: dict[str, trial.Outcome]) -> str:
    """Return a client's row."""
    streams, resumes, aborts, fails = (told[name] for name in trial.TRIALS)
    whole = (streams.end, streams.text) == ("done", streams.whole)
    on = (resumes.end, resumes.text) == ("done", resumes.whole)
    again = "yes" if on else f"no: `{resumes.end}`"
    name = f"`{client.package}` ({client.script})"
    cells = (name, version(client.package), client.speaks, "yes" if whole else "**no**", again)
    return f"| {' | '.join(cells)} | {aborts.close_ms:.0f} ms | `{fails.end}` |\n"


async def main() -> None:
    """Run all clients, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(binaries()[0], Path(folder))
        try:
            async with trial.site(redis.url) as where:
                told = {client: await trial.trials(client, where) for client in CLIENTS}
        finally:
            redis.kill()
    PAGE.write_text(HEAD + "".join(row(*one) for one in told.items()))
    late = [client.script for client, outcomes in told.items() if outcomes["aborts"].close_ms > ABORT_MS]
    if late:
        sys.exit(f"aborts of over {ABORT_MS:.0f} ms: {', '.join(late)}")


if __name__ == "__main__":
    asyncio.run(main())
