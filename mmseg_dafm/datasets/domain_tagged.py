"""The mixin that gives every image of a data set the name of its domain, and checks its files."""

import logging
import os.path as osp
from collections.abc import Mapping, Sequence

import mmengine.fileio as fileio
from mmengine.dataset import ConcatDataset
from mmengine.logging import print_log
from mmseg.registry import DATASETS

from mmseg_dafm.core.image_files import refuse_damaged, split_lines
from mmseg_dafm.datasets.checks import check_folder, check_label_ids, check_listed, check_not_empty, find_unlabelled
from mmseg_dafm.datasets.transforms.check_labels import CheckLabels, insert_check, loads_labels


class DomainTagged:
    """Mixin for :class:`mmseg.datasets.BaseSegDataset`: a domain name per image, and checks of images and labels.

    The name lies in each data info under ``domain`` and reaches ``data_sample.domain`` through
    ``PackDomainInputs`` (or ``PackSegInputs`` with ``'domain'`` among its ``meta_keys``), where
    ``DomainIoUMetric`` groups the images by it.

    When the set is built, folders, every listed image and every label must exist. While it is used, :class:`CheckLabels` looks
    at each label right after ``LoadAnnotations``. Labels are not asked for where ``data_prefix`` has no ``seg_map_path``, or a
    pipeline is given and loads none.

    A line of ``ann_file`` is the path of an image below the image folder; blank lines, a byte order mark, backslashes and the
    image suffix are taken away.

    Args:
        domain: name of the domain, e.g. ``'fog'``; None leaves the images without one.
        check_ids: how many of the first label files are read when the set is built; 0 for none.
        drop_unlabelled: leave images without a label file out, with a warning, instead of refusing the set.
        **kwargs: arguments of the data set.

    Raises:
        ValueError: a folder or a file is missing, no image was found, an image has no label and ``drop_unlabelled`` is off,
            or one of the first label files holds ids that the data set does not define.
    """

    LAYOUT = '<img_path>/**/*<img_suffix>'

    def __init__(self, *args, domain: str | None = None, check_ids: int = 3, drop_unlabelled: bool = False, **kwargs) -> None:
        if domain is not None and not isinstance(domain, str):
            raise TypeError(f'{type(self).__name__}: domain must be a string or None, got {domain!r}.')
        if check_ids < 0:
            raise ValueError(f'{type(self).__name__}: check_ids must be 0 or more, got {check_ids}.')
        self.domain = domain
        self.check_ids = check_ids
        if isinstance(kwargs.get('data_root'), str):
            kwargs['data_root'] = osp.expanduser(kwargs['data_root'])
        self.drop_unlabelled = drop_unlabelled
        super().__init__(*args, **kwargs)
        name, num_classes = type(self).__name__, len(self._metainfo['classes'])
        insert_check(self.pipeline, CheckLabels(num_classes, self.ignore_index, name, self.remedy))

    @property
    def num_file_ids(self) -> int:
        """Number of ids that the label files define (before any label map)."""
        return len(type(self).METAINFO.get('classes') or self._metainfo['classes'])

    @property
    def remedy(self) -> str | None:
        """What to do where labels are missing or wrong, where that is more than to complete them: a converter's command."""
        return None

    def load_data_list(self) -> list[dict]:
        """List the images, each with its ``domain``.

        Raises:
            ValueError: the image folder, the list of images or files are missing, or no image was found.
        """
        name, img_dir, local = type(self).__name__, self.data_prefix['img_path'], self.backend_args is None
        if local:
            check_folder(img_dir, self.LAYOUT, name)
            if self.ann_file and not osp.exists(self.ann_file):
                raise ValueError(f'{name}: the list of images {self.ann_file} does not exist; check ann_file.')
        listed = self.ann_file and not osp.isdir(self.ann_file)
        data_list = self.select(self._listed() if listed else super().load_data_list())
        check_not_empty(data_list, img_dir, self.LAYOUT, name)
        if local:
            if listed:
                check_listed(data_list, self.ann_file, self.img_suffix, name)
            data_list = self._labelled(data_list)
        if self.domain is not None:
            for info in data_list:
                info['domain'] = self.domain
        return data_list

    def _listed(self) -> list[dict]:
        """The data infos of ``ann_file``."""
        labels, infos = self.data_prefix.get('seg_map_path'), []
        for line in split_lines(fileio.get(self.ann_file, backend_args=self.backend_args)):
            name = line.removesuffix(self.img_suffix)
            info = {'img_path': osp.join(self.data_prefix['img_path'], name + self.img_suffix)}
            if labels is not None:
                info['seg_map_path'] = osp.join(labels, name + self.seg_map_suffix)
            infos.append({**info, 'label_map': self.label_map, 'reduce_zero_label': self.reduce_zero_label, 'seg_fields': []})
        return infos

    def _labelled(self, data_list: list[dict]) -> list[dict]:
        """The images whose label is there."""
        if self.pipeline.transforms and not loads_labels(self.pipeline):
            return data_list
        missing = find_unlabelled(data_list)
        if not missing:
            return data_list
        remedy = self.remedy or 'complete the labels, or check seg_map_path and seg_map_suffix'
        counted = f'{type(self).__name__}: {len(missing)} of {len(data_list)} images have no label file'
        if len(missing) == len(data_list) or not self.drop_unlabelled:
            hint = '' if len(missing) == len(data_list) else ', or set drop_unlabelled=True to leave these images out'
            raise ValueError(f'{counted}, the first is {missing[0]}: {remedy}{hint}.')
        print_log(f'{counted} and are left out', 'current', logging.WARNING)
        gone = set(missing)
        return [info for info in data_list if info.get('seg_map_path') not in gone]

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the wanted images; a subclass that takes only some of the folders overrides this."""
        return data_list

    def prepare_data(self, idx: int) -> dict:
        """Load a sample; a file that is cut off is named.

        Raises:
            ValueError: the image or the label cannot be decoded.
        """
        info = self.get_data_info(idx)
        files = (info.get('img_path'), info.get('seg_map_path'))
        refuse_damaged(files)
        try:
            return super().prepare_data(idx)
        except Exception:
            # the loading transforms name no file
            refuse_damaged(files, thoroughly=True)
            raise

    def full_init(self) -> None:
        """Load the list of images and check the first label files."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.pipeline.transforms and not loads_labels(self.pipeline):
            return
        infos = [self.get_data_info(i) for i in range(min(self.check_ids, len(self)))]
        paths = [info['seg_map_path'] for info in infos if 'seg_map_path' in info]
        first = int(self.reduce_zero_label)
        check_label_ids(paths, self.num_file_ids + first, type(self).__name__, self.ignore_index, self.backend_args)


@DATASETS.register_module()
class DomainConcatDataset(ConcatDataset):
    """mmengine's ``ConcatDataset`` with the pipeline in the place where mmseg's tools look for it.

    ``MMSegInferencer`` reads ``test_dataloader.dataset.pipeline`` and mmseg's ``tools/test.py --tta`` replaces it; a plain
    ``ConcatDataset`` has no such key. The length is the sum of the sets' lengths, the order is theirs, and each sample
    keeps the domain that its set gives it.

    Args:
        datasets: configs of the sets; all have the same classes. A ``pipeline`` of their own is replaced.
        pipeline: transforms of every set.
        **kwargs: arguments of :class:`mmengine.dataset.ConcatDataset`.

    Raises:
        ValueError: ``datasets`` is empty, or mmengine finds that the sets' meta information differs.
        TypeError: one of ``datasets`` is no config.
    """

    def __init__(self, datasets: Sequence[Mapping], pipeline: Sequence[Mapping], **kwargs) -> None:
        if not datasets:
            raise ValueError('DomainConcatDataset: datasets is empty; give one config per domain or data set.')
        for index, dataset in enumerate(datasets):
            if not isinstance(dataset, Mapping):
                kind = type(dataset).__name__
                raise TypeError(f'DomainConcatDataset: datasets[{index}] must be a config, a dict with type, got {kind}.')
        super().__init__([dict(dataset, pipeline=pipeline) for dataset in datasets], **kwargs)
