"""Whether tensors are finite, asked cheaply: of losses, logits and weights."""

import torch


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers of a tensor of any shape and type are finite.

    A sum keeps nan and infinity, in one pass and without a copy; float64 sums of finite float32 numbers cannot overflow.
    """
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.sum(dtype=torch.float64 if tensor.device.type == 'cpu' else torch.float32)))
