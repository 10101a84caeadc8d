"""Golden bytes: what each native format looks like, to the byte."""

import orjson

from server.events import Content, Done, ToolCall, encode
from server.session.log import Entry, Log
from server.wire.native import Ndjson, Sse, WebSocket, text_frame
from server.wire.text import Text

SID = "s" * 22
LINES = tuple(encode(e) for e in (Content("Hel"), Content("lo\n\nevent: done\ndata: {}"), Done()))
LOG = Log([Entry(7, 1, 1), Entry(7, 1, 2, LINES, final=True)])


def test_sse_is_lf_only_with_ids_and_one_line_of_json():
    assert Sse().encoding(SID).slice(LOG, 0, 3) == (
        b'id: 7-1\ndata: {"type":"content","content":"Hel"}\n\n'
        b'id: 7-2\ndata: {"type":"content","content":"lo\\n\\nevent: done\\ndata: {}"}\n\n'
        b'id: 7-3\ndata: {"type":"done","finish_reason":"stop"}\n\n'
    )


def test_the_one_shot_stream_names_the_session_in_its_ids():
    assert Sse(qualified=True).encoding(SID).slice(LOG, 2, 3).startswith(b"id: %b.7-3\n" % SID.encode())


def test_merged_events_carry_their_number_and_the_last_id():
    assert Sse(merged=True).encoding(SID).slice(LOG, 0, 3) == (
        b'id: 7-2\ndata: {"type":"content","content":"Hello\\n\\nevent: done\\ndata: {}","n":2}\n\n'
        b'id: 7-3\ndata: {"type":"done","finish_reason":"stop"}\n\n'
    )


def test_an_sse_notice_is_a_named_event_without_id():
    notice = Sse().encoding(SID).notice
    assert notice("paused", {"gate": 42}) == b'event: paused\ndata: {"gate":42}\n\n'
    assert notice("session", {"seq": 0, "retry": 1500}) == (
        b': tokenwire\nretry: 1500\nevent: session\ndata: {"seq":0}\n\n'
    )


def test_the_first_notice_may_bring_a_cursor_along():
    facts = {"seq": 0, "retry": 1, "cursor": "s.7-0"}
    assert Sse().encoding(SID).notice("session", facts) == (
        b': tokenwire\nretry: 1\nid: s.7-0\nevent: session\ndata: {"seq":0}\n\n'
    )


def test_ndjson_is_one_object_a_line():
    encoding = Ndjson().encoding(SID)
    assert encoding.slice(LOG, 0, 1) == b'{"id":"7-1","type":"content","content":"Hel"}\n'
    assert encoding.notice("paused", {"gate": 1}) == b'{"type":"paused","gate":1}\n'


def test_websocket_frames_name_their_session():
    frame = WebSocket().encoding(SID).slice(LOG, 0, 1)
    payload = b'{"session":"%b","id":"7-1","type":"content","content":"Hel"}' % SID.encode()
    assert frame == bytes([0x81, len(payload)]) + payload
    notice = WebSocket().encoding(SID).notice("paused", {"gate": 1})
    assert orjson.loads(notice[2:]) == {"session": SID, "type": "paused", "gate": 1}


def test_frame_lengths_take_the_three_forms_of_the_rfc():
    assert text_frame(b"x" * 125)[:2] == b"\x81\x7d"
    assert text_frame(b"x" * 126)[:4] == b"\x81\x7e\x00\x7e"
    assert text_frame(b"x" * 65536)[:10] == b"\x81\x7f" + (65536).to_bytes(8, "big")


def test_text_is_the_content_alone():
    assert Text().encoding(SID).slice(LOG, 0, 3) == b"Hello\n\nevent: done\ndata: {}"


CALLS = [ToolCall(0, "call_1", "f", '{"id":"x"'), ToolCall(0, arguments='"id":'), Done()]
CALLED = Log([Entry(7, 1, 1), Entry(7, 1, 2, tuple(map(encode, CALLS)), final=True)])


def test_a_tool_calls_own_id_leaves_the_events_alone():
    assert Ndjson().encoding(SID).slice(CALLED, 0, 2) == (
        b'{"id":"7-1","type":"tool_call","index":0,"call_id":"call_1","name":"f",'
        b'"arguments":"{\\"id\\":\\"x\\""}\n'
        b'{"id":"7-2","type":"tool_call","index":0,"arguments":"\\"id\\":"}\n'
    )
    first = WebSocket().encoding(SID).slice(CALLED, 0, 1)
    assert b'"id":"7-1","type":"tool_call","index":0,"call_id":"call_1"' in first
