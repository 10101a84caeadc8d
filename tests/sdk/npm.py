"""Packages from npm in a cache folder, and a Node that runs them: 22 or newer has a WebSocket."""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

HERE = Path(__file__).parent
INSTALLING = 150.0
RUNNING = 60.0


def folder(*packages: str) -> Path:
    """Return a folder in which these packages are installed; skip the test if npm cannot do that."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenwire-tests"
    place = cache / re.sub(r"[^\w.@-]+", "-", "+".join(packages))
    if (place / "ready").exists():
        return place
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    place.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(place), *packages]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALLING)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"npm could not install {' '.join(packages)}: {error}")
    (place / "ready").touch()
    return place


def node() -> str:
    """Return a Node of version 22 or newer: this machine's, or else npm's."""
    here = shutil.which("node")
    if here is not None and _version(here) >= 22:
        return here
    found = folder("node@22") / "node_modules/node/bin/node"
    if not found.exists():
        pytest.skip("npm was not allowed to unpack a Node")
    return str(found)


def _version(binary: str) -> int:
    told = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
    return int(told.strip().removeprefix("v").partition(".")[0])


async def run(script: str, *arguments: str) -> Any:
    """Run a script of this folder; return the JSON that it prints."""
    return orjson.loads(await output(HERE / script, *arguments))


async def output(script: Path, *arguments: str) -> bytes:
    """Run a script; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        node(), str(script), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RUNNING):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out
