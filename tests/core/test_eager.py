"""Compiled models in eager passes: hooks that come later are called once per pass, whatever was compiled and how."""

import pytest
import torch
from torch import Tensor, nn

from mmseg_dafm.core.eager import forget_compiled, run_eagerly, uncompiled


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).tanh()


class DecoratedPart(Part):
    @torch.compile(backend='eager')
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).tanh()


class Net(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) + 1


def compile_in_place(module: nn.Module) -> None:
    module.compile(backend='eager')


def compile_forward(module: nn.Module) -> None:
    module.forward = torch.compile(module.forward, backend='eager')


def whole(net):
    return torch.compile(net, backend='eager')


def whole_in_place(net):
    compile_in_place(net)
    return net


def part(net):
    net.part = torch.compile(net.part, backend='eager')
    return net


def part_in_place(net):
    compile_in_place(net.part)
    return net


def whole_forward(net):
    compile_forward(net)
    return net


def part_forward(net):
    compile_forward(net.part)
    return net


def free_function(net):
    return torch.compile(lambda x: net(x), backend='eager')


def decorated(net):
    net.part.__class__ = DecoratedPart
    return net


WAYS = [whole, whole_in_place, part, part_in_place, whole_forward, part_forward, free_function, decorated]


def passes_seen(way, run_before: bool, eager) -> int:
    """How often a hook that is registered late is called in three passes."""
    forget_compiled()
    net, x = Net(Part()), torch.randn(2, 3)
    linear, expected = net.part.linear, net(x)
    compiled = way(net)
    if run_before:
        compiled(x)
    calls = []
    handle = linear.register_forward_hook(lambda *_: calls.append(torch.compiler.is_compiling()))
    with eager():
        for _ in range(3):
            assert torch.equal(compiled(x), expected)
    handle.remove()
    assert torch.equal(compiled(x), expected)
    assert not any(calls)
    return len(calls)


@pytest.mark.parametrize('run_before', [False, True])
@pytest.mark.parametrize('way', WAYS)
def test_late_hooks_are_called_in_every_pass(way, run_before):
    assert passes_seen(way, run_before, run_eagerly) == 3


@pytest.mark.parametrize('run_before', [False, True])
@pytest.mark.parametrize('way', WAYS)
def test_without_set_stance_it_is_the_same(way, run_before, monkeypatch):
    monkeypatch.delattr(torch.compiler, 'set_stance', raising=False)
    assert passes_seen(way, run_before, run_eagerly) == 3


def test_the_compiled_code_is_used_again_behind_it():
    forget_compiled()
    compiled = []

    def backend(graph, inputs):
        compiled.append(1)
        return graph

    net = torch.compile(Net(Part()), backend=backend)
    with run_eagerly():
        net(torch.randn(2, 3))
    assert not compiled
    for _ in range(2):
        net(torch.randn(2, 3))
    assert len(compiled) == 1


def test_names_without_the_wrapper():
    net = Net(Part())
    assert uncompiled(net) is net
    assert uncompiled(torch.compile(net, backend='eager')) is net
