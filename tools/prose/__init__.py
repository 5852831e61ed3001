"""`python -m tools.prose`: proselint with the project's own style, over docs, docstrings, comments and messages."""
