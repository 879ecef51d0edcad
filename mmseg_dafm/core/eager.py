"""Run compiled models eagerly, so that temporary hooks, buffers and flags take effect."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def run_eagerly() -> Iterator[None]:
    """Inside, compiled code runs as ordinary Python.

    Compiled code does not call hooks that are registered later, and may call older hooks once per trace instead of once per
    pass. Inside, no compiled code runs and nothing is compiled. This holds for ``torch.compile(model)``, ``model.compile()``,
    compiled parts, methods and functions. At exit, compiled code is used again.

    Do not enter it from compiled code.
    """
    if 'torch._dynamo' not in sys.modules:
        # nothing is compiled; importing the compiler would take seconds
        yield
    elif hasattr(torch.compiler, 'set_stance'):
        with torch.compiler.set_stance('force_eager'):
            yield
    else:
        with _without_frame_evaluation():
            yield


@contextmanager
def _without_frame_evaluation() -> Iterator[None]:
    """``set_stance('force_eager')`` for PyTorch before 2.6: switches off dynamo's frame evaluation."""
    import torch._dynamo.eval_frame as dynamo

    ask = dynamo.set_eval_frame
    names = [name for name in ('set_eval_frame', '_maybe_set_eval_frame') if hasattr(dynamo, name)]
    before = {name: getattr(dynamo, name) for name in names}
    for name in names:
        setattr(dynamo, name, lambda callback: ask(None))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(dynamo, name, function)


def forget_compiled() -> None:
    """Drop all compiled code, so that the next pass compiles again.

    Call it after ``requires_grad`` changed: older versions of PyTorch do not notice, and the parameters get no gradients.
    """
    if 'torch._dynamo' in sys.modules:
        torch.compiler.reset()


def uncompiled(module: nn.Module) -> nn.Module:
    """Unwrap ``torch.compile(module)``, so that names have no ``_orig_mod.``; returns any other module itself."""
    return getattr(module, '_orig_mod', module)
