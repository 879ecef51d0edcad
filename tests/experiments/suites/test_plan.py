"""Order, folders, command lines and identities of cells."""

import pytest

from mmseg_dafm.experiments.suites.plan import Cell, commands, config_options, folder_of, needs_of, output_of, plan
from mmseg_dafm.experiments.suites.run_config import read_config, run_hash
from mmseg_dafm.experiments.suites.suite_load import load_suite
from tests.experiments.suites.common import write_suite

TEXT = """
seeds = [0, 1]
runs = [
    dict(name='ft', config=CONFIG, options=['model.backbone.init_cfg.checkpoint={checkpoint:pre}', '{options:sweep}']),
    dict(name='pre', config=CONFIG, once=True, row=None, options=['train_cfg.max_iters=30']),
    dict(name='sweep', command=['lr_sweep.py', 'x', '--out', '{work_dir}'], output='sweep.json', once=True, row=None),
    dict(name='drift', command=['drift.py', 'ft={checkpoint:ft}', '--seed', '{seed}', '{run:ft}'], output='d.json', row=None),
]
columns = [dict(name='fog', value='fog/mIoU')]
"""


@pytest.fixture
def suite(tmp_path):
    return load_suite(write_suite(tmp_path, TEXT))


def test_seeds_are_outermost_and_needs_come_first_and_once(suite):
    expected = [('pre', 0), ('sweep', 0), ('ft', 0), ('drift', 0), ('ft', 1), ('drift', 1)]
    assert plan(suite) == expected
    assert plan(suite, only=['drift'], seeds=[5]) == [('pre', 0), ('sweep', 0), ('ft', 5), ('drift', 5)]
    assert needs_of(suite, Cell('ft', 1)) == [('pre', 0), ('sweep', 0)]
    with pytest.raises(ValueError, match="--only 'fft': .*suite.py has no such run; use some of ft, pre"):
        plan(suite, only=['fft'])


def test_placeholders_become_folders_checkpoints_and_rates(suite, tmp_path):
    cell, out = Cell('ft', 1), tmp_path / 'out'
    assert folder_of(suite, cell, out) == out / 'ft_seed1'
    (out / 'sweep').mkdir(parents=True)
    preview = config_options(suite, cell, out, waiting=True)
    assert preview == ['randomness.seed=1', f'model.backbone.init_cfg.checkpoint={out}/pre/iter_30.pth', '{options:sweep}']
    (out / 'sweep/sweep.json').write_text('{"cfg_options": ["lr=0.1", "b=2"]}')
    assert config_options(suite, cell, out) == [*preview[:2], 'lr=0.1', 'b=2']
    (out / 'sweep/sweep.json').write_text('{}')
    with pytest.raises(RuntimeError, match=r"run 'ft' takes \{options:sweep\}, but .*sweep.json holds no list cfg_options"):
        config_options(suite, cell, out)
    drift = ['drift.py', f'ft={out}/ft_seed1/iter_20.pth', '--seed', '1', f'{out}/ft_seed1']
    assert commands(suite, Cell('drift', 1), out) == [drift]
    assert output_of(suite, cell, out) == out / 'ft_seed1/domain_iou_iter_20.json'


def test_a_config_is_trained_without_validation_and_its_last_checkpoint_tested(suite, tmp_path):
    train, test = commands(suite, Cell('pre', 0), tmp_path, processes=2)
    assert '--targets' not in test
    folder = str(tmp_path / 'pre')
    options = ['--launcher', 'pytorch', '--cfg-options', 'randomness.seed=0', 'train_cfg.max_iters=30']
    assert train[2:] == ['--resume', '--work-dir', folder, *options, 'train_cfg.val_begin=31']
    assert test[2:] == [f'{folder}/iter_30.pth', '--work-dir', folder, *options]


def test_targets_are_tested_instead_of_the_configs_sets_and_are_part_of_the_identity(tmp_path):
    plain = load_suite(write_suite(tmp_path, TEXT))
    text = TEXT.replace('once=True, row=None, options', "once=True, targets=['acdc'], options")
    other = load_suite(write_suite(tmp_path, text))
    train, test = commands(other, Cell('pre', 0), tmp_path)
    assert test[-2:] == ['--targets', 'acdc']
    assert '--targets' not in train
    assert run_hash(other, other.run('pre')) != run_hash(plain, plain.run('pre'))


def changed(tmp_path, *pairs):
    text, config = TEXT, tmp_path / 'config.py'
    path = write_suite(tmp_path, text)
    for old, new in pairs:
        if old in config.read_text():
            config.write_text(config.read_text().replace(old, new))
        else:
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
    read_config.__globals__['_read'].cache_clear()
    suite = load_suite(path)
    return {run.name: run_hash(suite, run) for run in suite.runs}


def test_the_identity_covers_what_changes_a_run_and_nothing_else(tmp_path):
    first = changed(tmp_path)
    assert changed(tmp_path, ('old/place', 'new/place'), ("data_root='here'", "data_root='there'")) == first
    assert changed(tmp_path, ('seeds = [0, 1]', 'seeds = [0]')) == first
    assert changed(tmp_path, ('data = dict(', '# a remark\ndata = dict(')) == first
    deeper = changed(tmp_path, ('depth=18', 'depth=34'))
    assert {name for name in first if deeper[name] != first[name]} == {'ft', 'pre', 'drift'}
    # what starts from a run is another run when that is
    longer = changed(tmp_path, ('max_iters=30', 'max_iters=40'))
    assert {name for name in first if longer[name] != first[name]} == {'ft', 'pre', 'drift'}
    assert changed(tmp_path, ('weights.pth', 'others.pth'))['pre'] != first['pre']


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ("'train_cfg.max_iters=30'", "'train_cfg.max_iters=x'", 'gives neither train_cfg.max_iters nor max_epochs'),
        ("'train_cfg.max_iters=30'", "'hooks.3.type=Y'", r"options \['hooks.3.type=Y'\] do not fit .*; correct the keys"),
        ("name='pre', config=", "name='pre', config='no/' + ", "config 'no/.*does not exist: correct the path"),
    ],
)
def test_configs_that_do_not_fit_are_refused_by_run(tmp_path, old, new, words):
    path = write_suite(tmp_path, TEXT)
    path.write_text(path.read_text().replace(old, new))
    suite = load_suite(path)
    with pytest.raises(ValueError, match=f"suite.py: run 'pre': .*({words})"):
        run_hash(suite, suite.run('pre'))


def test_an_option_with_an_unknown_beginning_is_refused(tmp_path):
    text = "runs = [dict(name='a', config=CONFIG, options=[OPTION])]\ncolumns = [dict(name='fog', value='fog')]\n"
    suite = load_suite(write_suite(tmp_path, text.replace('OPTION', "'bacbone.depth=1'")))
    words = (
        r"suite.py: run 'a': the option 'bacbone.depth' begins with 'bacbone', which is not in .*config.py: correct it to one of"
    )
    with pytest.raises(ValueError, match=words):
        read_config(suite, suite.run('a'))
    for option in ("'model.backbone.depth=1'", "'load_from=x.pth'", "'find_unused_parameters=True'"):
        suite = load_suite(write_suite(tmp_path, text.replace('OPTION', option)))
        assert read_config(suite, suite.run('a')).checkpoint == 'iter_20.pth'
