"""LoRA through peft, in a ViT that keeps the names of its tensors in checkpoints."""

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.models.adapters.adapter import Adapter, check_positive

BASE = 'base_layer.'


def to_plain(names: Sequence[str], module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """State dict hook: ``qkv.base_layer.weight`` is called ``qkv.weight`` again."""
    for name in names:
        for key in [key for key in state if key.startswith(f'{prefix}{name}.{BASE}')]:
            state[key.replace(f'{name}.{BASE}', f'{name}.', 1)] = state.pop(key)


def from_plain(names: Sequence[str], state: dict, prefix: str, *_) -> None:
    """Hook before loading: the reverse; states that peft itself has written are taken as they are."""
    for name in names:
        for leaf in ('weight', 'bias'):
            if f'{prefix}{name}.{leaf}' in state:
                state[f'{prefix}{name}.{BASE}{leaf}'] = state.pop(f'{prefix}{name}.{leaf}')


@MODELS.register_module()
class LoRA(Adapter):
    r"""Low-rank updates of the attention's projections, by peft; plain names in checkpoints.

    .. math:: y = W x + b + \frac{\alpha}{r} B A x, \qquad B_0 = 0

    At the start the maps are those of the plain backbone. A and B live inside of the ViT (``...qkv.lora_A.default.weight``).
    Checkpoints name the frozen tensors as the plain backbone does, and load plain weights.

    Args:
        vit: timm's ViT; SAM's is fine.
        rank: r; A is ``(r, in)``, B ``(out, r)``.
        alpha: None: r, so that the factor is 1. A checkpoint with another factor is refused.
        dropout: Of the input of A, in training.
        targets: Names of linear layers within a block. None: ``attn.qkv`` where query, key and value are one matrix, else
            ``attn.q_proj`` and ``attn.v_proj``. Both have 24 x 8 x 4096 = 786,432 parameters in ViT-L at rank 8.

    Raises:
        ImportError: If peft is not installed.
        ValueError: For a rank below 1 or a dropout outside of [0, 1), or if a block has no linear layer of such a name.

    Source: LoRA (Hu et al., ICLR 2022), eq. 3. Deviation: the paper adapts W_q and W_v; on a fused matrix peft adapts all of it,
    with one A for query, key and value, at the same number of parameters.
    """

    def __init__(
        self,
        vit: nn.Module,
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
    ):
        check_positive('LoRA', rank=rank, alpha=rank if alpha is None else alpha)
        if not 0 <= dropout < 1:
            raise ValueError(f'backbone.adapter.dropout={dropout} of LoRA must be in [0, 1).')
        if find_spec('peft') is None:
            raise ImportError('backbone.adapter.type=\'LoRA\' needs peft: install it with `pip install "mmseg_dafm[peft]"`.')
        super().__init__()
        from peft import LoraConfig, inject_adapter_in_model

        # a parallel block has no module of that name, which the check below says
        fused = getattr(getattr(vit.blocks[0], 'attn', None), 'qkv', None) is not None
        targets = tuple(targets or (('attn.qkv',) if fused else ('attn.q_proj', 'attn.v_proj')))
        names = [f'blocks.{index}.{target}' for index in range(len(vit.blocks)) for target in targets]
        modules = dict(vit.named_modules())
        missing = [name for name in names if not isinstance(modules.get(name), nn.Linear)]
        if missing:
            raise ValueError(
                f'backbone.adapter.targets={targets} of LoRA: {type(vit).__name__} has no linear layer {missing[0]}; give names '
                'within a block, such as attn.proj or mlp.fc1.'
            )
        for block in vit.blocks:
            if fused and getattr(block.attn, 'q_bias', None) is not None:
                # timm would take the matrix past the module, and the update would be lost
                block.attn.qkv_bias_separate = True
        alpha = rank if alpha is None else alpha
        self.record_factor(alpha / rank)
        cfg = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
        inject_adapter_in_model(cfg, vit)
        vit._register_state_dict_hook(partial(to_plain, names))
        vit._register_load_state_dict_pre_hook(partial(from_plain, names))
