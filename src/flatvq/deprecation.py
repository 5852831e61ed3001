"""Old names, which work for one minor version with a `DeprecationWarning` that states the new name."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flatvq.errors import FlatvqError

__all__ = ["REMOVED_IN", "HideRenamed", "renamed_arguments", "renamed_attribute", "renamed_exports"]

REMOVED_IN = "0.3"
"""The version that removes the old names."""

F = TypeVar("F", bound=Callable[..., Any])


def _warn(old: str, new: str) -> None:
    # Three frames up: this function, its caller, and the code of the user.
    warnings.warn(f"{old} is now {new}; flatvq {REMOVED_IN} removes it", DeprecationWarning, stacklevel=3)


def renamed_attribute(old: str, new: str) -> Any:
    """Return a property that reads and writes an attribute or method under its old name.

    Args:
        old: the old name.
        new: the current name.

    Example:
        >>> class Box:
        ...     width = 2
        ...     size = renamed_attribute("size", "width")
        >>> import pytest
        >>> with pytest.warns(DeprecationWarning, match="Box.size is now Box.width"):
        ...     Box().size
        2
    """

    def read(owner: Any) -> Any:
        name = type(owner).__name__
        _warn(f"{name}.{old}", f"{name}.{new}")
        return getattr(owner, new)

    def write(owner: Any, value: Any) -> None:
        name = type(owner).__name__
        _warn(f"{name}.{old}", f"{name}.{new}")
        setattr(owner, new, value)

    return _Renamed(read, write, doc=f"Deprecated name of `{new}`.")


class _Renamed(property):
    """An old name of an attribute."""


class HideRenamed:
    """Base class whose `dir` omits old names, so that tools which read all attributes cause no warnings."""

    def __dir__(self) -> list[str]:
        names = super().__dir__()
        return [name for name in names if not isinstance(getattr(type(self), name, None), _Renamed)]


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Decorate a function so that it also accepts keyword arguments under their old names.

    Args:
        **names: the new names by old name.

    Raises:
        FlatvqError: raised by the decorated function if an argument is passed under both names.

    Example:
        >>> import pytest
        >>> @renamed_arguments(size="width")
        ... def area(width, height):
        ...     return width * height
        >>> with pytest.warns(DeprecationWarning, match="size= is now width="):
        ...     area(size=2, height=3)
        6
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old, new in names.items():
                if old in kwargs:
                    if new in kwargs:
                        raise FlatvqError(f"{old}= and {new}= are the same argument", f"pass {new}= alone")
                    _warn(f"{old}=", f"{new}=")
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def renamed_exports(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module, which exports objects under their old names.

    Args:
        module: the name of the module, `__name__`.
        names: the new names by old name.
    """

    def read(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", f"{module}.{names[name]}")
        return getattr(sys.modules[module], names[name])

    return read
