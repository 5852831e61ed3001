"""Benchmarks of flatvq against the libraries that people use today; `make bench`."""
