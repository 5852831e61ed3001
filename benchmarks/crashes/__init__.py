"""The crash matrix: commands killed at each of their writes, and run again.

The writes are counted, not timed: a small library (kill_at_write.c) stands between the program and the
system, numbers each call that changes a file of the program's folder, and kills the program at one of them.
"""
