"""Stop a training whose numbers are not finite, before its weights are saved or scored."""

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

    Looks at every output of the model with 'loss' in its name, after each iteration. mmengine's RuntimeInfoHook has by then
    turned them into numbers, so nothing more is fetched from the device. Each rank looks at its own losses and names its
    own images; the launcher ends the other ranks. Another rank's nan reaches the weights of all of them in the same step,
    so weights are looked at before each saving: parameters and running statistics, one pass on the CPU.

    Gradients that overflow under a GradScaler leave the loss finite and the step out, and stop nothing.
    """

    # After RuntimeInfoHook, before hooks that average or save.
    priority = 'HIGH'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Check the losses of this iteration.

        Raises:
            ValueError: A loss is not finite; names the iteration, the loss and the images of the batch.
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
            ValueError: Some are not finite; names the first.
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
    """Image files of a batch of mmseg samples; empty if it does not name them."""
    samples = batch.get('data_samples', []) if isinstance(batch, Mapping) else []
    return [str(path) for path in (getattr(sample, 'img_path', None) for sample in samples) if path]
