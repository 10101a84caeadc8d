"""Write what every client makes of every event into docs/operations.md: `python -m tests.ops.front`."""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from tests.matrix.table import CLIENTS, Client
from tests.ops.fleet import EVENTS, fleet
from tests.ops.rounds import Reading, Round, held
from tests.redis_server import RedisServer, binaries

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PLACE = re.compile(r"(?<=<!-- front -->\n).*(?=<!-- /front -->)", re.S)
COLUMNS = {
    ("kill", "goes_on"): "workers killed",
    ("kill", "ends"): "killed, no `takeover`",
    ("reload", "goes_on"): "SIGHUP",
    ("reload_nginx", "goes_on"): "`nginx -s reload`",
    ("upgrade", "goes_on"): "upgrade",
}
HEADS = ["client", *COLUMNS.values()]


def word(reading: Reading) -> str:
    """Say what became of an answer; a part of it that passes for the whole has no good word."""
    if (reading.end, reading.text) == ("done", reading.whole):
        return "whole"
    honest = reading.end not in (None, "done") and reading.whole.startswith(reading.text)
    return f"`{reading.end}`" if honest else "**wrong**"


def table(rounds: dict[str, Round]) -> str:
    """Return the table: a row a client, and one for those that asked meanwhile."""
    rows = [HEADS, ["---"] * len(HEADS)]
    clients: list[Client] = list(next(iter(rounds.values())).readings)
    for client in clients:
        words = [word(rounds[event].readings[client][model]) for event, model in COLUMNS]
        rows.append([f"`{client.package}` ({client.script})", *words])
    asked = [rounds[event].asked for event, _ in COLUMNS]
    told = [", ".join(f"{count} × {status}" for status, count in sorted(each.items())) for each in asked]
    rows.append(["new sessions meanwhile", *told])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


async def main() -> str:
    """Hold a round an event, with all clients; return the table."""
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(binaries()[0], Path(folder))
        try:
            async with fleet(Path(folder), redis.url) as where:
                rounds = {}
                for event in EVENTS:
                    print(f"{event}: {len(CLIENTS)} clients", flush=True)
                    rounds[event] = await held(where, CLIENTS, event)
        finally:
            redis.kill()
    return table(rounds)


if __name__ == "__main__":
    made = asyncio.run(main())
    PAGE.write_text(PLACE.sub(lambda _: made, PAGE.read_text()))
    if "**wrong**" in made:
        sys.exit("a client took a part for the whole, or did not end")
