"""What came of a target, where its inputs are kept, and the table at the end."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.judge import ROOT, Finding

FOLDER = ROOT / ".fuzz"
"""Of no interest to git."""


@dataclass
class Tally:
    """One target's inputs, the seconds that they took, the findings by kind, and what to say beside."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)
    note: str = ""

    def join(self, other: "Tally") -> None:
        """Count what another one has seen of the same target."""
        self.inputs += other.inputs
        self.seconds += other.seconds
        for finding in other.findings.values():
            self.add(finding)

    def add(self, finding: Finding | None) -> None:
        """Keep a finding, the smallest of its kind."""
        if finding is not None:
            known = self.findings.get(finding.kind)
            if known is None or len(finding.data) < len(known.data):
                self.findings[finding.kind] = finding

    @property
    def row(self) -> str:
        """One line of the table."""
        rate = self.inputs / self.seconds if self.seconds else 0.0
        return f"{self.target:20} {self.inputs:>12,} {rate:>12,.0f} {len(self.findings):>10}"


HEAD = f"{'target':20} {'inputs':>12} {'a second':>12} {'findings':>10}"


def corpus_of(target: str) -> Path:
    """Return the folder of the inputs that led to new code."""
    folder = FOLDER / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(target: str, finding: Finding) -> Path:
    """Keep a finding's input; return where."""
    folder = FOLDER / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{finding.name}"
    path.write_bytes(finding.data)
    return path


def report(tallies: Iterable[Tally]) -> str:
    """Return the table, and of each finding what it is and how to see it again."""
    lines, told = [HEAD], list[str]()
    for tally in tallies:
        lines.append(tally.row)
        told += ["", tally.note] if tally.note else []
        for finding in tally.findings.values():
            path = save(tally.target, finding)
            told += ["", f"{tally.target}: {finding.kind}", finding.told.rstrip()]
            told.append(f"again: python -m tests.fuzz --again {tally.target} {path}")
    return "\n".join([*lines, *told])
