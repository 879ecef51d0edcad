"""FisherTuneHook: three steps in one run, resume, reuse of scores, two processes, clear errors."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmseg_dafm.fishertune.criteria import ranking, score
from mmseg_dafm.fishertune.score_file import load_fisher
from mmseg_dafm.hooks import fisher_tune
from mmseg_dafm.hooks.fisher_estimation import Estimation
from tests.hooks.fisher_run import ITERATIONS, WARMUP, build, config, mask2former, mask2former_hook, train
from tests.processes import run_ranks

SCRIPT = Path(__file__).with_name('fisher_ranks.py')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A finished run and its folder."""
    folder = tmp_path_factory.mktemp('fisher')
    return train(config(folder)), folder


def weights(folder, iteration):
    return torch.load(folder / f'iter_{iteration}.pth', weights_only=False)['state_dict']


def moved(before, after):
    """Flat positions that differ, by tensor name."""
    return {name: (before[name] != after[name]).flatten().nonzero().flatten() for name in before}


def test_warm_up_leaves_the_backbone_to_the_bit(finished):
    _, folder = finished
    first, last = weights(folder, 1), weights(folder, WARMUP)
    changed = {name for name, at in moved(first, last).items() if len(at)}
    assert changed
    assert all(name.startswith('decode_head') for name in changed)


def test_exactly_the_selected_weights_move(finished):
    runner, folder = finished
    change = moved(weights(folder, WARMUP), weights(folder, ITERATIONS))
    found, start = set(), 0
    for name, tensor in runner.optim_wrapper.tensors.items():
        at = change.pop(f'backbone.{name}')
        found |= {start + position for position in at.tolist()}
        start += tensor.numel()
    selected = set(runner.optim_wrapper.ranking.tolist())
    assert found <= selected
    # a weight whose gradient is exactly zero stays
    assert len(found) > 0.95 * len(selected)
    assert not any(len(at) for name, at in change.items() if name.startswith('backbone'))


def test_the_set_grows_to_delta_max(finished):
    runner, _ = finished
    wrapper = runner.optim_wrapper
    assert wrapper.count == len(wrapper.ranking) == int(0.05 * wrapper.backbone_parameters)
    assert len(wrapper.cohorts) == 3
    assert wrapper.cohorts[0] == int(0.01 * wrapper.backbone_parameters)
    values = runner.message_hub.get_scalar('train/trained_weights').data[0]
    assert values[-1] == wrapper.count


def test_what_is_written(finished):
    runner, folder = finished
    record = json.loads((folder / 'fisher_selection.json').read_text())
    wrapper = runner.optim_wrapper
    assert sum(part['selected'] for part in record['parts']) == record['selected'] == len(wrapper.ranking)
    assert sum(part['weights'] for part in record['parts']) == sum(t.numel() for t in wrapper.tensors.values())
    assert set(record['overlap']) == {'F', 'dF'}
    assert (folder / 'fisher_sensitivity.png').stat().st_size > 10_000
    fisher = load_fisher(folder / 'dr_fim.safetensors')
    again = ranking(score('rank', fisher), fisher.candidates, len(wrapper.ranking))
    assert torch.equal(again, wrapper.ranking)
    assert record['overlap']['F'] < 1


@pytest.mark.slow
def test_the_estimation_leaves_the_random_state_alone(tmp_path):
    """With rate 0 for the backbone, every loss is that of a run without estimation: random flips and dropout are the same."""
    losses = []
    for criterion in ('rank', 'random'):
        still = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.0))))
        cfg = config(tmp_path / criterion, dict(criterion=criterion), optim_wrapper=still)
        cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='RandomFlip', prob=0.5))
        cfg.model.decode_head.dropout_ratio = 0.5
        train(cfg)
        log = torch.load(tmp_path / criterion / f'iter_{ITERATIONS}.pth', weights_only=False)['message_hub']['log_scalars']
        losses.append(log['train/loss'].data[0].tolist())
    assert len(losses[0]) == ITERATIONS
    assert losses[0] == losses[1]


def test_training_batches_are_those_of_a_run_without_estimation(finished, tmp_path):
    """The warm-up and the random state after the estimation are the same as with scores that need no data."""
    _, folder = finished
    other = train(config(tmp_path, dict(criterion='random')))
    assert all(torch.equal(value, weights(tmp_path, WARMUP)[name]) for name, value in weights(folder, WARMUP).items())
    kept = [
        torch.load(f / f'iter_{ITERATIONS}.pth', weights_only=False)['message_hub']['log_scalars'] for f in (folder, tmp_path)
    ]
    assert other.optim_wrapper.count == int(0.05 * other.optim_wrapper.backbone_parameters)
    # the loss of the first tuning iteration is computed before any selected weight moved
    first, second = (log['train/loss'].data[0] for log in kept)
    assert first[WARMUP] == second[WARMUP]
    assert not (tmp_path / 'dr_fim.safetensors').exists()


@pytest.mark.parametrize('cut', [1, 2, 5])
def test_resume_never_estimates_again_and_is_exact(finished, tmp_path, cut):
    _, folder = finished
    cfg = config(tmp_path, resume=True, load_from=str(folder / f'iter_{cut}.pth'))
    if cut > WARMUP:
        cfg.custom_hooks[0].estimation.images = 100_000  # would take for ever
    runner = train(cfg)
    assert (tmp_path / 'dr_fim.safetensors').exists() == (cut <= WARMUP)
    expected = weights(folder, ITERATIONS)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_scores_of_a_file_are_used(finished, tmp_path):
    first, folder = finished
    cfg = config(tmp_path, dict(scores=str(folder / 'dr_fim.safetensors'), estimation=dict(images=100_000)))
    runner = train(cfg)
    assert torch.equal(runner.optim_wrapper.ranking, first.optim_wrapper.ranking)
    for name, value in weights(folder, ITERATIONS).items():
        assert torch.equal(value, runner.model.state_dict()[name]), name


@pytest.mark.slow
def test_scores_of_other_weights_are_refused(finished, tmp_path):
    _, folder = finished
    scores = dict(scores=str(folder / 'dr_fim.safetensors'))
    cfg = config(tmp_path, scores)
    cfg.randomness.seed = 7
    with pytest.raises(ValueError, match='same architecture with other weights'):
        train(cfg)
    cfg = config(tmp_path, scores)
    cfg.model.backbone.embed_dim = 36
    cfg.model.decode_head.in_channels = 36
    with pytest.raises(ValueError, match='scores of another model'):
        train(cfg)
    with pytest.raises(FileNotFoundError, match='do not exist'):
        train(config(tmp_path, dict(scores=str(tmp_path / 'none.safetensors'))))
    (tmp_path / 'half.safetensors').write_bytes((folder / 'dr_fim.safetensors').read_bytes()[:1000])
    with pytest.raises(ValueError, match='no whole safetensors file'):
        train(config(tmp_path, dict(scores=str(tmp_path / 'half.safetensors'))))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(delta_max=0.2), 'delta_max=0.2, but the weights of the checkpoint were selected with delta_max=0.05'),
        (dict(criterion='F'), "criterion='F', but .* with criterion='rank'"),
        (dict(interval=1), 'interval=1, but .* with interval=2'),
        (dict(seed=5), 'seed=5, but .* with seed=None'),
    ],
)
def test_a_selection_is_not_resumed_with_other_options(finished, tmp_path, options, message):
    cfg = config(tmp_path, options, resume=True, load_from=str(finished[1] / 'iter_5.pth'))
    with pytest.raises(ValueError, match=message):
        train(cfg)


@pytest.mark.slow
def test_scores_of_other_candidates_are_refused(finished, tmp_path):
    """Fused projections give equal tensors for other kinds."""
    rate = dict(backbone=dict(lr_mult=0.1))
    part = lambda kinds: dict(optim_wrapper=dict(paramwise_cfg=dict(candidates=dict(kinds=kinds), custom_keys=rate)))  # noqa: E731
    few = dict(delta_max=0.02, warmup_iters=0)
    train(config(tmp_path / 'q', few, iterations=1, **part(['q'])))
    scores = dict(few, scores=str(tmp_path / 'q' / 'dr_fim.safetensors'))
    train(config(tmp_path / 'same', scores, iterations=1, **part(['q'])))
    with pytest.raises(ValueError, match=r'scores of other candidates: 3 more parts \(q\) there, 6 more parts \(k, v\) here'):
        train(config(tmp_path / 'kv', scores, iterations=1, **part(['k', 'v'])))


def test_freed_gradients_and_frozen_tensors_go_together(tmp_path):
    """Tensors without a selected weight are frozen; the others free their gradients."""
    few = dict(criterion='random_q', delta_max=0.02)
    plain = train(config(tmp_path / 'plain', few))
    freed = train(config(tmp_path / 'freed', few, optim_wrapper=dict(free_gradients=True)))
    frozen = [name for name, tensor in freed.optim_wrapper.tensors.items() if not tensor.requires_grad]
    assert frozen
    assert all('mlp' in name for name in frozen)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, freed.model.state_dict()[name]), name


def test_an_error_of_the_first_process_is_told_to_all(tmp_path, monkeypatch):
    """Whatever it is, a full disk here: the vote comes before it is raised."""
    votes = []
    vote = fisher_tune.any_rank
    monkeypatch.setattr(fisher_tune, 'any_rank', lambda flag, device: votes.append(flag) or vote(flag, device))
    monkeypatch.setattr(fisher_tune, 'write_selection', lambda *_: (_ for _ in ()).throw(OSError('no space left')))
    with pytest.raises(OSError, match='no space left'):
        train(config(tmp_path, dict(criterion='random')))
    assert votes[-1] is True


@pytest.mark.parametrize('options', [dict(estimator='sgvb', sgvb_lr=0.5, pilot_images=2), dict(amp=True, estimator='plain')])
def test_other_ways_of_estimating(finished, tmp_path, options):
    runner = train(config(tmp_path, dict(estimation=options), iterations=3))
    found, usual = (load_fisher(folder / 'dr_fim.safetensors') for folder in (tmp_path, finished[1]))
    assert runner.optim_wrapper.count
    if 'amp' in options:
        # half precision does not keep from the batched path, and the numbers are nearly the same
        assert found.meta['path'] == 'batched'
        for name, F in usual.clean.items():
            assert 0 < float((found.clean[name] - F).norm() / F.norm()) < 0.1
    else:
        assert found.meta['estimator'] == 'sgvb'
        assert all(part.any() for part in found.clean.values())


@pytest.mark.slow
def test_sgvb_in_two_processes_ends_identical(tmp_path):
    folder = tmp_path / 'two'
    folder.mkdir()
    run_ranks(SCRIPT, tmp_path, [folder, 'sgvb'])
    first, second = (torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2))
    assert torch.equal(first['ranking'], second['ranking'])
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())


@pytest.mark.slow
@pytest.mark.parametrize('estimator', ['plain', 'von'])
def test_two_processes_equal_one(finished, tmp_path, estimator):
    folder = tmp_path / 'two'
    folder.mkdir()
    run_ranks(SCRIPT, tmp_path, [folder, estimator])
    first, second = (torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2))
    assert torch.equal(first['ranking'], second['ranking'])
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())
    one = finished[0] if estimator == 'plain' else train(config(tmp_path / 'one', dict(estimation=dict(estimator='von'))))
    joined = load_fisher(folder / 'dr_fim.safetensors')
    single = load_fisher(Path(one.work_dir) / 'dr_fim.safetensors')
    assert set(first['ranking'].tolist()) == set(one.optim_wrapper.ranking.tolist()) or _overlap(first['ranking'], one) > 0.97
    for name, F in single.clean.items():
        torch.testing.assert_close(joined.clean[name], F, rtol=2e-2, atol=1e-3 * float(F.max()))
        torch.testing.assert_close(joined.shifted[name], single.shifted[name], rtol=2e-2, atol=1e-3 * float(F.max()))


@pytest.mark.slow
def test_two_processes_with_uneven_shares_of_mask_classification(tmp_path):
    """Its loss averages over processes in training; an image's loss must not, nor wait for the other process."""
    folder = tmp_path / 'two'
    folder.mkdir()
    run_ranks(SCRIPT, tmp_path, [folder, 'mask2former'])
    found = load_fisher(folder / 'dr_fim.safetensors')
    ranks = [torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2)]
    assert torch.equal(ranks[0]['ranking'], ranks[1]['ranking'])
    assert found.meta['images'] == 5
    # the same estimation in this process, from the weights of the end of the warm-up
    cfg = config(tmp_path / 'one', mask2former_hook(), model=mask2former())
    runner = build(cfg)
    model = runner.model
    model.load_state_dict(weights(folder, WARMUP))
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    estimation = Estimation(**mask2former_hook()['estimation'])
    alone = estimation.run(model, wrapper, cfg.train_dataloader, None)
    for name, F in alone.clean.items():
        torch.testing.assert_close(found.clean[name], F, rtol=1e-3, atol=1e-5 * float(F.max()))


def _overlap(ids, runner):
    own = set(runner.optim_wrapper.ranking.tolist())
    return len(own & set(ids.tolist())) / len(own)


@pytest.mark.parametrize('criterion', ['F', 'dF', 'eq7', 'eq15', 'mean'])
def test_every_criterion_trains(finished, tmp_path, criterion):
    scores = str(finished[1] / 'dr_fim.safetensors')
    runner = train(config(tmp_path, dict(criterion=criterion, scores=scores), iterations=4))
    assert runner.optim_wrapper.count


@pytest.mark.slow
def test_scores_without_a_shift_serve_f_alone(tmp_path):
    """Squares of batch gradients hold the same numbers as F(x) and F(x')."""
    batch = dict(criterion='F', warmup_iters=0, estimation=dict(estimator='batch_gradient'))
    first = train(config(tmp_path / 'batch', batch, iterations=1))
    scores = dict(scores=str(tmp_path / 'batch' / 'dr_fim.safetensors'), warmup_iters=0)
    again = train(config(tmp_path / 'F', dict(scores, criterion='F'), iterations=1))
    assert torch.equal(again.optim_wrapper.ranking, first.optim_wrapper.ranking)
    for criterion in ('dF', 'rank', 'mean', 'eq7', 'eq15'):
        with pytest.raises(
            ValueError, match=f"criterion='{criterion}' compares .* equal everywhere .*estimator='batch_gradient'"
        ):
            train(config(tmp_path / criterion, dict(scores, criterion=criterion)))


class Compile(Hook):
    """Compiles the backbone once its weights are set."""

    priority = 'HIGHEST'

    def before_train(self, runner) -> None:
        runner.model.backbone = torch.compile(runner.model.backbone, backend='eager')


def compile_backbone(runner):
    runner.register_hook(Compile())


def compile_in_place(runner):
    runner.model.backbone.compile(backend='eager')


def compile_step(runner):
    runner.cfg.compile = dict(backend='eager')


@pytest.mark.slow
@pytest.mark.parametrize('way', [compile_backbone, compile_in_place, compile_step])
def test_a_compiled_model_goes_through_warm_up_estimation_and_growth(finished, tmp_path, way):
    """Scores, selected weights and training are those of the plain run, up to rounding."""
    runner = build(config(tmp_path))
    way(runner)
    runner.train()
    plain = finished[0].optim_wrapper
    assert list(runner.optim_wrapper.tensors) == list(plain.tensors)
    assert _overlap(runner.optim_wrapper.ranking, finished[0]) > 0.97
    assert runner.optim_wrapper.cohorts == plain.cohorts
    start = weights(finished[1], WARMUP)
    trained = {name: tensor - start[f'backbone.{name}'] for name, tensor in plain.tensors.items()}
    apart = {name: tensor - plain.tensors[name] for name, tensor in runner.optim_wrapper.tensors.items()}
    size = lambda parts: float(torch.cat([part.flatten() for part in parts.values()]).norm())  # noqa: E731
    assert size(trained) > 0
    assert size(apart) < 0.3 * size(trained)


def test_the_seed_of_the_run_selects(tmp_path):
    chosen = []
    for seed in (0, 1):
        cfg = config(tmp_path / str(seed), dict(criterion='random'), iterations=3)
        cfg.randomness.seed = seed
        chosen.append(train(cfg).optim_wrapper.ranking)
    assert not torch.equal(*chosen)


def test_group_tuning_trains_whole_groups_and_nothing_else(tmp_path):
    """Figure 3 of the paper: all weights of one kind in some blocks."""
    groups = [dict(kind='k', blocks=(0, 0)), dict(kind='ffn', blocks=(2, 2))]
    paramwise = dict(candidates=dict(groups=groups), custom_keys=dict(backbone=dict(lr_mult=0.1)))
    whole = dict(criterion='random', schedule='constant', delta_max=1.0)
    runner = train(config(tmp_path, whole, optim_wrapper=dict(paramwise_cfg=paramwise)))
    change = moved(weights(tmp_path, WARMUP), weights(tmp_path, ITERATIONS))
    change = {name: at for name, at in change.items() if 'backbone' in name and len(at)}
    block = 'backbone.timm_model.model.blocks'
    assert set(change) == {f'{block}.0.attn.qkv.weight', f'{block}.2.mlp.fc1.weight', f'{block}.2.mlp.fc2.weight'}
    rows = change[f'{block}.0.attn.qkv.weight'] // 24
    assert set(rows.tolist()) == set(range(24, 48))
    assert runner.optim_wrapper.count == 24 * 24 + 2 * 24 * 96
    with pytest.raises(ValueError, match=r'leaves the blocks \[1\] without candidates'):
        train(config(tmp_path / 'scored', dict(criterion='F'), optim_wrapper=dict(paramwise_cfg=paramwise)))


def test_rules_of_a_config(tmp_path):
    rules = [dict(tail=r'attn\.proj\.{leaf}', parts=['v'])]
    paramwise = dict(candidates=dict(extra_rules=rules), custom_keys=dict(backbone=dict(lr_mult=0.1)))
    cfg = config(tmp_path, dict(criterion='random'), iterations=3, optim_wrapper=dict(paramwise_cfg=paramwise))
    names = list(train(cfg).optim_wrapper.tensors)
    assert any(name.endswith('attn.proj.weight') for name in names)


def test_resume_behind_the_warm_up_without_selection_is_refused(finished, tmp_path):
    _, folder = finished
    state = torch.load(folder / 'iter_5.pth', weights_only=False)
    state['optimizer']['fisher_tune'].update(ranking=None, cohorts=[])
    for group in state['optimizer']['param_groups'][1:]:
        group['params'] = []
    torch.save(state, tmp_path / 'odd.pth')
    cfg = config(tmp_path / 'run', resume=True, load_from=str(tmp_path / 'odd.pth'))
    with pytest.raises(ValueError, match='without selected weights'):
        train(cfg)


def test_works_with_ema_and_accumulation(tmp_path):
    cfg = config(tmp_path, optim_wrapper=dict(accumulative_counts=2, clip_grad=dict(max_norm=0.1)))
    cfg.custom_hooks.append(dict(type='EMAHook'))
    runner = build(cfg)
    runner.train()
    assert runner.optim_wrapper.count == len(runner.optim_wrapper.ranking)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_mixed_precision_on_a_gpu(tmp_path):
    cfg = config(tmp_path, dict(estimation=dict(amp=True, estimator='von')))
    cfg.optim_wrapper.update(type='FisherTuneAmpOptimWrapper', dtype='float16', loss_scale='dynamic')
    runner = train(cfg)
    change = moved(weights(tmp_path, WARMUP), weights(tmp_path, ITERATIONS))
    assert 0 < sum(len(at) for name, at in change.items() if 'backbone' in name) <= len(runner.optim_wrapper.ranking)
