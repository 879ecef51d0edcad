"""What the tool refuses before any model is loaded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from mmseg_dafm.experiments.synthesis import generate as controlnet_models
from mmseg_dafm.experiments.synthesis.generate import Settings
from tests.experiments.synthesis.conftest import STEMS, pictures
from tests.experiments.synthesis.tiny_models import write_models


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    """A refusal comes before any weight is read."""

    def loaded(*_, **__):
        raise AssertionError('a model was loaded')

    monkeypatch.setattr(ControlNetModel, 'from_pretrained', loaded)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--labels', '/nowhere'], r'--labels /nowhere: there is no such folder'),
        (['--domains', 'dusk'], r"--domains: \['dusk'\] unknown"),
        (['--size', 30, 64], r'--size must be two multiples of 8.*got 30 64'),
        (['--size', 64, 64], r'--size is 64 x 64 .*is 64 x 128: expected the same proportion, such as 64 x 128'),
        (['--steps', 0], r'--steps must be 1 or more, got 0'),
        (['--guidance', 0.5], r'--guidance must be 1 or more, got 0\.5'),
        (['--control-scale', -1], r'--control-scale must be 0 or more, got -1'),
        (['--batch-size', 0], r'--batch-size must be 1 or more, got 0'),
        (['--device', 'gpu'], r'--device gpu cannot be used \(.*\): give cpu, cuda or cuda:N of a GPU that is there\.$'),
        (['--device', 'cuda:99'], r'--device cuda:99 cannot be used \('),
        (['--limit', 0], r'--limit must be 1 or more, got 0'),
        (['--rank', 1], r'--rank must lie between 0 and --world-size - 1 = 0, got 1'),
        (['--template', 'night'], r'--template needs \{scene\}'),
        (['--import', '/nowhere'], r'--import needs the one domain of its images, such as --domain night'),
    ],
)
def test_arguments(tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=f'^error: {message}'):
        tool(tmp_path / 'out', *arguments)
    assert not pictures(tmp_path / 'out')


def test_wrong_ids_name_the_file(data, tool, tmp_path):
    path = next((data / 'gtFine/train/zurich').glob(f'{STEMS[-1]}*'))
    Image.fromarray(np.full((64, 128), 33, np.uint8)).save(path)
    with pytest.raises(SystemExit, match=rf'error: --labels: the label file {path} holds the ids \[33\]'):
        tool(tmp_path / 'out')


def test_models_that_cannot_be_had(tool, models, tmp_path):
    with pytest.raises(
        SystemExit, match=r'error: --pretrained no/model: it is neither a folder nor to be had from the hub .*cache'
    ):
        tool(tmp_path / 'out', options=['--pretrained', 'no/model', '--controlnet', models.control])
    with pytest.raises(SystemExit, match=r'error: --controlnet no/model: it is neither a folder nor to be had from the hub'):
        tool(tmp_path / 'out', options=['--pretrained', models.base, '--controlnet', 'no/model'])
    with pytest.raises(
        SystemExit, match=r'error: --pretrained .*: the folder holds no such model, or not all of it .*give a folder'
    ):
        tool(tmp_path / 'out', options=['--pretrained', models.control, '--controlnet', models.control])
    with pytest.raises(SystemExit, match=r'error: --controlnet .* is a UNet2DConditionModel, expected a ControlNetModel'):
        tool(tmp_path / 'out', options=['--pretrained', models.base, '--controlnet', f'{models.base}/unet'])


def test_models_of_two_kinds(tool, models, tmp_path):
    wider, _ = write_models(tmp_path / 'wider', text_width=16)
    with pytest.raises(SystemExit, match=r'error: --controlnet .* takes text of width 8, but --pretrained .* gives 16'):
        tool(tmp_path / 'out', options=['--pretrained', wider, '--controlnet', models.control])


def test_other_settings_than_the_folder_was_begun_with(tool, tmp_path):
    folder = tmp_path / 'out/night'
    (folder / 'aachen').mkdir(parents=True)
    (folder / f'aachen/{STEMS[0]}.png').write_bytes(b'x')
    with pytest.raises(SystemExit, match=r'error: .*night holds images but no manifest\.json'):
        tool(tmp_path / 'out', '--domains', 'night')
    begun = Settings(height=32, width=64, steps=50).manifest('night', 'night scene')
    (folder / 'manifest.json').write_text(json.dumps(begun))
    with pytest.raises(SystemExit, match=r'error: .*night was begun with .*steps = 50 \(now 2\)'):
        tool(tmp_path / 'out', '--domains', 'night')


def test_out_that_cannot_be_written(tool, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match=r'error: --out .*cannot be written'):
        tool(tmp_path / 'file')


def test_unknown_number_format():
    with pytest.raises(ValueError, match=r"--dtype must be one of .*got 'int8'"):
        Settings(dtype='int8')


@pytest.mark.parametrize('part', ['unet', 'vae', 'text_encoder'])
def test_weights_that_are_missing(models, tmp_path, monkeypatch, part):
    monkeypatch.undo()
    shutil.copytree(models.base, tmp_path / 'sd')
    for file in Path(tmp_path / 'sd' / part).glob('*.safetensors'):
        file.unlink()
    with pytest.raises(ValueError, match=r'--pretrained .*sd: the folder holds no such model, or not all of it'):
        controlnet_models.load_pipeline(str(tmp_path / 'sd'), models.control, 'float32', 'cpu')


def test_half_precision_needs_a_gpu(models, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match='--dtype float16 needs a GPU'):
        controlnet_models.load_pipeline(models.base, models.control, 'float16', 'cpu')
