"""Domino on torch alone.

| What | Paper | Function | File |
|---|---|---|---|
| alpha: similarity of an image to the domain descriptions | sec. 2.2 | `domain_alpha` | equations.py |
| W: the domain embedding | sec. 2.2 | `domain_embedding` | equations.py |
| W on the class tokens: add, sub, token | sec. 2.3, Fig. 2 | `fuse_domain` | equations.py |
| domain-adaptive normalisation | eq. 1 | `modulate` | equations.py |
| the image that CLIP sees | sec. 2.2 | `resize_short_side`, `make_square` | image_view.py |

The components that call them: DomainEmbedding (alpha, W), VPDBackbone (fusion), DominoNorm (equation 1).
"""

from mmseg_dafm.domino.equations import FUSE_MODES, domain_alpha, domain_embedding, entropy, fuse_domain, modulate
from mmseg_dafm.domino.image_view import MID, from_bytes, make_square, resize_short_side, to_bytes

__all__ = [
    'FUSE_MODES', 'MID', 'domain_alpha', 'domain_embedding', 'entropy', 'from_bytes', 'fuse_domain', 'make_square', 'modulate',
    'resize_short_side', 'to_bytes',
]  # fmt: skip
