"""Programs that tests of the full tier need and no wheel brings: .ci/setup installs them."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """The path of a program. Without it the test fails under CI=true and is skipped elsewhere."""
    path = shutil.which(name)
    if path is not None:
        return path
    message = f"{name} is not installed; .ci/setup installs it on Debian"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
