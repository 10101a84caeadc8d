"""Who the security tests know: their keys, made anew for each run."""

from server.callers import Caller, Right
from server.ops import keys, tickets

USER = frozenset({Right.CREATE, Right.READ, Right.CONTROL})
RIGHTS = {
    "alice": USER,
    "bob": USER,
    "alice/reader": frozenset({Right.READ}),
    "operator": frozenset({Right.ADMIN}),
}
SECRET = "k" * 32
KEYS: dict[str, str] = {}
LINES: tuple[str, ...] = ()
for who, rights in RIGHTS.items():
    KEYS[who], kept = keys.mint(who.partition("/")[0], rights)
    LINES = (*LINES, kept.line)


def bearer(who: str) -> dict[str, str]:
    """Return the header that says who asks."""
    return {"Authorization": f"Bearer {KEYS[who]}"}


def ticket(sid: str, *rights: Right, at: float, ttl: float = 60) -> tickets.Ticket:
    """Return a ticket of alice's, issued at some time."""
    alice = Caller("key:alice", USER, proof=keys.hash_of(KEYS["alice"]))
    return tickets.issue(alice, sid, "key:alice", rights or (Right.READ,), ttl, at)


def signed(made: tickets.Ticket, secret: str = SECRET) -> str:
    return tickets.sign(made, secret.encode())
