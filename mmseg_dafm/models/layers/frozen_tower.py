"""Frozen pretrained towers, and filling modules with weights that must fit completely."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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


class FrozenTower(nn.Module):
    """Base of modules that hold pretrained weights, and hide their libraries' ``init_weights`` from mmengine.

    mmengine calls ``init_weights`` on every child that has one; the models of diffusers and transformers have one of
    their own, which would draw loaded weights anew. This class stops that walk: :meth:`init_weights` loads the
    pretrained weights once and goes no deeper.

    Subclasses read their weights in :meth:`read_pretrained`, a method and not a stored function, so that a deep copy of
    the tower (EMAHook) fills itself and not the original.

    Args:
        source: Where the pretrained weights are; None leaves the random initialisation.
        frozen: Without gradient, always in test mode.
        save: Keep the weights in ``state_dict``. Without them a checkpoint is smaller, and loading one reads the
            pretrained weights again.
    """

    def __init__(self, source: str | None = None, frozen: bool = True, save: bool = True):
        super().__init__()
        if not save and not frozen:
            raise ValueError('a tower that is trained must be saved: set save_frozen=True or freeze it.')
        if not save and source is None:
            raise ValueError('save_frozen=False needs pretrained weights to read again: set pretrained or save_frozen=True.')
        self.source, self.frozen, self.save, self._loaded = source, frozen, save, False
        self._hidden = not save
        self._register_state_dict_hook(_drop_hidden_keys)

    def freeze(self) -> None:
        """Apply ``frozen`` to the parameters; called by subclasses once their modules exist."""
        if self.frozen:
            self.requires_grad_(False)
            self.eval()

    def read_pretrained(self) -> None:
        """Fill the weights from ``source``."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """Load the pretrained weights, once; called by mmengine before training."""
        if self.source is not None and not self._loaded:
            with self._all_keys():
                self.read_pretrained()
            self._loaded = True

    def train(self, mode: bool = True) -> 'FrozenTower':
        """Stay in test mode while frozen."""
        return super().train(mode and not self.frozen)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        if not self.save and not any(key.startswith(prefix) for key in state_dict):
            self.init_weights()
            with self._all_keys():
                state_dict.update({prefix + key: value for key, value in self.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @contextmanager
    def _all_keys(self) -> Iterator[None]:
        """Show the weights in ``state_dict`` for a moment, saved or not."""
        self._hidden = False
        try:
            yield
        finally:
            self._hidden = not self.save


def _drop_hidden_keys(module, state_dict, prefix, local_metadata):
    """Leave the weights of a tower that is not saved out of the state dict."""
    if module._hidden:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            del state_dict[key]
