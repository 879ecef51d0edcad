"""The transform that corrupts images: its chance, its cache, its delegation and what it refuses."""

import os
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, TRANSFORMS

from mmseg_dafm.datasets.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, corrupt, select_corruptions
from mmseg_dafm.datasets.toydrive.dataset import draw_path, drawn_path
from mmseg_dafm.datasets.transforms import corrupt as delegate
from mmseg_dafm.datasets.transforms import corrupt as module
from mmseg_dafm.datasets.transforms.corrupt import Corrupt, image_key, image_seed

PATH = drawn_path(1, (96, 144), 'clear', 3)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope='module')
def street():
    return draw_path(PATH)


def sample(image, path='data/set/city/a.png'):
    return {'img': image.copy(), 'img_path': path, 'gt_seg_map': np.arange(image.shape[0])}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(corruption='mist'), "Corrupt: corruption must be one of gaussian_noise, .*; got 'mist'"),
        (dict(corruption='fog', severity=6), 'Corrupt: severity of fog must be an integer from 0 to 5, got 6'),
        (dict(corruption='fog', severity=1.0), 'Corrupt: severity of fog must be an integer from 0 to 5, got 1.0'),
        (dict(corruption='fog', seed='a'), "Corrupt: seed must be an integer, got 'a'"),
        (dict(corruption='fog', backend='mine'), "Corrupt: backend must be one of own, imagecorruptions; got 'mine'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corrupt(**arguments)


def test_bad_images_and_names_are_refused(street):
    with pytest.raises(ValueError, match='severity of fog must be an integer from 1 to 5, got 0'):
        corrupt(street, 'fog', 0, rng())
    with pytest.raises(ValueError, match=r'Corrupt: a/b.png: .*got shape \(96, 144, 3\) and float32; put Corrupt right after'):
        Corrupt('fog')(sample(street.astype(np.float32), 'a/b.png'))
    with pytest.raises(ValueError, match="'foggy' is no corruption: expected all, noise"):
        select_corruptions(['noise', 'foggy'])
    with pytest.raises(ValueError, match='no corruption was named'):
        select_corruptions([])
    assert select_corruptions(['fog', 'noise', 'shot_noise']) == (*GROUPS['noise'], 'fog')


def test_label_and_path_stay_and_severity_0_is_clean(street):
    given = sample(street)
    found = TRANSFORMS.build(dict(type='Corrupt', corruption='fog'))(sample(street))
    assert set(found) == set(given)
    assert np.array_equal(found['gt_seg_map'], given['gt_seg_map'])
    assert not np.array_equal(found['img'], street)
    assert np.array_equal(Corrupt('fog', severity=0)(sample(street))['img'], street)


def test_chance_depends_on_path_corruption_severity_and_seed_alone(street):
    make = lambda path='/here/set/city/a.png', **kwargs: Corrupt('gaussian_noise', **kwargs)(sample(street, path))['img']  # noqa: E731
    first = make()
    np.random.seed(5)
    assert np.array_equal(first, make('/elsewhere/on/another/machine/set/city/a.png'))
    assert np.array_equal(first, make('D:\\data\\set\\city\\a.png'))
    for other in (make('/here/set/city/b.png'), make('/here/set/town/a.png'), make(seed=1)):
        # independent noise: the difference is as strong as two noises
        difference = other.astype(float) - first
        assert difference.std() > 1.2 * (first.astype(float) - street).std()
    seeds = {image_seed('a', name, severity, seed) for name in CORRUPTIONS for severity in SEVERITIES for seed in range(5)}
    assert len(seeds) == 16 * 5 * 5
    assert image_key('toydrive://1/64x64/fog/fog_1.png') == '64x64/fog/fog_1.png'


def test_an_image_without_a_path_is_known_by_its_pixels(street):
    find = lambda image: Corrupt('gaussian_noise')({'img': image})['img'].astype(float) - image  # noqa: E731
    assert np.array_equal(find(street), find(street.copy()))
    assert not np.array_equal(find(street), find(street[::-1]))


def dataset(**kwargs):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Corrupt', corruption='snow', **kwargs)]
    return DATASETS.build(dict(type='ToyDriveDataset', length=4, seed=2, size=(40, 56), pipeline=pipeline))


@pytest.mark.slow
def test_order_and_process_do_not_matter(root):
    forth, back = dataset(), dataset()
    images = [forth[index]['img'] for index in range(4)]
    assert all(np.array_equal(images[index], back[index]['img']) for index in (3, 1, 0, 2))
    code = (
        'import zlib, mmseg_dafm; from mmengine.registry import init_default_scope as s; s("mmseg"); '
        'from tests.datasets.test_corrupt import dataset; '
        'print("CRC", [zlib.crc32(dataset()[index]["img"].tobytes()) for index in (2, 0)])'
    )
    command = [sys.executable, '-W', 'ignore', '-c', code]
    environment = {**os.environ, 'PYTHONHASHSEED': '7', 'PYTHONPATH': str(root)}
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)
    assert f'CRC {[zlib.crc32(images[index].tobytes()) for index in (2, 0)]}' in run.stdout, run.stderr[-2000:]


@pytest.mark.parametrize('name', ['gaussian_noise', 'fog'])
def test_the_cache_gives_the_same_bytes_and_is_read(street, tmp_path, name, monkeypatch):
    plain = Corrupt(name)(sample(street))['img']
    cached = Corrupt(name, cache_dir=str(tmp_path))
    assert np.array_equal(cached(sample(street))['img'], plain)
    (file,) = (path for path in tmp_path.rglob('*') if path.is_file())
    assert file.suffix == '.png'
    assert file.parent.parent == tmp_path / name / '3'
    monkeypatch.setattr(module, 'corrupt', lambda *_: pytest.fail('made again'))
    assert np.array_equal(cached(sample(street))['img'], plain)


def test_the_caches_key_holds_all_that_changes_the_result(street, tmp_path, monkeypatch):
    count = lambda: sum(path.is_file() for path in tmp_path.rglob('*'))  # noqa: E731
    changed = street.copy()
    changed[0, 0] ^= 1
    variants = [
        (street, 'a/b/c.png', dict(corruption='fog')),
        (street, 'a/b/d.png', dict(corruption='fog')),
        (changed, 'a/b/c.png', dict(corruption='fog')),
        (street[:-1], 'a/b/c.png', dict(corruption='fog')),
        (street, 'a/b/c.png', dict(corruption='fog', seed=1)),
        (street, 'a/b/c.png', dict(corruption='fog', severity=2)),
        (street, 'a/b/c.png', dict(corruption='snow')),
    ]
    for number, (image, path, arguments) in enumerate(variants, 1):
        Corrupt(**arguments, cache_dir=str(tmp_path))(sample(image, path))
        assert count() == number
    monkeypatch.setattr(module, 'VERSION', 99)
    Corrupt('fog', cache_dir=str(tmp_path))(sample(street, 'a/b/c.png'))
    assert count() == len(variants) + 1


@pytest.mark.parametrize('damage', ['half', 'empty', 'other size', 'no picture'])
def test_a_damaged_file_is_made_again(street, tmp_path, damage):
    cached = Corrupt('impulse_noise', cache_dir=str(tmp_path))
    plain = cached(sample(street))['img']
    (file,) = (path for path in tmp_path.rglob('*') if path.is_file())
    whole = file.read_bytes()
    other = cv2.imencode('.png', street[:-2])[1].tobytes()
    content = {'half': whole[: len(whole) // 2], 'empty': b'', 'other size': other, 'no picture': b'x' * 99 + whole[-8:]}
    file.write_bytes(content[damage])
    assert np.array_equal(cached(sample(street))['img'], plain)
    assert file.read_bytes() == whole


def test_an_error_while_making_leaves_no_file(street, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('stopped')

    monkeypatch.setattr(module, 'corrupt', fail)
    with pytest.raises(RuntimeError, match='stopped'):
        Corrupt('fog', cache_dir=str(tmp_path))(sample(street))
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == []


def test_a_missing_imagecorruptions_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'imagecorruptions', None)
    with pytest.raises(ValueError, match="backend='imagecorruptions' cannot be imported .*use backend='own'"):
        Corrupt('fog', backend='imagecorruptions')


def test_delegation_hands_over_rgb_and_a_seed(street, monkeypatch):
    calls = []

    class Package:
        @staticmethod
        def corrupt(image, corruption_name, severity):
            calls.append((corruption_name, severity, np.random.random()))
            assert np.array_equal(image, street[..., ::-1])
            return np.clip(image + np.array([0.0, 0.0, 9.0]), 0, 255)

    monkeypatch.setitem(sys.modules, 'imagecorruptions', Package)
    assert delegate.load_imagecorruptions().startswith('imagecorruptions')
    transform = Corrupt('fog', severity=2, backend='imagecorruptions')
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = transform(sample(street))['img']
    assert np.array_equal(np.random.get_state()[1], state)
    transform(sample(street))
    transform(sample(street, 'data/set/city/b.png'))
    assert calls[0] == calls[1] != calls[2]
    assert calls[0][:2] == ('fog', 2)
    assert np.array_equal(first[..., 0], np.clip(street[..., 0].astype(int) + 9, 0, 255))
    assert np.array_equal(first[..., 1:], street[..., 1:])


def test_the_config_corrupts_the_test_alone(root):
    cfg = Config.fromfile(root / 'configs/daft/robustness/cgnet_camvid_corrupted.py')
    kinds = lambda loader: [step.type for step in loader.dataset.pipeline]  # noqa: E731
    assert kinds(cfg.test_dataloader)[:3] == ['LoadImageFromFile', 'Corrupt', 'KeepDomainImage']
    assert 'Corrupt' not in kinds(cfg.val_dataloader) + kinds(cfg.train_dataloader)
    options = {'test_dataloader.dataset.pipeline.1.severity': 5}
    cfg.merge_from_dict(options)
    assert TRANSFORMS.build(cfg.test_dataloader.dataset.pipeline[1]).severity == 5
