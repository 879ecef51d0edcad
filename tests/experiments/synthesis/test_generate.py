"""Images from layouts with a tiny random pipeline: pairing, resume, ranks, what an image depends on."""

import json
import subprocess
import sys

import numpy as np
import pytest
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_dafm.experiments.synthesis.generate import Settings, load_pipeline, paint
from mmseg_dafm.experiments.synthesis.plan import seed_of
from tests.experiments.synthesis.conftest import STEMS, pictures

DOMAINS = ('fog', 'night', 'rain', 'snow')
SIZE = dict(height=32, width=64, steps=2)


@pytest.fixture
def pipeline(models):
    return load_pipeline(models.base, models.control, 'float32', 'cpu')


def draw(pipeline, control=0, words='night scene', seed=0, **changes):
    controls = [np.full((32, 64, 3), control, np.uint8)]
    return paint(pipeline, controls, [words], [seed], Settings(**SIZE | changes), 1)[0]


@pytest.mark.slow
def test_images_pair_with_their_labels_in_the_mix(data, tool, tmp_path, capsys):
    out = tmp_path / 'out'
    tool(out, '--batch-size', 3)
    made = pictures(out)
    assert set(made) == {f'{domain}/{stem.split("_")[0]}/{stem}.png' for domain in DOMAINS for stem in STEMS}
    assert '20 of 20 images are missing' in capsys.readouterr().out
    with Image.open(out / f'night/aachen/{STEMS[0]}.png') as image:
        assert image.size == (64, 32)
        assert image.mode == 'RGB'
        assert image.text['seed'] == str(seed_of(STEMS[0], 'night', 0))
        assert image.text['prompt'].startswith('a photo of a city street with ')
        assert image.text['prompt'].endswith(', night scene')
    manifest = json.loads((out / 'night/manifest.json').read_text())
    assert manifest['scene'] == 'night scene'
    assert (manifest['height'], manifest['width'], manifest['steps'], manifest['guidance']) == (32, 64, 2, 7.5)
    assert 'controlnet' in manifest['controlnet']
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]
    prefix = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
    real = dict(type='TaggedCityscapesDataset', data_root=str(data), data_prefix=prefix, pipeline=load)
    roots = {domain: str(out / domain) for domain in DOMAINS}
    mix = DATASETS.build(dict(type='RealSyntheticMix', real=real, synthetic_roots=roots, ratio=1.0))
    assert {i: [domain for domain, _ in variants] for i, variants in mix.variants.items()} == {i: list(DOMAINS) for i in range(5)}
    sample = mix[0]
    assert sample['inputs'].shape == (3, 64, 128)
    assert sample['data_samples'].domain in DOMAINS


def test_resume_makes_what_is_missing_with_equal_bits(tool, tmp_path, capsys):
    out = tmp_path / 'out'
    tool(out, '--batch-size', 3, '--domains', 'night', 'snow')
    before = pictures(out)
    removed = list(before)[::2]
    for name in removed:
        (out / name).unlink()
    kept = {name: (out / name).stat().st_mtime_ns for name in before if name not in removed}
    capsys.readouterr()
    tool(out, '--batch-size', 3, '--domains', 'night', 'snow')
    assert '5 of 10 images are missing' in capsys.readouterr().out
    assert pictures(out) == before
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


def test_complete_set_loads_no_model(models, tool, tmp_path, capsys, monkeypatch):
    arguments = ['--domains', 'night', '--limit', 2]
    tool(tmp_path / 'out', *arguments)
    before = pictures(tmp_path / 'out')

    def loaded(*_, **__):
        raise AssertionError('a model was loaded')

    monkeypatch.setattr(ControlNetModel, 'from_pretrained', loaded)
    tool(tmp_path / 'out', *arguments)
    assert '0 of 2 images are missing' in capsys.readouterr().out
    assert pictures(tmp_path / 'out') == before
    next((tmp_path / 'out/night').glob('*/*.png')).unlink()
    with pytest.raises(AssertionError, match='a model was loaded'):
        tool(tmp_path / 'out', *arguments)


@pytest.mark.slow
def test_two_ranks_write_what_one_writes(tool, tmp_path, monkeypatch, capsys):
    tool(tmp_path / 'one', '--batch-size', 2)
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank in (1, 0):
        monkeypatch.setenv('RANK', str(rank))
        capsys.readouterr()
        tool(tmp_path / 'two', '--batch-size', 2)
        assert f'rank {rank} of 2: 10 of 10 images are missing' in capsys.readouterr().out
        assert len(pictures(tmp_path / 'two')) == (10 if rank else 20)
    assert pictures(tmp_path / 'two') == pictures(tmp_path / 'one')


def test_domains_in_turn_make_one_set(tool, tmp_path):
    out = tmp_path / 'out'
    tool(out, '--domains-per-layout', 1)
    assert list(pictures(out)) == [
        f'{domain}/{stem.split("_")[0]}/{stem}.png' for domain, stem in sorted(zip([*DOMAINS, 'fog'], STEMS, strict=True))
    ]


def test_own_prompt_and_sheet(tool, tmp_path):
    out = tmp_path / 'out'
    tool(out, '--domains', 'dusk', '--prompts', 'dusk=a street at dusk', '--template', '{scene}', '--limit', 2)
    with Image.open(out / f'dusk/aachen/{STEMS[1]}.png') as image:
        assert image.text['prompt'] == 'a street at dusk'
    assert len(pictures(out)) == 2
    with Image.open(out / 'contact_sheet.png') as sheet:
        one_column = sheet.width
    tool(out, '--domains', 'night', '--limit', 2)
    with Image.open(out / 'contact_sheet.png') as sheet:
        assert sheet.width > 1.3 * one_column


@pytest.mark.parametrize('damage', [lambda content: b'', lambda content: content[: len(content) // 2]])
def test_resume_makes_damaged_images_again(tool, tmp_path, capsys, damage):
    out = tmp_path / 'out'
    tool(out, '--domains', 'night', '--limit', 2)
    before = pictures(out)
    name = next(iter(before))
    (out / name).write_bytes(damage(before[name]))
    capsys.readouterr()
    tool(out, '--domains', 'night', '--limit', 2)
    assert '1 of 2 images are missing' in capsys.readouterr().out
    assert pictures(out) == before


def test_negative_prompt_reaches_the_pipeline(tool, tmp_path, monkeypatch):
    seen = []
    original = StableDiffusionControlNetPipeline.__call__

    def listen(self, **options):
        seen.append(options['negative_prompt'])
        return original(self, **options)

    monkeypatch.setattr(StableDiffusionControlNetPipeline, '__call__', listen)
    tool(tmp_path / 'out', '--domains', 'night', '--limit', 2, '--batch-size', 2, '--negative-prompt', 'a blurred painting')
    assert seen == [['a blurred painting'] * 2]
    assert json.loads((tmp_path / 'out/night/manifest.json').read_text())['negative_prompt'] == 'a blurred painting'


def test_image_depends_on_control_words_and_seed(pipeline):
    image = draw(pipeline)
    np.testing.assert_array_equal(draw(pipeline), image)
    changes = (
        dict(control=200), dict(words='foggy scene'), dict(seed=1), dict(control_scale=0.1), dict(steps=3),
        dict(negative_prompt='foggy scene'),
    )  # fmt: skip
    for change in changes:
        assert (draw(pipeline, **change) != image).mean() > 0.1, change
    np.testing.assert_array_equal(draw(pipeline, control=200, control_scale=0.0), draw(pipeline, control_scale=0.0))


def test_image_depends_on_no_neighbour_in_its_batch(pipeline):
    rng = np.random.default_rng(0)
    controls = list(rng.integers(0, 255, (4, 32, 64, 3), dtype=np.uint8))
    words, seeds = [f'scene {i}' for i in range(4)], list(range(4))
    together = paint(pipeline, controls, words, seeds, Settings(**SIZE), 4)
    for order in ([2], [3, 2], [1, 3, 0]):
        some = paint(pipeline, *([column[i] for i in order] for column in (controls, words, seeds)), Settings(**SIZE), 4)
        np.testing.assert_array_equal(some, together[order])


def test_sampler_keeps_the_noise_schedule_of_the_model(pipeline):
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    config = pipeline.scheduler.config
    assert (config.steps_offset, config.set_alpha_to_one, config.clip_sample) == (1, False, False)
    assert pipeline.safety_checker is None


def test_bfloat16(models):
    pipeline = load_pipeline(models.base, models.control, 'bfloat16', 'cpu')
    assert {next(part.parameters()).dtype.itemsize for part in (pipeline.unet, pipeline.controlnet, pipeline.text_encoder)} == {2}
    assert draw(pipeline, dtype='bfloat16').shape == (32, 64, 3)


def test_values_that_are_no_numbers(pipeline):
    next(pipeline.vae.decoder.parameters()).data.fill_(float('nan'))
    with pytest.raises(RuntimeError, match='--dtype float32: the models gave values that are no numbers'):
        draw(pipeline)


@pytest.mark.slow
def test_tool_in_a_process_of_its_own(data, models, root, tmp_path):
    command = [
        sys.executable,
        '-W',
        'ignore',
        root / 'tools/generate_synthetic.py',
        '--labels',
        data / 'gtFine/train',
        '--limit',
        1,
    ]
    options = ['--out', tmp_path / 'out', '--size', 32, 64, '--steps', 1, '--domains', 'rain', '--device', 'cpu', *models.options]
    done = subprocess.run([*map(str, command), *map(str, options)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'look at ' in done.stdout
    assert list(pictures(tmp_path / 'out')) == [f'rain/aachen/{STEMS[0]}.png']
