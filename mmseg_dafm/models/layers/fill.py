"""Copying pretrained weights that must fit a module completely."""

from collections.abc import Mapping

from torch import Tensor, nn


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy a state dict that must cover the module completely, and nothing more.

    Args:
        module: The module to fill in place.
        state: Its full state dict; converted to the module's dtype.
        what: Words for the error, for example ``'the U-Net of sd-1.5'``.

    Raises:
        ValueError: Naming the missing keys, the left-over keys or the first shape that differs.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            f'{what} does not fit the configured architecture: {len(missing)} keys are missing (first {missing[:3]}), '
            f"{len(extra)} are left over (first {extra[:3]}); set architecture to the checkpoint's own."
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f'{what} does not fit the configured architecture: {key} has shape {tuple(value.shape)}, '
                f"{tuple(own[key].shape)} is expected; set architecture to the checkpoint's own."
            )
    module.load_state_dict(state)
