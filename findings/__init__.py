"""docs/findings.md and its figures, from the committed records of results/: `make findings`."""
