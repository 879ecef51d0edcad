"""Compact parameters against plain indexing of one long vector."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmseg_dafm.fishertune import compact
from mmseg_dafm.fishertune.candidates import Candidate
from mmseg_dafm.fishertune.compact import CompactParameters
from mmseg_dafm.fishertune.selection import check_ranking, tensor_numbers, tensor_starts, touched_tensors

SHAPES = {'a': (5, 7), 'b': (11,), 'c': (1, 1), 'd': (4, 3, 2)}
TOTAL = 35 + 11 + 1 + 24


def tensors() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in SHAPES.items()}


def long_vector(values) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1) for value in values]).clone()


def pieces(seed: int, sizes: list[int]) -> list[torch.Tensor]:
    order = torch.randperm(TOTAL, generator=torch.Generator().manual_seed(seed))
    return list(order[: sum(sizes)].split(sizes))


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('free', [False, True])
@pytest.mark.parametrize('groups', [(('a', 'b', 'c', 'd'),), (('d', 'a'), ('c', 'b'))])
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 17), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_gather_and_scatter_are_plain_indexing(threads, free, groups, seed, sizes):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, 'THREADED_ELEMENTS', 0)
        patch.setattr(torch, 'get_num_threads', lambda: threads)
        dense = tensors()
        parts = CompactParameters(dense, groups, free)
        owner = {name: number for number, names in enumerate(groups) for name in names}
        kind = torch.cat([torch.full((p.numel(),), owner[name]) for name, p in dense.items()])
        joined = []
        for ids in pieces(seed, sizes):
            joined.append((ids, parts.join(ids)))
            expected = torch.zeros(TOTAL)
            for _ in range(2):
                weights = [torch.randn_like(p) for p in dense.values()]
                sum((p * w).sum() for p, w in zip(dense.values(), weights, strict=True)).backward()
                expected += long_vector(weights)
            assert all((p.grad is None) == free for p in dense.values())
            parts.gather()
            theta = long_vector(dense.values())
            for cohort, parameters in joined:
                for number, parameter in enumerate(parameters):
                    own = cohort[kind[cohort] == number].sort().values
                    if parameter is None:
                        assert not len(own)
                        continue
                    assert torch.equal(parameter, theta[own])
                    assert torch.equal(parameter.grad, expected[own])
                    with torch.no_grad():
                        parameter.mul_(2).add_(parameter.grad)
                    theta[own] = theta[own] * 2 + expected[own]
            parts.scatter()
            # what was not selected has kept its bits
            assert torch.equal(long_vector(dense.values()), theta)
            parts.clear()
            for p in dense.values():
                p.grad = None
            assert all(p.grad is None for _, ps in joined for p in ps if p is not None)


def test_tensors_without_gradient_count_as_zero_and_none_at_all_as_none():
    dense = tensors()
    parts = CompactParameters(dense, [list(SHAPES)])
    (cohort,) = parts.join(torch.tensor([0, 40, 60]))
    dense['b'].grad = torch.full((11,), 3.0)
    parts.gather()
    assert cohort.grad.tolist() == [0, 3, 0]
    (late,) = parts.join(torch.tensor([70, 36]))
    dense['d'].grad = torch.full((4, 3, 2), 2.0)
    dense['b'].grad = None
    parts.gather()
    assert cohort.grad.tolist() == [0, 0, 2]
    assert late.grad.tolist() == [0, 2]
    dense['d'].grad = None
    parts.gather()
    assert cohort.grad is late.grad is None


def test_a_cohort_that_joins_between_backward_passes_keeps_the_gradients_of_the_others():
    dense = tensors()
    parts = CompactParameters(dense, [list(SHAPES)], free_gradients=True)
    (cohort,) = parts.join(torch.tensor([3, 50]))
    sum(p.sum() for p in dense.values()).backward()
    (late,) = parts.join(torch.tensor([4]))
    sum(p.sum() for p in dense.values()).backward()
    parts.gather()
    assert cohort.grad.tolist() == [2, 2]
    assert late.grad.tolist() == [1]
    parts.reset()
    dense['a'].sum().backward()
    assert dense['a'].grad is not None


def test_gradients_of_another_memory_layout():
    dense = tensors()
    parts = CompactParameters(dense, [list(SHAPES)])
    (cohort,) = parts.join(torch.tensor([1, 8]))
    dense['a'].grad = torch.arange(35.0).reshape(7, 5).t()
    parts.gather()
    assert cohort.grad.tolist() == [5, 6]


@pytest.mark.parametrize(
    ('tensor', 'message'),
    [
        (torch.zeros(3, 4, dtype=torch.float16), r'is float16 of shape \(3, 4\) on cpu: use mixed precision'),
        (torch.zeros(3, 4).t(), r'contiguous float32 weights .* shape \(4, 3\)'),
        (torch.zeros(3, 4, device='meta'), 'on meta'),
    ],
)
def test_other_tensors_are_refused(tensor, message):
    dense = dict(first=nn.Parameter(torch.zeros(2)), second=nn.Parameter(tensor))
    with pytest.raises(ValueError, match=message):
        CompactParameters(dense, [['first', 'second']])


@pytest.mark.parametrize('groups', [[['a', 'b', 'c']], [['a', 'b', 'c', 'd'], ['a']]])
def test_groups_must_be_a_partition(groups):
    with pytest.raises(ValueError, match='exactly one group'):
        CompactParameters(tensors(), groups)


def test_flat_ids_find_their_tensor():
    starts = tensor_starts(tensors().values())
    assert starts == [0, 35, 46, 47, 71]
    assert tensor_numbers(torch.tensor([0, 34, 35, 45, 46, 47, 70]), starts).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert touched_tensors(torch.tensor([70, 35, 36]), tensors()) == {'b', 'd'}


CANDIDATES = [
    Candidate('a', (1, 3), 'q', 0, 'x.0'),
    Candidate('a', (4, 5), 'v', 0, 'x.0'),
    Candidate('d', (0, 4), 'ffn', 0, 'x.0'),
]


def test_rankings_of_candidate_rows_pass():
    dense = {name: p for name, p in tensors().items() if name in 'ad'}
    check_ranking(torch.tensor([58, 7, 20, 28, 34, 35]), dense, CANDIDATES)


@pytest.mark.parametrize(
    ('ranking', 'error', 'message'),
    [
        ([1, 2], TypeError, 'int64 tensor of flat ids, got list'),
        (torch.tensor([7.0]), TypeError, 'got torch.float32'),
        (torch.tensor([[7]]), ValueError, r'got shape \(1, 1\)'),
        (torch.zeros(0, dtype=torch.int64), ValueError, r'at least one flat id, got shape \(0,\)'),
        (torch.tensor([7, 59]), ValueError, 'from 7 to 59, but the candidate tensors have 59 elements: it was made for another'),
        (torch.tensor([-1, 8]), ValueError, 'from -1 to 8'),
        (torch.tensor([9, 8, 9]), ValueError, 'a flat id twice'),
        (torch.tensor([7, 21]), ValueError, 'rows of a that are no candidates'),
    ],
)
def test_other_rankings_are_refused(ranking, error, message):
    dense = {name: p for name, p in tensors().items() if name in 'ad'}
    with pytest.raises(error, match=message):
        check_ranking(ranking, dense, CANDIDATES)
