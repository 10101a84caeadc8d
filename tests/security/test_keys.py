"""API keys: minted, kept as hashes, found, taken away."""

import pytest

from server.callers import Caller, Right
from server.errors import Unauthorized
from server.ops import keys, watched
from server.ops.auth import Auth, demand_identity
from server.settings import Settings, SettingsError
from tests.security.people import KEYS, LINES, RIGHTS, USER

HASH = "0" * 64


def test_a_key_is_long_and_only_its_hash_is_kept():
    key, kept = keys.mint("a.b@c-1", frozenset({Right.ADMIN, Right.READ}))
    assert (len(key), key.startswith("tw_")) == (46, True)
    assert kept.line == f"a.b@c-1:read+admin:{keys.hash_of(key)}"
    assert key not in kept.line
    assert keys.Key.parse(kept.line) == kept


def test_a_key_says_who_shows_it():
    auth = Auth(Settings(keys=LINES))
    for name, key in KEYS.items():
        found = auth.caller(key)
        whose = f"key:{name.partition('/')[0]}"
        assert (found.principal, found.rights, auth.holds(found)) == (whose, RIGHTS[name], True)


@pytest.mark.parametrize(
    "change", [lambda k: k[:-1], lambda k: k + "x", lambda k: k.upper(), lambda k: "tw_"]
)
def test_another_key_is_nobodys(change):
    with pytest.raises(Unauthorized):
        Auth(Settings(keys=LINES)).caller(change(KEYS["alice"]))


@pytest.mark.parametrize(
    "line",
    ["", "a", f"a:read:{HASH}:x", f":read:{HASH}", f"a b:read:{HASH}", f"{{a}}:read:{HASH}", "a:read:00",
     f"a:read:{HASH.replace('0', 'A')}", f"a:root:{HASH}", f"{'a' * 65}:read:{HASH}", f"a\n:read:{HASH}"],
)  # fmt: skip
def test_a_bad_line_is_refused_and_its_hash_not_shown(line):
    with pytest.raises(SettingsError, match=r"^keys: expected ") as raised:
        Auth(Settings(keys=(line,)))
    assert HASH not in str(raised.value)


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(watched, "LOOK", 0.0)
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{LINES[0]}  # alice\n")
    auth = Auth(Settings(keys_file=path))
    alice = auth.caller(KEYS["alice"])
    path.write_text("\n".join(LINES[1:]))
    assert not auth.holds(alice)
    assert auth.caller(KEYS["bob"]).principal == "key:bob"
    path.write_text("hush, this is no key")
    assert auth.caller(KEYS["bob"]).principal == "key:bob"
    assert "line 1: expected keys like" in caplog.text
    assert "hush" not in caplog.text


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watched, "time", clock)
    return clock


def good(auth: Auth) -> bool:
    try:
        return auth.caller(KEYS["alice"]).principal == "key:alice"
    except Unauthorized:
        return False


GONE = {"gone": lambda path: path.unlink(missing_ok=True), "empty": lambda path: path.write_text("")}


@pytest.mark.parametrize("go", GONE.values(), ids=GONE)
def test_a_file_that_is_gone_or_empty_holds_no_keys(tmp_path, clock, caplog, go):
    """An editor takes a file or its text away for a moment to put another there: forgiven once."""
    path = tmp_path / "keys"
    path.write_text(LINES[0])
    auth = Auth(Settings(keys_file=path))
    seen = []
    for there in (True, False, True, False, False, False, True):
        path.write_text(LINES[0]) if there else go(path)
        clock.now += watched.LOOK
        seen.append(good(auth))
    assert seen == [True, True, True, True, False, False, True]
    assert caplog.text.count(f"{path} is gone or empty; nothing that it said holds any more") == 1


def test_a_file_that_nobody_has_looked_for_is_not_waited_for(tmp_path, clock):
    path = tmp_path / "keys"
    path.write_text(LINES[0])
    auth = Auth(Settings(keys_file=path))
    path.unlink()
    clock.now += 2 * watched.LOOK
    assert not good(auth)


def test_a_file_that_cannot_be_looked_at_is_not_gone(tmp_path, clock, monkeypatch, caplog):
    path = tmp_path / "keys"
    path.write_text(LINES[0])
    auth = Auth(Settings(keys_file=path))

    def refused(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as broken:
        for name in ("stat", "read_text"):
            broken.setattr(type(path), name, refused)
        for _ in range(3):
            clock.now += watched.LOOK
            assert good(auth)
    assert caplog.text.count("Permission denied; what it said before still holds") == 1


ALICE, BOB, READ = "key:alice", "key:bob", {Right.READ}
CHANGED = [
    (ALICE, USER, "", "alice:create+read+control", True),
    (ALICE, USER, "", "alice:create+read+control+admin", True),
    (ALICE, USER, "", "alice:admin", True),
    (ALICE, USER, "", "alice:read", False),
    (ALICE, READ, "", "alice:read+control", True),
    (ALICE, {Right.ADMIN}, "", "alice:create+read+control", False),
    (ALICE, USER, "", "bob:create+read+control", False),
    (ALICE, USER, "", "bob:admin", False),
    (ALICE, READ, "ticket", "alice:read", True),
    (ALICE, {*READ, Right.CONTROL}, "ticket", "alice:read", False),
    (ALICE, READ, "ticket", "bob:read", False),
    (BOB, {*READ, Right.CONTROL}, "ticket", "alice:admin", True),
    (None, READ, "ticket", "alice:admin", True),
    (BOB, READ, "ticket", "alice:create+read+control", False),
]


@pytest.mark.parametrize(("principal", "rights", "ticket", "now", "holds"), CHANGED)
def test_a_key_gives_what_it_gives_now(principal, rights, ticket, now, holds):
    """A ticket holds for as long as whoever had it issued could have it issued again."""
    shown = Caller(principal, frozenset(rights), proof=HASH, ticket=ticket)
    assert Auth(Settings(keys=(f"{now}:{HASH}",))).holds(shown) is holds


@pytest.mark.parametrize("credential", ["tw_\udcff", "\udcff.a.b", "é", ""])
def test_what_is_no_ascii_is_no_credential(credential):
    with pytest.raises(Unauthorized):
        Auth(Settings(keys=LINES, jwt_secret="x" * 32)).caller(credential)


@pytest.mark.parametrize("content", [None, b"\xff", b"a:b:c"])
def test_a_file_that_cannot_be_read_at_first_ends_it(tmp_path, content):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{path}: "):
        Auth(Settings(keys_file=path))


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "127.8.8.8"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "10.0.0.1"}, True),
        ({"host": "app.example"}, True),
        ({"host": "localhost.example"}, True),
        ({"host": "0.0.0.0", "keys": LINES}, False),
        ({"host": "0.0.0.0", "jwt_secret": "x" * 32}, False),
        ({"host": "0.0.0.0", "insecure": True}, False),
    ],
)
def test_the_world_is_asked_who_it_is(given, refused):
    if not refused:
        demand_identity(Settings(**given))
        return
    with pytest.raises(SettingsError, match=r"^host: .* set keys, "):
        demand_identity(Settings(**given))
