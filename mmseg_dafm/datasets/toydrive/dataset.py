"""ToyDrive: a street data set that is drawn instead of downloaded."""

from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.street_classes import STREET_CLASSES, STREET_PALETTE
from mmseg_dafm.datasets.toydrive.conditions import CONDITIONS
from mmseg_dafm.datasets.toydrive.drawn_files import drawn_path


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
