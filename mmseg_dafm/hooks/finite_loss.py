"""FiniteLossHook: stop a training whose losses or weights are not finite."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from mmseg_dafm.core.checkpoint import is_finite
from mmseg_dafm.core.fit import learned
from mmseg_dafm.core.runner import unwrapped


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at the first loss that is nan or infinite, name its images, and never save weights that are not finite.

    After each iteration, it checks all model outputs with 'loss' in their name. mmengine's RuntimeInfoHook has already copied
    them to the CPU, so the check needs no further synchronisation. Each rank checks its own losses and names its own images;
    the launcher ends the other ranks. A nan on one rank reaches the weights of all ranks in the same step. Before each
    checkpoint, the hook therefore checks parameters and running statistics, in one pass on the CPU.

    Gradients that overflow under a GradScaler do not stop the training: the loss is finite, and the step is skipped.
    """

    # After RuntimeInfoHook, before hooks that average or save.
    priority = 'HIGH'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Check the losses of this iteration.

        Raises:
            ValueError: If a loss is not finite; names the iteration, the loss and the images of the batch.
        """
        for name, value in (outputs or {}).items():
            if 'loss' not in name:
                continue
            scalar = runner.message_hub.log_scalars.get(f'train/{name}')
            number = float(value if scalar is None else scalar.current())
            if not math.isfinite(number):
                raise ValueError(
                    f'the training stopped: {name}={number} in iteration {runner.iter + 1}, rank {runner.rank} '
                    f'(images {", ".join(image_files(data_batch)) or "unknown"}). Lower the learning rate, clip the gradients '
                    '(optim_wrapper.clip_grad), or look at these images and labels; --resume goes on from the last checkpoint.'
                )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights that are about to be saved.

        Raises:
            ValueError: If a weight is not finite; names the first.
        """
        state = checkpoint['state_dict']
        bad = [name for name, value in learned(unwrapped(runner.model), state).items() if not is_finite(value)]
        if bad:
            raise ValueError(
                f'the training stopped: {len(bad)} of {len(state)} weights are not finite after iteration {runner.iter + 1} '
                f'(first {bad[0]}); nothing was saved. Lower the learning rate or clip the gradients (optim_wrapper.clip_grad); '
                '--resume goes on from the last checkpoint.'
            )


def image_files(batch: Any) -> list[str]:
    """Image files of a batch of mmseg samples; empty if the batch holds no paths."""
    samples = batch.get('data_samples', []) if isinstance(batch, Mapping) else []
    return [str(path) for path in (getattr(sample, 'img_path', None) for sample in samples) if path]
