"""CamVid, the Cambridge driving videos, in the eleven classes of SegNet's authors."""

from mmseg.registry import DATASETS

from mmseg_dafm.datasets.sequence_folders import SequenceFolderDataset


@DATASETS.register_module()
class CamVidDataset(SequenceFolderDataset):
    """CamVid in eleven classes: ``img_dir/<sequence>/*.jpg``, ``ann_dir/<sequence>/*.png``, 8-bit ids, 255 ignored.

    The sequences are recorded by day and at dusk, which makes a small real domain shift: train on
    ``sequences=('day_0016E5', 'day_0006R0')``, test on ``sequences=('dusk_0001TP',)``. The customary lists are taken
    as ``ann_file='splits/train.txt'``; they mix day and dusk, and ``sequences`` narrows them down.

    Args:
        **kwargs: ``sequences``, ``domain``, ``check_ids``, ``drop_unlabelled`` and the arguments of
            :class:`mmseg.datasets.BaseSegDataset`.

    Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", PRL 2009; labels in the eleven classes of
    Badrinarayanan et al., "SegNet", TPAMI 2017.
    """

    METAINFO = {
        'classes': (
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign symbol',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        'palette': [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }
