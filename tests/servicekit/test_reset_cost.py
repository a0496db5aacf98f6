"""What docs/failures.md says of calls that are begun and reset: gRPC bounds only what piles up."""

from __future__ import annotations

import pytest

from tests.bench import resets

pytestmark = [pytest.mark.processes, pytest.mark.full]


async def test_a_call_that_is_reset_takes_no_more_cpu_than_one_that_is_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answered_us, empty_us, whole_us = await resets.measured()
    with capsys.disabled():
        print(f"{answered_us:.0f} us answered, {empty_us:.0f} and {whole_us:.0f} us reset")
    assert max(empty_us, whole_us) < answered_us
