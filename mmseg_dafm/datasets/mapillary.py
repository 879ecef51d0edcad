"""Mapillary Vistas in the 19 classes of Cityscapes."""

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.checks import check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged

MAPILLARY_SPLITS = ('training', 'validation')


@DATASETS.register_module()
class TaggedMapillaryDataset(DomainTagged, CityscapesDataset):
    """Mapillary Vistas v1.2 in 19 classes, 18,000 images to train and 2,000 to validate, of many sizes.

    Layout: ``<split>/images/*.jpg`` and ``<split>/train_ids/*.png``, or ``half/<split>/images`` and ``half/<split>/train_ids`` at
    half the size. ``python tools/dataset_converters/mapillary.py ROOT [--half]`` writes them from the release's 65 classes
    (the table is in ``nineteen_classes.py``).

    Args:
        split: ``'training'`` or ``'validation'``.
        half: take images and labels of half the size, as Rein and the papers after it do.
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: the split is unknown, or a folder or labels are missing.

    Source: Neuhold et al., "The Mapillary Vistas Dataset", ICCV 2017.
    """

    LAYOUT = '<split>/images/*.jpg and <split>/train_ids/*.png, by tools/dataset_converters/mapillary.py (--half: below half/)'

    def __init__(
        self,
        split: str = 'validation',
        half: bool = False,
        domain: str | None = 'mapillary',
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        check_split(split, MAPILLARY_SPLITS, 'TaggedMapillaryDataset')
        self.half = half
        folder = f'half/{split}' if half else split
        super().__init__(
            domain=domain,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or {'img_path': f'{folder}/images', 'seg_map_path': f'{folder}/train_ids'},
            **kwargs,
        )

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels with python tools/dataset_converters/mapillary.py ROOT' + ' --half' * self.half
