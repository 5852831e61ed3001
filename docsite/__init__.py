"""The documentation site: what MkDocs generates from the code, and how links leave the site.

`make docs` builds it. A line `<!-- generated: NAME -->` in a page is replaced by what
`docsite.hooks` generates.
"""
