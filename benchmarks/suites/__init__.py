"""What is measured, one suite a module; each runs in a process of its own (benchmarks/child.py)."""
