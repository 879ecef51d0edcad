"""Images without a label file: refused, or left out where the user says so."""

import logging
import os

from mmengine.logging import print_log

from mmseg_dafm.datasets.domain_tagged import DomainTagged


class LabelsRequired(DomainTagged):
    """Mixin for :class:`mmseg.datasets.BaseSegDataset`: a :class:`DomainTagged` that looks for every label when it is built.

    Args:
        drop_unlabelled: leave images without a label out, with a warning, instead of refusing the set.
        **kwargs: arguments of :class:`DomainTagged` and of the data set.

    Raises:
        ValueError: an image has no label and ``drop_unlabelled`` is off, or no image has one.
    """

    def __init__(self, *args, drop_unlabelled: bool = False, **kwargs) -> None:
        self.drop_unlabelled = drop_unlabelled
        super().__init__(*args, **kwargs)

    @property
    def remedy(self) -> str:
        """What to do where labels are missing."""
        return 'complete the labels'

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the images whose label is there."""
        data_list = super().select(data_list)
        if self.backend_args is not None or not all('seg_map_path' in info for info in data_list):
            return data_list
        # one listing per folder: 25,000 single questions take minutes on a network disk
        folders = {os.path.dirname(info['seg_map_path']) for info in data_list}
        present = {os.path.join(folder, name) for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}
        missing = [info['seg_map_path'] for info in data_list if info['seg_map_path'] not in present]
        if not missing:
            return data_list
        counted = f'{type(self).__name__}: {len(missing)} of {len(data_list)} images have no label file'
        if len(missing) == len(data_list) or not self.drop_unlabelled:
            hint = '' if len(missing) == len(data_list) else ', or set drop_unlabelled=True to leave these images out'
            raise ValueError(f'{counted}, the first is {missing[0]}: {self.remedy}{hint}.')
        print_log(f'{counted} and are left out', 'current', logging.WARNING)
        return [info for info in data_list if info['seg_map_path'] in present]
