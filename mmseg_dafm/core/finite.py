"""Whether tensors are finite, asked cheaply: of losses, logits and weights."""

import torch


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers of a tensor of any shape and type are finite; one on the meta device holds none.

    A sum keeps nan and infinity, in one pass and without a copy. Where it overflows, each number is looked at.
    """
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    # torch cannot add up numbers of eight bits
    tensor = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()
    total = tensor.sum(dtype=torch.float64 if tensor.device.type == 'cpu' else torch.float32)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())
