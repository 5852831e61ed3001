"""Exports a tokenizer and prints the parity: `python exported.py TOKENIZER OUT KIND [IMAGES]`.

It is a process of its own, because the tests check the types of all arguments, which exporters do not allow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flatvq.export import compare_programs, export, folder_batches, load_program, noise_batches
from flatvq.model import load_tokenizer


def main(tokenizer: Path, out: Path, kind: str, *images: Path) -> None:
    """Export and compare."""
    model = load_tokenizer(tokenizer)
    export(model, out, kind)
    batches = folder_batches(model, Path(images[0])) if images else noise_batches(model)
    print(json.dumps(compare_programs(model, load_program(out), batches).to_dict()))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])  # type: ignore[arg-type]
