"""Faults of a cluster during a study: each ends with the record of an undisturbed study on one machine.

`python -m benchmarks.faults` starts a small Slurm cluster, disturbs studies at random instants, and writes
results/faults.json.
"""
