"""FisherTuneHook: options that cannot work are refused before training."""

import pytest

from mmseg_dafm.fishertune.score_file import load_fisher
from mmseg_dafm.hooks.fisher_estimation import Estimation
from tests.hooks.fisher_run import build, config, train


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (dict(criterion='best'), "criterion='best' is unknown"),
        (dict(delta_min=0.1), 'delta_min=0.1, delta_max=0.05'),
        (dict(delta_max=5.0), '0.05 is 5 %'),
        (dict(schedule='cosine'), "schedule='cosine' is unknown"),
        (dict(coef='log'), "coef='log' is unknown"),
        (dict(interval=0), 'interval=0'),
        (dict(estimation=dict(estimator='x')), "estimation.estimator='x'"),
        (dict(estimation=dict(label_source='x')), "estimation.label_source='x'"),
        (dict(estimation=dict(images=1)), 'images=1 must be at least 2'),
        (dict(estimation=dict(images='many')), "estimation.images='many' must be a whole number"),
        (dict(estimation=dict(sgvb_lr=0)), 'sgvb_lr=0 must be above 0'),
        (
            dict(estimation=dict(estimator='batch_gradient')),
            "estimator='batch_gradient' .* has no shift, which criterion='rank' needs",
        ),
        (dict(estimation=dict(shift=dict(factor=0.0))), "shift={'factor': 0.0} has no shift, which criterion='rank' needs"),
        (dict(criterion='dF', estimation=dict(shift=dict(probability=0, positions=[1]))), "has no shift, which criterion='dF'"),
        (dict(estimation=dict(image=5)), "a key that does not exist: .*'image'"),
        (dict(estimation=dict(seed=5)), "the hook's own seed"),
        (dict(estimation=dict(amp='float16')), "amp='float16' must be False, or True"),
        (dict(estimation=dict(shift=dict(strength=1))), "unknown keys \\['strength'\\]"),
    ],
)
def test_bad_options(tmp_path, hook, message):
    with pytest.raises(ValueError, match=message):
        build(config(tmp_path, hook)).train()


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (dict(warmup_iters=8), 'leaves no iteration of max_iters=8'),
        (dict(criterion='random', scores='x'), "is not used by criterion='random'"),
        (dict(criterion='random_q'), 'has 1,728 candidates, fewer than the 2,035 weights of delta_max=0.05'),
        (dict(estimation=dict(shift=dict(positions=[30]))), 'block numbers 0 to 2'),
        (dict(estimation=dict(shift=dict(probability=2))), 'must lie in'),
        (dict(scores='nowhere.safetensors'), 'do not exist'),
    ],
)
def test_what_would_fail_after_the_warm_up_fails_before_it(tmp_path, hook, message):
    runner = build(config(tmp_path, hook))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        runner.train()
    assert runner.iter == 0


@pytest.mark.slow
def test_a_path_that_does_not_apply_is_refused_before_the_warm_up(tmp_path):
    attention = dict(type='VisionTransformer', img_size=64, embed_dims=24, num_layers=3, num_heads=2, out_indices=(2,))
    cfg = config(tmp_path, dict(estimation=dict(path='batched')))
    cfg.model.backbone = attention
    cfg.model.decode_head.in_index = 0
    with pytest.raises(ValueError, match='belongs to MultiheadAttention'):
        train(cfg)
    # mmseg's own ViT and nn.MultiheadAttention, one image at a time
    cfg.custom_hooks[0].estimation.path = 'auto'
    cfg.work_dir = str(tmp_path / 'auto')
    assert train(cfg).optim_wrapper.count
    assert load_fisher(tmp_path / 'auto' / 'dr_fim.safetensors').meta['path'] == 'loop'


def test_checkpointing_warns_of_the_loop_and_its_cost(tmp_path, caplog):
    cfg = config(tmp_path, iterations=3)
    cfg.model.backbone.gradient_checkpointing = True
    with caplog.at_level('WARNING', logger='mmseg_dafm.fishertune.estimate'):
        train(cfg)
    (record,) = [record for record in caplog.records if 'one image at a time' in record.message]
    assert record.levelname == 'WARNING'
    assert '2 times as many passes' in record.message
    assert load_fisher(tmp_path / 'dr_fim.safetensors').meta['path'] == 'loop'


def test_equation_16_as_printed_warns(tmp_path, capfd):
    cfg = config(tmp_path, dict(criterion='random', schedule='threshold'), iterations=3)
    train(cfg)
    assert 'candidates will be trained' in capfd.readouterr().err + (next(tmp_path.glob('*/*.log'))).read_text()


def test_another_optimizer_wrapper_is_refused(tmp_path):
    wrapper = dict(_delete_=True, type='OptimWrapper', constructor='DefaultOptimWrapperConstructor')
    cfg = config(tmp_path)
    cfg.optim_wrapper = dict(type=wrapper['type'], optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(ValueError, match='needs optim_wrapper.type FisherTuneOptimWrapper'):
        train(cfg)


def test_the_optimizer_wrapper_without_the_hook_is_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.custom_hooks = [dict(type='EMAHook')]
    runner = build(cfg)
    with pytest.raises(ValueError, match='FisherTuneOptimWrapper would train nothing of the backbone, .*FisherTuneHook'):
        runner.train()
    assert runner.iter == 0


def test_an_adapter_is_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.model.backbone.adapter = dict(type='AdaptFormer', bottleneck=4)
    with pytest.raises(ValueError, match='the backbone has an adapter, which would stay frozen'):
        train(cfg)


def test_a_frozen_backbone_is_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.model.backbone.frozen = True
    with pytest.raises(ValueError, match='has frozen=True and would never learn'):
        train(cfg)


def test_growth_within_an_accumulated_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match='multiples of optim_wrapper.accumulative_counts=4'):
        train(config(tmp_path, optim_wrapper=dict(accumulative_counts=4)))


@pytest.mark.parametrize(
    ('old', 'key', 'new'),
    [
        (dict(estimator='batch'), 'estimator', 'batch_gradient'),
        (dict(path='batch'), 'path', 'batched'),
        (dict(blocks=3), 'updates', 3),
    ],
)
def test_spellings_of_version_0_1_are_taken_with_a_warning(old, key, new):
    with pytest.warns(DeprecationWarning, match=str(new) if key != 'updates' else 'updates'):
        found = Estimation.of(old)
    assert getattr(found, key) == new
