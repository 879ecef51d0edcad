"""tools/analysis_tools/feature_drift.py as a user runs it, on drawn streets."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS
from tiny import run_main, write_tiny_run

from mmseg_dafm.analysis.drift_run import measure_drift

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/analysis_tools/feature_drift.py'
FILES = {'drift.csv', 'drift.md', 'drift.json', 'changes.csv', 'fig1.png', 'fig2.png'}
BAD = ['streets.py', '--checkpoints', 'FT=ft/model.pth']

STREETS = """
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]
test_dataloader = dict(
    _delete_=True, batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(type='ToyDriveDataset', length=5, size=(32, 48), conditions=['clear'], seed=1),
        dict(type='ToyDriveDataset', length=4, size=(32, 48), conditions=['fog'], seed=1),
    ]),
)
model = dict(
    backbone=dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
        init_cfg=dict(type='Pretrained', checkpoint='pre.pth', prefix='backbone.')),
    decode_head=dict(in_channels=8, in_index=1, num_classes=6))
"""


def built(path, classes=6):
    cfg = Config.fromfile(path)
    cfg.model.backbone.norm_cfg.type = cfg.model.decode_head.norm_cfg.type = 'BN'
    cfg.model.decode_head.num_classes = classes
    return MODELS.build(cfg.model).eval()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A config, a pre-trained checkpoint for other classes, one of FT and a converted and tuned one of DAFT."""
    base = write_tiny_run(tmp_path, ROOT)
    config = tmp_path / 'streets.py'
    config.write_text(f"_base_ = ['{base.name}']\n{STREETS}")
    torch.manual_seed(3)
    model = built(config, classes=4)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    pretrained = model.state_dict()
    torch.save({'state_dict': pretrained}, tmp_path / 'pre.pth')
    head = built(config).decode_head.state_dict(prefix='decode_head.')

    def save(name, scale, base):
        state = {**base, **head}
        noise = {key: value + scale * value.std() * torch.randn_like(value) for key, value in base.items() if value.dim() > 1}
        state.update({key: value for key, value in noise.items() if key not in head})
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({'state_dict': {f'module.{key}': value for key, value in state.items()}}, tmp_path / name)

    save('ft/model.pth', 0.5, pretrained)
    doubled = {key: value * 2 if key.endswith('running_mean') else value for key, value in pretrained.items()}
    save('daft/model.pth', 0.1, doubled)
    save('daft/daft_converted.pth', 0, doubled)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    return tmp_path


def tool(run, monkeypatch, *arguments):
    run_main(TOOL, monkeypatch, 'streets.py', *arguments, '--out', 'out')
    return json.loads((run / 'out/drift.json').read_text()), list(csv.DictReader((run / 'out/drift.csv').open()))


def test_two_methods_against_a_checkpoint_for_other_classes(run, monkeypatch, capsys):
    arguments = ['--reference', 'pre.pth', '--checkpoints', 'FT=ft/model.pth', 'DAFT=daft/model.pth', 'LP=pre6.pth']
    pretrained = torch.load(run / 'pre.pth')['state_dict']
    lp = built(run / 'streets.py').state_dict()
    lp.update({key: value for key, value in pretrained.items() if key.startswith('backbone.')})
    torch.save(lp, run / 'pre6.pth')
    found, rows = tool(run, monkeypatch, *arguments)
    assert {path.name for path in (run / 'out').iterdir()} == FILES
    assert len(rows) == 9 * 2 * 3
    assert {row['domain'] for row in rows} == {'clear', 'fog'}
    assert [row['layer'] for row in rows[:3]] == ['backbone[0]'] * 2 + ['backbone[1]']
    features = found['features']
    assert features['FT']['backbone[1]']['fog']['images'] == 4
    assert features['FT']['backbone[1]']['all']['images'] == 9
    untouched = features['LP']['backbone[1]']['all']
    assert untouched['median']['pooled_cosine'] == pytest.approx(1)
    assert untouched['median']['l2'] == untouched['mean']['relative_l2'] == 0
    assert untouched['cka'] == pytest.approx(1)
    cosines = {name: features[name]['backbone[1]']['all']['median']['pixel_cosine'] for name in ('FT', 'DAFT')}
    assert cosines['FT'] < cosines['DAFT'] < 0.9999
    changes = found['changes']
    assert changes['LP']['conv']['before_conversion'] == changes['LP']['mean']['after_conversion'] == 0
    layers = sum(key.endswith('running_mean') for key in pretrained)
    assert changes['DAFT']['mean'] == pytest.approx(dict(layers=layers, undefined=0, before_conversion=1, after_conversion=0))
    assert changes['FT']['mean']['before_conversion'] == changes['FT']['mean']['after_conversion'] == 0
    left_out = found['protocol']['left_out']
    assert left_out['FT'] == ['decode_head.conv_seg.weight', 'decode_head.conv_seg.bias']
    assert found['protocol']['converted'] == {'DAFT': 'daft/daft_converted.pth'}
    text = (run / 'out/drift.md').read_text()
    assert 'decode_head.conv_seg.weight' in text
    assert '| FT | backbone[1] | fog | 4 |' in text
    assert 'DAFT, fog: pooled cosine ' in capsys.readouterr().out
    assert len(list(csv.reader((run / 'out/changes.csv').open()))) > 100


def test_rows_are_those_of_a_loop_over_single_images(run, monkeypatch):
    _, rows = tool(run, monkeypatch, '--checkpoints', 'FT=ft/model.pth', '--limit', '2')
    cfg = Config.fromfile(run / 'streets.py')
    models = []
    for path in ('pre.pth', 'ft/model.pth'):
        state = {key.removeprefix('module.'): value for key, value in torch.load(run / path)['state_dict'].items()}
        models.append(built(run / 'streets.py'))
        models[-1].load_state_dict({key: value for key, value in state.items() if 'conv_seg' not in key}, strict=False)
    loader = cfg.test_dataloader
    loader.update(batch_size=1, dataset={**loader.dataset, 'pipeline': cfg.test_pipeline})
    expected = {}
    for batch in Runner.build_dataloader(loader):
        data = models[0].data_preprocessor(batch, False)
        with torch.no_grad():
            x, y = (model.backbone(data['inputs'])[1][0].double().numpy() for model in models)
        p, q = x.mean((1, 2)), y.mean((1, 2))
        pixels = (x * y).sum(0) / np.linalg.norm(x, axis=0) / np.linalg.norm(y, axis=0)
        cosine = p @ q / np.linalg.norm(p) / np.linalg.norm(q)
        expected[data['data_samples'][0].metainfo['img_path']] = (cosine, pixels.mean(), np.linalg.norm(p - q))
    last = [row for row in rows if row['layer'] == 'backbone[1]']
    assert len(last) == 4
    for row in last:
        measured = [float(row[key]) for key in ('pooled_cosine', 'pixel_cosine', 'l2')]
        assert measured == pytest.approx(expected[row['image']], rel=1e-4)


def test_as_a_function_it_returns_the_last_layer_and_leaves_the_config_alone(run):
    cfg = Config.fromfile(run / 'streets.py')
    before = cfg.to_dict()
    found = measure_drift(
        cfg, None, {'FT': run / 'ft/model.pth'}, run / 'new/out', layers=['backbone.layer1', 'decode_head.convs']
    )
    assert cfg.to_dict() == before
    # conv_seg was drawn anew for the reference, so that its change means nothing
    changes = list(csv.DictReader((run / 'new/out/changes.csv').open()))
    assert 'decode_head.convs.0.conv.weight' in [row['tensor'] for row in changes]
    assert not [row for row in changes if 'conv_seg' in row['tensor']]
    assert list(found['FT']) == ['clear', 'fog', 'all']
    report = json.loads((run / 'new/out/drift.json').read_text())['features']['FT']
    assert list(report) == ['backbone.layer1', 'decode_head.convs']
    last = report['decode_head.convs']['fog']
    assert found['FT']['fog'] == dict(
        pooled_cosine=last['median']['pooled_cosine'], pixel_cosine=last['median']['pixel_cosine'], cka=last['cka']
    )


def test_converted_weights_may_lie_elsewhere(run, monkeypatch):
    (run / 'daft/daft_converted.pth').rename(run / 'converted.pth')
    arguments = ['--checkpoints', 'DAFT=daft/model.pth', '--limit', '1']
    found, _ = tool(run, monkeypatch, *arguments)
    assert found['changes']['DAFT']['mean']['after_conversion'] == pytest.approx(1)
    found, _ = tool(run, monkeypatch, *arguments, '--converted', 'DAFT=converted.pth')
    assert found['changes']['DAFT']['mean']['after_conversion'] == 0
    assert found['features']['DAFT']['backbone[1]']['all']['cka'] is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.py', *BAD[1:]], 'error: config none.py does not exist'),
        ([*BAD, '--reference', 'none.pth'], 'error: checkpoint none.pth does not exist'),
        (['streets.py', '--checkpoints', 'FT=none.pth'], 'error: checkpoint none.pth does not exist'),
        (['streets.py', '--checkpoints', 'ft/model.pth'], "error: --checkpoints takes NAME=FILE, got 'ft/model.pth'"),
        ([*BAD, 'FT=pre.pth'], "error: --checkpoints has two files of the name 'FT': give each its own"),
        ([*BAD, '--converted', 'X=pre.pth'], "error: --converted names 'X', which is none of the methods FT"),
        ([*BAD, '--dataloader', 'other_dataloader'], 'defines no other_dataloader: name one that it has'),
        ([*BAD, '--layers', 'backbone.layer9'], "error: --layers: the model has no 'backbone.layer9'; backbone holds conv1"),
        ([*BAD, '--limit', '0'], 'error: --limit must be 1 or more, got 0'),
        (['streets.py', '--checkpoints', 'X=other.pth'], 'error: other.pth does not fit the EncoderDecoder of the config: 0 of '),
        (['streets.py', '--checkpoints', 'X=part.pth'], '1 are missing (backbone.conv1.weight)'),
        ([*BAD, '--layers', 'decode_head', '--reference', 'pre.pth'], '2 have another shape (decode_head.conv_seg.weight: '),
        ([*BAD, '--cfg-options', 'model.backbone.init_cfg=None'], 'no pretrained weights in its init_cfg: give --reference FILE'),
        ([*BAD, '--cfg-options', 'model.backbone.init_cfg.checkpoint=gone.pth'], 'names gone.pth, which does not exist'),
    ],
)
def test_bad_input_is_one_sentence(run, monkeypatch, arguments, message):
    torch.save({'state_dict': {'x': torch.zeros(1)}}, run / 'other.pth')
    state = torch.load(run / 'pre.pth')['state_dict']
    torch.save({key: value for key, value in state.items() if key != 'backbone.conv1.weight'}, run / 'part.pth')
    with pytest.raises(SystemExit) as info:
        run_main(TOOL, monkeypatch, *arguments, '--out', 'out')
    assert message in str(info.value)
    assert len(str(info.value).splitlines()) == 1
    assert not (run / 'out').exists()
