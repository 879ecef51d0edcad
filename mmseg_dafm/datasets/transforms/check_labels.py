"""Refuse a label that does not belong to its image or its classes."""

from collections.abc import Iterator

from mmcv.transforms import BaseTransform, LoadAnnotations
from mmcv.transforms import Compose as MMCVCompose
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS

from mmseg_dafm.datasets.checks import check_ids, check_one_channel, check_size


@TRANSFORMS.register_module()
class CheckLabels(BaseTransform):
    """Check each label right after ``LoadAnnotations``: one channel, of its image's size, and no id that is not a class.

    Our data sets put it there themselves (:class:`mmseg_dafm.datasets.DomainTagged`); any other
    :class:`mmseg.datasets.BaseSegDataset` needs the line ``dict(type='CheckLabels', num_classes=N)`` in its pipeline. It costs
    one pass over the label, and changes none of its values.

    A size is compared with that of the image as it was loaded, so a ``Resize`` may stand before ``LoadAnnotations``, as in
    mmseg's test pipelines. mmseg loads labels as 8-bit images; ids above 255 are caught in the files that are read when a data
    set is built.

    Args:
        num_classes: number N of classes; the ids are 0 to N - 1 after ``reduce_zero_label`` and ``label_map``.
        ignore_index: the id of pixels that do not count; 255 never counts.
        data_set: what the message calls the data set.
        remedy: what the message advises, e.g. the command of a converter; None for a general advice.

    Raises:
        ValueError: ``num_classes`` is not positive.
    """

    def __init__(
        self, num_classes: int, ignore_index: int = 255, data_set: str = 'CheckLabels', remedy: str | None = None
    ) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'CheckLabels: num_classes must be a positive integer, got {num_classes!r}.')
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.data_set = data_set
        self.advice = {} if remedy is None else {'remedy': remedy}

    def transform(self, results: dict) -> dict:
        """Check ``gt_seg_map``.

        Raises:
            ValueError: the label is wrong, or was not loaded yet; the sentence names the file.
        """
        if 'gt_seg_map' not in results and 'seg_map_path' not in results:
            # inference on a picture, whose pipeline mmseg takes from the test's
            return results
        if 'gt_seg_map' not in results:
            raise ValueError(f'{self.data_set}: no label is loaded for {results.get("img_path")}: put LoadAnnotations first.')
        label, path = results['gt_seg_map'], results.get('seg_map_path', 'of an unknown file')
        size = results.get('ori_shape')
        if size and label.ndim < 2 and 1 in size and label.size == size[0] * size[1]:
            # LoadAnnotations squeezes images of one row or column
            label = results['gt_seg_map'] = label.reshape(size)
        check_one_channel(label, path, self.data_set)
        if size:
            check_size(label, *size, path, results.get('img_path', 'of an unknown file'), self.data_set, **self.advice)
        label_map, first = results.get('label_map'), int(bool(results.get('reduce_zero_label')))
        check_ids(
            label,
            self.num_classes,
            path,
            self.data_set,
            self.ignore_index,
            num_file_ids=len(label_map) if label_map else None,
            first=first,
            **self.advice,
        )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index})'


def transform_lists(pipeline: object) -> Iterator[list]:
    """Yield the list of transforms of a built pipeline, and those of the pipelines inside it, such as ``TestTimeAug``'s."""
    yield pipeline.transforms
    for transform in pipeline.transforms:
        for value in getattr(transform, '__dict__', {}).values():
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, Compose | MMCVCompose):
                    yield from transform_lists(part)


def loads_labels(pipeline: object) -> bool:
    """Whether a built pipeline loads labels."""
    return any(isinstance(transform, LoadAnnotations) for part in transform_lists(pipeline) for transform in part)


def insert_check(pipeline: object, check: CheckLabels) -> None:
    """Put ``check`` after the ``LoadAnnotations`` of a built pipeline, unless it has a ``CheckLabels`` of its own."""
    parts = list(transform_lists(pipeline))
    if any(isinstance(transform, CheckLabels) for part in parts for transform in part):
        return
    for part in parts:
        for place in reversed(range(len(part))):
            if isinstance(part[place], LoadAnnotations):
                part.insert(place + 1, check)
