"""tools/analysis_tools/domain_gap.py as a user runs it, on drawn streets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from PIL import Image
from tiny import run_main, write_tiny_run

from mmseg_dafm.analysis.domain_features import sample_of

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


@pytest.mark.slow
def test_two_networks_see_the_same_images(run, monkeypatch, capsys):
    both = ['--run', 'one', 'streets.py', 'streets.pth', '--run', 'two', 'other.py', 'other.pth', '--permutations', '19']
    run_main(TOOL, monkeypatch, *both, '--reference', 'clear', '--per-domain', '12', '--out', 'out')
    assert 'null line: halves of clear' in capsys.readouterr().out
    record = json.loads((run / 'out/domain_gap.json').read_text())
    assert list(record['tables']) == ['one', 'two']
    table = record['tables']['one']['backbone[0]']
    # drawn nights are darker in every network
    assert table['pairs']['night']['p'] == 0.05
    assert table['pairs']['night']['mmd2'] > 5 * table['null']['mmd2_range'][1]
    assert record['protocol']['images'] == record['protocol']['units'] == dict(clear=12, night=12)
    # drawn scenes are no recordings
    assert record['protocol']['unit'] == 'images'
    assert 'p assumes that they are independent' in (run / 'out/domain_gap.md').read_text()
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
        (['--run', 'a', 'streets.py', 'other.pth'], 'other.pth does not fit the EncoderDecoder of the config: 5 of 30'),
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


def test_the_recording_of_an_image_is_its_folder(tmp_path):
    for index in range(6):
        folder = tmp_path / 'images' / f'drive{index // 2}'
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f'{index}.png')
    dataset = dict(type='BaseSegDataset', data_prefix=dict(img_path=str(tmp_path / 'images')), img_suffix='.png', test_mode=True,
                   metainfo=dict(classes=['a'], palette=[[0, 0, 0]]), pipeline=[dict(type='LoadImageFromFile')])  # fmt: skip
    loader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    _, known = sample_of(ConfigDict(loader), per_domain=4)
    assert len(known) == 4
    for image in known:
        number = int(Path(image['path']).stem)
        assert Path(image['recording']).name == f'drive{number // 2}'
        assert image['domain'] == 'all'
