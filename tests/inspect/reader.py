"""A small reader of `/v1/inspect`, and what it waits for."""

import orjson


async def seconds(http, node, after=None, **how):
    """Yield what an inspector is sent: seconds with their `id`, notices as {"event": …}."""
    headers = ({"Last-Event-ID": after} if after else {}) | how.pop("headers", {})
    async with http.get(node.url("/v1/inspect"), headers=headers, **how) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        told = {}
        async for line in response.content:
            name, _, value = line.decode().strip("\n").partition(": ")
            if name == "data":
                yield orjson.loads(value) | told
                told = {}
            elif name in ("id", "event"):
                told[name] = value


async def until(stream, wanted):
    """Return the first second that tells how things stand of which something is true, and that."""
    async for second in stream:
        if "nodes" in second and (found := wanted(second)):
            return second, found
    raise AssertionError("the stream has ended")


def session_of(sid, *tests, **facts):
    """Return what finds a session that has these facts and passes these tests."""

    def wanted(second):
        for found in second["sessions"]:
            fits = found["id"] == sid and all(found[name] == value for name, value in facts.items())
            if fits and all(test(found) for test in tests):
                return found
        return None

    return wanted


def place(id: str) -> int:
    return int(id.partition("-")[2])
