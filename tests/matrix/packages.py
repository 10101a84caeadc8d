"""The clients' packages, in the versions that are pinned here, in a cache folder outside the checkout."""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
INSTALLING = 170.0
CACHE = "TESTS_CACHE"


def _cache() -> Path:
    asked = os.environ.get(CACHE)
    return Path(asked) if asked else Path.home() / ".cache" / "tokenwire-tests"


def _installed(listed: Path, *command: str) -> Path:
    """Return the folder of a list of packages; skip if they cannot be had."""
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()[:12]
    place = _cache() / f"matrix-{listed.stem}-{digest}"
    if (place / "ready").exists():
        return place
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(listed, place)
    try:
        subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=INSTALLING)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"the packages of {listed.name} cannot be installed: {error}")
    (place / "ready").touch()
    return place


def npm() -> Path:
    """Return a folder with npm's packages, and with the clients' scripts beside them."""
    place = _installed(HERE / "package.json", "npm", "install", "--no-audit", "--no-fund")
    (place / "clients").mkdir(exist_ok=True)
    for script in CLIENTS.iterdir():
        if script.is_file():
            _place(script, place / "clients" / script.name)
    return place


def _place(script: Path, there: Path) -> None:
    """Copy a script, but never so that another client, which just starts, finds half of it."""
    if not there.exists() or there.read_bytes() != script.read_bytes():
        part = there.with_suffix(f".{os.getpid()}")
        shutil.copy(script, part)
        part.replace(there)


def node() -> Path:
    """Return npm's own Node: Debian's is too old for half of the packages."""
    found = npm() / "node_modules/node/bin/node"
    if not found.exists():
        pytest.skip("npm was not allowed to unpack a Node")
    return found


def pypi() -> Path:
    """Return a folder with the Python packages that the project itself does not need."""
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet")
    return _installed(HERE / "requirements.txt", *pip, "--target", ".", "-r", "requirements.txt")


def version(package: str) -> str:
    """Return the version of a package of either registry, as pinned or as installed."""
    if package in ("openai-python", "aiohttp"):
        return importlib.metadata.version(package.removesuffix("-python"))
    if package == "Chromium":
        told = subprocess.run(["chromium", "--version"], capture_output=True, text=True).stdout
        return told.split()[1] if told else "?"
    pinned = dict(line.split("==") for line in (HERE / "requirements.txt").read_text().split())
    listed = orjson.loads((HERE / "package.json").read_bytes())["dependencies"]
    return str({**listed, **pinned}[package])
