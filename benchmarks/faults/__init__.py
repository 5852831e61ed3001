"""Faults during a study: each ends with the record of a study that nothing disturbed.

    sites.py             what a study runs on: local.py (this machine), slurm.py and ray.py (small clusters)
    disk.py              a small disk that can be filled and made read-only
    table.py             the faults of each site
    study.py, checks.py  a study with a fault, and what may be wrong after it
    record.py            results/faults.json

`python -m benchmarks.faults --on slurm --count 60` disturbs studies at random instants, and adds them to the
record.
"""
