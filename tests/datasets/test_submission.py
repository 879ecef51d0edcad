"""Archives for servers: ids, sizes, names, what is missing; and tools/test.py --submission on a tiny test split."""

import io
import runpy
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image
from tiny_sets import picture, write

from mmseg_dafm.datasets import submission
from mmseg_dafm.datasets.classes import CITYSCAPES_IDS
from mmseg_dafm.datasets.submission import SERVERS, check_images, pack
from mmseg_dafm.datasets.targets import TEST_SPLITS

IMAGES = {
    'acdc': [f'rgb_anon/{c}/test/G/G_{c}_frame_1_rgb_anon.png' for c in ('fog', 'night', 'rain', 'snow')],
    'cityscapes': ['leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png'],
    'dark_zurich': ['rgb_anon/test/night/GP010364/GP010364_frame_1_rgb_anon.png'],
}
MODEL = """
_base_ = [
    '{root}/configs/_base_/schedules/adamw_80k.py',
    '{root}/configs/_base_/datasets/cityscapes_to_acdc_512x512.py',
]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
    backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=19),
    test_cfg=dict(mode='whole'),
)
test_dataloader = dict(num_workers=0, persistent_workers=False)
"""


def small(name, images):
    """The server of a set, for images of 20 x 12 px."""
    return SERVERS[name]._replace(images=images, size=(20, 12))


@pytest.fixture
def predictions(tmp_path):
    """Train ids of three images, and the images."""
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 19, (12, 20), np.uint8) for name in 'abc'}
    for name, label in labels.items():
        write(tmp_path / f'predictions/{name}.png', label)
        write(tmp_path / f'images/{name}.png', picture())
    return labels


def images_of(tmp_path):
    return sorted(str(path) for path in (tmp_path / 'images').iterdir())


@pytest.mark.parametrize('name', SERVERS)
def test_the_archive_holds_what_the_server_takes(tmp_path, predictions, name):
    target = tmp_path / 'out.zip'
    pack(tmp_path / 'predictions', images_of(tmp_path), small(name, 3), target)
    folder = '' if name == 'cityscapes' else 'labelTrainIds/'
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == [f'{folder}{key}.png' for key in 'abc']
        for key, label in predictions.items():
            image = Image.open(io.BytesIO(archive.read(f'{folder}{key}.png')))
            assert image.mode == 'L'
            expected = [[CITYSCAPES_IDS[i] for i in row] for row in label] if name == 'cityscapes' else label
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_every_server_has_its_split():
    assert SERVERS.keys() == TEST_SPLITS.keys()


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda folder: (folder / 'b.png').unlink(), r'1 of 3 predictions are missing, the first is .*b\.png: test again'),
        (
            lambda folder: write(folder / 'b.png', np.zeros((20, 12), np.uint8)),
            r'b\.png is 12 x 20, but .* takes 20 x 12',
        ),
        (lambda folder: write(folder / 'b.png', np.full((12, 20), 19, np.uint8)), r'b\.png holds the id 19, expected 0 to 18'),
    ],
)
def test_a_faulty_prediction_leaves_no_archive(tmp_path, predictions, spoil, message):
    spoil(tmp_path / 'predictions')
    target = tmp_path / 'out/out.zip'
    with pytest.raises(ValueError, match=message):
        pack(tmp_path / 'predictions', images_of(tmp_path), small('acdc', 3), target)
    assert list(tmp_path.rglob('*.zip')) == []


def test_an_incomplete_split_is_refused(tmp_path, predictions):
    images = images_of(tmp_path)
    check_images(images, small('acdc', 3))
    with pytest.raises(ValueError, match=r'the server takes 4 images, but .*images holds 3: complete the test split'):
        check_images(images, small('acdc', 4))
    with pytest.raises(ValueError, match='1 images share their name, the first is c'):
        check_images([*images, str(write(tmp_path / 'more/c.png', picture()))], small('acdc', 4))
    with pytest.raises(ValueError, match=r'a\.png is 20 x 12, but the server takes 1920 x 1080'):
        check_images(images, SERVERS['acdc']._replace(images=3))


@pytest.fixture
def tool(root, tmp_path, monkeypatch):
    """Run tools/test.py in this process with a tiny model of 19 classes; SET_ROOT is tmp_path/<set>."""
    for name, images in IMAGES.items():
        monkeypatch.setenv(f'{name.upper()}_ROOT', str(tmp_path / name))
        for image in images:
            write(tmp_path / name / image, picture())
    config = tmp_path / 'tiny.py'
    config.write_text(MODEL.format(root=root))
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'tiny.pth')
    monkeypatch.chdir(tmp_path)
    # laying a config out for the log takes seconds
    for module in ('yapf.yapflib.yapf_api', 'mmengine.config.config'):
        monkeypatch.setattr(f'{module}.FormatCode', lambda text, **_: (text, True), raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['test.py', 'tiny.py', 'tiny.pth', *arguments])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        runpy.run_path(str(root / 'tools/test.py'), run_name='__main__')

    return run


@pytest.mark.parametrize(('name', 'options'), [('acdc', []), ('cityscapes', ['--tta']), ('dark_zurich', [])])
def test_from_a_checkpoint_to_the_archive(tool, tmp_path, monkeypatch, name, options):
    monkeypatch.setitem(submission.SERVERS, name, small(name, len(IMAGES[name])))
    tool('--submission', name, 'out.zip', *options)
    with zipfile.ZipFile(tmp_path / 'out.zip') as archive:
        names = [image.rsplit('/', 1)[1] for image in IMAGES[name]]
        assert sorted(entry.rsplit('/', 1)[-1] for entry in archive.namelist()) == sorted(names)
        label = np.asarray(Image.open(io.BytesIO(archive.read(archive.namelist()[0]))))
    assert label.shape == (12, 20)
    assert set(label.flat) <= (set(CITYSCAPES_IDS) if name == 'cityscapes' else set(range(19)))
    assert not (tmp_path / 'out.zip.predictions').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--submission', 'acdc', 'out.zip'], 'error: the server takes 2000 images, but .*acdc.rgb_anon holds 4: complete'),
        (['--submission', 'acdc', 'out'], r'error: --submission writes an archive ZIP, got out: end its name with \.zip'),
        (['--submission', 'kitti', 'out.zip'], 'error: --submission names kitti, but the known servers are'),
        (['--targets', 'kitti'], 'error: --targets names kitti, but the known sets are cityscapes, '),
        (['--targets', 'foggy_zurich'], "error: test_dataloader: FoggyZurichDataset has data_root='.*', which is not a folder"),
    ],
)
def test_bad_requests_end_in_one_sentence(tool, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv('FOGGY_ZURICH_ROOT', str(tmp_path / 'none'))
    with pytest.raises(SystemExit, match=message) as info:
        tool(*arguments)
    assert len(str(info.value).splitlines()) == 1
    assert not list(tmp_path.rglob('*.zip'))
    assert not (tmp_path / 'out.zip.predictions').exists()


def test_missing_labels_are_one_sentence_and_an_option_leaves_them_out(tool, tmp_path, monkeypatch):
    monkeypatch.setenv('BDD100K_ROOT', str(tmp_path / 'bdd'))
    for name in 'ab':
        write(tmp_path / f'bdd/images/10k/val/{name}.jpg', picture())
    write(tmp_path / 'bdd/labels/sem_seg/masks/val/a.png', np.zeros((12, 20), np.uint8))
    with pytest.raises(
        SystemExit, match=r'^error: test_dataloader: TaggedBDD100KDataset: 1 of 2 images have no label file, '
    ) as info:
        tool('--targets', 'bdd100k')
    assert len(str(info.value).splitlines()) == 1
    with pytest.raises(SystemExit, match='^error: --cfg-options test_dataloader.dataset.typo: --targets tests with'):
        tool('--targets', 'bdd100k', '--cfg-options', 'test_dataloader.dataset.typo=1')
    tool('--targets', 'bdd100k', '--cfg-options', 'test_dataloader.dataset.drop_unlabelled=True')
    assert 'bdd100k' in (tmp_path / 'work_dirs' / 'tiny' / 'domain_iou_tiny.csv').read_text()


def test_targets_are_scored_in_one_run(tool, tmp_path):
    for condition in ('rain', 'snow'):
        write(tmp_path / f'acdc/rgb_anon/{condition}/val/G/a_rgb_anon.png', picture())
        write(tmp_path / f'acdc/gt/{condition}/val/G/a_gt_labelTrainIds.png', np.zeros((12, 20), np.uint8))
    write(tmp_path / 'dark_zurich/rgb_anon/val/night/G/a_rgb_anon.png', picture())
    write(tmp_path / 'dark_zurich/gt/val/night/G/a_gt_labelTrainIds.png', np.ones((12, 20), np.uint8))
    tool('--targets', 'dark_zurich', 'acdc_rain', 'acdc_snow')
    table = (tmp_path / 'work_dirs' / 'tiny' / 'domain_iou_tiny.csv').read_text()
    assert {line.split(',')[0] for line in table.splitlines()} >= {'dark_zurich', 'rain', 'snow'}
    assert 'fog' not in table
