"""The newest occurrences of each error, without personal data: when, and of which package."""

from __future__ import annotations

from bisect import insort
from typing import Final

from metrics_service.state.truncate import MAX_ID_BYTES, truncate
from protos.metrics.v1 import checkpoint_pb2

MAX_SAMPLES: Final = 5
MAX_SAMPLED: Final = 200
"""Groups of errors with samples; further ones take the place of the group that was seen least
recently.
"""

Key = tuple[str, str, bool, str, str]


class Samples:
    """Up to MAX_SAMPLES (time, package) by group, oldest first."""

    def __init__(self) -> None:
        self.evicted = 0
        # Least recently seen first.
        self._samples: dict[Key, list[tuple[int, str]]] = {}

    def add(self, key: Key, time_us: int, package: str) -> None:
        samples = self._samples.pop(key, None)
        if samples is None:
            samples = []
            if len(self._samples) >= MAX_SAMPLED:
                del self._samples[next(iter(self._samples))]
                self.evicted += 1
        self._samples[key] = samples
        insort(samples, (time_us, truncate(package, MAX_ID_BYTES)))
        if len(samples) > MAX_SAMPLES:
            del samples[0]

    def forget_after(self, now_us: int) -> None:
        """Drop samples after now, when the clock went back: a wrong one had dated them ahead."""
        for key, samples in [*self._samples.items()]:
            self._samples[key] = [each for each in samples if each[0] <= now_us]
            if not self._samples[key]:
                del self._samples[key]

    def of(self, key: Key) -> list[tuple[int, str]]:
        """Return the samples of a group, newest first."""
        return self._samples.get(key, [])[::-1]

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.ErrorSamples."""
        return checkpoint_pb2.ErrorSamples(
            samples=[
                checkpoint_pb2.SampledError(
                    reason=reason,
                    kind=kind,
                    counts_as_error=counts,
                    code=code,
                    rpc=rpc,
                    time_us=[time_us for time_us, _ in samples],
                    package=[package for _, package in samples],
                )
                for (reason, kind, counts, code, rpc), samples in self._samples.items()
            ]
        ).SerializeToString()

    def restore(self, data: bytes) -> None:
        """Take back what encode() returned."""
        self._samples = {
            (each.reason, each.kind, each.counts_as_error, each.code, each.rpc): list(
                zip(each.time_us, each.package, strict=True)
            )
            for each in checkpoint_pb2.ErrorSamples.FromString(data).samples
        }
