"""Benchmarks of flatvq beside what people use today; `make bench`."""
