"""The mixin that gives every image of a data set the name of its domain."""

import os.path as osp

from mmseg_dafm.datasets.checks import check_folder, check_label_ids, check_not_empty
from mmseg_dafm.image_files import refuse_damaged


class DomainTagged:
    """Mixin for :class:`mmseg.datasets.BaseSegDataset`: a domain name per image, and checks while the set is built.

    The name lies in each data info under ``domain`` and reaches ``data_sample.domain`` through
    ``PackDomainInputs`` (or ``PackSegInputs`` with ``'domain'`` among its ``meta_keys``), where
    ``DomainIoUMetric`` groups the images by it.

    Args:
        domain: name of the domain, e.g. ``'fog'``; None leaves the images without one.
        check_ids: how many of the first label files are read and checked for unknown ids; 0 for none.
        **kwargs: arguments of the data set.

    Raises:
        ValueError: the folder is missing or empty, or a label file holds ids that the data set does not define.
    """

    LAYOUT = '<img_path>/**/*<img_suffix>'

    def __init__(self, *args, domain: str | None = None, check_ids: int = 3, **kwargs) -> None:
        if domain is not None and not isinstance(domain, str):
            raise TypeError(f'{type(self).__name__}: domain must be a string or None, got {domain!r}.')
        if check_ids < 0:
            raise ValueError(f'{type(self).__name__}: check_ids must be 0 or more, got {check_ids}.')
        self.domain = domain
        self.check_ids = check_ids
        if isinstance(kwargs.get('data_root'), str):
            kwargs['data_root'] = osp.expanduser(kwargs['data_root'])
        super().__init__(*args, **kwargs)

    @property
    def num_file_ids(self) -> int:
        """Number of ids that the label files define (before any label map)."""
        return len(type(self).METAINFO.get('classes') or self._metainfo['classes'])

    def load_data_list(self) -> list[dict]:
        """List the images, each with its ``domain``.

        Raises:
            ValueError: the image folder or the list of images is missing, or no image was found.
        """
        name, img_dir = type(self).__name__, self.data_prefix['img_path']
        if self.backend_args is None:
            check_folder(img_dir, self.LAYOUT, name)
            if self.ann_file and not osp.exists(self.ann_file):
                raise ValueError(f'{name}: the list of images {self.ann_file} does not exist; check ann_file.')
        data_list = self.select(super().load_data_list())
        check_not_empty(data_list, img_dir, self.LAYOUT, name)
        if self.domain is not None:
            for info in data_list:
                info['domain'] = self.domain
        return data_list

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
        infos = [self.get_data_info(i) for i in range(min(self.check_ids, len(self)))]
        paths = [info['seg_map_path'] for info in infos if 'seg_map_path' in info]
        check_label_ids(paths, self.num_file_ids, type(self).__name__, self.ignore_index, self.backend_args)
