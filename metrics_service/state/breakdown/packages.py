"""What is known of packages: events that name a package alone are counted under its type, location
and vendor too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from metrics_service.state.truncate import truncate
from protos.metrics.v1 import checkpoint_pb2
from protos.tracking.v1 import event_pb2

MAX_KNOWN: Final = 5_000
"""The packages seen most recently that are always known; at most twice as many are held."""
MAX_KEY_BYTES: Final = 64
"""Longer ids and names are cut."""

_TABLE: Final = "packages"


class Group(NamedTuple):
    """The keys that an event of a package counts under, one for each dimension."""

    package: str
    package_type: str
    location: str
    vendor: str


Groups: TypeAlias = tuple[Group, ...]
OTHER: Final = "\x00"
"""The key of what has no key of its own."""
OTHER_GROUP: Final = Group(OTHER, OTHER, OTHER, OTHER)


Described: TypeAlias = event_pb2.BookingFact | event_pb2.PaymentFact | event_pb2.PackageViewed


class KnownPackages:
    """The groups of packages, in two generations: when the newer is full, the older is dropped.
    Each is kept in a tuple of its own, which all actors with this package alone share.
    """

    tables = (_TABLE,)

    def __init__(self) -> None:
        self._newer: dict[str, Groups] = {}
        self._older: dict[str, Groups] = {}

    def of(self, package: str, kind: str = "", location: str = "", vendor: str = "") -> Groups:
        """Return the group of a package, with what was last said of it; () for no package."""
        if not package:
            return ()
        if len(package) > MAX_KEY_BYTES // 4:
            package = truncate(package, MAX_KEY_BYTES)
        known = self._newer.get(package)
        if known is None:
            known = self._older.get(package)
            if known is None:
                known = (Group(package, "", "", ""),)
            if len(self._newer) >= MAX_KNOWN:
                self._older, self._newer = self._newer, {}
            self._newer[package] = known
        if kind or location or vendor:
            group = known[0]
            if (kind, location, vendor) != group[1:]:
                cut = [truncate(each, MAX_KEY_BYTES) for each in (kind, location, vendor)]
                if tuple(cut) != group[1:]:
                    known = self._newer[package] = (Group(package, *cut),)
        return known

    def of_body(self, body: Described) -> Groups:
        """Return the group of the package that an event describes."""
        return self.of(body.package_id, body.package_type, body.location, body.vendor_id)

    def known(self, package: str) -> Groups:
        """Return the group of a package that was named by other events before; else ()."""
        package = truncate(package, MAX_KEY_BYTES)
        return self._newer.get(package) or self._older.get(package, ())

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint."""
        for number, known in enumerate((self._older, self._newer)):
            groups = [group for (group,) in known.values()]
            yield _TABLE, number, write_groups(groups).SerializeToString()

    def load(self, _section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump()."""
        groups = read_groups(checkpoint_pb2.PackageGroups.FromString(data))
        (self._newer if bucket else self._older).update(
            (group.package, (group,)) for group in groups
        )


def write_groups(groups: Sequence[Group]) -> checkpoint_pb2.PackageGroups:
    """Return groups as columns."""
    return checkpoint_pb2.PackageGroups(
        package=[group.package for group in groups],
        package_type=[group.package_type for group in groups],
        location=[group.location for group in groups],
        vendor=[group.vendor for group in groups],
    )


def read_groups(message: checkpoint_pb2.PackageGroups) -> list[Group]:
    """Return the groups of columns."""
    columns = message.package, message.package_type, message.location, message.vendor
    return list(map(Group, *columns))
