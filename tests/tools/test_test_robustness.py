"""tools/analysis_tools/test_robustness.py as a user runs it, on drawn streets."""

import csv
import json
from pathlib import Path

import cv2
import pytest
import torch
import torch.distributed.run as torchrun
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS
from tiny import CONFIG, call, run_main, write_tiny_run

from mmseg_dafm.analysis import robustness as robustness_run
from mmseg_dafm.evaluation import DomainIoUMetric

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/analysis_tools/test_robustness.py'

# the model and the settings of the tiny run, tested on two sets of drawn streets
STREETS = """
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]
test_dataloader = dict(
    _delete_=True, batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(type='ToyDriveDataset', length=3, size=(32, 48), conditions=['clear'], seed=1),
        dict(type='ToyDriveDataset', length=5, size=(32, 48), conditions=['fog'], seed=1),
    ]),
)
test_evaluator = dict(_delete_=True, type='DomainIoUMetric', source='clear')
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')), decode_head=dict(num_classes=6)
)
"""


@pytest.fixture
def run(tmp_path):
    """A config, and a checkpoint of the first weights of its model."""
    base = write_tiny_run(tmp_path, ROOT)
    config = tmp_path / 'streets.py'
    config.write_text(f"_base_ = ['{base.name}']\n{STREETS}")
    cfg = Config.fromfile(config)
    cfg.model.backbone.norm_cfg.type = cfg.model.decode_head.norm_cfg.type = 'BN'
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(3)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=3.0)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    return tmp_path


def tool(run, monkeypatch, *arguments):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(run)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    run_main(TOOL, monkeypatch, 'streets.py', 'model.pth', '--out', 'out', *arguments)
    return json.loads((run / 'out/robustness.json').read_text())


def oracle(run, *corrupt):
    """The metric's scores from a loop of our own over single images."""
    cfg = Config.fromfile(run / 'streets.py')
    cfg.model.backbone.norm_cfg.type = cfg.model.decode_head.norm_cfg.type = 'BN'
    cfg.model.backbone.init_cfg = None
    if corrupt:
        cfg.test_pipeline.insert(1, dict(type='Corrupt', corruption=corrupt[0], severity=corrupt[1], seed=4))
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(run / 'model.pth', weights_only=True)['state_dict'])
    loader = cfg.test_dataloader
    loader.update(batch_size=1, dataset={**loader.dataset, 'pipeline': cfg.test_pipeline})
    data = Runner.build_dataloader(loader)
    metric = DomainIoUMetric(source='clear', out_dir=str(run / 'oracle'))
    metric.dataset_meta = data.dataset.metainfo
    with torch.no_grad():
        for batch in data:
            metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
    found = metric.compute_metrics(metric.results)
    return {'all': found['mIoU'], **{name: found[f'mIoU.{name}'] for name in ('clear', 'fog', 'target')}}


def test_one_run_gives_the_scores_of_separate_tests_and_a_second_does_nothing(run, monkeypatch, capsys):
    arguments = ['--corruptions', 'fog', 'gaussian_noise', '--severities', '2', '5', '--seed', '4', '--cache', 'cache']
    found = tool(run, monkeypatch, *arguments)
    said = capsys.readouterr().out
    assert '5 conditions, 0 of them finished before' in said
    summaries = found['summaries']
    assert {name: summary['clean'] for name, summary in summaries.items()} == oracle(run)
    for condition in (('fog', 5), ('gaussian_noise', 2)):
        expected = oracle(run, *condition)
        corruption, severity = condition
        read = {name: summary['corruptions'][corruption]['severities'][str(severity)] for name, summary in summaries.items()}
        assert read == expected
        assert expected['all'] != summaries['all']['clean']
    assert found['protocol']['corruptions'] == 'own, version 2'
    names = {'robustness.json', 'robustness.csv', 'robustness.md', 'robustness.png', 'conditions', 'tables', 'log'}
    assert {path.name for path in (run / 'out').iterdir()} == names
    assert len(list(csv.reader((run / 'out/robustness.csv').open()))) == 6
    assert sum(path.suffix == '.png' for path in (run / 'cache').rglob('*')) == 4 * 8
    # the tables of the clean test beside the checkpoint are nobody's but tools/test.py's
    assert not list(run.glob('domain_iou*'))

    monkeypatch.setattr(Runner, 'from_cfg', lambda *_: pytest.fail('a finished test builds nothing'))
    before = (run / 'out/robustness.json').read_bytes()
    tool(run, monkeypatch, *arguments)
    assert '5 conditions, 5 of them finished before' in capsys.readouterr().out
    assert (run / 'out/robustness.json').read_bytes() == before


@pytest.mark.slow
def test_a_cut_off_run_goes_on_and_another_checkpoint_starts_afresh(run, monkeypatch, capsys):
    arguments = ['--corruptions', 'contrast', '--severities', '1', '2', '--limit', '2']
    whole = tool(run, monkeypatch, *arguments)
    assert whole['protocol']['limit'] == 2
    (run / 'out/conditions/contrast-2.json').write_text('{"key": ')
    assert tool(run, monkeypatch, *arguments) == whole
    assert '3 conditions, 2 of them finished before\n' in capsys.readouterr().out
    # one more severity runs alone
    tool(run, monkeypatch, *arguments[:3], '1', '2', '3', *arguments[-2:])
    assert '4 conditions, 3 of them finished before\n' in capsys.readouterr().out
    content = torch.load(run / 'model.pth', weights_only=True)
    content['state_dict']['decode_head.conv_seg.bias'] += 1
    torch.save(content, run / 'model.pth')
    tool(run, monkeypatch, *arguments)
    assert '3 conditions, 0 of them finished before' in capsys.readouterr().out


def key(run, **settings):
    cfg = Config.fromfile(run / 'streets.py')
    cfg.merge_from_dict(settings.pop('options', {}))
    return robustness_run.run_key(cfg, run / 'model.pth', settings)


def test_the_key_holds_what_changes_the_scores_and_nothing_else(run):
    options = [
        {},
        {'model.decode_head.channels': 8},
        {'test_dataloader.dataset.datasets.0.seed': 2},
        {'test_evaluator.source': 'x'},
    ]
    keys = {key(run, seed=0, options=change) for change in options} | {key(run, seed=1)}
    assert len(keys) == 5
    assert key(run, seed=0, options={'test_dataloader.num_workers': 3}) == key(run, seed=0)
    assert key(run, seed=0, options={'optim_wrapper.optimizer.lr': 3.0}) == key(run, seed=0)


def test_limited_images_are_spread_over_each_set(run):
    loader = Config.fromfile(run / 'streets.py').test_dataloader
    robustness_run.limit_images(loader, 4)
    assert [part.indices for part in loader.dataset.datasets] == [[0, 1, 2], [0, 1, 2, 3]]
    robustness_run.limit_images(loader, 2)
    assert [part.indices for part in loader.dataset.datasets] == [[0, 1], [0, 2]]
    with pytest.raises(ValueError, match='--limit must be 1 or more, got 0'):
        robustness_run.limit_images(loader, 0)


def test_the_loader_is_copied_and_corrupts_after_loading(run):
    loader = Config.fromfile(run / 'streets.py').test_dataloader
    before = loader.to_dict()
    changed = robustness_run.corrupted_loader(loader, dict(corruption='snow', severity=2))
    assert loader.to_dict() == before
    kinds = [step['type'] for step in changed.dataset.pipeline]
    assert kinds == ['LoadImageFromFile', 'Corrupt', 'LoadAnnotations', 'PackDomainInputs']
    leaves = dict(type='ConcatDataset', datasets=[dict(type='A', pipeline=before['dataset']['pipeline']) for _ in range(2)])
    changed = robustness_run.corrupted_loader(Config(dict(dataset=leaves)), dict(corruption='snow', severity=2))
    assert [part.pipeline[1].type for part in changed.dataset.datasets] == ['Corrupt', 'Corrupt']
    for pipeline, message in (
        ([dict(type='PackSegInputs')], r"\['PackSegInputs'\] has no LoadImageFromFile"),
        ([dict(type='LoadImageFromFile'), dict(type='Corrupt')], 'has a Corrupt of its own'),
    ):
        with pytest.raises(ValueError, match=message):
            robustness_run.corrupted_loader(Config(dict(dataset=dict(type='A', pipeline=pipeline))), None)
    with pytest.raises(ValueError, match='test_dataloader.dataset has no pipeline'):
        robustness_run.corrupted_loader(Config(dict(dataset=dict(type='A'))), None)


def test_pretrained_weights_are_dropped_and_other_initialisation_stays():
    pretrained = dict(type='Pretrained', checkpoint='x.pth')
    model = dict(init_cfg=pretrained, backbone=dict(init_cfg=[pretrained], layers=[dict(init_cfg=dict(pretrained))]),
                 head=dict(init_cfg=dict(type='Normal')))  # fmt: skip
    robustness_run.drop_pretrained(model)
    assert model == dict(init_cfg=None, backbone=dict(init_cfg=None, layers=[dict(init_cfg=None)]),
                         head=dict(init_cfg=dict(type='Normal')))  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'error: config is missing: give CONFIG and CHECKPOINT, or --pictures IMAGE'),
        (['none.py', 'model.pth'], 'error: config none.py does not exist'),
        (['streets.py'], 'error: checkpoint is missing'),
        (['streets.py', 'none.pth'], 'error: checkpoint none.pth does not exist'),
        (['streets.py', 'model.pth', '--corruptions', 'mist'], "error: 'mist' is no corruption: expected all, noise"),
        (['streets.py', 'model.pth', '--severities', '0'], 'error: severities must lie between 1 and 5, got [0]'),
        (['streets.py', 'model.pth', '--limit', '0'], 'error: --limit must be 1 or more, got 0'),
        (['tiny.py', 'model.pth', '--cfg-options', 'test_dataloader.dataset.data_root=nowhere'], "data_root='nowhere'"),
        (['streets.py', 'model.pth', '--cfg-options', 'test_evaluator=None'], 'defines no test_dataloader or no test_evaluator'),
        (['streets.py', 'other.pth'], 'error: other.pth does not fit the EncoderDecoder of the config: 0 of 42 tensors fit'),
        (['--pictures', 'none.png'], 'error: --pictures names none.png, which does not exist'),
    ],
)
def test_bad_input_is_one_sentence(run, monkeypatch, arguments, message):
    torch.save({'state_dict': {'x': torch.zeros(1)}}, run / 'other.pth')
    monkeypatch.chdir(run)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit) as info:
        run_main(TOOL, monkeypatch, *arguments)
    assert message in str(info.value)
    assert len(str(info.value).splitlines()) == 1
    assert not list(run.rglob('robustness.*'))


def test_a_sheet_of_all_corruptions_of_a_drawn_street(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    address = 'toydrive://1/32x64/clear/clear_000003.png'
    run_main(TOOL, monkeypatch, '--pictures', address, '--out', tmp_path / 'sheets' / 'sheet.png')
    sheet = cv2.imread(str(tmp_path / 'sheets' / 'sheet.png'))
    assert sheet.shape[0] > 16 * 100
    assert sheet.shape[1] > 6 * 200
    assert [path.name for path in (tmp_path / 'sheets').iterdir()] == ['sheet.png']


@pytest.mark.slow
def test_two_processes_write_what_one_does(run, monkeypatch):
    arguments = ['--corruptions', 'impulse_noise', '--severities', '3', '--cache', 'cache']
    one = tool(run, monkeypatch, *arguments[:-2])
    launch = ['--nproc_per_node=2', '--master_port=29871', str(TOOL), 'streets.py', 'model.pth', '--launcher', 'pytorch']
    result = call(Path(torchrun.__file__), *launch, '--out', 'two', *arguments, cwd=run)
    assert result.returncode == 0, result.stderr[-3000:]
    two = json.loads((run / 'two/robustness.json').read_text())
    assert two['summaries'] == one['summaries']


def test_iou_metric_and_mmsegs_own_datasets_do(run, monkeypatch):
    cfg = CONFIG.format(base=ROOT / 'configs/_base_/default_runtime.py', data=run / 'data')
    (run / 'streets.py').write_text(cfg.replace('num_classes=2', 'num_classes=6').replace("'left', 'right'", "*'abcdef'").replace(
        '[[255, 0, 0], [0, 0, 255]]', '[[0, 0, 0]] * 6'))  # fmt: skip
    found = tool(run, monkeypatch, '--corruptions', 'jpeg_compression', '--severities', '1')
    assert list(found['summaries']) == ['all']
    assert found['summaries']['all']['corruptions']['jpeg_compression']['severities'].keys() == {'1'}
