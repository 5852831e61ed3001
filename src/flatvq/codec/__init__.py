"""Compression of images to files, which hold indices that are entropy-coded with a prior.

prior      probabilities of indices (`order-0`, `table`, `network`), all computed with integers
entropy    symbols to bytes, with `constriction`
container  the files `.fvq` and `.fvqs`
codec      images to files and back
"""

from flatvq.codec.codec import Codec, load_codec
from flatvq.codec.container import read_contents

__all__ = ["Codec", "load_codec", "read_contents"]
