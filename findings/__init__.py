"""docs/findings.md and its figures, rendered from the committed records in results/ by `make findings`."""
