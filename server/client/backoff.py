"""How long to wait before the next try (pure but for its dice)."""

import random

LEAST, MOST = 0.2, 5.0


class Backoff:
    """Waits with full jitter: anything up to a limit that doubles, lest a crowd comes back as one."""

    def __init__(self, dice: random.Random | None = None) -> None:
        self._dice = dice or random.Random()
        self.tries = 0

    def next(self, least: float | None = None) -> float:
        """Return the seconds to wait; never less than what the server asked for."""
        limit = min(MOST, LEAST * 2 ** min(self.tries, 20))
        self.tries += 1
        return (least or 0.0) + self._dice.uniform(0.0, limit)

    def reset(self) -> None:
        """Begin anew: something came through."""
        self.tries = 0
