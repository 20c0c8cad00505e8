"""Sketches: unique users estimated in 2.5 kB, however many there are, with bounds. Pure.

The sketch is Apache DataSketches' CPC. Of its two estimators, the one for a stream (HIP) depends on the order of the
users, and so on where a process was killed; the one for a union (ICON) depends only on the set of users. So every
sketch here goes through a union before it is read: estimate and bytes are the same in any order, after any repetition,
and however the users were spread over saves, restarts and partitions. The estimate of a growing set never decreases.
"""

from collections import deque
from collections.abc import Iterable
from typing import Self

from datasketches import cpc_sketch, cpc_union

from unique_users.aggregation.counts import DamagedSketchError, Estimate, sketch_checksum

# 4,096 rows: an rms error of 0.69 / sqrt(4,096) = 1.08 %. With 2,048 it is 1.53 %.
LG_K = 12
DEVIATIONS = 2  # how far the bounds are from the estimate: they hold in about 95 of 100 cases


class Sketch:
    """A set of users that only gives an estimate of its size. Adding a user twice changes nothing."""

    def __init__(self) -> None:
        self._sketch = cpc_sketch(LG_K)
        self._is_union = False

    @classmethod
    def from_bytes(cls, data: bytes, checksum: bytes) -> Self:
        """The sketch that `to_bytes` gave. Raises DamagedSketchError.

        The library trusts its input so much that damaged bytes can crash the process. Nothing reaches it unless its
        checksum matches.
        """
        if sketch_checksum(data) != checksum:
            raise DamagedSketchError("the checksum of a sketch does not match")
        sketch = cls()
        try:
            sketch._sketch = cpc_sketch.deserialize(data)
        except (ValueError, RuntimeError, IndexError, MemoryError) as error:
            raise DamagedSketchError(f"not a sketch: {error}") from None
        if sketch._sketch.lg_k != LG_K:
            raise DamagedSketchError(f"a sketch with lg_k {sketch._sketch.lg_k}, not {LG_K}")
        return sketch

    def to_bytes(self) -> bytes:
        """DataSketches' own binary format, the same for the same set of users."""
        data: bytes = self._united().serialize()
        return data

    def add(self, uids: Iterable[str]) -> bool:
        """Add users. Returns whether that changed the sketch."""
        before = self._sketch.get_estimate()  # both estimators rise with every bit that is set
        deque(map(self._sketch.update, uids), maxlen=0)
        changed: bool = self._sketch.get_estimate() != before
        self._is_union = self._is_union and not changed
        return changed

    def merge(self, other: "Sketch") -> None:
        """Add the users of another sketch."""
        self._unite(self._sketch, other._sketch)  # noqa: SLF001 - the same class

    def estimate(self) -> Estimate:
        """How many users were added."""
        union = self._united()
        return Estimate(
            round(union.get_estimate()),
            int(union.get_lower_bound(DEVIATIONS)),  # outwards
            -int(-union.get_upper_bound(DEVIATIONS) // 1),
        )

    def _united(self) -> cpc_sketch:
        if not self._is_union:
            self._unite(self._sketch)
        return self._sketch

    def _unite(self, *sketches: cpc_sketch) -> None:
        union = cpc_union(LG_K)
        for sketch in sketches:
            union.update(sketch)
        self._sketch = union.get_result()
        self._is_union = True
