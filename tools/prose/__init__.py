"""`python -m tools.prose`: proselint with the style of this project."""
