"""Pack a sample together with its domain."""

import inspect
from collections.abc import Sequence

from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS

DOMAIN_KEYS = ('domain', 'domain_img')
# Read from mmseg, because its releases differ in their defaults.
DEFAULT_KEYS = tuple(inspect.signature(PackSegInputs.__init__).parameters['meta_keys'].default)


@TRANSFORMS.register_module()
class PackDomainInputs(PackSegInputs):
    """``PackSegInputs`` that also carries ``domain`` and ``domain_img`` as meta information.

    Keys that a sample does not have are left out, so the same pipeline serves data sets without domains.

    Args:
        meta_keys: meta information to carry; the default is mmseg's own plus ``'domain'`` and ``'domain_img'``.
    """

    def __init__(self, meta_keys: Sequence[str] = DEFAULT_KEYS + DOMAIN_KEYS) -> None:
        super().__init__(meta_keys=tuple(meta_keys))
