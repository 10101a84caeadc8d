"""What a stretch of work cost each process."""

import time

from bench.machine import busy
from bench.rig import Rig


class Usage:
    """Counts from its making on."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._began = time.monotonic()
        self._redis = rig.redis_stats()
        self._busy = busy()
        self._before = self._cpu()

    def _cpu(self) -> dict[str, float]:
        rig = self._rig
        parts = {"server": rig.server, "upstream": rig.upstream, "helper": rig.helper}
        used = {name: process.cpu() for name, process in parts.items() if process}
        return used | {"load": time.process_time()}

    def report(self, tokens: int) -> dict[str, float]:
        """Give the cost since then, and a token's share of it."""
        seconds = time.monotonic() - self._began
        used = {name: cpu - self._before[name] for name, cpu in self._cpu().items()}
        everyone = busy() - self._busy
        redis = {name: now - self._redis[name] for name, now in self._rig.redis_stats().items()}
        each = max(tokens, 1)
        report = {
            "tok_s": tokens / seconds,
            "load_share": used["load"] / seconds,
            "other_core": (used["load"] + used.get("helper", 0)) / seconds,
        }
        if "server" in used:
            report["other_core"] += used["upstream"] / seconds
            report |= {
                "cpu_us": used["server"] / each * 1e6,
                "server_share": used["server"] / seconds,
            }
        if redis:
            report["other_core"] += redis["cpu"] / seconds
            report |= {
                "redis_us": redis["cpu"] / each * 1e6,
                "redis_received": redis["received"] / each,
            }
        known = sum(used.values()) + redis.get("cpu", 0)
        return report | {"foreign": max(0.0, everyone - known) / seconds}
