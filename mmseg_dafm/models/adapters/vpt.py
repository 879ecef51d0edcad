"""VPT-deep: learnable tokens in front of the patches, new ones in every block."""

from functools import partial

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.models.adapters.adapter import Adapter, check_positive, check_token_sequence, prompt_parameter


@MODELS.register_module()
class VPT(Adapter):
    r"""Visual prompt tuning, deep variant: learned prompts in every block.

    With the prefix x (CLS and registers), the patches E and the prompts P of block i,

    .. math:: [x_i, \cdot, E_i] = L_i([x_{i-1}, P_{i-1}, E_{i-1}])

    The prompts' own outputs are dropped, so each block sees fresh ones. Rotary positions turn the patches alone. The maps of a
    backbone with prompts differ from the plain one's from the start.

    Args:
        vit: timm's ViT of token sequences.
        tokens: Prompts of each block; 150 in ViT-L are 24 x 150 x 1024 = 3,686,400 parameters.

    Shapes: block inputs ``(B, N, C)``, inside of the block ``(B, N + tokens, C)``.

    Raises:
        ValueError: For ``tokens`` below 1, or a ViT with windows.

    Source: Visual Prompt Tuning (Jia et al., ECCV 2022), eq. 5 and 6. Deviation: no dropout of prompts.
    """

    def __init__(self, vit: nn.Module, tokens: int = 150):
        check_positive('VPT', tokens=tokens)
        check_token_sequence(vit, 'VPT')
        super().__init__()
        self.tokens, self.prefix = tokens, vit.num_prefix_tokens
        self.prompts = prompt_parameter(vit, len(vit.blocks), tokens)
        for index, block in enumerate(vit.blocks):
            if hasattr(getattr(block, 'attn', None), 'num_prefix_tokens'):
                # rotary positions begin after these
                block.attn.num_prefix_tokens += tokens
            block.register_forward_pre_hook(partial(self.insert, index))
            block.register_forward_hook(self.drop)

    def insert(self, index: int, block: nn.Module, args: tuple) -> tuple:
        """Put the prompts of block ``index`` after the prefix."""
        x = args[0]
        prompts = self.prompts[index].to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, : self.prefix], prompts, x[:, self.prefix :]], 1), *args[1:]

    def drop(self, block: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """Take the prompts' outputs away."""
        return torch.cat([output[:, : self.prefix], output[:, self.prefix + self.tokens :]], 1)
