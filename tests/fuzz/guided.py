"""Fuzzing by atheris, which mutates what led to new code; a process for each target.

python -m tests.fuzz.guided TARGET UNTIL SEED, which prints a finding a line, and how many inputs.
"""

import base64
import json
import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec

from tests.fuzz.judge import Finding
from tests.fuzz.mutate import Mutator
from tests.fuzz.tally import FOLDER, Tally, corpus_of

PATIENCE = 900
"""Seconds beyond its time after which a process hangs where nothing can interrupt it."""


def available() -> bool:
    """Say whether atheris can be had here."""
    return find_spec("atheris") is not None


def by_atheris(name: str, seconds: float, seed: int) -> Tally:
    """Run a target for so long."""
    tally, log = Tally(name), FOLDER / f"{name}.log"
    corpus_of(name)
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(began + seconds), str(seed)]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            told, _ = process.communicate(timeout=seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
        finally:
            process.kill()  # if we are ended ourselves
    tally.seconds = time.monotonic() - began
    for line in told.splitlines():
        item = json.loads(line)
        if "inputs" in item:
            tally.inputs = item["inputs"]
        else:
            tally.add(Finding(item["kind"], base64.b64decode(item["data"]), item["told"]))
    if process.returncode:
        tally.add(_fatal(name, process.returncode))
    return tally


def _fatal(name: str, code: int) -> Finding:
    """Return what ended the whole process: libFuzzer has kept its input, if it could."""
    kept = sorted(FOLDER.glob(f"{name}-fatal-*"), key=lambda path: path.stat().st_mtime)
    data = kept[-1].read_bytes() if kept else b""
    return Finding(
        f"exit code {code}", data, (FOLDER / f"{name}.log").read_text(errors="replace")[-3000:]
    )


def main(name: str, until: float, seed: int) -> None:
    """Be the process, which ends by itself when the clock that all processes share says so."""
    import atheris

    with atheris.instrument_imports(include=["server"]):
        from tests.fuzz.judge import verdict, watched
        from tests.fuzz.targets import TARGETS

    target, tally = TARGETS[name], Tally(name)
    mutator = Mutator(random.Random(seed), target.words)

    def one(data: bytes) -> None:
        if time.monotonic() >= until:
            print(json.dumps({"inputs": tally.inputs}), flush=True)
            os._exit(0)
        finding = verdict(target.run, data)
        tally.inputs += 1
        if finding is not None and finding.kind not in tally.findings:
            tally.add(finding)
            told = {"kind": finding.kind, "told": finding.told}
            print(json.dumps(told | {"data": base64.b64encode(data).decode()}), flush=True)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        # By structure as often as by bits.
        return mutator.mutated(data)[:size] if seed % 2 else atheris.Mutate(data, size)

    folder = corpus_of(name)
    for number, data in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(data)
    options = [
        "-max_len=2048", "-len_control=100", f"-seed={seed}", "-timeout=60", "-rss_limit_mb=1024",
        f"-artifact_prefix={FOLDER / name}-fatal-", str(folder),
    ]  # fmt: skip
    with watched():
        atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
