"""`python -m flatvq` is `flatvq`."""

from flatvq.cli import main

main()
