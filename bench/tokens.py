"""What a benchmark token looks like, and how to find tokens in any transport's bytes (pure).

The upstream writes a token as ` <seq>:<send time>;` with the time in nanoseconds of
CLOCK_MONOTONIC, which every process of one machine shares. Nothing in it needs escaping in JSON,
and no frame, chunk or event boundary of an honest server falls inside one, save a proxy's chunk
header, which `find` takes out when the plain search does not add up.
"""

import re
from typing import NamedTuple

TOKEN = b" %d:%d;"
_TOKEN = re.compile(rb" (\d+):(\d+);")
_CHUNK_HEADER = re.compile(rb"\r\n[0-9a-fA-F]+\r\n")
_LONGEST = 64


class Found(NamedTuple):
    """The tokens of one read: `first` to `last`, their send times, and the bytes left over.

    `first` is 0 if there are none; `dense` is false if one is missing, doubled or out of order.
    """

    first: int
    last: int
    sent: list[int]
    tail: bytes
    dense: bool


def _search(data: bytes, framed: bool) -> Found:
    pairs = _TOKEN.findall(data)
    whole = framed or data.count(b";") == len(pairs)
    if not pairs:
        return Found(0, 0, [], data[-_LONGEST:], whole)
    tail = data[data.rfind(b";") + 1 :]
    first = int(pairs[0][0])
    if len(pairs) == 1:
        return Found(first, first, [int(pairs[0][1])], tail, whole)
    seqs = [int(seq) for seq, _ in pairs]
    dense = whole and seqs == list(range(first, first + len(seqs)))
    return Found(first, seqs[-1], [int(sent) for _, sent in pairs], tail, dense)


def find(data: bytes, expected: int, framed: bool = False) -> Found:
    """Find the tokens in `data`, of which the first should be number `expected`.

    `framed` says that the bytes are WebSocket frames, whose headers may hold any byte.
    """
    found = _search(data, framed)
    if found.dense and found.first in (expected, 0):
        return found
    return _search(_CHUNK_HEADER.sub(b"", data), framed)
