"""How many frames were read, and what became of them. Pure."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class FrameTotals:
    """`read` frames = `accepted` + the sum of `rejected`, which counts by reason."""

    read: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "FrameTotals") -> "FrameTotals":
        return FrameTotals(self.read + other.read, self.accepted + other.accepted, self.rejected + other.rejected)

    def __sub__(self, other: "FrameTotals") -> "FrameTotals":
        return FrameTotals(self.read - other.read, self.accepted - other.accepted, self.rejected - other.rejected)

    def __str__(self) -> str:
        return self.sum_text("accepted")

    def sum_text(self, accepted: str) -> str:
        """The sum in words; `accepted` is the word for the accepted ones."""
        text = f"{self.read:,} frames read = {self.accepted:,} {accepted} + {self.rejected.total():,} rejected"
        if self.rejected:
            text += f" ({', '.join(f'{reason} {n:,}' for reason, n in sorted(self.rejected.items()))})"
        return text
