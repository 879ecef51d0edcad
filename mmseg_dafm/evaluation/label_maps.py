"""Write predicted label maps as PNG files, in the same subfolders as the images."""

import os
import os.path as osp
from collections.abc import Iterator, Mapping

import numpy as np
from mmengine.logging import MessageHub
from mmengine.utils import mkdir_or_exist
from PIL import Image

from mmseg_dafm.core.runner import parse_config


def image_folders(dataset: Mapping) -> Iterator[str]:
    """Yield the image folder of each data set in a dataset config: ``data_root`` joined with ``data_prefix.img_path``, if set."""
    inner = [value for key, value in dataset.items() if key not in ('pipeline', 'metainfo', 'data_prefix')]
    inner = [part for value in inner for part in (value if isinstance(value, list | tuple) else [value])]
    inner = [part for part in inner if isinstance(part, Mapping) and 'type' in part]
    for part in inner:
        yield from image_folders(part)
    if not inner:
        folder = osp.join(dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get('img_path') or '')
        if folder:
            yield folder


def common_root(cfg: Mapping, stage: str = 'test') -> str | None:
    """Common parent folder of all images of a data loader; None if the config names no folder.

    Args:
        cfg: a config.
        stage: ``'test'`` or ``'val'``, selects the data loader.
    """
    dataset = (cfg.get(f'{stage}_dataloader') or {}).get('dataset') or {}
    roots = [osp.abspath(root) for root in image_folders(dataset) if '://' not in root]
    try:
        return osp.commonpath(roots) if roots else None
    except ValueError:
        # folders on different Windows drives
        return None


def file_name(image: str, root: str | None) -> str:
    """File name of an image's label map: its path below ``root`` with the extension ``.png``.

    An image outside ``root`` keeps its whole path without the leading separator, so that names stay unique. If ``root`` is
    None, it is the working directory.

    >>> file_name('/data/fog/images/1.jpg', '/data')
    'fog/images/1.png'
    """
    stem = osp.splitext(image)[0]
    if '://' in stem:
        return stem.partition('://')[2] + '.png'
    stem = osp.abspath(stem)
    below = osp.relpath(stem, root or os.curdir)
    if below.split(osp.sep)[0] == osp.pardir:
        below = osp.splitdrive(stem)[1].lstrip(osp.sep)
    return below + '.png'


def save_label_map(sample: Mapping, folder: str, root: str | None) -> str:
    """Write the prediction of a sample with the ids of label files; return the path.

    Args:
        sample: ``pred_sem_seg`` (1, H, W) and ``img_path``; with ``reduce_zero_label``, class 0 has the id 1 in label files.
        folder: the folder to write to.
        root: see :func:`common_root`.

    Raises:
        ValueError: If an id does not fit into 8 bits.
    """
    ids = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy() + int(bool(sample.get('reduce_zero_label')))
    if ids.max(initial=0) > 255:
        raise ValueError(f'{sample["img_path"]}: the prediction holds the id {ids.max()}, but label maps have 8 bits.')
    path = osp.join(folder, file_name(str(sample['img_path']), root))
    mkdir_or_exist(osp.dirname(path))
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return path


class LabelMapFolder:
    """Folder of label maps; reads the images' common root from the run's config at the first :meth:`save`."""

    def __init__(self, folder: str) -> None:
        mkdir_or_exist(folder)
        self.folder = folder
        self.root: str | None = None
        self.written: dict[str, str] = {}

    def save(self, sample: Mapping) -> None:
        """Write the prediction of a sample.

        Raises:
            ValueError: If another image has the same label map name, such as a.jpg beside a.png.
        """
        if not self.written:
            hub = MessageHub.get_current_instance()
            stage = 'val' if hub.get_info('loop_stage') == 'val' else 'test'
            self.root = common_root(parse_config(hub.get_info('cfg')), stage)
        image = str(sample['img_path'])
        path = save_label_map(sample, self.folder, self.root)
        # each validation writes all images again
        if self.written.setdefault(path, image) != image:
            raise ValueError(f'the label maps of {self.written[path]} and {image} would both be {path}: rename one.')
