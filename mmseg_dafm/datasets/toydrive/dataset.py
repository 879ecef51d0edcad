"""ToyDriveDataset: drawn street scenes as a data set, drawn when they are read."""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from mmengine.fileio import BaseStorageBackend, register_backend
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.classes import STREET_CLASSES, STREET_PALETTE
from mmseg_dafm.datasets.toydrive.scene import CONDITIONS, apply_condition, draw_scene

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


@DATASETS.register_module()
class ToyDriveDataset(BaseSegDataset):
    """Street scenes in six classes and five conditions, drawn on the fly from a seed, with exact labels.

    Sample ``i`` shows street ``i // len(conditions)`` under condition ``i % len(conditions)``: the conditions of a
    street share its layout and its label, so the condition is the only change. Its name is the sample's ``domain``.
    Images and labels are ``toydrive://`` addresses, which the ordinary loading transforms read.

    Args:
        length: number of samples.
        seed: seed of the streets, 0 or more; sets with different seeds have no street in common.
        conditions: which of ``'clear'``, ``'fog'``, ``'night'``, ``'rain'`` and ``'snow'`` are shown.
        size: (H, W) in pixels.
        **kwargs: ``pipeline``, ``test_mode``, ``indices`` and other arguments of
            :class:`mmseg.datasets.BaseSegDataset`; folders and suffixes have no effect.

    Raises:
        ValueError: a condition is unknown, or ``length``, ``seed`` or ``size`` is out of range.
    """

    METAINFO = {'classes': STREET_CLASSES, 'palette': STREET_PALETTE}

    def __init__(
        self,
        length: int = 200,
        seed: int = 0,
        conditions: Sequence[str] = ('clear',),
        size: tuple[int, int] = (128, 256),
        **kwargs,
    ) -> None:
        conditions = (conditions,) if isinstance(conditions, str) else tuple(conditions)
        unknown = [name for name in conditions if name not in CONDITIONS]
        if unknown or not conditions:
            raise ValueError(f'ToyDriveDataset: conditions must be among {CONDITIONS}, got {conditions}.')
        if length < 1 or seed < 0:
            raise ValueError(f'ToyDriveDataset: length must be positive and seed 0 or more, got {length} and {seed}.')
        if len(size) != 2 or min(size) < 32:
            raise ValueError(f'ToyDriveDataset: size must be (H, W), both at least 32 pixels, got {tuple(size)}.')
        self.length, self.seed, self.conditions, self.size = length, seed, conditions, tuple(size)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List the addresses of all samples, each with its ``domain``."""
        return [self.describe(i) for i in range(self.length)]

    def describe(self, index: int) -> dict:
        """The data info of one sample."""
        layout, choice = divmod(index, len(self.conditions))
        condition = self.conditions[choice]
        return {
            'img_path': drawn_path(self.seed, self.size, condition, layout),
            'seg_map_path': drawn_path(self.seed, self.size, 'label', layout),
            'domain': condition,
            'label_map': self.label_map,
            'reduce_zero_label': self.reduce_zero_label,
            'seg_fields': [],
        }
