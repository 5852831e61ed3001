"""Registries: named objects that flatvq, installed packages and programs provide.

An installed package adds an object by an entry point, whose group belongs to the registry:

    [project.entry-points."flatvq.metrics"]
    max_error = "my_package.metric:MAX_ERROR"

flatvq then finds the object in every process, and imports its module when the object is first used. A program
calls `Registry.register`, which adds an object to its own process only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

from flatvq.errors import FlatvqError, UnknownNameError, suggestion

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Maps names to objects of one kind, from flatvq, from installed packages and from this program.

    Args:
        kind: the kind of the objects, as a noun for error messages.
        group: the group of entry points by which packages add objects.
        entries: the objects of flatvq by name, or references to them, such as `flatvq.data:open_data`. A
            reference is resolved when its object is first used.

    Example:
        >>> shapes = Registry("shape", "flatvq.shapes", {"square": 4, "circle": "math:tau"})
        >>> shapes.register("triangle", 3)
        >>> list(shapes), shapes["square"], round(shapes["circle"], 2)
        (['square', 'circle', 'triangle'], 4, 6.28)
    """

    def __init__(self, kind: str, group: str, entries: Mapping[str, T | str]) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, T | EntryPoint] = {
            name: EntryPoint(name, entry, group) if isinstance(entry, str) else entry
            for name, entry in entries.items()
        }
        self._has_installed = False

    def register(self, name: str, entry: T) -> None:
        """Add an object for this process.

        Args:
            name: its name.
            entry: the object.

        Raises:
            FlatvqError: if the registry has an object of this name.
        """
        if name in self._all():
            what = f"there is already a {self.kind} named {name!r}"
            raise FlatvqError(what, "choose another name, or unregister it first")
        self._entries[name] = entry

    def unregister(self, name: str) -> None:
        """Remove an object from this process, for example to register a new version of it in a notebook.

        Args:
            name: its name.

        Raises:
            FlatvqError: if the registry has no object of this name.
        """
        if name not in self._all():
            raise FlatvqError(f"no {self.kind} is named {name!r}", suggestion(name, self._all()))
        del self._entries[name]

    def known(self, name: str) -> str:
        """Check that the registry has a name, and return it.

        Args:
            name: the name.

        Raises:
            UnknownNameError: if it has no such name. The message suggests the closest one.
        """
        if name not in self._all():
            raise UnknownNameError(f"no {self.kind} is named {name!r}", suggestion(name, self._all()))
        return name

    def __getitem__(self, name: str) -> T:
        entry = self._all()[name]
        if isinstance(entry, EntryPoint):
            entry = self._entries[name] = cast("T", self._load(entry))
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T | EntryPoint]:
        """Return all entries, including the entries of installed packages."""
        if not self._has_installed:
            self._has_installed = True
            for point in _installed().select(group=self.group):
                if point.name in self._entries:
                    what = f"{_package(point)} provides another {self.kind} named {point.name!r}"
                    raise FlatvqError(what, "uninstall it, or rename its entry point")
                self._entries[point.name] = point
        return self._entries

    def _load(self, point: EntryPoint) -> object:
        try:
            return point.load()
        except Exception as error:
            if point.dist is None:  # an object of flatvq
                raise
            reason = f"{type(error).__name__}: {error}"
            what = f"cannot load the {self.kind} {point.name!r} of {_package(point)} ({reason})"
            raise FlatvqError(what, "repair or uninstall the package") from error


@cache
def _installed() -> Any:
    """Return the entry points of all installed packages; reading them takes tens of milliseconds."""
    return entry_points()


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name!r}" if point.dist else "a package"
