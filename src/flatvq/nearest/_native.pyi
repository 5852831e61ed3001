"""Types of the extension module that `native/bindings.cpp` defines."""

from enum import Enum

class Matrix:
    def __init__(self, values: int, rows: int, columns: int) -> None: ...

class Kernels:
    @property
    def name(self) -> str: ...
    @property
    def supported(self) -> bool: ...

class Method(Enum):
    AUTOMATIC = 0
    ALL_CODES = 1
    TREE = 2

class CodeRange(Enum):
    UNCLEAR = 0
    AS_IS = 1
    OFFSET = 2

KERNELS: list[Kernels]

def search(
    kernels: Kernels, method: Method, vectors: Matrix, codes: Matrix, threads: int, nearest: int
) -> float: ...
def search_and_look_up(
    kernels: Kernels,
    method: Method,
    vectors: Matrix,
    codes: Matrix,
    threads: int,
    nearest: int,
    original_vectors: Matrix,
    original_codes: Matrix,
    code_vectors: int,
    error: int,
) -> float: ...
def code_range(
    kernels: Kernels, codes: Matrix, least: float, most: float, deviations: float, medians: int
) -> CodeRange: ...
def add_to_sums(vectors: Matrix, codes: int, threads: int, sums: int) -> None: ...
