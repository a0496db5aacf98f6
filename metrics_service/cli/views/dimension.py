"""What figures are split by."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from protos.metrics.v1 import series_pb2


class By(StrEnum):
    """What figures are split by, as an option names it."""

    PACKAGE = "package"
    TYPE = "type"
    LOCATION = "location"
    VENDOR = "vendor"


DIMENSIONS: Final = {
    By.PACKAGE: series_pb2.DIMENSION_PACKAGE,
    By.TYPE: series_pb2.DIMENSION_PACKAGE_TYPE,
    By.LOCATION: series_pb2.DIMENSION_LOCATION,
    By.VENDOR: series_pb2.DIMENSION_VENDOR,
}
