"""Puts the peers' dependencies in place: a venv, a node_modules or unpacked Debian packages each.

Nothing is installed system-wide, save one empty folder that nchan insists on: nginx and nchan are
downloaded as packages and unpacked, so no service starts. What cannot be had is skipped, with the reason.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.targets import CACHE, PEERS, Target

NGINX = CACHE / "nginx" / "root"
NCHAN_HOME = Path("/var/lib/nginx")


class Unavailable(Exception):
    """A peer cannot be installed here; the message says why."""


def folder(target: Target) -> Path:
    """Return where a peer's files lie."""
    return PEERS / target.name


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"{' '.join(command[:3])}: {last}")


def _need(program: str) -> None:
    if not shutil.which(program):
        raise Unavailable(f"{program} is not on this machine")


def _venv(target: Target) -> None:
    venv = CACHE / target.name
    if not (venv / ".ready").exists():
        _run(sys.executable, "-m", "venv", str(venv))
        wanted = folder(target) / "requirements.txt"
        _run(f"{venv}/bin/python", "-m", "pip", "install", "--quiet", "-r", str(wanted))
        (venv / ".ready").touch()


def _npm(target: Target) -> None:
    _need("node")
    here = folder(target)
    if (here / "package.json").exists() and not (here / "node_modules").exists():
        _need("npm")
        _run("npm", "install", "--no-package-lock", "--no-fund", "--no-audit", cwd=here)


def _nginx(_: Target) -> None:
    if NGINX.exists():
        return
    _need("apt-get")
    packages = NGINX.parent / "packages"
    (packages / "partial").mkdir(parents=True, exist_ok=True)
    options = ["--no-install-recommends", "--download-only", "-o", f"Dir::Cache::Archives={packages}"]
    wanted = ["nginx", "libnginx-mod-nchan"]
    _run("apt-get", "install", "-y", "-o", "Debug::NoLocking=1", *options, *wanted)
    for package in sorted(packages.glob("*.deb")):
        _run("dpkg", "-x", str(package), str(NGINX))
    if not (NGINX / "usr/sbin/nginx").exists():
        shutil.rmtree(NGINX, ignore_errors=True)
        raise Unavailable("apt-get had no nginx to download")


def _nchan(target: Target) -> None:
    _nginx(target)
    try:
        NCHAN_HOME.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"nchan wants {NCHAN_HOME}, whatever its configuration says") from error


_INSTALLERS: dict[str, Callable[[Target], None]] = {
    "venv": _venv,
    "npm": _npm,
    "nginx": _nginx,
    "nchan": _nchan,
}


def install(target: Target) -> None:
    """Make one peer ready to start; raise `Unavailable` if it cannot be."""
    if target.install:
        CACHE.mkdir(exist_ok=True)
        _INSTALLERS[target.install](target)
