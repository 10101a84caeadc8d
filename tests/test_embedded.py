"""The private Valkey, with real processes: its life, its data, and who shares it."""

import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from server.ops import embedded
from server.settings import SettingsError
from tests.processes import ROOT
from tests.waiting import eventually

OWNER = """
import sys
from pathlib import Path
from server.ops import embedded
sys.platform = sys.argv[2]
valkey = embedded.start(Path(sys.argv[1]))
print(valkey.url, valkey.process.pid if valkey.process else "attached", flush=True)
sys.stdin.read()
valkey.stop()
"""


class Owner:
    """A process that starts the private Valkey, and stops it when its input ends."""

    def __init__(self, folder: Path, platform: str = sys.platform) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OWNER, str(folder), platform],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def valkey(self) -> tuple[str, str]:
        """Return its URL and pid, once it answers."""
        assert self.process.stdout
        url, pid = self.process.stdout.readline().split()
        return url, pid

    def waits(self, seconds: float) -> bool:
        """Tell whether it has no Valkey for so long."""
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def end(self) -> int:
        self.process.communicate()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url, protocol=2) as client:
        yield client


def gone(pid: int) -> bool:
    """A process that nobody reaps, as in a container without an init, is gone too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def valkey(tmp_path):
    started = embedded.start(tmp_path)
    yield started
    started.stop()


def test_it_is_private_and_durable_and_evicts_nothing(valkey, tmp_path):
    with connected(valkey.url) as client:
        settings = client.config_get("*")
    expected = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "save": ""}
    expected |= {"maxmemory-policy": "noeviction", "aof-load-truncated": "yes"}
    assert {key: settings[key] for key in expected} == expected
    home = tmp_path / "valkey"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "valkey.sock").stat().st_mode) == 0o600
    assert os.getsid(valkey.process.pid) == valkey.process.pid


def test_stopping_it_keeps_its_data_and_can_be_repeated(tmp_path):
    first = embedded.start(tmp_path)
    with connected(first.url) as client:
        client.set("a", 1)
    first.stop()
    first.stop()
    assert first.process.returncode == 0
    second = embedded.start(tmp_path)
    with connected(second.url) as client:
        assert client.get("a") == b"1"
    second.stop()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_ends_with_its_parent_even_one_that_is_killed_and_keeps_its_data(tmp_path, platform):
    if platform == "linux" != sys.platform:
        pytest.skip("needs prctl")
    for life in range(3):
        owner = Owner(tmp_path, platform)
        url, pid = owner.valkey()
        with connected(url) as client:
            assert client.incr("lives") == life + 1
            tree = [int(pid), client.info("server")["process_id"]]
        # The next start follows at once, while this one is on its way out.
        owner.kill()
    eventually(lambda: all(map(gone, tree)))


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_stops_in_good_order_on_each_platform(tmp_path, platform):
    if platform == "linux" != sys.platform:
        pytest.skip("needs prctl")
    owner = Owner(tmp_path, platform)
    _, pid = owner.valkey()
    assert owner.end() == 0
    assert gone(int(pid))
    assert "ready to exit" in (tmp_path / "valkey" / "valkey.log").read_text()


def test_it_comes_back_after_a_kill_of_its_own(tmp_path):
    first = embedded.start(tmp_path)
    with connected(first.url) as client:
        client.set("a", 1)
    first.process.kill()
    first.process.wait()
    assert (tmp_path / "valkey" / "valkey.sock").exists()
    first.stop()
    second = embedded.start(tmp_path)
    with connected(second.url) as client:
        assert client.get("a") == b"1"
    second.stop()


def test_two_processes_share_one_and_its_owner_ends_it(tmp_path, valkey):
    guest = Owner(tmp_path)
    assert guest.valkey() == (valkey.url, "attached")
    assert guest.end() == 0
    with connected(valkey.url) as client:
        assert client.ping()
    valkey.stop()
    heir = Owner(tmp_path)
    assert heir.valkey()[1] != "attached"
    assert heir.end() == 0


def test_of_many_that_start_at_once_one_owns_it(tmp_path):
    crowd = [Owner(tmp_path) for _ in range(5)]
    answers = [member.valkey() for member in crowd]
    assert len({url for url, _ in answers}) == 1
    assert [pid for _, pid in answers].count("attached") == 4
    guests = [m for m, (_, pid) in zip(crowd, answers, strict=True) if pid == "attached"]
    owner = next(m for m in crowd if m not in guests)
    assert [member.end() for member in (*guests, owner)] == [0] * 5


def test_who_comes_while_it_is_frozen_waits_for_it(tmp_path, valkey):
    os.kill(valkey.process.pid, signal.SIGSTOP)
    guest = Owner(tmp_path)
    assert guest.waits(0.5)
    os.kill(valkey.process.pid, signal.SIGCONT)
    assert guest.valkey()[1] == "attached"
    assert guest.end() == 0


def test_a_new_one_waits_until_the_old_one_has_written_out_its_data(tmp_path):
    owner = Owner(tmp_path)
    url, pid = owner.valkey()
    with connected(url) as client:
        client.set("a", 1)
    os.kill(int(pid), signal.SIGSTOP)
    owner.kill()
    heir = Owner(tmp_path)
    assert heir.waits(1.5)  # two questions go unanswered, half a second each
    assert not gone(int(pid))
    os.kill(int(pid), signal.SIGCONT)
    assert heir.valkey()[0] == url
    assert gone(int(pid))
    with connected(url) as client:
        assert client.get("a") == b"1"
    assert heir.end() == 0


def test_loading_its_data_may_take_longer_than_its_silence(tmp_path, monkeypatch):
    first = embedded.start(tmp_path)
    with connected(first.url) as client:
        client.mset({f"key{n}": n for n in range(10)})
        for _ in range(4):
            client.eval("for n = 1, 2000 do server.call('SET', 'a' .. n, n) end", 0)
    first.stop()
    monkeypatch.setattr(embedded, "PATIENCE", 0.8)
    monkeypatch.setitem(embedded.CONFIG, "key-load-delay", "200")
    began = time.monotonic()
    second = embedded.start(tmp_path)
    assert time.monotonic() - began > 0.8
    with connected(second.url) as client:
        assert client.dbsize() == 2010
    second.stop()


def test_a_long_path_and_an_odd_one_work_too(tmp_path):
    for folder in (tmp_path / ("long" * 40), tmp_path / "o'dd \"#%?"):
        owner, guest = embedded.start(folder), embedded.start(folder)
        with connected(guest.url) as client:
            assert client.ping()
            place = Path(client.config_get("unixsocket")["unixsocket"])
        assert guest.process is None
        guest.stop()
        owner.stop()
        assert len(os.fsencode(place)) <= 107
        if place.parent != folder / "valkey":
            assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
            place.parent.rmdir()


def test_half_a_command_at_the_end_of_its_file_is_dropped(tmp_path):
    first = embedded.start(tmp_path)
    with connected(first.url) as client:
        client.set("a", 1)
    first.stop()
    (log,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$5\r\nhal")
    second = embedded.start(tmp_path)
    with connected(second.url) as client:
        assert client.keys() == [b"a"]
    second.stop()


def test_a_spoilt_file_is_an_error_that_ends_with_the_log(tmp_path):
    embedded.start(tmp_path).stop()
    (log,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"no such thing\r\n")
    with pytest.raises(embedded.EmbeddedError, match=r"does not start[\s\S]*Bad file format"):
        embedded.start(tmp_path)


def test_a_folder_that_cannot_be_used_is_a_bad_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"^data_dir: .*file"):
        embedded.start(tmp_path / "file" / "data")
    (tmp_path / "valkey").symlink_to("/tmp")
    with pytest.raises(SettingsError, match=r"^data_dir: .* belongs to somebody else$"):
        embedded.start(tmp_path)


def test_a_platform_without_valkey_is_told_to_bring_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SettingsError, match="set REDIS_URL"):
        embedded.start(tmp_path)
