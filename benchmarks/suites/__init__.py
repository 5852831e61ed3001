"""What is measured, one suite a module; each runs in its own process (benchmarks/child.py)."""
