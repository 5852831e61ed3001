"""The commands, one module per group. Importing this package registers them with the application.

Heavy libraries are imported inside the commands, so that `flatvq --help` stays fast.
"""

from importlib import import_module

from flatvq.cli.app import app

__all__ = ["app"]

# In the order of `flatvq --help`.
for _group in ("studies", "runs", "search", "recipes"):
    import_module(f"{__name__}.{_group}")
