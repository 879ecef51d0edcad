"""tools/analysis_tools/domain_gap.py as a user runs it, on drawn streets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny import run_main, write_tiny_run

pytest.importorskip('sklearn')
ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/analysis_tools/domain_gap.py'
STREETS = """
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]
test_dataloader = dict(
    _delete_=True, batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyDriveDataset', length=40, size=(32, 48), conditions=['clear', 'night'], seed=1, pipeline=test_pipeline),
)
model = dict(decode_head=dict(num_classes=6))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    base = write_tiny_run(tmp_path, ROOT)
    text = f"_base_ = ['{base.name}']\n{STREETS}"
    (tmp_path / 'streets.py').write_text(text)
    more = "model['backbone'] = dict(base_channels=6)\nmodel['decode_head'].update(in_channels=6)\n"
    (tmp_path / 'other.py').write_text(text + more)
    for name, width in (('streets', 4), ('other', 6)):
        cfg = Config.fromfile(tmp_path / 'streets.py')
        cfg.model.backbone.update(base_channels=width, norm_cfg=dict(type='BN'))
        cfg.model.decode_head.update(in_channels=width, norm_cfg=dict(type='BN'))
        torch.manual_seed(width)
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / f'{name}.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_networks_see_the_same_images(run, monkeypatch, capsys):
    both = ['--run', 'one', 'streets.py', 'streets.pth', '--run', 'two', 'other.py', 'other.pth', '--permutations', '19']
    run_main(TOOL, monkeypatch, *both, '--reference', 'clear', '--per-domain', '12', '--out', 'out')
    assert 'null line: two halves of clear' in capsys.readouterr().out
    record = json.loads((run / 'out/domain_gap.json').read_text())
    assert list(record['tables']) == ['one', 'two']
    table = record['tables']['one']['backbone[0]']
    # drawn nights are darker in every network
    assert table['pairs']['night']['p'] == 0.05
    assert table['pairs']['night']['mmd2'] > 10 * abs(table['null']['mmd2'])
    assert record['protocol']['images'] == dict(clear=12, night=12)
    arrays = np.load(run / 'out/features.npz')
    assert arrays['one/backbone[0]'].shape == (24, 4)
    assert arrays['two/backbone[0]'].shape == (24, 6)
    assert sorted(set(arrays['domains'])) == ['clear', 'night']
    assert (run / 'out/tsne.png').stat().st_size > 20_000
    # the same once more
    run_main(TOOL, monkeypatch, *both, '--reference', 'clear', '--per-domain', '12', '--out', 'again')
    assert (run / 'again/domain_gap.json').read_text() == (run / 'out/domain_gap.json').read_text()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--run', 'a', 'none.py', 'streets.pth'], 'config none.py does not exist'),
        (['--run', 'a', 'streets.py', 'none.pth'], 'checkpoint none.pth does not exist'),
        (['--run', 'a', 'streets.py', 'other.pth'], 'other.pth covers'),
        (['--run', 'a', 'streets.py', 'streets.pth', '--run', 'a', 'streets.py', 'streets.pth'], 'two networks have one name'),
        (['--run', 'a', 'streets.py', 'streets.pth', '--reference', 'fog'], "'fog' is none of the domains"),
        (['--run', 'a', 'streets.py', 'streets.pth', '--layers', 'neck'], "the model has no 'neck'"),
        (['--run', 'a', 'streets.py', 'streets.pth', '--per-domain', '3'], 'has 3 images; 10 are needed'),
        (['--run', 'a', 'streets.py', 'streets.pth', '--dataloader', 'x'], 'defines no x'),
    ],
)
def test_bad_input_is_one_sentence(run, monkeypatch, arguments, message):
    with pytest.raises(SystemExit, match=message) as info:
        run_main(TOOL, monkeypatch, *arguments)
    assert len(str(info.value).splitlines()) == 1
    assert not (run / 'work_dirs').exists()
