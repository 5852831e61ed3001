"""Engines place commands on clusters and say how they ended. All state is in run folders on a shared disk."""
