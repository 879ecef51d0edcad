"""BDD100K's semantic segmentation: 10,000 dash-cam images of the United States."""

import os.path as osp

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.checks import check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged

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
