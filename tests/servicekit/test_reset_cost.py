"""What docs/failures.md says of calls that are begun and not finished: gRPC bounds only what piles
up, and here they take little more than what gRPC itself takes.
"""

from __future__ import annotations

import pytest

from tests.bench import resets

pytestmark = [pytest.mark.processes, pytest.mark.full]

MAX_RATIO = 3.0


async def test_calls_take_little_more_cpu_than_of_a_server_of_grpc_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, bare = await resets.measured(rounds=1)
    with capsys.disabled():
        print(f"us of CPU: {ours} here, {bare} of gRPC alone")
    assert max(ours.empty, ours.whole) < ours.answered
    assert all(our < MAX_RATIO * its for our, its in zip(ours, bare, strict=True))
