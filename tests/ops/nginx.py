"""Debian's nginx in front of nodes, with the configuration that operators are given, logs and all."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

from tests.processes import free_port

BINARY = shutil.which("nginx", path="/usr/sbin:/usr/bin") or shutil.which("nginx")
CONFIG = Path(__file__).parents[2] / "deploy" / "nginx" / "tokenwire.conf"
_MAIN = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1000; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/tokenwire.conf;
}}
"""


class Nginx:
    """A running nginx on `port`; `changes` are made to the configuration first."""

    def __init__(self, folder: Path, nodes: list[int], changes: dict[str, str]) -> None:
        assert BINARY is not None
        self.port = free_port()
        servers = "\n".join(f"server 127.0.0.1:{port} max_fails=0;" for port in nodes)
        changes = changes | {
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "    server 127.0.0.1:8080 max_fails=0;": servers,
        }
        text = CONFIG.read_text().replace("/var/log/nginx/", f"{folder}/")
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / "tokenwire.conf").write_text(text)
        (folder / "main.conf").write_text(_MAIN.format(folder=folder))
        log = folder / "error.log"
        self._command = [BINARY, "-p", str(folder), "-e", str(log), "-c", str(folder / "main.conf")]
        self.process = psutil.Popen(self._command)
        deadline = time.monotonic() + 10
        while not self._listens():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def reload(self) -> None:
        """Have it read its configuration anew; what streams goes on in its old worker."""
        before = self._workers()
        subprocess.run([*self._command, "-s", "reload"], check=True)
        until = time.monotonic() + 10
        while not self._workers() - before:
            assert time.monotonic() < until
            time.sleep(0.01)

    def _workers(self) -> set[int]:
        return {child.pid for child in self.process.children()}

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()
