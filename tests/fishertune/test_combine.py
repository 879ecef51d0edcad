"""Scores by scalar formulas, selection, and which term decides under which formula."""

import math

import pytest
import torch

from mmseg_dafm.fishertune import criteria
from mmseg_dafm.fishertune import criteria as combine
from mmseg_dafm.fishertune.candidates import Candidate
from mmseg_dafm.fishertune.criteria import CRITERIA, DomainFisher, data_free_score, ranking, score

GENERATOR = torch.Generator().manual_seed(0)
SHAPES = {'a': (6, 5), 'b': (40, 50)}
TAU = {'a': 0.002, 'b': 0.004}


def fisher(scale: float = 1e-6) -> DomainFisher:
    clean = {n: torch.rand(s, generator=GENERATOR, dtype=torch.float64) ** 4 * scale for n, s in SHAPES.items()}
    shifted = {n: F * torch.exp(torch.randn(F.shape, generator=GENERATOR, dtype=torch.float64)) for n, F in clean.items()}
    strengths = torch.randn(10, 2, generator=GENERATOR).abs()
    return DomainFisher(clean, shifted, strengths, combine.damping_of(clean), TAU)


def candidates() -> list[Candidate]:
    rows = [Candidate('a', (i * 2, i * 2 + 2), kind, 0, 'blocks.0') for i, kind in enumerate('qkv')]
    return [*rows, Candidate('b', (0, 40), 'ffn', 0, 'blocks.0')]


def top(scores, count=100):
    return set(ranking({n: s.float() for n, s in scores.items()}, candidates(), count).tolist())


def jaccard(a, b):
    return len(a & b) / len(a | b)


def test_every_formula_by_hand():
    found, c = fisher(), 0.3
    F, G = (float(part['b'][3, 4]) for part in (found.clean, found.shifted))
    gamma, tau, m = found.gamma['b'], TAU['b'], found.damping
    L, M = F / gamma + tau**-2, G / gamma + tau**-2
    at = lambda scores: float(scores['b'][3, 4])  # noqa: E731
    assert at(score('eq7', found, c)) == pytest.approx(F + c * abs(F - G) / (min(F, G) + 1e-8))
    assert at(score('eq15', found, c)) == pytest.approx(
        gamma * (L - tau**-2 + c * abs(L - M) / (min(L, M) + 1e-8 / gamma)), rel=1e-5
    )
    assert at(score('dF', found)) == pytest.approx(abs(F - G) / (min(F, G) + m))
    assert at(score('F', found)) == F
    assert gamma * tau**-2 == pytest.approx(m)


def test_rank_adds_ranks():
    found, c = fisher(), 0.3
    scores = score('rank', found, c)
    ranks = lambda parts: torch.cat([p.flatten() for p in parts.values()]).argsort().argsort().double() + 1  # noqa: E731
    n = sum(p.numel() for p in found.clean.values())
    expected = (ranks(found.clean) + c * ranks(combine.delta_f(found.clean, found.shifted, found.damping))) / n
    assert (torch.cat([p.flatten() for p in scores.values()]).double() - expected).abs().max() < 3e-3


def test_printed_equation_7_ranks_by_the_relative_change_alone():
    """Its second term has no units and is larger by orders of magnitude."""
    found = fisher()
    undamped = {n: combine.relative_change(F, found.shifted[n]) for n, F in found.clean.items()}
    assert jaccard(top(score('eq7', found, 1.0)), top(undamped)) > 0.99
    assert jaccard(top(score('eq7', found, 1.0)), top(found.clean)) < 0.1


def test_equation_15_ranks_by_f_alone_where_gamma_is_small():
    """Only through its extra gamma, which multiplies the ratio."""
    found = fisher(scale=1.0)
    assert jaccard(top(score('eq15', found, 1.0)), top(found.clean)) > 0.95


def test_default_listens_to_both():
    found = fisher()
    default = top(score('rank', found, 1.0))
    assert jaccard(default, top(found.clean)) > 0.1
    assert jaccard(default, top(score('dF', found))) > 0.1


def test_damping_makes_scores_independent_of_the_scale_of_the_loss():
    found = fisher()
    bigger = DomainFisher(
        {n: F * 1e4 for n, F in found.clean.items()},
        {n: F * 1e4 for n, F in found.shifted.items()},
        found.strengths, found.damping * 1e4, TAU,
    )  # fmt: skip
    assert top(score('rank', found, 0.5)) == top(score('rank', bigger, 0.5))
    assert top(score('dF', found)) == top(score('dF', bigger))


def test_coefficient_rules():
    strengths = torch.tensor([[-3.0, 3.0], [1.0, 1.5]])
    assert combine.coefficient(strengths, 'abs') == pytest.approx((math.exp(-3) + math.exp(-1.5)) / 2)
    assert combine.coefficient(strengths, 'raw') == pytest.approx((math.exp(3) + math.exp(-1)) / 2)
    assert combine.coefficient(None, 0.2) == 0.2
    for rule, message in (('log', 'unknown'), (-1.0, '0 or more'), (True, 'unknown')):
        with pytest.raises(ValueError, match=message):
            combine.coefficient(strengths, rule)
    with pytest.raises(ValueError, match='needs the strengths'):
        combine.coefficient(None, 'abs')


def test_random_kinds_select_within_their_rows():
    tensors = {n: torch.nn.Parameter(torch.randn(s, generator=GENERATOR)) for n, s in SHAPES.items()}
    for place, kind in enumerate('qkv'):
        name = f'random_{kind}'
        ids = ranking(data_free_score(name, tensors), candidates(), 10, name)
        assert sorted(ids.tolist()) == list(range(place * 10, place * 10 + 10))
    with pytest.raises(ValueError, match="criterion='random_q': 11 entries are wanted out of 10"):
        ranking(data_free_score('random_q', tensors), candidates(), 11, 'random_q')


def test_random_is_uniform_and_seeded():
    tensors = {n: torch.nn.Parameter(torch.zeros(s)) for n, s in SHAPES.items()}
    draw = lambda seed: ranking(data_free_score('random', tensors, seed), candidates(), 500, 'random')  # noqa: E731
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert abs((draw(0) < 30).double().mean() - 30 / 2030) < 0.02


def test_magnitudes():
    tensors = {'a': torch.nn.Parameter(torch.tensor([[1.0, -5.0], [3.0, 0.1]]))}
    row = [Candidate('a', (0, 2), 'q', 0, 'blocks.0')]
    assert ranking(data_free_score('magnitude', tensors), row, 2).tolist() == [1, 2]
    assert ranking(data_free_score('small_magnitude', tensors), row, 2).tolist() == [3, 0]


def test_all_criteria_are_known_and_others_not():
    tensors = {n: torch.nn.Parameter(torch.randn(s)) for n, s in SHAPES.items()}
    for criterion in CRITERIA:
        needs_data = CRITERIA[criterion].needs_data
        scores = score(criterion, fisher()) if needs_data else data_free_score(criterion, tensors)
        assert all(torch.isfinite(part).all() for part in scores.values())
    with pytest.raises(ValueError, match="criterion='hessian'"):
        score('hessian', fisher())
    with pytest.raises(ValueError, match="criterion='hessian'"):
        data_free_score('hessian', tensors)


def test_a_criterion_is_added_in_one_place(monkeypatch):
    monkeypatch.setattr(criteria, 'CRITERIA', dict(CRITERIA))

    @criteria.register_criterion('sum')
    def both(fisher, coef):
        return {name: F + fisher.shifted[name] for name, F in fisher.clean.items()}

    found = fisher()
    assert torch.equal(score('sum', found)['a'], found.clean['a'] + found.shifted['a'])
    assert 'sum' in criteria.fisher_criteria()
    with pytest.raises(ValueError, match="there is a criterion 'sum' already"):
        criteria.register_criterion('sum')(both)
    with pytest.raises(ValueError, match="criterion='random' takes no Fisher information"):
        score('random', found)
    with pytest.raises(ValueError, match="criterion='sum' needs Fisher information"):
        data_free_score('sum', {})


def test_checks_of_an_estimation():
    found = fisher()
    found.check()
    found.shifted['b'][0, 0] = float('nan')
    with pytest.raises(ValueError, match=r"F\(x'\) has NaN or infinite entries in b"):
        found.check()
    zero = {n: torch.zeros(s) for n, s in SHAPES.items()}
    with pytest.raises(ValueError, match='zero everywhere'):
        DomainFisher(zero, zero, torch.zeros(1, 2), 1.0, TAU).check()
