"""Whether the rest of a config lets a backbone's adapter learn: asked before anything is built."""

import logging

from mmengine.config import Config
from mmengine.logging import print_log

# a name of a parameter of each, on which the keys of an optimizer's config are tried
LORA_NAME, ADAPTER_NAME = 'backbone.timm_model.model.blocks.0.attn.qkv.lora_A.default.weight', 'backbone.adapter.prompts'
# the rate of the shipped configs by the head's, which is that of the paper's or of those who compared with it
LORA_RATE, RATE = 0.5, 1.0
SLOWEST = 0.5


def check_adapter_config(cfg: Config) -> None:
    """Refuse a training config under which the adapter would not learn, and warn of one under which it learns slowly.

    Args:
        cfg: A training config; without ``model.backbone.adapter`` it passes.

    Raises:
        ValueError: For an adapter together with ``frozen=True`` or with ``FisherTuneHook``.
    """
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    adapter = backbone.get('adapter')
    if not adapter:
        return
    kind = adapter.get('type')
    name = f'model.backbone.adapter.type={kind!r} in {cfg.filename}'
    if backbone.get('frozen'):
        raise ValueError(
            f'{name} would be frozen by model.backbone.frozen=True: set model.backbone.frozen=False, the adapter freezes the ViT.'
        )
    if any(str(hook.get('type')).rsplit('.', 1)[-1] == 'FisherTuneHook' for hook in cfg.get('custom_hooks') or ()):
        raise ValueError(
            f'{name} would stay frozen under FisherTuneHook: take the config without FisherTune (such as *_full_*.py), or remove '
            'model.backbone.adapter.'
        )
    warn_of_slow_rate(cfg, kind)


def warn_of_slow_rate(cfg: Config, kind: str) -> None:
    """Warn where the factor of the optimizer's rate that reaches the adapter is that of a backbone tuned in full."""
    keys = ((cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}).get('custom_keys') or {}
    parameter, shipped = (LORA_NAME, LORA_RATE) if kind == 'LoRA' else (ADAPTER_NAME, RATE)
    # mmengine takes the longest key that is part of the name
    key = max((key for key in keys if key in parameter), key=len, default=None)
    factor = 1.0 if key is None else keys[key].get('lr_mult', 1.0)
    if factor < SLOWEST:
        where = f'optim_wrapper.paramwise_cfg.custom_keys.{key}.lr_mult'
        print_log(
            f"{where}={factor} in {cfg.filename} lets the {kind} of model.backbone.adapter learn at {factor} of the head's rate, "
            f'too slowly for a fair comparison: set it to {shipped}, as configs/baselines/adapters do (LoRA {LORA_RATE}, others '
            f'{RATE}).',
            'current',
            logging.WARNING,
        )
