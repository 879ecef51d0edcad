"""Files that exist only as an address: ``toydrive://`` images and labels are drawn when they are read.

mmengine's file interface finds the backend by the prefix, so mmseg's own loading transforms, its visualization hook and
its tools read toy scenes like any other files.
"""

import re
import zlib
from functools import lru_cache

import cv2
import numpy as np
from mmengine.fileio import BaseStorageBackend, register_backend

from mmseg_dafm.datasets.toydrive.conditions import CONDITIONS, apply_condition
from mmseg_dafm.datasets.toydrive.scene import draw_scene

PREFIX = 'toydrive'
ADDRESS = re.compile(r'toydrive://(?P<seed>\d+)/(?P<height>\d+)x(?P<width>\d+)/(?P<kind>\w+)/(?P=kind)_(?P<layout>\d+)\.png')

# The label follows its image, and the conditions of a layout follow each other: a few scenes are enough.
cached_scene = lru_cache(maxsize=8)(draw_scene)


def drawn_path(seed: int, size: tuple[int, int], kind: str, layout: int) -> str:
    """Address of a drawn file.

    Args:
        seed: seed of the set, 0 or more.
        size: (H, W) in pixels.
        kind: a condition, or ``'label'``.
        layout: number of the street, 0 or more.
    """
    return f'{PREFIX}://{seed}/{size[0]}x{size[1]}/{kind}/{kind}_{layout:06d}.png'


def draw_path(path: str) -> np.ndarray:
    """Draw what an address of :func:`drawn_path` names.

    Returns:
        (H, W, 3) uint8 BGR, or (H, W) uint8 ids for a label.

    Raises:
        ValueError: ``path`` is no such address.
    """
    match = ADDRESS.fullmatch(path)
    if match is None:
        raise ValueError(
            f'{path} is no address of a toy scene; expected toydrive://<seed>/<H>x<W>/<kind>/<kind>_<number>.png '
            f'with kind one of {", ".join(CONDITIONS)}, label.'
        )
    seed, layout, kind = int(match['seed']), int(match['layout']), match['kind']
    scene = cached_scene((seed, layout), (int(match['height']), int(match['width'])))
    if kind == 'label':
        return scene.label
    # The condition's chance depends on its name, not on the list that it was part of.
    rng = np.random.default_rng([seed, layout, zlib.crc32(kind.encode())])
    return apply_condition(scene, kind, rng)


@register_backend('toydrive', prefixes=PREFIX, force=True)
class ToyDriveBackend(BaseStorageBackend):
    """mmengine's file backend for ``toydrive://`` addresses; read-only."""

    def get(self, filepath: str) -> bytes:
        """Return the PNG file that ``filepath`` names."""
        # Compression costs more than the drawing, and nothing is stored.
        return cv2.imencode('.png', draw_path(str(filepath)), [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Refuse: a drawn file is a picture."""
        raise TypeError(f'{filepath} is a picture, not a text.')

    def exists(self, filepath: str) -> bool:
        """Tell whether ``filepath`` is an address that can be drawn."""
        match = ADDRESS.fullmatch(str(filepath))
        return match is not None and match['kind'] in (*CONDITIONS, 'label')
