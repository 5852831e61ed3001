"""Build settings that depend on the environment; everything else is in pyproject.toml.

FLATVQ_NATIVE=0 builds a pure-Python wheel, `py3-none-any`, without the compiled parts.
"""

import os

from setuptools import Distribution, setup


class PureDistribution(Distribution):
    """A distribution whose extension modules are not built."""

    def has_ext_modules(self) -> bool:
        """Return False: build commands and the wheel's tag depend on it."""
        return False


setup(distclass=PureDistribution if os.environ.get("FLATVQ_NATIVE") == "0" else Distribution)
