"""The table of the small DAFT experiment."""

from mmseg_dafm.evaluation.daft_table import DRIFT, SCORES, last_layer, mean_and_spread, to_markdown


def a_run(method: str, seed: int, value: float) -> dict:
    rates = ['optim_wrapper.paramwise_cfg.feature_lr=0.03', 'optim_wrapper.paramwise_cfg.head_lr=0.1']
    return dict(method=method, seed=seed, commit='abc', rates=rates, **dict.fromkeys(SCORES, value))


def test_mean_and_spread_over_seeds():
    assert mean_and_spread([1.0, 2.0, 3.0]) == '2.00 ± 1.00'
    assert mean_and_spread([0.12345], 3) == '0.123'
    assert mean_and_spread([]) == 'not run'


def test_methods_without_runs_say_so():
    drifts = {0: {'daft': dict.fromkeys(DRIFT, 0.5)}, 1: {'daft': dict.fromkeys(DRIFT, 0.7)}}
    text = to_markdown(['daft', 'ft'], [a_run('daft', 0, 50.0), a_run('daft', 1, 52.0)], drifts)
    head, _, daft, ft = text.splitlines()
    assert head.count('|') == daft.count('|') == ft.count('|')
    assert daft.startswith('| DAFT | 51.00 ± 1.41 |')
    assert '0.600 ± 0.141' in daft
    assert daft.endswith('| 0.03 | 0.1 | 0, 1 | abc |')
    assert ft.count('not run') == len(SCORES) + len(DRIFT)


def test_the_last_layer_is_taken():
    layer = lambda value: {'all': dict(median=dict(pooled_cosine=value, pixel_cosine=value), cka=value)}  # noqa: E731
    assert last_layer({'ft': {'a': layer(0.1), 'b': layer(0.2)}}) == {'ft': dict(pooled_cosine=0.2, pixel_cosine=0.2, cka=0.2)}
