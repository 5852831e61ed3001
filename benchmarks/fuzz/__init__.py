"""Mutated files for every reader of outside bytes: a reader accepts or refuses them, and does nothing else.

A target is one reader, called as the program calls it. Its inputs are valid files that flatvq and Pillow
wrote (`corpus`), changed by random mutations (`mutations`). All randomness follows from the target, a seed
and the number of the input, so that one command repeats an input (`__main__`).

Allowed outcomes: the reader accepts the input, or refuses it with a `FlatvqError`; for images also the status
of a file. Everything else is a fault: any other exception, a warning, text on standard error, the death of
the process, more memory or time than `child` allows, and an input that is accepted although a check of the
target shows that it is nonsense.
"""
