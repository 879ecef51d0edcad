"""Six street classes on the images of CamVid, LabelMeFacade, Cityscapes or ACDC."""

from mmseg.registry import DATASETS

from mmseg_dafm.datasets.sequence_folders import SequenceFolderDataset
from mmseg_dafm.datasets.street_classes import SOURCE_NUM_IDS, STREET_CLASSES, STREET_PALETTE, street_label_map


@DATASETS.register_module()
class StreetSixDataset(SequenceFolderDataset):
    """Road, pavement, building, vegetation, sky and car, whatever set the images come from.

    Images and labels stay where they are; ids are mapped when a label is loaded (``street_classes.py`` lists the maps).
    Sets of different sources have equal meta information, so a ``ConcatDataset`` joins them.

    Args:
        source: whose ids the label files hold: ``'camvid'``, ``'labelmefacade'`` or ``'cityscapes'`` (trainIds; for
            ACDC too). For the last, give ``data_prefix``, ``img_suffix`` and ``seg_map_suffix`` as well.
        **kwargs: ``sequences``, ``domain``, ``check_ids``, ``drop_unlabelled`` and the arguments of
            :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        ValueError: ``source`` is unknown.
    """

    METAINFO = {'classes': STREET_CLASSES, 'palette': STREET_PALETTE}

    def __init__(self, source: str, lazy_init: bool = False, **kwargs) -> None:
        self.source = source
        source_map = street_label_map(source)
        super().__init__(lazy_init=True, **kwargs)
        # A narrower choice of classes (metainfo) maps the six once more.
        chosen = self.label_map or {}
        # The meta information keeps no source map: a ConcatDataset demands that it is equal in all its sets.
        self.label_map = {old: chosen.get(new, new) for old, new in source_map.items()}
        if not lazy_init:
            self.full_init()

    @property
    def num_file_ids(self) -> int:
        """Number of ids that the label files of ``source`` define."""
        return SOURCE_NUM_IDS[self.source]
