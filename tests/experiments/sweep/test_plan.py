"""Which rates a sweep tries and chooses, against brute force."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_dafm.experiments.sweep.plan import (
    FEATURE_LRS,
    HEAD_LRS,
    TIED_LRS,
    Point,
    Trial,
    allowances,
    best_of,
    between,
    plan_steps,
    sweep,
    thin,
)

NAN = math.nan


def run(steps, score, budget=None):
    asked = []

    def evaluate(number, points):
        asked.extend((number, point) for point in points)
        return [score(point) for point in points]

    return sweep(steps, Point(0.0, 1.0), evaluate, budget), asked


def smooth(best_feature, best_head):
    """A score with one peak, separable in the logarithms."""
    return lambda p: -((math.log10(p.feature_lr / best_feature)) ** 2) - math.log10(p.head_lr / best_head) ** 2


def test_the_papers_lists_have_the_papers_lengths():
    assert (len(FEATURE_LRS), len(TIED_LRS['ft']), len(TIED_LRS['lp-ft']), len(TIED_LRS['lp-ft-swav'])) == (10, 8, 6, 8)
    assert {10, 3, 0.3, 0.1} < set(HEAD_LRS)


def test_two_steps_try_the_sum_and_not_the_product():
    outcome, asked = run(plan_steps('two-step'), smooth(3e-3, 0.1))
    assert outcome.chosen.point == Point(3e-3, 0.1)
    # 1.0 is not tried again in step 2
    assert len(asked) == len(outcome.trials) == len(FEATURE_LRS) + len(HEAD_LRS) - 1
    assert {point.head_lr for number, point in asked if number == 1} == {1.0}
    assert {point.feature_lr for number, point in asked if number == 2} == {3e-3}


def test_a_second_round_finds_what_one_round_misses():
    """The best eta_theta depends on eta_w, as after a conversion."""
    lookup = {(0.01, 1.0): 5, (0.1, 1.0): 4, (0.01, 0.1): 6, (0.1, 0.1): 9}
    score = lambda point: lookup[tuple(point)]  # noqa: E731
    lists = dict(feature_lrs=(0.1, 0.01), head_lrs=(1.0, 0.1))
    assert run(plan_steps('two-step', **lists), score)[0].chosen.point == Point(0.01, 0.1)
    outcome, asked = run(plan_steps('two-step', **lists, rounds=2), score)
    assert outcome.chosen.point == Point(0.1, 0.1)
    assert len(asked) == len(set(asked)) == 4


@given(st.sampled_from(FEATURE_LRS), st.sampled_from(HEAD_LRS), st.integers(1, 3))
def test_the_chosen_one_is_never_worse_than_any_trial(best_feature, best_head, rounds):
    score = lambda p: smooth(best_feature, best_head)(p) + math.sin(1e4 * p.feature_lr + p.head_lr)  # noqa: E731
    outcome, _ = run(plan_steps('two-step', rounds=rounds), score)
    assert outcome.chosen.score == max(trial.score for trial in outcome.trials)
    assert len({trial.point for trial in outcome.trials}) == len(outcome.trials)


METHODS = {
    'DAFT': dict(mode='two-step'),
    'DAFT, two rounds': dict(mode='two-step', rounds=2),
    'FT': dict(mode='tied'),
    'LP-FT': dict(mode='tied', tied='lp-ft'),
    'LP-FT of SwAV': dict(mode='tied', tied='lp-ft-swav'),
    'LP': dict(mode='head-only'),
}


@pytest.mark.parametrize('budget', range(4, 25))
@pytest.mark.parametrize('method', METHODS)
def test_the_same_budget_is_the_same_number_of_trials_for_every_method(budget, method):
    outcome, asked = run(plan_steps(**METHODS[method]), lambda p: -((math.log10(p.head_lr) + 1) ** 2), budget=budget)
    assert len(asked) == len(set(asked)) == len(outcome.trials) == budget
    if 'DAFT' in method:
        assert {number for number, _ in asked} >= {1, 2}


def test_short_lists_are_refined_inside_their_range():
    outcome, _ = run(plan_steps('tied', tied='lp-ft'), lambda p: 0.0, budget=8)
    rates = {trial.point.head_lr for trial in outcome.trials}
    # the middles of the two widest gaps with the larger rates
    assert rates - set(TIED_LRS['lp-ft']) == {5.5e-5, 5.5e-6}
    outcome, _ = run(plan_steps('two-step'), smooth(3e-3, 0.1), budget=18)
    assert {trial.point.head_lr for trial in outcome.trials} - set(HEAD_LRS) == {5.5, 0.55}
    assert outcome.chosen.point == Point(3e-3, 0.1)


@given(st.lists(st.integers(-40, 8), min_size=2, max_size=8, unique=True), st.integers(0, 40))
def test_new_values_are_distinct_and_leave_no_gap_wider_than_the_widest_was(exponents, count):
    values = [2.0**e for e in exponents]
    new = between(values, count)
    together = sorted({*values, *new})
    assert len(together) == len(values) + count
    assert (together[0], together[-1]) == (min(values), max(values))
    gaps = lambda row: [high / low for low, high in zip(row, row[1:], strict=False)]  # noqa: E731
    assert max(gaps(together)) <= max(gaps(sorted(values)))
    if count >= len(values) - 1:
        assert max(gaps(together)) < max(gaps(sorted(values)))


@pytest.mark.parametrize(
    ('plan', 'total'),
    [
        (dict(mode='tied', feature_lrs=(0.1, 0.01)), 2),
        (dict(mode='head-only', head_lrs=(0.1, 0.01, 1.0)), 3),
        (dict(mode='two-step', feature_lrs=(0.1, 0.01), head_lrs=(0.1, 1.0)), 3),
        (dict(mode='two-step', head_lrs=(0.1, 0.3)), 12),
    ],
)
def test_given_lists_that_are_shorter_than_the_budget_are_refused(plan, total):
    assert len(run(plan_steps(**plan), smooth(0.1, 0.1) if plan['mode'] == 'two-step' else lambda p: 0.0, total)[1]) == total
    with pytest.raises(ValueError, match=f'--budget {total + 1} asks for more trials than the {total} that the given rates make'):
        run(plan_steps(**plan), lambda p: 0.0, total + 1)


def test_given_lists_in_two_rounds_may_leave_some_of_the_budget_and_say_so():
    steps = plan_steps('two-step', (0.1, 0.01), (1.0, 0.1), rounds=2)
    outcome, asked = run(steps, smooth(0.1, 1.0), budget=6)
    assert len(asked) == 3
    assert outcome.notes[-1] == '3 trials of a budget of 6: later rounds met rates that were tried before.'


def test_tied_and_head_only_points():
    tied, _ = run(plan_steps('tied', TIED_LRS['ft']), smooth(0.01, 0.01))
    assert all(trial.point.feature_lr == trial.point.head_lr for trial in tied.trials)
    assert tied.chosen.point == Point(0.01, 0.01)
    head, _ = run(plan_steps('head-only'), lambda p: -abs(math.log(p.head_lr / 0.3)))
    assert {trial.point.feature_lr for trial in head.trials} == {0.0}
    assert head.chosen.point.head_lr == 0.3


def test_diverged_is_worst_and_ties_go_to_the_smaller_rates():
    assert best_of([Trial(Point(1, 1), NAN), Trial(Point(0.1, 1), -1e9)]).point.feature_lr == 0.1
    assert best_of([Trial(Point(0.1, 1), 5.0), Trial(Point(0.01, 1), 5.0)]).point.feature_lr == 0.01
    steps = plan_steps('two-step', (1.0, 0.1), (1.0, 0.3))
    outcome, _ = run(steps, lambda p: NAN if p.feature_lr == 1.0 else p.head_lr)
    assert [trial.diverged for trial in outcome.trials] == [True, False, False]
    with pytest.raises(ValueError, match='all 2 trials diverged: sweep smaller rates'):
        run(steps, lambda p: NAN)


def test_an_optimum_at_the_end_of_a_list_is_noted():
    outcome, _ = run(plan_steps('two-step'), smooth(1.0, 0.1))
    assert outcome.notes == ('step 1: feature_lr=0.1 is the largest of its list; a better one may lie beyond.',)


@given(st.lists(st.integers(-40, 8), min_size=1, max_size=12, unique=True), st.integers(1, 12))
def test_thinning_keeps_ends_count_and_order(exponents, count):
    values = tuple(2.0**e for e in exponents)
    kept = thin(values, count)
    assert len(kept) == min(count, len(values))
    assert [v for v in values if v in kept] == list(kept)
    if count > 1:
        assert {min(values), max(values)} <= set(kept)


def test_thinning_an_even_list_is_even():
    values = tuple(10.0**-i for i in range(9))
    assert thin(values, 5) == values[::2]
    assert thin(values, 3) == values[::4]
    assert thin(values, 1) == (1e-4,)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 60))
def test_allowances_fit_the_sizes_and_add_up(sizes, budget):
    if budget < len(sizes):
        with pytest.raises(ValueError, match=f'--budget {budget} is below one trial for each of the {len(sizes)} steps'):
            allowances(sizes, budget)
        return
    shares = allowances(sizes, budget)
    assert sum(shares) == min(budget, sum(sizes))
    assert all(1 <= share <= size for share, size in zip(shares, sizes, strict=True))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(mode='grid'), "got 'grid'"),
        (dict(mode='two-step', rounds=0), '1 round or more'),
        (dict(mode='tied', feature_lrs=()), 'feature_lrs must be distinct positive numbers'),
        (dict(mode='two-step', head_lrs=(1, -1)), 'head_lrs must be distinct positive numbers'),
        (dict(mode='two-step', head_lrs=(1, 1.0)), 'head_lrs must be distinct'),
        (dict(mode='tied', feature_lrs=(NAN,)), 'feature_lrs must be distinct positive numbers'),
    ],
)
def test_wrong_lists_and_modes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_steps(**arguments)
