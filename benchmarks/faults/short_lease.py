"""Import it to make leases expire soon, so that a paused owner is succeeded within seconds."""

from __future__ import annotations

from benchmarks.faults.local import LEASE_SECONDS
from flatvq.train import lease

__all__: list[str] = []

lease.TIMING = lease.Timing(beat=LEASE_SECONDS / 6, expiry=LEASE_SECONDS)
