"""One HTML file in which tokenizers encode and decode a visitor's picture, without a server or a network."""

from flatvq.export.page.assemble import PageParity, write_page
from flatvq.export.page.runtime import Runtime, find_runtime
from flatvq.export.page.subject import PageArm, Subject, subject_of

__all__ = ["PageArm", "PageParity", "Runtime", "Subject", "find_runtime", "subject_of", "write_page"]
