"""Sealed logs: Redis holds nothing of what was said; keys change; what was changed is not read."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import StoreUnavailable
from server.session.codec import PLAIN, codec
from server.session.log import Entry
from server.settings import SettingsError
from tests import sources
from tests.clients import collect, sse, start


def key(letter: str) -> str:
    return f"{letter}:{base64.b64encode(letter.encode() * 32).decode()}"


A, B, BOTH = codec(key("a")), codec(key("b")), codec(f"{key('b')}, {key('a')}")
SID = "s" * 32
lines = st.lists(
    st.text(st.characters(codec="utf-8", blacklist_characters="\n\0")).map(str.encode), max_size=4
)


def row(entry: Entry, how=A, sid: str = SID) -> tuple[bytes, list[bytes]]:
    return str(entry.id).encode(), [bytes(field) for field in how.fields(sid, entry)]


@given(lines, st.booleans())
def test_what_is_sealed_is_read_back_as_it_was(texts, final):
    entry = Entry(7, 1, 2, tuple(b'"' + text + b'"' for text in texts), final and bool(texts))
    for how in (A, BOTH, PLAIN):
        assert how.entries(SID, [row(entry, how)]) == (entry,)


def test_keys_change_while_logs_live():
    old, new, plain = (Entry(7, n, n + 1, (b'"hush%d"' % n, b'"x"')) for n in (1, 3, 5))
    marker, end = Entry(7, 1, 1), Entry(7, 7, 7, (b'"end"',), final=True)
    rows = [row(marker), row(old, A), row(new, BOTH), row(plain, PLAIN), row(end, BOTH)]
    assert BOTH.entries(SID, rows) == (marker, old, new, plain, end)
    assert b"hush" not in b"".join(rows[1][1] + rows[2][1])
    assert rows[2][1][1].startswith(b"3 4\n\0b\0")
    assert row(old, A) != row(old, A)


@pytest.mark.parametrize("how", [B, PLAIN], ids=["another key", "no key"])
def test_without_its_key_a_log_is_not_read(how):
    with pytest.raises(StoreUnavailable, match="sealed with a key that this server does not have"):
        how.entries(SID, [row(Entry(7, 1, 2, (b'"x"',)))])


def test_an_entry_of_another_place_or_session_or_a_changed_one_is_not_read():
    id, fields = row(Entry(7, 1, 2, (b'"x"',)))
    changed = [fields[0], fields[1][:-1] + bytes([fields[1][-1] ^ 1])]
    for sid, found in ((SID, (b"7-2", fields)), ("o" * 32, (id, fields)), (SID, (id, changed))):
        with pytest.raises(StoreUnavailable, match="changed by somebody without its key"):
            A.entries(sid, [found])


@pytest.mark.parametrize(
    "setting", ["", "a", "a:", "a:hush", f"{key('a')},", f":{key('a')}", "é" + key("a")]
)
def test_a_bad_key_is_refused_and_not_shown(setting):
    with pytest.raises(SettingsError, match=r"^log_keys: expected keys like ") as raised:
        codec(setting)
    assert "hush" not in str(raised.value)


async def test_a_sealed_session_is_read_on_every_node_and_in_redis_by_nobody(
    make_node, http, redis_server
):
    writer, reader = [
        await make_node({"paced": sources.paced}, log_keys=k)
        for k in (key("a"), f"{key('b')},{key('a')}")
    ]
    sid = await start(http, writer, prompt="hush", tokens=30)
    events = await collect(sse(http, writer, sid))
    assert len(events) == 31
    assert await collect(sse(http, reader, sid, after=events[9]["id"])) == events[10:]
    async with http.get(reader.url(f"/v1/sessions/{sid}")) as response:
        assert (await response.json())["text"] == sources.text("hush", 30)
    client = redis_server.client()
    kept = str(client.xrange(f"tw:{{{sid}}}:l")) + str(client.hgetall(f"tw:{{{sid}}}:m"))
    client.close()
    assert "hush" not in kept
    without = await make_node({"paced": sources.paced})
    async with http.get(without.url(f"/v1/sessions/{sid}/events?stream=ndjson")) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "store_unavailable")


async def test_a_sealed_log_that_redis_lost_is_written_anew(make_node, http, redis_server):
    node = await make_node({"paced": sources.paced}, log_keys=key("a"), linger=30.0)
    sid = await start(http, node, prompt="hush", tokens=30)
    events = await collect(sse(http, node, sid))
    client = redis_server.client()
    client.delete(f"tw:{{{sid}}}:l", f"tw:{{{sid}}}:m")
    while not client.exists(f"tw:{{{sid}}}:l"):
        await collect(sse(http, node, sid))
    assert "hush" not in str(client.xrange(f"tw:{{{sid}}}:l"))
    client.close()
    other = await make_node({"paced": sources.paced}, log_keys=key("a"))
    assert await collect(sse(http, other, sid)) == events
