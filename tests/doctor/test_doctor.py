"""The doctor: versions, data layouts, model folders, configs, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_dafm.core.config_file import load_config
from mmseg_dafm.core.files import root_variable
from mmseg_dafm.doctor import __main__ as doctor
from mmseg_dafm.doctor import checks as doctor_checks
from mmseg_dafm.doctor import config_check
from mmseg_dafm.doctor import data as doctor_data
from mmseg_dafm.doctor import files as doctor_files
from mmseg_dafm.doctor.config_check import check_config

ROOT = Path(__file__).resolve().parents[2]


def write_cityscapes(root, split, count=2, label=0, size=(8, 4), labelled=True):
    """Write `count` pairs in Cityscapes' layout; size is (width, height)."""
    for index in range(count):
        stem = f'aachen_{index:06d}_000019'
        image = root / 'leftImg8bit' / split / 'aachen' / f'{stem}_leftImg8bit.png'
        target = root / 'gtFine' / split / 'aachen' / f'{stem}_gtFine_labelTrainIds.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 4)).save(image)
        if labelled:
            Image.fromarray(np.full(size[::-1], label, np.uint8)).save(target)


@pytest.mark.parametrize(
    ('version', 'expected'), [('2.12.1+cpu', (2, 12, 1)), ('5.0.0.93', (5, 0, 0, 93)), ('1.0rc1', (1, 0)), ('3', (3,))]
)
def test_version_numbers(version, expected):
    assert doctor_checks.numbers(version)[: len(expected)] == expected


@pytest.mark.parametrize(
    ('found', 'ok'), [('0.29.2', False), ('0.30.0', True), ('0.42.1', True), ('1.0.0', False), (None, False)]
)
def test_range_of_versions(monkeypatch, found, ok):
    monkeypatch.setattr(doctor_checks, 'installed', lambda name: found)
    check = doctor_checks.check_range('diffusers', '0.30', '1')
    assert check.ok is ok
    assert check.fix == 'pip install "diffusers>=0.30,<1"'


@pytest.mark.parametrize(
    ('packages', 'ok', 'fix'),
    [
        ({'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmsegmentation': '1.2.2'}, True, ''),
        ({'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmsegmentation': '1.4.2'}, True, ''),
        ({'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'mmcv': '2.1.0'}, False, 'pip uninstall mmcv'),
        ({'mmengine': '0.10.7'}, False, 'mmseg_dafm[onedl]'),
        ({}, False, 'mmseg_dafm[onedl]'),
    ],
)
def test_one_family_of_packages(monkeypatch, packages, ok, fix):
    monkeypatch.setattr(doctor_checks, 'installed', packages.get)
    monkeypatch.setattr(doctor_checks, 'import_error', lambda name: None)
    stack = next(check for check in doctor_checks._openmmlab_checks() if check.name == 'mmsegmentation stack')
    assert stack.ok is ok
    assert ok or fix in stack.fix


def test_too_new_classic_mmcv_is_found(monkeypatch):
    packages = {'mmengine': '0.10.7', 'mmcv': '2.2.0', 'mmsegmentation': '1.2.2'}
    monkeypatch.setattr(doctor_checks, 'installed', packages.get)
    monkeypatch.setattr(doctor_checks, 'import_error', lambda name: None)
    check = next(check for check in doctor_checks._openmmlab_checks() if check.name == 'mmcv')
    assert not check.ok
    assert check.fix == 'pip install "mmcv>=2.1,<2.2"'


def test_complete_cityscapes(tmp_path, monkeypatch):
    smaller(monkeypatch, 'cityscapes', size=None, counts={})
    for split in ('train', 'val'):
        write_cityscapes(tmp_path, split)
    checks = list(doctor_data.check_data_root('cityscapes', str(tmp_path)))
    assert [check.ok for check in checks] == [True, True]
    assert checks[0].found == '2 images, 2 with labels, 2 opened'


@pytest.mark.parametrize(
    ('fields', 'found'),
    [
        ({'labelled': False}, '2 images, 0 with labels'),
        ({'label': 33}, 'holds ids [33]'),
        ({'size': (4, 4)}, 'has shape (4, 4), its image (4, 8)'),
        ({'count': 0}, '0 images, 0 with labels'),
    ],
)
def test_faulty_cityscapes(tmp_path, monkeypatch, fields, found):
    smaller(monkeypatch, 'cityscapes', size=None, counts={})
    write_cityscapes(tmp_path, 'train', **fields)
    check = next(doctor_data.check_data_root('cityscapes', str(tmp_path)))
    assert not check.ok
    assert found in check.found
    assert 'tools/dataset_converters/cityscapes.py' in check.fix


def test_acdc_layout(tmp_path, monkeypatch):
    smaller(monkeypatch, 'acdc', size=None, counts={})
    for condition in ('fog', 'night'):
        image = tmp_path / 'rgb_anon' / condition / 'val' / 'GOPR0475' / 'a_frame_000001_rgb_anon.png'
        label = tmp_path / 'gt' / condition / 'val' / 'GOPR0475' / 'a_frame_000001_gt_labelTrainIds.png'
        for path in (image, label):
            path.parent.mkdir(parents=True)
        Image.new('RGB', (8, 4)).save(image)
        Image.fromarray(np.full((4, 8), 18, np.uint8)).save(label)
    found = [(check.ok, check.found) for check in doctor_data.check_data_root('acdc', str(tmp_path))]
    some, none = (True, '1 images, 1 with labels, 1 opened'), (False, '0 images, 0 with labels')
    assert found == [some, some, none, none]


def write_pair(image, label, ids=18, size=(8, 4), label_size=None):
    """Write an image and a label of one id; sizes are (width, height)."""
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size).save(image)
    Image.fromarray(np.full((label_size or size)[::-1], ids, np.uint8)).save(label)


BDD = ('images/10k/val/{}.jpg', 'labels/sem_seg/masks/val/{}.png')
LAYOUTS = {
    'gtav': [('images/{}.png', 'labels/{}_labelTrainIds.png')],
    'bdd100k': [BDD, ('seg/images/val/{}.jpg', 'seg/labels/val/{}_train_id.png')],
    'synthia': [('RGB/{}.png', 'GT/LABELS/{}_labelTrainIds.png')],
    'dark_zurich': [('rgb_anon/val/night/G/{}_rgb_anon.png', 'gt/val/night/G/{}_gt_labelTrainIds.png')],
    'nighttime_driving': [
        (
            'leftImg8bit/test/night/{}_leftImg8bit.png',
            'gtCoarse_daytime_trainvaltest/test/night/{}_gtCoarse_labelTrainIds.png',
        )
    ],
    'mapillary': [
        ('half/validation/images/{}.jpg', 'half/validation/train_ids/{}.png'),
        ('validation/images/{}.jpg', 'validation/train_ids/{}.png'),
    ],
}


SIZES = {'bdd100k': (1280, 720), 'synthia': (1280, 760), 'dark_zurich': (1920, 1080), 'nighttime_driving': (1920, 1080)}


def smaller(monkeypatch, name, **changes):
    """Let the doctor expect another size or number of images of a set."""
    monkeypatch.setitem(doctor_data.DATA_LAYOUTS, name, [part._replace(**changes) for part in doctor_data.DATA_LAYOUTS[name]])


def check_all(name, root):
    return list(doctor_data.check_data_root(name, str(root)))


@pytest.mark.parametrize(('name', 'number'), [(name, i) for name, found in LAYOUTS.items() for i in range(len(found))])
def test_layouts_of_the_generalisation_sets(monkeypatch, tmp_path, name, number):
    image, label = LAYOUTS[name][number]
    size = SIZES.get(name, (8, 4))
    smaller(monkeypatch, name, counts={})
    for i in range(23):
        write_pair(tmp_path / image.format(i), tmp_path / label.format(i), size=size)
    (check,) = doctor_data.check_data_root(name, str(tmp_path))
    assert check.ok, check.found
    assert check.found.startswith('23 images, 23 with labels, 10 opened')
    # the last file, which is what an interrupted copy leaves incomplete
    write_pair(tmp_path / image.format(9), tmp_path / label.format(9), ids=33, size=size)
    (check,) = doctor_data.check_data_root(name, str(tmp_path))
    assert '9' in check.found.split()[0]
    assert 'holds ids [33]' in check.found
    (tmp_path / label.format(9)).unlink()
    assert next(doctor_data.check_data_root(name, str(tmp_path))).found.startswith('23 images, 22 with labels')


@pytest.mark.parametrize(
    ('size', 'label_size', 'found'),
    [
        ((720, 1280), (720, 1280), 'a.jpg is 720 x 1280, expected 1280 x 720 (turned by 90 degrees)'),
        ((1280, 720), (720, 1280), 'a.png has shape (1280, 720), its image (720, 1280) (turned by 90 degrees)'),
        ((640, 360), (640, 360), 'a.jpg is 640 x 360, expected 1280 x 720'),
    ],
)
def test_turned_images_of_bdd100k(tmp_path, size, label_size, found):
    write_pair(tmp_path / BDD[0].format('a'), tmp_path / BDD[1].format('a'), size=size, label_size=label_size)
    (check,) = doctor_data.check_data_root('bdd100k', str(tmp_path))
    assert not check.ok
    assert check.found == found


@pytest.mark.parametrize(
    ('name', 'count', 'split'),
    [
        ('dark_zurich', 50, 'val'),
        ('nighttime_driving', 50, 'test'),
        ('foggy_zurich', 40, 'testv2'),
        ('foggy_driving', 33, 'test'),
    ],
)
def test_small_test_sets_must_be_complete(monkeypatch, tmp_path, name, count, split):
    smaller(monkeypatch, name, size=None)
    image, label = {
        **{key: pairs[0] for key, pairs in LAYOUTS.items()},
        'foggy_zurich': ('RGB/G/{}.png', 'gt_labelTrainIds/G/{}.png'),
        'foggy_driving': ('leftImg8bit/test/web/{}_leftImg8bit.png', 'gtFine/test/web/{}_gtFine_labelTrainIds.png'),
    }[name]
    listed = tmp_path / 'lists_file_names/RGB_testv2_filenames.txt'
    listed.parent.mkdir()
    for number in range(count):
        write_pair(tmp_path / image.format(number), tmp_path / label.format(number))
        listed.write_text(''.join(f'RGB/G/{name}.png\n' for name in range(number + 1)))
        if number == count - 2:
            check = check_all(name, tmp_path)[0]
            assert not check.ok
            assert check.found == f'{count - 1} images instead of {count}, {count - 1} with labels, 10 opened'
            assert f'({count} images)' in check.needed
    check = check_all(name, tmp_path)[0]
    assert check.ok, check.found
    assert check.name == f'{name} {split} in {tmp_path}'


def test_the_two_kinds_of_foggy_driving(tmp_path):
    write_pair(
        tmp_path / 'leftImg8bit/test_extra/web/a_leftImg8bit.png',
        tmp_path / 'gtCoarse/test_extra/web/a_gtCoarse_labelTrainIds.png',
    )
    fine, coarse = check_all('foggy_driving', tmp_path)
    assert fine.found == '0 images instead of 33, 0 with labels'
    assert coarse.found == '1 images instead of 68, 1 with labels, 1 opened'
    assert 'gtFine' in fine.needed
    assert 'gtCoarse' in coarse.needed


def test_foggy_zurich_counts_what_its_list_names(monkeypatch, tmp_path):
    smaller(monkeypatch, 'foggy_zurich', size=None, counts={'testv2': 2})
    for number in range(3):
        write_pair(tmp_path / f'RGB/G/{number}.png', tmp_path / f'gt_labelTrainIds/G/{number}.png')
    (check,) = check_all('foggy_zurich', tmp_path)
    assert not check.ok
    assert check.found == '0 images instead of 2, 0 with labels', 'without the list, nobody knows the test images'
    listed = tmp_path / 'lists_file_names/RGB_testv2_filenames.txt'
    listed.parent.mkdir()
    listed.write_text('RGB/G/0.png\nRGB/G/2.png\n')
    assert check_all('foggy_zurich', tmp_path)[0].ok
    (tmp_path / 'RGB/G/2.png').unlink()
    (check,) = check_all('foggy_zurich', tmp_path)
    assert not check.ok
    assert check.found == '2 images, 1 with labels, 1 opened'


def test_voc_has_lists_and_21_ids(tmp_path):
    for split, kind, name, ids in (('train', '', 'a', 20), ('aug', 'Aug', 'b', 19), ('val', '', 'c', 20)):
        write_pair(tmp_path / f'JPEGImages/{name}.jpg', tmp_path / f'SegmentationClass{kind}/{name}.png', ids=ids)
        listed = tmp_path / f'ImageSets/Segmentation/{split}.txt'
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(f'{name}\n')
    checks = check_all('voc', tmp_path)
    assert [check.found for check in checks] == ['1 images, 1 with labels, 1 opened'] * 3
    assert all(check.ok for check in checks)
    write_pair(tmp_path / 'JPEGImages/c.jpg', tmp_path / 'SegmentationClass/c.png', ids=21)
    assert check_all('voc', tmp_path)[2].found == 'c.png holds ids [21]'
    (tmp_path / 'SegmentationClassAug/b.png').unlink()
    assert not check_all('voc', tmp_path)[1].ok


def test_each_set_has_its_variable(monkeypatch):
    for name in doctor_data.DATA_LAYOUTS:
        monkeypatch.delenv(root_variable(name), raising=False)
    monkeypatch.setenv('FOGGY_ZURICH_ROOT', '/somewhere/fog')
    names = {check.name for check in doctor.collect([], {}, [], all_sets=True)}
    assert {
        'foggy_zurich testv2 in /somewhere/fog',
        'voc aug in data/VOCdevkit/VOC2012',
        'synthia train in data/synthia',
    } <= names


def test_the_remedy_names_the_folder(tmp_path):
    (check,) = doctor_data.check_data_root('gtav', str(tmp_path))
    assert check.fix.endswith(f'python tools/dataset_converters/gtav.py {tmp_path}')


def test_model_folders(tmp_path):
    for part, name in (('unet', 'UNet2DConditionModel'), ('vae', 'AutoencoderKL')):
        (tmp_path / part).mkdir()
        (tmp_path / part / 'config.json').write_text(json.dumps({'_class_name': name}))
    (tmp_path / 'unet' / 'diffusion_pytorch_model.safetensors').touch()
    unet, vae = doctor_files.check_model_dir(str(tmp_path))
    assert unet.ok
    assert unet.found.startswith('UNet2DConditionModel')
    assert not vae.ok
    assert 'no .safetensors' in vae.found


def test_config_check_lists_what_is_missing(tmp_path):
    config = tmp_path / 'some.py'
    config.write_text("model = dict(class_embeddings=dict(path='none.safetensors', classes='CityscapesDataset'))\n")
    (check,) = doctor_files.check_config_files(str(config))
    assert not check.ok
    assert check.found == 'model.class_embeddings.path names none.safetensors, which does not exist'
    assert check.fix == 'make it with: python tools/embed_text.py --dataset CityscapesDataset --out none.safetensors'
    config.write_text('model = dict()\n')
    assert next(doctor_files.check_config_files(str(config))).ok
    config.write_text('model = dict(\n')
    assert 'Error' in next(doctor_files.check_config_files(str(config))).found
    missing = next(doctor_files.check_config_files(str(tmp_path / 'none.py')))
    assert missing.found.endswith('none.py does not exist. Correct the path.')


def test_exit_code_follows_required_checks(tmp_path, capsys):
    assert doctor.main(['--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['ok'] is True
    assert {'python', 'torch', 'diffusers'} <= {check['name'] for check in report['checks']}
    assert doctor.main(['--json', '--data-root', f'acdc={tmp_path}']) == 1
    report = json.loads(capsys.readouterr().out)
    missing = [check['name'] for check in report['checks'] if check['required'] and not check['ok']]
    assert missing == [f'acdc {condition}/val in {tmp_path}' for condition in ('fog', 'night', 'rain', 'snow')]


@pytest.mark.parametrize(
    ('root', 'message'), [('cityscapes', 'takes NAME=FOLDER'), ('kitti=/x', "known data sets are ['acdc', 'bdd100k'")]
)
def test_bad_arguments(capsys, root, message):
    with pytest.raises(SystemExit):
        doctor.main(['--data-root', root])
    assert message in capsys.readouterr().err


def test_the_text_fits_80_columns_and_says_each_remedy_once():
    fix = 'pip install "mmseg_dafm[onedl]", then ' + 'MMCV_WITH_OPS=1 pip install --no-build-isolation "mmcv==2.1.0" ' * 3
    checks = [
        doctor_checks.Check('mmcv', 'missing', 'built', False, fix=fix.strip()),
        doctor_checks.Check('mmengine', 'missing', 'any', False, fix=fix.strip()),
        doctor_checks.Check('GPU', 'none', 'one', False, False, 'buy one'),
        doctor_checks.Check('torch', '2.12 ' * 30, '>= 2.1', True, fix='not shown'),
    ]
    text = doctor.as_text(checks)
    assert max(map(len, text.splitlines())) <= 80
    words = ' '.join(text.split())
    assert words.count('pip install "mmseg_dafm[onedl]"') == 1
    assert 'optional GPU: none (needed: one) -> buy one MISSING mmcv: missing (needed: built) MISSING mmengine' in words
    assert 'not shown' not in text
    assert text.startswith('ok       torch: 2.12')


def test_data_sets_are_looked_at_when_they_are_asked_for(tmp_path, monkeypatch):
    def names(*given, **more):
        return {check.name.split()[0] for check in doctor.collect(*given, **more)}

    assert not names([], {}, []) & {'gtav', 'voc', 'cityscapes'}
    assert {'gtav', 'voc', 'cityscapes', 'torch'} <= names([], {}, [], all_sets=True)
    assert {'gtav', 'torch'} <= names([], {'gtav': str(tmp_path)}, [])
    config = tmp_path / 'some.py'
    config.write_text('model = dict()\n')
    assert names([], {}, [str(config)]) == {'config'}, 'with a config, of that config alone'


ADAPTER = ROOT / 'configs/fishertune/gtav/dinov2_l_fishertune_gtav.py'


@pytest.mark.parametrize(
    'change',
    [
        "model = dict(backbone=dict(adapter=dict(type='LoRA')))",
        'model = dict(backbone=dict(frozn=True), decode_head=dict(num_querys=3))',
        'train_dataloader = dict(num_workers=0, persistent_workers=True)',
        'param_scheduler = [dict(type="PolyLR", eta_min=1.0, begin=0, end=9, by_epoch=False)]',
        "train_dataloader = dict(dataset=dict(data_root='no/where'))",
    ],
)
def test_what_training_refuses_the_doctor_names(tmp_path, change):
    config = tmp_path / 'changed.py'
    config.write_text(f"_base_ = '{ADAPTER}'\n{change}\n")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        check_config(load_config(config))
    first = str(caught.value).splitlines()[0]
    found = [check for check in doctor_files.check_config_files(str(config)) if not check.ok]
    assert any(first == (f'{check.found}: {check.fix}' if check.fix else check.found) for check in found)


def test_a_package_that_a_config_needs_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(config_check, 'find_spec', lambda name: None)
    (missing,) = [item for item in config_check.missing_packages(load_config(ADAPTER)) if 'timm' in item.what]
    assert missing.what == 'model.backbone.type=VFMBackbone needs the package timm, which is not installed'
    assert missing.fix == 'pip install -e ".[vfm]", or ".[all]" for everything'


def test_the_recommended_extra_brings_what_every_config_needs():
    text = (ROOT / 'setup.py').read_text()
    assert "'all': ALL" in text
    extras = {extra.upper() for _, extra in config_check.PACKAGES.values()}
    line = next(line for line in text.splitlines() if line.startswith('ALL = '))
    assert all(f'*{extra}' in line for extra in extras | {'ONEDL', 'ANALYSIS'})


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['train.py', 'test.py', 'demo.py', 'make_table.py', 'analysis_tools/domain_gap.py'])
def test_tools_say_nothing_of_upstreams_own_before_they_work(tool, tmp_path):
    result = subprocess.run([sys.executable, ROOT / 'tools' / tool, '--help'], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.startswith('usage: ')
    assert result.stderr == ''


@pytest.mark.slow
def test_speaks_where_mmseg_cannot_be_imported(root, tmp_path):
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg' / '__init__.py').write_text("raise AssertionError('MMCV is incompatible')\n")
    environment = os.environ | {'PYTHONPATH': f'{tmp_path}{os.pathsep}{root}'}
    command = [sys.executable, '-m', 'mmseg_dafm.doctor', '--json']
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, result.stderr[-2000:]
    checks = {check['name']: check for check in json.loads(result.stdout)['checks']}
    assert checks['import mmseg.apis']['found'] == 'AssertionError: MMCV is incompatible'
