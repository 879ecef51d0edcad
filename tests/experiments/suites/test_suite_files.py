"""The suites that come with the project: their configs exist, their options fit, their figures are the papers'."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import METRICS

from mmseg_dafm.experiments.suites.plan import plan
from mmseg_dafm.experiments.suites.run_config import find_config, read_config, run_hash
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.table import main_table
from mmseg_dafm.experiments.suites.write import write_tables
from tests.configs.test_configs import build

FOLDER = Path(__file__).resolve().parents[3] / 'configs/suites'
FILES = sorted(FOLDER.glob('*.py'))
WITHOUT_MEANS = {'daft_table3', 'fishertune_table4', 'fishertune_table5', 'fishertune_figure3', 'fishertune_figure4'}
PAPERS = sorted(path for path in FILES if re.match('domino|daft_table3|fishertune', path.stem))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_run_can_be_planned_and_the_empty_table_be_written(path, tmp_path):
    text = path.read_text()
    assert re.search(r'^\s*(import|from)\s', text, re.MULTILINE) is None
    suite = load_suite(path)
    # reads every config and merges every option
    identities = {run.name: run_hash(suite, run) for run in suite.runs}
    trained = [run for run in suite.runs if run.kind == 'config']
    assert len({identities[run.name] for run in trained}) == len(trained), 'two runs are the same'
    assert {cell.run for cell in plan(suite)} == {run.name for run in suite.runs if not run.paper_only}
    assert 'Protocol: nothing was run.' in write_tables(suite, tmp_path)
    for run in trained:
        assert not Path(run.config).is_absolute()
        evaluator = read_config(suite, run).content['test_evaluator']
        assert evaluator['type'] == 'DomainIoUMetric'
        METRICS.build(evaluator)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_options_change_keys_that_the_config_or_its_classes_know(path):
    """A misspelt key would make a new one without any effect; these are the places where new keys are meant."""
    new = re.compile(
        r'randomness\.seed|(model\.)(backbone\.|decode_head\.)?init_cfg\.|model\.backbone\.(adapter|frozen|fuse)|test_evaluator\.|'
        r'custom_hooks\.0\.(criterion|scores|seed|schedule|delta_m..|estimation\.(shift\.factor|estimator|_delete_))|'
        r'optim_wrapper\.paramwise_cfg\.candidates\.groups|train_dataloader\.dataset\.conditions'
    )
    suite = load_suite(path)
    for run in suite.runs:
        known = Config.fromfile(find_config(run.config)) if run.kind == 'config' else None
        for option in run.options:
            key = option.split('=')[0]
            if option.startswith('{') or new.match(key):
                continue
            node = known
            for part in key.split('.'):
                node = node[int(part)] if part.isdigit() else node[part]


@pytest.mark.parametrize('path', PAPERS, ids=lambda path: path.stem)
def test_the_papers_means_and_shares_follow_from_its_figures_or_are_errata(path):
    suite = load_suite(path)
    columns = {column.name: column for column in suite.columns}
    checked = 0
    for run in suite.runs:
        paper, errata = run.paper, run.errata
        if 'percent' in paper:
            checked += 1
            right = abs(100 * paper['acdc'] / paper['cityscapes'] - paper['percent']) < 0.011
            assert right != ('percent' in errata), run.name
        mean = columns['mean'].mean if 'mean' in columns else ()
        if 'mean' in paper and all(name in paper for name in mean):
            checked += 1
            right = abs(sum(paper[name] for name in mean) / len(mean) - paper['mean']) < 0.06
            assert right or 'mean' in errata, run.name
        for ious in run.paper_classes.values():
            checked += 1
            assert len(ious) == 20
            assert abs(sum(ious[:19]) / 19 - ious[19]) < 0.06, run.name
    assert checked or path.stem in WITHOUT_MEANS


def test_the_papers_figures_stand_in_the_tables_as_printed(tmp_path):
    text = write_tables(load_suite(FOLDER / 'domino_table1.py'), tmp_path)
    assert '| DINOv2 ViT-L/14 with registers | not run | 49.90 | not run | 22.35 | not run | 47.79 (a) |  |' in text
    assert '(a) Printed 47.79; 22.35 / 49.90 is 44.79 %.' in text
    table = main_table(load_suite(FOLDER / 'daft_table3.py'), {})
    daft = next(row for row in table.rows if row.name == 'daft')
    assert {name: entry.paper for name, entry in daft.entries.items()} == dict(voc=79.23, cityscapes=76.03)


@pytest.mark.parametrize('method', ['lora', 'vpt', 'rein', 'vqt', 'childtune_d'])
def test_adapters_by_options_are_those_of_the_config_files(method):
    suite = load_suite(FOLDER / 'fishertune_table1.py')
    run = suite.run(f'clip_l_{method}')
    built = read_config(suite, replace(run, config=run.config.replace('clip_l', 'dinov2_l'))).content
    wanted = read_config(suite, replace(run, config=f'configs/baselines/adapters/dinov2_l_{method}_gtav.py', options=())).content
    for hook in (hook for content in (built, wanted) for hook in content.get('custom_hooks', ())):
        # how often a constant share is looked at
        hook.pop('interval', None)
    for key in ('model', 'optim_wrapper', 'custom_hooks'):
        assert built.get(key) == wanted.get(key), key


@pytest.mark.parametrize('name', [run.name for run in load_suite(FOLDER / 'toydrive.py').runs])
def test_the_toy_models_build_with_their_options(name, tmp_path):
    if name == 'vit_lora':
        # LoRA is peft's
        pytest.importorskip('peft')
    suite = load_suite(FOLDER / 'toydrive.py')
    cfg = Config(read_config(suite, suite.run(name)).content)
    assert cfg.model.get('backbone')
    assert build(cfg, tmp_path).backbone is not None
