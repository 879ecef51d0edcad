"""tools/benchmark/fisher_tune.py: the contestants do what their names say, bytes are counted right, reports are written."""

import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark'


@pytest.fixture
def bench():
    """The script as a module; its helpers lie beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import fisher_tune as module

        yield module
        for name in ('fisher_tune', 'fisher_contestants', 'measure', 'report'):
            sys.modules.pop(name, None)


@pytest.fixture
def tensors(bench):
    torch.manual_seed(0)
    model = bench.Tensors(32, 2)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def moved(model, contestant) -> tuple[int, int]:
    before = [p.detach().clone() for p in model.parameters()]
    contestant.step()
    pairs = list(zip(before, model.parameters(), strict=True))
    return sum(int((one != p).sum()) for one, p in pairs), sum(p.numel() for p in model.parameters())


def test_each_way_moves_its_share_of_the_weights(bench, tensors):
    changed, size = moved(tensors, bench.dense(tensors, 'foreach'))
    assert changed > 0.99 * size
    changed, _ = moved(tensors, bench.masked(tensors, 0.05, 'foreach'))
    assert 0.04 * size < changed < 0.06 * size
    for parameter in tensors.parameters():
        parameter.grad = torch.randn_like(parameter)
    ours = bench.ours(tensors, 3, 0.05, 'foreach')
    for parameter in tensors.parameters():
        parameter.grad = torch.randn_like(parameter)
    assert moved(tensors, ours)[0] == int(0.05 * size)


def test_bytes_of_a_hand_counted_step(bench, tensors):
    size = sum(p.numel() for p in tensors.parameters())
    tensor_count = len(list(tensors.parameters()))
    assert bench.dense(tensors, 'foreach').bytes() == dict(state=8 * size + 4 * tensor_count, gradients=4 * size, extra=0)
    gradients = {p: p.grad for p in tensors.parameters()}
    ours = bench.ours(tensors, 2, 0.05, 'foreach')
    for parameter, gradient in gradients.items():
        parameter.grad = gradient
    count = int(0.05 * size)
    # moments and two step counts; values, gradients, position and place of each element
    assert ours.bytes() == dict(state=8 * count + 4 * 2, gradients=4 * size, extra=(4 + 4 + 8 + 8) * count)


def test_random_rankings_are_distinct_and_in_range(bench):
    from fisher_contestants import random_ranking

    for start, stop, count in ((0, 1000, 900), (500, 100_000, 4000)):
        ranking = random_ranking(start, stop, count)
        assert len(ranking) == len(ranking.unique()) == count
        assert start <= int(ranking.min()) < int(ranking.max()) < stop
        assert not torch.equal(ranking, ranking.sort().values)


def main(bench, monkeypatch, folder, *arguments) -> tuple[dict, str]:
    monkeypatch.setattr(sys, 'argv', ['fisher_tune.py', '--device', 'cpu', '--out', str(folder), *arguments])
    monkeypatch.setattr(bench.torch, 'set_num_threads', lambda count: None)
    bench.main()
    found = {path.suffix: path.read_text() for path in folder.iterdir()}
    assert found.keys() == {'.json', '.md'}
    return json.loads(found['.json']), found['.md']


def test_the_script_times_optimizer_steps(bench, monkeypatch, tmp_path, capsys):
    arguments = ('--tensors', '--model', 'tiny', '--repeats', '1', '--warmup', '0', '--cohorts', '5')
    result, text = main(bench, monkeypatch, tmp_path, *arguments)
    assert text in capsys.readouterr().out
    assert {bench.FOREACH, bench.MASK, 'ours, 1 cohort', 'ours, 5 cohorts'} <= result['times'].keys() == result['memory'].keys()
    assert result['memory']['ours, 5 cohorts']['state'] < 0.06 * result['memory'][bench.FOREACH]['state']
    assert [row['goal'] for row in result['goals'] if 'state' in row['goal']] == [
        'optimizer state: ours, 5 cohorts / dense AdamW, foreach'
    ]
    assert all(row['goal'] in text for row in result['goals'])
    assert 'LoRA r=8: skipped' in text


@pytest.mark.slow
def test_the_script_times_training_steps(bench, monkeypatch, tmp_path):
    arguments = ('--model', 'small', '--size', '32', '--batch', '1', '--repeats', '1', '--warmup', '0', '--cohorts', '2')
    result, _ = main(bench, monkeypatch, tmp_path, *arguments)
    memory = result['memory']
    assert memory['ours, gradients freed']['gradients'] < 0.01 * memory['ours, 1 cohort']['gradients']
    assert memory['ours, early half empty']['gradients'] < 0.6 * memory['ours, 1 cohort']['gradients']
    assert (bench.LORA in result['times']) != (bench.LORA in result['skipped'])


def test_goals_are_judged_by_their_limits(bench):
    args = bench.argparse.Namespace(tensors=True, cohorts=1)
    times = {bench.FOREACH: dict(wall=4.0), bench.FUSED: dict(wall=1.0), 'ours, 1 cohort': dict(wall=1.1)}
    memory = {bench.FOREACH: dict(state=100), 'ours, 1 cohort': dict(state=6)}
    assert [row['met'] for row in bench.judge(times, memory, args, gpu=False)] == [False, True, True]
    assert [row['met'] for row in bench.judge(times, memory, args, gpu=True)] == [None, False, True]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--share', '1'], 'must lie in'), (['--size', '100'], 'multiple of 16'), (['--model', 'tiny'], 'with --tensors only')],
)
def test_wrong_arguments_are_refused(bench, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['fisher_tune.py', *arguments])
    with pytest.raises(SystemExit):
        bench.parse_args()
    assert message in capsys.readouterr().err
