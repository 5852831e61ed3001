"""The extension modules. Everything else about the package is in pyproject.toml.

Both are optional: without a C++ compiler flatvq is installed as pure Python, and slower code replaces them.
FLATVQ_NATIVE=0 builds a pure-Python wheel, `py3-none-any`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nanobind
from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "src/flatvq/nearest/native"
# nanobind's own code needs this; it also lets the kernels read floats as vectors.
FLAGS = ["-std=c++17", "-O3", "-g0", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wno-psabi"]
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]  # Apple's compiler has no OpenMP


class BuildWithNanobind(build_ext):
    """Compile nanobind's library into the extension that uses it."""

    def build_extension(self, ext: Extension) -> None:
        """Add nanobind's source file, which lies outside the source tree and so not in `ext.sources`."""
        own = ext.sources
        if ext.name == "flatvq.nearest._native":
            ext.sources = [*own, str(Path(nanobind.source_dir()) / "nb_combined.cpp")]
        try:
            super().build_extension(ext)
        finally:
            ext.sources = own


class PureDistribution(Distribution):
    """A distribution whose extension modules are not built."""

    def has_ext_modules(self) -> bool:
        """Return False: build commands and the wheel's tag depend on it."""
        return False


setup(
    distclass=PureDistribution if os.environ.get("FLATVQ_NATIVE") == "0" else Distribution,
    cmdclass={"build_ext": BuildWithNanobind},
    ext_modules=[
        Extension(
            "flatvq.data.native._part",
            sources=["src/flatvq/data/native/part.cpp"],
            depends=["src/flatvq/data/native/libjpeg.h"],
            language="c++",
            extra_compile_args=["-std=c++17", "-O2"],
            libraries=["dl"],
            optional=True,
        ),
        Extension(
            "flatvq.nearest._native",
            sources=sorted(str(path) for path in Path(NATIVE).glob("*.cpp")),
            depends=sorted(str(path) for path in Path(NATIVE).glob("*.h")),
            include_dirs=[
                nanobind.include_dir(),
                str(Path(nanobind.source_dir()).parent / "ext" / "robin_map" / "include"),
            ],
            define_macros=[("NDEBUG", None), ("NB_COMPACT_ASSERTIONS", None)],
            language="c++",
            extra_compile_args=[*FLAGS, *OPENMP],
            extra_link_args=OPENMP,
            optional=True,
        ),
    ],
)
