"""Judges a history: what broke which rule, and which rules had nothing to judge (pure)."""

from dataclasses import dataclass

from tests.chaos.ends import ENDS
from tests.chaos.history import History
from tests.chaos.rules import RULES, Violation


@dataclass(frozen=True)
class Verdict:
    """All violations, and how many things each rule has judged."""

    violations: tuple[Violation, ...]
    judged: dict[str, int]

    @property
    def silent(self) -> tuple[str, ...]:
        """The rules that never fired."""
        return tuple(name for name, count in self.judged.items() if not count)


def judge(history: History) -> Verdict:
    """Apply every rule."""
    violations, judged = [], {}
    for name, rule in (RULES | ENDS).items():
        findings = list(rule(history))
        judged[name] = len(findings)
        violations += [found for found in findings if found is not None]
    return Verdict(tuple(violations), judged)
