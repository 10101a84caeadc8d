"""Certificates for tests, and servers of Redis' kind that speak nothing but TLS."""

import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp

import redis

from tests.processes import free_port
from tests.redis_groups import until

DEBIAN = shutil.which("redis-server")
"""The bundled Valkey is built without TLS; Debian's Redis has it."""


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(folder: Path, name: str) -> Path:
    """Make a certificate authority; return its certificate's file, beside which lies its key."""
    cert = folder / f"{name}.crt"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={name}", "-days", "2", "-keyout", str(cert.with_suffix(".key")), "-out", str(cert),
    )  # fmt: skip
    return cert


def certificate(ca: Path, name: str, names: str) -> Path:
    """Make a server's certificate for `names`, as in subjectAltName; return its file."""
    cert = ca.parent / f"{name}.crt"
    key, request, extra = (cert.with_suffix(suffix) for suffix in (".key", ".csr", ".ext"))
    _openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request),
    )  # fmt: skip
    extra.write_text(f"subjectAltName={names}\n")
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca.with_suffix(".key")),
        "-CAcreateserial", "-days", "2", "-extfile", str(extra), "-out", str(cert),
    )  # fmt: skip
    return cert


class TlsServer:
    """Debian's Redis on a TLS port of its own; with `sentinel`, as a sentinel."""

    def __init__(self, ca: Path, cert: Path, *options: str, sentinel: bool = False) -> None:
        assert DEBIAN is not None
        self.port = free_port()
        folder = Path(mkdtemp(dir=ca.parent))
        config = folder / "own.conf"
        # A file, since sentinels rewrite theirs.
        config.write_text(f'dir {folder}\nport 0\ntls-port {self.port}\nbind 127.0.0.1\nlogfile "log"\n')
        command = [
            DEBIAN, str(config), *(["--sentinel"] if sentinel else []),
            "--tls-cert-file", str(cert), "--tls-key-file", str(cert.with_suffix(".key")),
            "--tls-ca-cert-file", str(ca), "--tls-auth-clients", "no", "--tls-replication", "yes",
            *options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(
            port=self.port, protocol=2, ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False,
            socket_timeout=5, decode_responses=True,
        )  # fmt: skip
        until(self.client.ping)

    def end(self) -> None:
        """Kill it."""
        self.client.close()
        self.process.kill()
        self.process.wait()
