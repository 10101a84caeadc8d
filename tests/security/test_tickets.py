"""Tickets, without any server: nobody makes or changes one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.callers import Caller, Right
from server.ops import tickets
from server.transport import bodies

SECRET = b"k" * 32
SID = "s" * 32
NOW = 1_800_000_000.0
ALICE = Caller("key:alice", frozenset(Right), proof="f" * 64)
TICKET = tickets.issue(ALICE, SID, "key:alice", {Right.READ}, 60, NOW)
TEXT = tickets.sign(TICKET, SECRET)


def test_a_ticket_carries_its_session_and_its_rights_and_no_more():
    assert tickets.verify(TEXT, SECRET) == TICKET
    assert TICKET.caller == Caller(
        "key:alice", frozenset({Right.READ}), SID, NOW + tickets.LIFE, "f" * 64, TICKET.id
    )
    assert TICKET.by == NOW + 60


def test_a_ticket_is_over_when_its_minters_credentials_are():
    minter = Caller("jwt:ann", frozenset(Right), until=NOW + 5)
    assert tickets.issue(minter, SID, "jwt:ann", {Right.READ}, 60, NOW).until == NOW + 5


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_a_changed_ticket_is_none(place, letter):
    changed = TEXT[:place] + letter + TEXT[place + 1 :]
    found = tickets.verify(changed, SECRET)
    # The last letter of base64 has bits that mean nothing.
    assert found is None or found == TICKET
    assert found is None or changed == TEXT or place == len(TEXT) - 1


@given(st.text())
def test_no_text_is_a_ticket_by_chance(text):
    assert tickets.verify(text, SECRET) is None
    assert tickets.verify(f"t1.{text}", SECRET) is None


def test_another_deployments_ticket_is_none():
    assert tickets.verify(TEXT, b"x" * 32) is None


def test_no_session_is_named_like_an_option():
    ids = [bodies.new_sid() for _ in range(500)]
    ids += [bodies.sid_of(f"key {number}", SECRET) for number in range(500)]
    assert len(set(ids)) == 1000
    assert all(bodies.valid_sid(sid) and sid[0] != "-" for sid in ids)


def test_a_ticket_is_no_idempotency_key():
    body = TEXT.rpartition(".")[0]
    assert not TEXT.endswith(bodies.sid_of(body, SECRET)[:8])


@pytest.mark.parametrize("version", ["t2", "", "T1"])
def test_another_version_is_none(version):
    packed = TEXT.split(".")[1]
    body = f"{version}.{packed}"
    forged = f"{body}.{tickets._text(tickets._mac(body, SECRET))}"
    assert tickets.verify(forged, SECRET) is None


def test_tickets_differ():
    again = tickets.issue(ALICE, SID, "key:alice", {Right.READ}, 60, time.time())
    assert again.id != TICKET.id
