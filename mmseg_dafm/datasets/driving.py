"""Driving sets with the classes of Cityscapes: Cityscapes, BDD100K, Mapillary, GTAV, SYNTHIA."""

import os.path as osp

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.checks import check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged


@DATASETS.register_module()
class TaggedCityscapesDataset(DomainTagged, CityscapesDataset):
    """mmseg's ``CityscapesDataset`` whose images carry a domain; missing folders and wrong ids are refused early.

    The labels are the ``*_gtFine_labelTrainIds.png`` files that cityscapesscripts' ``csCreateTrainIdLabelImgs`` writes.

    Args:
        domain: name of the domain.
        **kwargs: ``check_ids``, ``drop_unlabelled`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.
    """

    LAYOUT = 'leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelTrainIds.png'

    def __init__(self, domain: str | None = 'cityscapes', **kwargs) -> None:
        super().__init__(domain=domain, **kwargs)

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels from *_labelIds.png with python tools/dataset_converters/cityscapes.py ROOT'


BDD100K_SPLITS = ('train', 'val')
# image folder, label folder, suffix of the labels: today's download, and the one of 2018
LAYOUTS = (
    ('images/10k/{}', 'labels/sem_seg/masks/{}', '.png'),
    ('seg/images/{}', 'seg/labels/{}', '_train_id.png'),
)


@DATASETS.register_module()
class TaggedBDD100KDataset(DomainTagged, CityscapesDataset):
    """BDD100K in the 19 classes of Cityscapes, 7,000 images to train and 1,000 to validate, 1280 x 720.

    Layout: ``images/10k/<split>/*.jpg`` and ``labels/sem_seg/masks/<split>/*.png`` ("10K Images" and "Segmentation" of the
    download page), or that of 2018, ``seg/images/<split>/*.jpg`` and ``seg/labels/<split>/*_train_id.png``; the one whose
    images are there is taken, the first before the second. The image archives of before June 2021 hold six images without
    labels, two of them in ``val``.

    All labels have 720 rows. A pipeline should load the images with ``color_type='color_ignore_orientation'``, or an image with
    a rotation in its EXIF data is turned away from its label.

    Args:
        split: ``'train'`` or ``'val'``; ``'test'`` has no public labels.
        domain: name of the domain.
        data_root: folder of the data.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`; with
            ``data_prefix``, neither layout is looked for.

    Raises:
        ValueError: the split is unknown, or a folder or labels are missing.

    Source: Yu et al., "BDD100K", CVPR 2020; the 19 ids are Cityscapes' train ids.
    """

    LAYOUT = 'images/10k/<split>/*.jpg and labels/sem_seg/masks/<split>/*.png'

    def __init__(
        self,
        split: str = 'val',
        domain: str | None = 'bdd100k',
        data_root: str | None = None,
        **kwargs,
    ) -> None:
        check_split(split, BDD100K_SPLITS, 'TaggedBDD100KDataset')
        if not kwargs.get('data_prefix'):
            present = [layout for layout in LAYOUTS if osp.isdir(osp.join(data_root or '', layout[0].format(split)))]
            images, labels, suffix = (present or LAYOUTS)[0]
            kwargs['data_prefix'] = {'img_path': images.format(split), 'seg_map_path': labels.format(split)}
            kwargs['seg_map_suffix'] = suffix
        kwargs.setdefault('seg_map_suffix', '.png')
        kwargs.setdefault('img_suffix', '.jpg')
        super().__init__(domain=domain, data_root=data_root, **kwargs)


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


@DATASETS.register_module()
class GTAVDataset(DomainTagged, CityscapesDataset):
    """GTAV in the 19 classes of Cityscapes, all 24,966 images of about 1914 x 1052.

    Layout: ``images/00001.png`` and ``labels/00001_labelTrainIds.png``. The release has ``labels/00001.png`` with Cityscapes'
    label ids; ``python tools/dataset_converters/gtav.py ROOT`` writes the others beside them. It leaves out the few labels
    whose size is not that of their image, which ``drop_unlabelled=True`` then leaves out of the set.

    Args:
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: a folder or labels are missing.

    Source: Richter, Vineet, Roth, Koltun, "Playing for Data", ECCV 2016.
    """

    LAYOUT = 'images/*.png and labels/*_labelTrainIds.png'

    def __init__(
        self,
        domain: str | None = 'gtav',
        img_suffix: str = '.png',
        seg_map_suffix: str = '_labelTrainIds.png',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            domain=domain,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or {'img_path': 'images', 'seg_map_path': 'labels'},
            **kwargs,
        )

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels with python tools/dataset_converters/gtav.py ROOT'


@DATASETS.register_module()
class SYNTHIADataset(DomainTagged, CityscapesDataset):
    """SYNTHIA-RAND-CITYSCAPES in the 19 classes of Cityscapes, all 9,400 images of 1280 x 760.

    Layout: ``RGB/0000000.png`` and ``GT/LABELS/0000000_labelTrainIds.png``. The release has ``GT/LABELS/0000000.png``, 16-bit
    images with SYNTHIA's id in the first channel and the instance in the second; ``python tools/dataset_converters/synthia.py
    ROOT`` writes the others beside them.

    Three of the classes never occur: terrain, truck and train. A network trained on SYNTHIA alone scores 0 there, and papers
    that report "16 classes" leave these columns out of the mean.

    Args:
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: a folder or labels are missing.

    Source: Ros et al., "The SYNTHIA Dataset", CVPR 2016.
    """

    LAYOUT = 'RGB/*.png and GT/LABELS/*_labelTrainIds.png'

    def __init__(self, domain: str | None = 'synthia', **kwargs) -> None:
        kwargs.setdefault('img_suffix', '.png')
        kwargs.setdefault('seg_map_suffix', '_labelTrainIds.png')
        kwargs.setdefault('data_prefix', {'img_path': 'RGB', 'seg_map_path': 'GT/LABELS'})
        super().__init__(domain=domain, **kwargs)

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels with python tools/dataset_converters/synthia.py ROOT'
