"""CheckpointFitHook: refuse checkpoints that do not fit the model, before mmengine loads the tensors that do."""

import logging
import re
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS

from mmseg_dafm.core.checkpoint import CheckpointError, some, state_dict_of
from mmseg_dafm.core.fit import require_fit, require_some
from mmseg_dafm.core.runner import unwrapped


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Refuse a test or a resume with a checkpoint that does not fit the model; log how many tensors fit.

    mmengine loads the tensors that fit and only logs the others, so a test of another network's checkpoint scores random
    weights. With this hook a test, a validation and a resumed training need every tensor that the model saves, finite and in
    its shape. A training that starts from ``load_from`` needs one tensor, and logs how many fit. A prefix such as ``module.``
    is stripped.
    """

    # before hooks that read the checkpoint, such as EMAHook
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the checkpoint and rename its tensors to the model's names.

        Raises:
            ValueError: If the checkpoint does not fit; names the file and the tensors.
        """
        what = str(runner._load_from or 'the checkpoint')
        model, state = unwrapped(runner.model), state_dict_of(checkpoint)
        # a test never builds the training loop
        training = isinstance(runner._train_loop, BaseLoop)
        if training and runner._resume and 'message_hub' not in checkpoint:
            raise ValueError(
                f'{what} holds weights and no training state: it cannot be resumed. Give it as load_from without --resume.'
            )
        if training and runner._resume:
            self._compare_seeds(runner, checkpoint, what)
            self._adapt_hub(runner, checkpoint)
        if not training:
            self._compare_classes(runner, checkpoint, what)
        fit = (require_some if training and not runner._resume else require_fit)(model, state, what)
        if not fit.complete or fit.prefix or fit.left:
            print_log(f'{what}: {fit}', 'current', logging.INFO if fit.complete else logging.WARNING)
        else:
            print_log(f'{what}: all {fit.total} tensors fit', 'current')
        if fit.prefix or 'state_dict' not in checkpoint:
            checkpoint['state_dict'] = fit.state

    @staticmethod
    def _compare_seeds(runner: Runner, checkpoint: dict, what: str) -> None:
        """Refuse to resume with another seed: mmengine would keep the checkpoint's, and tables would name the config's."""
        old, new = (checkpoint.get('meta') or {}).get('seed'), (runner.cfg.get('randomness') or {}).get('seed')
        if None not in (old, new) and old != new:
            raise CheckpointError(
                f'{what} was trained with seed {old}, and the config has randomness.seed={new}. Resume with seed {old}, or start '
                'anew in another work dir.'
            )

    @staticmethod
    def _compare_classes(runner: Runner, checkpoint: dict, what: str) -> None:
        """Refuse weights with the data's classes in another order; warn of other class names."""
        loop = next((loop for loop in (runner._test_loop, runner._val_loop) if isinstance(loop, BaseLoop)), None)
        data = getattr(getattr(getattr(loop, 'dataloader', None), 'dataset', None), 'metainfo', None) or {}
        learned = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes')
        if not learned or not data.get('classes') or list(learned) == list(data['classes']):
            return
        here = list(data['classes'])
        differ = [f'{number}: {a}, {b}' for number, (a, b) in enumerate(zip(learned, here)) if a != b]  # noqa: B905
        sentence = f'{what} was trained on {len(learned)} classes, the data has {len(here)}; they differ in {some(differ)}'
        if sorted(learned) == sorted(here):
            raise CheckpointError(f'{sentence}. Give the data set its classes in the order of the checkpoint (metainfo.classes).')
        print_log(f'{sentence} (number: checkpoint, data)', 'current', logging.WARNING)

    @staticmethod
    def _adapt_hub(runner: Runner, checkpoint: dict) -> None:
        """Replace the config and checkpoint paths in the message hub by this run's: its folder may have been moved."""
        info = checkpoint['message_hub'].get('runtime_info', {})
        info['cfg'] = runner.cfg.pretty_text
        for key in [key for key in info if key.startswith(('last_ckpt', 'best_ckpt'))]:
            here = Path(runner.work_dir) / re.split(r'[/\\]', str(info[key]))[-1]
            info[key] = str(here) if here.is_file() else info[key]
