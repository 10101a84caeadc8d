"""Who asks and what they may, without any server."""

import time

import pytest

from server.callers import NOBODY, OPEN, Caller, Right, rights_of
from server.errors import Forbidden, NotFound, TokenwireError, Unauthorized
from server.session.rows import row_key, scoped

R, C, A = Right.READ, Right.CONTROL, Right.ADMIN
MINE, OTHER = "a" * 32, "b" * 32


def caller(
    *rights: Right, who: str = "key:alice", session: str | None = None, left: float = 3600
) -> Caller:
    return Caller(who, frozenset(rights), session, time.time() + left)


@pytest.mark.parametrize(
    ("who", "right", "owner", "refusal"),
    [
        (caller(R), R, "key:alice", None),
        (caller(R), C, "key:alice", Forbidden),
        (caller(R), R, "key:bob", NotFound),
        (caller(R), R, None, NotFound),
        (caller(R, C), C, "key:bob", NotFound),
        (caller(A), C, "key:bob", None),
        (caller(A), R, None, None),
        (caller(R, session=MINE), R, "key:alice", None),
        (caller(R, session=OTHER), R, "key:alice", NotFound),
        (caller(R, session=MINE), C, "key:alice", Forbidden),
        (caller(A, session=OTHER), R, "key:alice", NotFound),
        (caller(A, session=MINE), C, "key:alice", Forbidden),
        (caller(R, left=-1), R, "key:alice", Unauthorized),
        (caller(A, left=-1), R, "key:alice", Unauthorized),
        (NOBODY, R, None, Unauthorized),
        (OPEN, C, "key:alice", None),
        (OPEN, C, None, None),
    ],
)
def test_a_session_is_its_principals(who, right, owner, refusal):
    if refusal is None:
        who.demand(right, MINE, owner)
    else:
        with pytest.raises(TokenwireError) as raised:
            who.demand(right, MINE, owner)
        assert type(raised.value) is refusal


@pytest.mark.parametrize(
    ("who", "starts", "operates"),
    [
        (caller(Right.CREATE, R), True, False),
        (caller(Right.CREATE), False, False),
        (caller(R, C), False, False),
        (caller(A), True, True),
        (caller(*Right, session=MINE), False, False),
        (caller(*Right, left=-1), False, False),
        (NOBODY, False, False),
        (OPEN, True, True),
    ],
)
def test_starting_takes_two_rights_and_operating_takes_one(who, starts, operates):
    assert (passes(who.demand_start), passes(who.demand_admin)) == (starts, operates)


def passes(demand) -> bool:
    try:
        demand()
    except (Forbidden, Unauthorized):
        return False
    return True


def test_rights_are_read_strictly():
    assert rights_of("create+read, control") == {Right.CREATE, Right.READ, Right.CONTROL}
    assert rights_of("") == frozenset()
    for words in ("root", "read;control", "READ", "read*"):
        with pytest.raises(ValueError, match="is not a valid Right"):
            rights_of(words)


def test_what_two_principals_name_alike_is_not_the_same():
    names = [(None, "c"), ("", "c"), ("a", "c"), ("b", "c"), ("a\0b", "c"), ("a", "b\0c")]
    assert len({row_key(scoped(*name)) for name in names}) == len(names)
