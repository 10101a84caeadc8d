"""The publisher of the peers that have none of their own: from the upstream to their log.

`POST /start/<id>` with a prompt opens one upstream stream and publishes each of its tokens. What
comes while an answer of the peer is awaited goes with the next write: pipelined requests for nchan,
which takes one message each, one array for Durable Streams. Its CPU is not counted as the peer's.

    python -m bench.pump --port 9001 --upstream-port 9000 --peer-port 9002 --peer nchan
"""

import argparse
import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

_CONTENT = re.compile(rb'"content":("[^"]+")')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _request(method: str, path: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _event(content: bytes) -> bytes:
    return b'{"type":"content","content":%b}' % content


class Peer(NamedTuple):
    """How a peer is told of a new log, if at all, and of new tokens."""

    create: Callable[[str], bytes] | None
    publish: Callable[[str, Sequence[bytes]], list[bytes]]


PEERS = {
    "nchan": Peer(
        create=None,
        publish=lambda sid, events: [_request("POST", f"/pub/{sid}", one) for one in events],
    ),
    "durable": Peer(
        create=lambda sid: _request("PUT", f"/{sid}", b""),
        publish=lambda sid, events: [_request("POST", f"/{sid}", b"[%b]" % b",".join(events))],
    ),
}


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if int(head.split(b" ", 2)[1]) >= 300:
        raise RuntimeError(head.decode("latin-1"))
    if b"chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    elif length := _LENGTH.search(head):
        await reader.readexactly(int(length[1]))


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: Sequence[bytes]
) -> None:
    writer.write(b"".join(requests))
    for _ in requests:
        await _answer(reader)


class Pump:
    """One upstream stream for each start, one connection to the peer for each stream."""

    def __init__(self, peer: Peer, upstream_port: int, peer_port: int) -> None:
        self.peer = peer
        self.upstream_port = upstream_port
        self.peer_port = peer_port
        self.streams: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one start; the stream goes on by itself."""
        head = await reader.readuntil(b"\r\n\r\n")
        sid = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
        length = _LENGTH.search(head)
        prompt = json.loads(await reader.readexactly(int(length[1]) if length else 0))["prompt"]
        to_peer = await asyncio.open_connection("127.0.0.1", self.peer_port)
        if self.peer.create:
            await _exchange(*to_peer, [self.peer.create(sid)])
        stream = asyncio.create_task(self._stream(sid, prompt, *to_peer))
        self.streams.add(stream)
        stream.add_done_callback(self.streams.discard)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def _stream(
        self, sid: str, prompt: str, to_peer: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        source, ask = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": prompt}]})
        ask.write(_request("POST", "/v1/chat/completions", body.encode()))
        rest = b""
        while data := await source.read(16384):
            whole, _, rest = (rest + data).rpartition(b"\n")
            if events := [_event(content) for content in _CONTENT.findall(whole)]:
                await _exchange(to_peer, writer, self.peer.publish(sid, events))
            if b"[DONE]" in whole:
                break
        ask.close()
        writer.close()


async def serve(args: argparse.Namespace) -> None:
    """Serve until killed."""
    pump = Pump(PEERS[args.peer], args.upstream_port, args.peer_port)
    async with await asyncio.start_server(pump.accept, "127.0.0.1", args.port) as server:
        await server.serve_forever()


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--port", "--upstream-port", "--peer-port"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--peer", choices=PEERS, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
