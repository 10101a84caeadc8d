"""What a process of the load test has seen so far; those of several add up to one (pure)."""

from collections.abc import Iterable

import msgspec

from server.ops.loadtest.spread import Spread

MEASURES = {
    "first_token": "from the start's call to the first token",
    "gap": "between one token and the next, pauses and drops left out",
    "end_to_end": "from when the model was to say a token until it was read, pauses left out",
    "pause": "from the pause's call to the last token before it held",
    "pause_answer": "from the pause's call to its answer",
    "resume": "from the resume's call to the next token",
    "abort": "from the abort's call to the final event",
    "abort_answer": "from the abort's call to its answer: the upstream is closed",
    "reconnect": "from a dropped connection to the next token",
    "lag": "by how much the load test itself was late",
}
EXAMPLES = 20
"""Findings of one kind that are kept word for word."""


class Findings(msgspec.Struct):
    """What was wrong in one way: how often, and some examples."""

    count: int = 0
    examples: list[str] = msgspec.field(default_factory=list)


class Second(msgspec.Struct):
    """One second of the run."""

    tokens: int = 0
    viewers: int = 0
    late: float = 0.0


class Tally(msgspec.Struct):
    """Counts, spreads and findings; `cpu` has each process' share of a core, tick by tick."""

    counts: dict[str, int] = msgspec.field(default_factory=dict)
    spreads: dict[str, Spread] = msgspec.field(default_factory=dict)
    findings: dict[str, Findings] = msgspec.field(default_factory=dict)
    seconds: dict[int, Second] = msgspec.field(default_factory=dict)
    cpu: dict[str, list[float]] = msgspec.field(default_factory=dict)
    over: bool = False

    def add(self, name: str, n: int = 1) -> None:
        """Count something."""
        self.counts[name] = self.counts.get(name, 0) + n

    def count(self, name: str) -> int:
        """Return how often it was counted."""
        return self.counts.get(name, 0)

    def spread(self, name: str) -> Spread:
        """Return the durations of one of the `MEASURES`."""
        return self.spreads.setdefault(name, Spread())

    def find(self, what: str, detail: str) -> None:
        """Note what should not be."""
        findings = self.findings.setdefault(what, Findings())
        findings.count += 1
        if len(findings.examples) < EXAMPLES:
            findings.examples.append(detail)

    def second(self, at: float) -> Second:
        """Return the record of second `at` of the run."""
        return self.seconds.setdefault(int(at), Second())

    @property
    def wrong(self) -> int:
        """How much was found."""
        return sum(findings.count for findings in self.findings.values())


def merged(tallies: Iterable[Tally]) -> Tally:
    """Add several up."""
    total = Tally(over=True)
    for tally in tallies:
        total.over &= tally.over
        for name, n in tally.counts.items():
            total.add(name, n)
        for name, spread in tally.spreads.items():
            total.spread(name).merge(spread)
        for what, findings in tally.findings.items():
            mine = total.findings.setdefault(what, Findings())
            mine.count += findings.count
            mine.examples = [*mine.examples, *findings.examples][:EXAMPLES]
        for at, second in tally.seconds.items():
            here = total.second(at)
            here.tokens += second.tokens
            here.viewers += second.viewers
            here.late = max(here.late, second.late)
        total.cpu.update(tally.cpu)
    return total
