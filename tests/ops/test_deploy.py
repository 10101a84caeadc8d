"""The files for containers: who gets at Redis, at the nodes and at their metrics."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import redis
import yaml

from server.settings import SETTINGS, variables
from server.urls import networks
from tests.redis_server import binaries
from tests.waiting import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
CLUSTER = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "tokenwire.yaml").read_text()))
PASSWORD = "hush7"


def of_kind(kind: str) -> dict:
    (found,) = [thing for thing in CLUSTER if thing["kind"] == kind]
    return found["spec"]


@pytest.fixture
def composed(tmp_path):
    """Redis, started by the very command of the compose file, but on a socket."""
    shell, flag, script = COMPOSE["services"]["redis"]["command"]
    entry = tmp_path / "docker-entrypoint.sh"
    there = f"--port 0 --unixsocket {tmp_path}/redis.sock --dir {tmp_path}"
    entry.write_text(f'#!/bin/sh\nshift\nexec {binaries()[0]} "$@" {there}\n')
    entry.chmod(0o755)
    config = tmp_path / "redis.conf"
    script = script.replace("$$", "$").replace("/tmp/redis.conf", str(config))
    script = script.replace("/tokenwire.conf", str(DEPLOY / "redis" / "tokenwire.conf"))
    env = os.environ | {"REDIS_PASSWORD": PASSWORD, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    server = subprocess.Popen([shell, flag, script], env=env, stdout=subprocess.DEVNULL)
    eventually((tmp_path / "redis.sock").exists)
    yield tmp_path / "redis.sock"
    server.kill()
    server.wait()


def client(socket: Path, user: str | None, password: str | None) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket), username=user, password=password)


def test_composed_redis_answers_our_user_and_nobody_else(composed):
    with client(composed, "tokenwire", PASSWORD) as ours:
        assert ours.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.config_get("bind")
    for user, password in ((None, None), ("default", PASSWORD), ("tokenwire", "0" * 64)):
        with client(composed, user, password) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_composed_nodes_have_that_user_and_nginx_does_not_meet_redis():
    services = COMPOSE["services"]
    for name in ("one", "two"):
        url = services[name]["environment"]["REDIS_URL"]
        assert re.fullmatch(r"redis://tokenwire:\$\{REDIS_PASSWORD:\?[^}]+\}@redis:6379", url)
    assert set(services["redis"]["networks"]).isdisjoint(services["nginx"]["networks"])
    assert "ports" not in services["redis"]


def test_pods_are_reached_by_the_ingress_and_by_who_collects_metrics():
    pods, policy = of_kind("Deployment")["template"], of_kind("NetworkPolicy")
    assert policy["podSelector"]["matchLabels"].items() <= pods["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    let_in = {
        source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: port["port"]
        for rule in policy["ingress"]
        for source in rule["from"]
        for port in rule["ports"]
    }
    assert let_in == {"ingress-nginx": "http", "monitoring": "metrics"}
    (container,) = pods["spec"]["containers"]
    assert {port["name"] for port in container["ports"]} == set(let_in.values())


def test_what_containers_are_told_are_settings():
    (container,) = of_kind("Deployment")["template"]["spec"]["containers"]
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    known = {name for setting in SETTINGS for name in variables(setting)}
    assert {*told, *COMPOSE["x-node"]["environment"]} <= known
    networks((told["TOKENWIRE_TRUST_PROXY"],))
