"""Redis as an operator should run it: TLS that is verified, one user who may do what is needed."""

import ast
import hashlib
import logging
import re
from contextlib import aclosing
from pathlib import Path

import pytest
import redis

from server.errors import StoreUnavailable
from server.session.deployment import deployed
from tests.clients import collect, sse, start, text_of
from tests.inspect import reader as inspector
from tests.ops.tls import DEBIAN, TlsServer, authority, certificate
from tests.processes import demo_text, serve
from tests.redis_groups import RedisCluster, Sentinels, until
from tests.redis_server import RedisServer, binaries

ROOT = Path(__file__).parents[2]
SESSION = ROOT / "server" / "session"
CONFIG = (ROOT / "deploy" / "redis" / "tokenwire.conf").read_text()
SENTINEL_USER = "resetchannels -@all +hello +sentinel|masters"
PASSWORD = "hush-7"
needs_tls = pytest.mark.skipif(DEBIAN is None, reason="needs a redis-server with TLS")


def granted() -> list[str]:
    """Return the rules of the user in the configuration that operators are given."""
    (line,) = re.findall(r"^user tokenwire on #0{64} (.*)$", CONFIG, re.M)
    return line.split()


def constants(tree: ast.AST) -> set[str]:
    """Return the texts of a module, save those that name an enum's members."""
    named = set(map(id, _members(tree)))
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {str(n.value) for n in texts if id(n) not in named}


def _members(tree: ast.AST) -> list[ast.expr]:
    classes = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    return [n.value for c in classes for n in c.body if isinstance(n, ast.Assign)]


def used(known: set[str]) -> set[str]:
    """Return every command that the code names, in Python and in Lua."""
    words = {w for path in SESSION.glob("*.py") for w in constants(ast.parse(path.read_text()))}
    commands = {word.lower() for word in words if word.isupper()} & known
    for path in SESSION.glob("lua/*.lua"):
        commands |= {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", path.read_text())}
    # On a cluster the doorbell has an S before its verbs.
    return commands | {f"s{verb}" for verb in ("subscribe", "unsubscribe")}


def test_the_user_may_do_what_the_code_does_and_nothing_else(shared_redis):
    client = shared_redis.client()
    known = {name.decode().lower() for name in client.command_list()}
    client.close()
    rules = granted()
    allowed = {rule[1:] for rule in rules if rule.startswith("+")}
    # SELECT is what the library says on its own when it connects.
    expected = (used(known) - {"cluster"}) | {"cluster|slots", "select"}
    assert allowed == expected
    assert [rule for rule in rules if not rule.startswith("+")] == [
        "resetkeys", "~tw:*", "resetchannels", "&tw:*", "-@all",
    ]  # fmt: skip


async def live(url, http, **flags) -> None:
    """Have two nodes ask Redis for all they may: start, read elsewhere, steer, list, inspect, delete."""
    nodes = [await serve(url, lease=1, linger=1, drain=0.2, **flags) for _ in range(2)]
    try:
        first, second = nodes
        chat = {"conversation": "a chat"}
        sid = await start(http, first, tokens=60, rate=200, session=chat)
        assert text_of(await collect(sse(http, second, sid))) == await demo_text("x", 60)
        other = await start(http, first, tokens=9000, rate=100)
        for action in ("pause", "resume", "abort"):
            async with http.post(second.url(f"/v1/sessions/{other}/{action}")) as answer:
                assert answer.status == 200
        async with http.get(second.url("/v1/conversations/a%20chat")) as answer:
            assert (await answer.json())["id"] == sid
        async with http.get(second.url("/v1/sessions")) as answer:
            assert {s["id"] for s in (await answer.json())["sessions"]} >= {sid, other}
        async with http.delete(second.url(f"/v1/sessions/{sid}")) as answer:
            assert answer.status == 204
        async with aclosing(inspector.seconds(http, second)) as inspected:
            await inspector.until(inspected, lambda now: len(now["nodes"]) == 2)
        lost = await start(http, first, tokens=9000, rate=100)
        await first.end()
        events = await collect(sse(http, second, lost))
        assert events[-1]["code"] == "producer_lost"
    finally:
        for node in nodes:
            await node.end()


def refusals(client: redis.Redis) -> list[str]:
    return [f"{entry['username']}: {entry['object']}" for entry in client.acl_log()]


@pytest.mark.parametrize("binary", binaries(), ids=lambda path: Path(path).name)
async def test_the_configured_user_is_enough(binary, tmp_path, http):
    hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
    config = tmp_path / "tokenwire.conf"
    config.write_text(CONFIG.replace("0" * 64, hashed))
    server = RedisServer(binary, tmp_path, "--include", str(config))
    admin = server.client()
    try:
        assert admin.config_get("appendfsync") == {"appendfsync": "everysec"}
        await live(f"unix://tokenwire:{PASSWORD}@{server.socket}?db=0", http)
        assert refusals(admin) == []
    finally:
        admin.close()
        server.kill()


async def test_the_configured_user_is_enough_on_a_cluster(tmp_path, http):
    with RedisCluster(tmp_path, replicas=0) as group:
        for member in group.members:
            member.client.execute_command("ACL", "SETUSER", "tokenwire", "on", f">{PASSWORD}", *granted())
        await live(group.url.replace("://", f"://tokenwire:{PASSWORD}@"), http)
        assert [r for member in group.members for r in refusals(member.client)] == []


async def test_the_configured_user_is_enough_behind_sentinels_and_theirs_for_them(tmp_path, http):
    with Sentinels(tmp_path) as group:
        user = ("ACL", "SETUSER", "tokenwire", "on", f">{PASSWORD}")
        group.master.client.execute_command(*user, *granted())
        for sentinel in group.sentinels:
            sentinel.client.execute_command(*user, *SENTINEL_USER.split())
            sentinel.client.execute_command("ACL", "SETUSER", "default", "-sentinel|masters")
        query = f"?sentinel_username=tokenwire&sentinel_password={PASSWORD}"
        await live(group.url.replace("://", f"://tokenwire:{PASSWORD}@") + query, http)
        assert refusals(group.master.client) == []
        assert [r for sentinel in group.sentinels for r in refusals(sentinel.client)] == []


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (f"on >{PASSWORD} ~tw:* +@all", "refuses the user or the password"),
        ("on nopass ~tw:* -@all", "its ACL does not let this user do what is needed"),
    ],
)
async def test_a_user_who_may_not_is_told_so_without_the_password(own_redis, rules, reason):
    admin = own_redis.client()
    admin.execute_command("ACL", "SETUSER", "u", *rules.split())
    admin.close()
    deployment = await deployed(f"unix://u:wrong-{PASSWORD}@{own_redis.socket}")
    with pytest.raises(StoreUnavailable) as refused:
        await deployment.facts()
    assert reason in refused.value.message
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("kind", ["", "+sentinel", "+cluster"])
async def test_no_password_is_ever_logged(kind, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    service = "/main" if kind == "+sentinel" else ""
    url = f"redis{kind}://u:{PASSWORD}@127.0.0.1:1{service}"
    with pytest.raises(StoreUnavailable) as refused:
        await (await deployed(url)).facts()
    assert PASSWORD not in caplog.text + str(refused.value)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("tls"), "ca")


@pytest.fixture(scope="module")
def good(ca):
    return certificate(ca, "good", "DNS:localhost,IP:127.0.0.1")


@pytest.fixture
def tls(ca):
    """Start servers; end them."""
    servers: list[TlsServer] = []

    def make(cert: Path, *options: str, **how: bool) -> TlsServer:
        servers.append(TlsServer(ca, cert, *options, **how))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@needs_tls
async def test_over_tls_it_works_as_it_does_without(ca, good, tls, http):
    server = tls(good)
    server.client.config_set("requirepass", PASSWORD)
    await live(f"rediss://:{PASSWORD}@localhost:{server.port}?ssl_ca_certs={ca}", http)


@needs_tls
async def test_a_cluster_over_tls_works_as_it_does_without(ca, good, tls, http):
    server = tls(good, "--cluster-enabled", "yes", "--tls-cluster", "yes")
    server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until(lambda: "cluster_state:ok" in str(server.client.execute_command("CLUSTER", "INFO")))
    await live(f"rediss+cluster://127.0.0.1:{server.port}?ssl_ca_certs={ca}", http)


@needs_tls
async def test_sentinels_over_tls_work_as_they_do_without(ca, good, tls, http):
    master = tls(good)
    sentinel = tls(good, sentinel=True)
    sentinel.client.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", master.port, 1)
    until(lambda: sentinel.client.sentinel_masters()["main"]["flags"] == "master")
    await live(f"rediss+sentinel://127.0.0.1:{sentinel.port}/main?ssl_ca_certs={ca}", http)


@needs_tls
@pytest.mark.parametrize(
    ("names", "trusted", "reason"),
    [
        ("DNS:elsewhere.example", True, "certificate does not hold (Hostname mismatch"),
        (
            "DNS:localhost",
            False,
            "certificate does not hold (self-signed certificate",
        ),
    ],
)
async def test_a_certificate_that_does_not_hold_is_refused(ca, tls, names, trusted, reason):
    server = tls(certificate(ca, f"bad-{trusted}", names))
    authority_ = ca if trusted else authority(ca.parent, "stranger")
    deployment = await deployed(f"rediss://localhost:{server.port}?ssl_ca_certs={authority_}")
    with pytest.raises(StoreUnavailable) as refused:
        await deployment.facts()
    assert reason in refused.value.message


@needs_tls
async def test_a_sentinel_whose_certificate_does_not_hold_is_not_believed(ca, good, tls):
    sentinel = tls(good, sentinel=True)
    stranger = authority(ca.parent, "other")
    url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main?ssl_ca_certs={stranger}"
    deployment = await deployed(url)
    with pytest.raises(StoreUnavailable):
        await deployment.facts()
