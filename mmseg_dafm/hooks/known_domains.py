"""KnownDomainsHook: check that the domains in a metric's options occur in the data."""

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS

from mmseg_dafm.datasets.config_check import data_infos
from mmseg_dafm.evaluation.domain_iou import DomainIoUMetric


@HOOKS.register_module()
class KnownDomainsHook(Hook):
    """Refuse a ``DomainIoUMetric`` whose ``source`` or ``target`` names a domain that no image of its data set has.

    The check runs before the first iteration of a training, or before the first batch of a validation or test. All ranks have
    the same data set, so all of them raise.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the validation of a training.

        Raises:
            ValueError: See :meth:`DomainIoUMetric.require_domains`.
        """
        self._check(runner._val_loop, 'val')

    def before_val(self, runner: Runner) -> None:
        """Check a validation without a training."""
        # a test or validation never builds the training loop
        if not isinstance(runner._train_loop, BaseLoop):
            self._check(runner._val_loop, 'val')

    def before_test(self, runner: Runner) -> None:
        """Check a test."""
        self._check(runner._test_loop, 'test')

    @staticmethod
    def _check(loop: object, stage: str) -> None:
        for metric in getattr(getattr(loop, 'evaluator', None), 'metrics', ()):
            infos = data_infos(loop.dataloader.dataset) if isinstance(metric, DomainIoUMetric) else None
            if infos is not None:
                metric.require_domains(infos, stage)
