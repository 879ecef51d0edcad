"""The domain explorer: finding images, alpha of each, the picture's contents, and the tool end to end."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import run_main

from mmseg_dafm.analysis import domain_explorer as explorer
from mmseg_dafm.analysis.qualitative import paint_labels

NAMES = ('clear', 'night', 'fog')


@pytest.fixture
def folder(tmp_path):
    """Two images each of two domains and one image outside of both, of different sizes and brightness."""
    root = tmp_path / 'pictures'
    for name, value, size in (('day/a/1.png', 250, (9, 7)), ('day/2.jpg', 200, (8, 8)), ('dusk/1.png', 60, (5, 6)),
                              ('dusk/2.png', 50, (6, 5)), ('loose.png', 0, (4, 4))):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (value, value, 0)).save(root / name)
    (root / 'day' / 'notes.txt').write_text('not an image')
    return root


def brightness_alpha(images):
    """Map brightness in [-1, 1] to (bright, dark, 0)."""
    bright = (images[:, 0].mean(dim=(1, 2)) + 1) / 2
    return torch.stack([bright, 1 - bright, torch.zeros_like(bright)], dim=1)


def test_sub_folders_are_domains(folder):
    found = [(domain, path.relative_to(folder).as_posix()) for domain, path in explorer.find_images(folder)]
    assert found == [
        ('day', 'day/2.jpg'),
        ('day', 'day/a/1.png'),
        ('dusk', 'dusk/1.png'),
        ('dusk', 'dusk/2.png'),
        ('pictures', 'loose.png'),
    ]


def test_hidden_files_are_no_images(folder):
    """A Mac writes ._NAME beside NAME on disks of other systems."""
    before = explorer.find_images(folder)
    (folder / 'day/._2.jpg').write_bytes(b'Mac OS X')
    (folder / '.thumbnails').mkdir()
    (folder / '.thumbnails/2.jpg').write_bytes(b'x')
    assert explorer.find_images(folder) == before


def test_no_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no images'):
        explorer.find_images(tmp_path)


def test_alphas_see_the_image_in_minus_one_to_one(folder):
    paths = [path for _, path in explorer.find_images(folder)]
    alphas = np.stack(list(explorer.compute_alphas(paths, brightness_alpha)))
    assert alphas[:, 0] == pytest.approx([200 / 255, 250 / 255, 60 / 255, 50 / 255, 0], abs=0.01)
    assert alphas.sum(axis=1) == pytest.approx(1)


def test_relative_entropy_of_known_rows():
    alphas = np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]])
    assert explorer.relative_entropy(alphas) == pytest.approx([1, 0, 0.5])


def test_figure_shows_each_alpha_and_the_mean_of_the_whole_domain():
    rng = np.random.default_rng(0)
    alphas = rng.dirichlet(np.ones(3), size=6)
    domains = ['day', 'dusk', 'day', 'day', 'dusk', 'day']
    images = [np.full((4, 6, 3), index, np.uint8) for index in range(6)]
    figure = explorer.draw_alphas(images, alphas, domains, NAMES, per_domain=2)
    charts = [axes for axes in figure.axes if axes.patches]
    widths = [[patch.get_width() for patch in axes.patches] for axes in charts]
    day, dusk = [0, 2, 3, 5], [1, 4]
    expected = [alphas[0], alphas[5], alphas[day].mean(0), alphas[1], alphas[4], alphas[dusk].mean(0)]
    assert np.array(widths) == pytest.approx(np.array(expected))
    assert [axes.get_images()[0].get_array()[0, 0, 0] for axes in figure.axes if axes.get_images()] == [0, 5, 1, 4]
    assert [label.get_text() for label in charts[0].get_yticklabels()] == list(NAMES)
    titles = [axes.get_title() for axes in charts if axes.get_title()]
    entropy = np.mean([-sum(a * math.log(a) for a in alphas[i]) / math.log(3) for i in day])
    assert titles[0] == f'mean of 4, entropy {entropy:.2f} of log N'
    assert {axes.get_xlim() for axes in charts} == {(0, min(1.0, 1.1 * alphas.max()))}


@pytest.mark.parametrize(('images', 'rows'), [(0, 0), (2, 3)])
def test_figure_refuses_lengths_that_do_not_fit(images, rows):
    pictures = [np.zeros((2, 2, 3), np.uint8)] * images
    with pytest.raises(ValueError, match='do not fit'):
        explorer.draw_alphas(pictures, np.ones((rows, 3)) / 3, ['a'] * images, NAMES)


def test_drawn_images_are_small_and_keep_their_shape():
    image = explorer.shrink(torch.full((1, 3, 100, 640), 1.0))
    assert image.shape == (50, 320, 3)
    assert (image == 255).all()


@pytest.fixture
def config(tmp_path):
    """A config with a tiny CLIP image tower and hashed descriptions."""
    tower = {
        'hidden_size': 16,
        'intermediate_size': 32,
        'num_hidden_layers': 1,
        'num_attention_heads': 2,
        'patch_size': 8,
        'projection_dim': 12,
    }
    embedding = {
        'type': 'DomainEmbedding',
        'descriptions': {'provider': 'hash', 'classes': 'acdc5', 'dim': 12, 'projected_dim': 12},
        'image_encoder': {'model': 'tiny', 'config': tower, 'pretrained': None, 'image_size': 16},
    }
    path = tmp_path / 'explore.py'
    path.write_text(f'model = dict(domain_embedding={json.dumps(embedding).replace("null", "None")})\n')
    return path


def run_tool(root, monkeypatch, *arguments):
    run_main(root / 'tools/analysis_tools/explore_domains.py', monkeypatch, *arguments)


def test_tool_uses_the_checkpoints_tower(root, monkeypatch, tmp_path, folder, config):
    from mmengine.config import Config
    from mmseg.registry import MODELS

    torch.manual_seed(5)
    module = MODELS.build(Config.fromfile(config).model.domain_embedding).eval()
    state = {f'domain_embedding.{key}': value for key, value in module.state_dict().items()}
    torch.save({'state_dict': state | {'backbone.x': torch.ones(1)}}, tmp_path / 'trained.pth')
    run_tool(root, monkeypatch, folder, config, '--checkpoint', tmp_path / 'trained.pth', '--out', tmp_path / 'out')

    rows = list(csv.DictReader((tmp_path / 'out' / 'alphas.csv').open()))
    assert [row['domain'] for row in rows] == ['day', 'day', 'dusk', 'dusk', 'pictures']
    for row in rows:
        with torch.no_grad():
            expected = module.alpha(explorer.read_image(Path(row['image'])))[0].tolist()
        assert [float(row[name]) for name in module.domain_names] == pytest.approx(expected, abs=2e-6)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['alphas.csv', 'alphas.png']
    assert Image.open(tmp_path / 'out' / 'alphas.png').size[0] > 500


def test_tool_refuses_wrong_configs_and_checkpoints(root, monkeypatch, tmp_path, folder, config):
    torch.save({'state_dict': {'backbone.x': torch.ones(1)}}, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=r'other.pth does not fit the DomainEmbedding'):
        run_tool(root, monkeypatch, folder, config, '--checkpoint', tmp_path / 'other.pth')
    (tmp_path / 'plain.py').write_text("model = dict(type='EncoderDecoder')\n")
    with pytest.raises(SystemExit, match=r'plain.py has no model.domain_embedding'):
        run_tool(root, monkeypatch, folder, tmp_path / 'plain.py')


def test_paint_labels_blends_known_labels_only():
    image = np.full((1, 3, 3), 100, np.uint8)
    painted = paint_labels(image, np.array([[0, 1, 255]]), [[200, 0, 100], [0, 0, 0]], 0.25)
    assert painted.tolist() == [[[125, 75, 100], [75, 75, 75], [100, 100, 100]]]
    with pytest.raises(ValueError, match='labels have shape'):
        paint_labels(image, np.zeros((2, 2), int), [[0, 0, 0]])
    with pytest.raises(ValueError, match='opacity must lie in'):
        paint_labels(image, np.zeros((1, 3), int), [[0, 0, 0]], 2)
