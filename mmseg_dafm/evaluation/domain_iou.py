"""DomainIoUMetric: score several domains in one test run."""

import logging
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, MMLogger, print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable

from mmseg_dafm.core.checkpoint import is_finite
from mmseg_dafm.core.config_file import nearest
from mmseg_dafm.core.runner import parse_config
from mmseg_dafm.evaluation.domain_scores import check_domain, confusion_matrix, flat_metrics, summarise
from mmseg_dafm.evaluation.label_maps import LabelMapFolder
from mmseg_dafm.evaluation.protocol import describe_test
from mmseg_dafm.evaluation.tables import number, rows, to_csv, to_json, to_markdown, write_text


@METRICS.register_module()
class DomainIoUMetric(BaseMetric):
    """mIoU per domain (data set, weather, time of day) and pooled, and mIoU% of target over source, in one test run.

    The domain of an image is its ``domain`` meta information, else the first of ``rules`` whose text occurs in its path, else
    ``'all'``. Confusion matrices are counted per image, so batch size, order and number of processes do not change the
    scores. They equal mmseg's ``IoUMetric`` on the same predictions.

    Scores: ``mIoU`` (all images pooled), ``aAcc``, ``mAcc``, ``mIoU.<domain>``, ``mIoU.mean`` (mean of the target domains)
    and, with ``source``, ``mIoU.target`` (target domains pooled) and ``mIoU% = 100 * mIoU.target / mIoU.<source>``. Tables
    with the test's protocol are written to the work folder as JSON, CSV and Markdown. For a tested checkpoint they are
    ``domain_iou_<checkpoint>.*``, or ``domain_iou_<checkpoint>_tta.*`` with test-time augmentation. During training they are
    ``domain_iou.*``, and each validation replaces them. If no table can be written, the scores are still logged and returned.

    Args:
        rules: domain -> part of the image path, for data sets without domains.
        source: the domain that the model was trained on.
        target: the domains to generalise to; None: every domain except ``source``.
        ignore_index: label id of ignored pixels.
        out_dir: folder of the tables; None: the work folder.
        output_dir: folder for the predicted label maps, written as PNG files. Their subfolders are those of the images below
            the common image folder of all data sets of the test. mmseg's ``tools/test.py --out`` sets it. The ids are those of
            label files: with ``reduce_zero_label`` they begin at 1.
        format_only: write the label maps and compute no scores.
        keep_results: no effect, because scores are always computed; mmseg's ``tools/test.py`` sets it.
        collect_device: ``'cpu'`` or ``'gpu'``, device for gathering the results of several processes.
        prefix: prefix of the score names.
        **kwargs: arguments of :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        ValueError: If a domain has the name of a summary row (``'mean'``, ``'target'`` or ``'all'``), or ``format_only`` is set
            without ``output_dir``.
        TypeError: If ``target`` is a string or ``rules`` is not a dict.

    Source: Domino, section 3 (mIoU% = 100 * ACDC / Cityscapes).
    """

    def __init__(
        self,
        rules: Mapping[str, str] | None = None,
        source: str | None = None,
        target: Sequence[str] | None = None,
        ignore_index: int = 255,
        out_dir: str | None = None,
        output_dir: str | None = None,
        format_only: bool = False,
        keep_results: bool = True,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        if isinstance(target, str):
            raise TypeError(f"DomainIoUMetric: target must be a list of domains, got the string '{target}'.")
        if rules is not None and not isinstance(rules, Mapping):
            raise TypeError(f'DomainIoUMetric: rules must map a domain to a part of the path, got {rules!r}.')
        self.rules = {self._check_named(name): part for name, part in (rules or {}).items()}
        self.source = source if source is None else check_domain(source)
        self.target = None if target is None else tuple(target)
        self.ignore_index = ignore_index
        self.out_dir = out_dir
        if format_only and output_dir is None:
            raise ValueError('DomainIoUMetric: format_only=True writes label maps and nothing else: set output_dir.')
        self.format_only = format_only
        self.maps = None if output_dir is None else LabelMapFolder(output_dir)

    def domain_of(self, data_sample: Mapping) -> str:
        """Domain of one image.

        Raises:
            ValueError: If the domain has the name of a summary row.
        """
        domain = data_sample.get('domain')
        if domain is not None:
            return self._check_named(str(domain))
        path = str(data_sample.get('img_path', ''))
        return next((name for name, part in self.rules.items() if part in path), 'all')

    def require_domains(self, infos: Iterable[Mapping], stage: str) -> None:
        """Refuse a ``source`` or ``target`` that no image of the data set has.

        Args:
            infos: data infos of all images.
            stage: ``'val'`` or ``'test'``, for the message.

        Raises:
            ValueError: If no image has the domain; names the key, the domain and the images' domains.
        """
        named = [('source', self.source)] * (self.source is not None) + [('target', name) for name in self.target or ()]
        if self.format_only or not named:
            return
        domains = {self.domain_of(info) for info in infos}
        for key, name in named:
            if name not in domains:
                raise ValueError(
                    f'{stage}_evaluator.{key} names {name!r}, and no image of {stage}_dataloader has this domain (there are '
                    f'{", ".join(sorted(domains))}).{nearest(name, domains)} Name one of these, or leave {key} out.'
                )

    @staticmethod
    def _check_named(domain: str) -> str:
        """Return the domain, or refuse a reserved name."""
        if domain == 'all':
            # Images without a domain and the row of all images have this name.
            raise ValueError("a domain must not be called 'all': the row of all images has that name; rename the domain.")
        return check_domain(domain)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the confusion matrices of one batch.

        Args:
            data_batch: not used.
            data_samples: samples as dicts, with ``pred_sem_seg`` and ``gt_sem_seg`` of shape (1, H, W), and optional
                ``seg_logits`` of shape (C, H, W).

        Raises:
            ValueError: If a sample has no label, unknown ids or logits that are not finite (names its path), or if the
                logits have another number of classes.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            path = sample.get('img_path', 'unknown image')
            if self.format_only:
                self.maps.save(sample)
                self.results.append(None)
                continue
            if 'gt_sem_seg' not in sample:
                raise ValueError(f'DomainIoUMetric: {path} has no label; add LoadAnnotations to the test pipeline.')
            prediction = sample['pred_sem_seg']['data']
            if 'seg_logits' in sample and not is_finite(sample['seg_logits']['data']):
                raise ValueError(
                    f'DomainIoUMetric: the logits of {path} are not finite, so they predict no class. Check the tested '
                    'weights and this image.'
                )
            # one channel: two classes, separated by a threshold
            if 'seg_logits' in sample and len(sample['seg_logits']['data']) not in (1, num_classes):
                raise ValueError(
                    f'DomainIoUMetric: the model predicts {len(sample["seg_logits"]["data"])} classes, and the data set has '
                    f"{num_classes}: set num_classes of the heads to the data set's."
                )
            if self.maps is not None:
                self.maps.save(sample)
            label = sample['gt_sem_seg']['data'].to(prediction.device)
            try:
                confusion = confusion_matrix(prediction, label, num_classes, self.ignore_index)
            except ValueError as error:
                raise ValueError(f'DomainIoUMetric: {path}: {error}') from error
            self.results.append((self.domain_of(sample), confusion.cpu().numpy()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum the confusion matrices per domain, write the tables and return the scores.

        Args:
            results: (domain, confusion matrix) of every image, from all processes; called on the main process only.
        """
        if self.format_only:
            MMLogger.get_current_instance().info(f'{len(results)} label maps are in {self.maps.folder}')
            return {}
        confusions, images = {}, {}
        # Sorted, so that tables do not depend on the order in which images arrive.
        for domain in sorted({domain for domain, _ in results}):
            counted = [confusion for name, confusion in results if name == domain]
            confusions[domain], images[domain] = np.sum(counted, axis=0), len(counted)
        summary = summarise(confusions, self.source, self.target)
        for domain, values in summary['domains'].items():
            values['images'] = images[domain]
        summary['pooled']['images'] = len(results)
        if summary.get('target'):
            summary['target']['images'] = sum(images[domain] for domain in summary['targets'])
        logger = MMLogger.get_current_instance()
        if summary['missing']:
            print_log(
                f'DomainIoUMetric: no image of {summary["missing"]} was tested (domains seen: {list(confusions)}); '
                'the scores that depend on them are nan.',
                logger,
                level=logging.WARNING,
            )
        classes = self.dataset_meta['classes']
        self.log_tables(summary, classes, logger)
        self.write(summary, classes, logger)
        return flat_metrics(summary)

    @staticmethod
    def log_tables(summary: dict, classes: Sequence[str], logger: MMLogger) -> None:
        """Log a table of classes for each domain, and a table of domains."""
        overview = PrettyTable(['domain', 'mIoU', 'mAcc', 'aAcc'])
        for domain, values in rows(summary):
            table = PrettyTable(['Class', 'IoU', 'Acc'])
            table.add_rows([[n, number(i), number(a)] for n, i, a in zip(classes, values['IoU'], values['Acc'], strict=True)])
            print_log(f'per class results of {domain}:\n{table.get_string()}', logger)
            overview.add_row([domain, *(number(values[key]) for key in ('mIoU', 'mAcc', 'aAcc'))])
        print_log(f'results per domain:\n{overview.get_string()}', logger)

    def write(self, summary: dict, classes: Sequence[str], logger: MMLogger) -> None:
        """Write the tables as JSON, CSV and Markdown."""
        hub = MessageHub.get_current_instance()
        cfg = parse_config(hub.get_info('cfg'))
        # The hub has max_iters only in a training run; its load_from is the start of the training, not the tested weights.
        training = hub.get_info('max_iters') is not None
        stage = 'val' if hub.get_info('loop_stage') == 'val' else 'test'
        checkpoint = str(cfg.get('load_from') or '') if not training else ''
        protocol = describe_test(cfg, stage, hub.get_info('experiment_name'), checkpoint)
        if training and stage == 'val':
            # The current weights have no file yet.
            protocol['checkpoint'] = 'validation during training'
        folder = self.out_dir or cfg.get('work_dir')
        if folder is None:
            print_log('DomainIoUMetric: neither out_dir nor a work folder is known; no table is written.', logger)
            return
        stem = f'domain_iou_{osp.splitext(osp.basename(checkpoint))[0]}' if checkpoint else 'domain_iou'
        if protocol['tta'] is True:
            # Do not overwrite the tables of a plain test of the same checkpoint.
            stem += '_tta'
        path = osp.join(folder, stem)
        try:
            write_text(f'{path}.json', to_json(summary, classes, protocol))
            write_text(f'{path}.csv', to_csv(summary, classes))
            write_text(f'{path}.md', to_markdown(summary, classes, protocol))
        except OSError as error:
            # An error here must not lose the scores.
            print_log(f'DomainIoUMetric: no table is written to {path}.*: {error}', logger, level=logging.ERROR)
            return
        print_log(f'tables per domain: {path}.md, .csv, .json', logger)
