"""The doctor on whole data sets: published sizes and numbers, conditions, splits without labels, damaged and empty files."""

import os

import numpy as np
import pytest
from PIL import Image

from mmseg_dafm.doctor import data as doctor_data

CITYSCAPES = ('leftImg8bit/{split}/a/{name}_leftImg8bit.png', 'gtFine/{split}/a/{name}_gtFine_labelTrainIds.png')
ACDC = ('rgb_anon/{split}/G/{name}_rgb_anon.png', 'gt/{split}/G/{name}_gt_labelTrainIds.png')
BDD = ('images/10k/{split}/{name}.jpg', 'labels/sem_seg/masks/{split}/{name}.png')
BDD_2018 = ('seg/images/{split}/{name}.jpg', 'seg/labels/{split}/{name}_train_id.png')
HALF_VISTAS = ('half/{split}/images/{name}.jpg', 'half/{split}/train_ids/{name}.png')
VISTAS = ('{split}/images/{name}.jpg', '{split}/train_ids/{name}.png')
DARK_ZURICH = ('rgb_anon/{split}/night/G/{name}_rgb_anon.png', 'gt/{split}/night/G/{name}_gt_labelTrainIds.png')
CONDITIONS = {'fog': 100, 'night': 106, 'rain': 100, 'snow': 100}
# set, files, split, published width and height, published number of images
PUBLISHED = [
    ('cityscapes', CITYSCAPES, 'train', (2048, 1024), 2975),
    ('cityscapes', CITYSCAPES, 'val', (2048, 1024), 500),
    *[('acdc', ACDC, f'{condition}/val', (1920, 1080), count) for condition, count in CONDITIONS.items()],
    ('bdd100k', BDD, 'val', (1280, 720), 1000),
    ('bdd100k', BDD_2018, 'val', (1280, 720), 1000),
    ('mapillary', HALF_VISTAS, 'validation', None, 2000),
    ('mapillary', VISTAS, 'validation', None, 2000),
    ('gtav', ('images/{name}.png', 'labels/{name}_labelTrainIds.png'), 'train', None, 24966),
    ('synthia', ('RGB/{name}.png', 'GT/LABELS/{name}_labelTrainIds.png'), 'train', (1280, 760), 9400),
]
UNLABELLED = [
    ('cityscapes', CITYSCAPES, 'test', (2048, 1024), 1525),
    *[('acdc', ACDC, f'{condition}/test', (1920, 1080), 500) for condition in CONDITIONS],
    ('dark_zurich', DARK_ZURICH, 'test', (1920, 1080), 151),
]


def write(root, files, split, name='x', size=(8, 4), ids=0, labelled=True):
    """Write an image, and its label of one id."""
    image, label = (root / part.format(split=split, name=name) for part in files)
    for path in (image, label)[: 1 + labelled]:
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size).save(image)
    if labelled:
        Image.fromarray(np.full(size[::-1], ids, np.uint8)).save(label)
    return image, label


def fill(root, files, split, count, **options):
    """Write one pair, and links to it under other names: `count` in all."""
    for written, part in zip(write(root, files, split, **options), files, strict=bool(options.get('labelled', True))):
        if written.is_file():
            for number in range(count - 1):
                os.link(written, root / part.format(split=split, name=number))


def check(root, name, split):
    (found,) = [found for found in doctor_data.check_data_root(name, str(root)) if found.name == f'{name} {split} in {root}']
    return found


@pytest.fixture
def any_size(monkeypatch):
    for name, layouts in doctor_data.DATA_LAYOUTS.items():
        monkeypatch.setitem(doctor_data.DATA_LAYOUTS, name, [layout._replace(size=None) for layout in layouts])


@pytest.mark.usefixtures('any_size')
@pytest.mark.parametrize(('name', 'files', 'split', 'size', 'count'), [case for case in PUBLISHED if case[-1] < 3000])
def test_as_many_images_as_were_published(tmp_path, name, files, split, size, count):
    fill(tmp_path, files, split, count)
    whole = check(tmp_path, name, split)
    assert whole.ok, whole.found
    assert whole.found.startswith(f'{count} images, {count} with labels, 10 opened')
    for part in files:
        (tmp_path / part.format(split=split, name='0')).unlink()
    fewer = check(tmp_path, name, split)
    assert not fewer.ok
    assert fewer.found.startswith(f'{count - 1} images instead of {count}, {count - 1} with labels')
    assert f'({count} images)' in fewer.needed


@pytest.mark.usefixtures('any_size')
@pytest.mark.parametrize(('name', 'files', 'split', 'size', 'count'), [case for case in PUBLISHED if case[-1] >= 3000])
def test_large_sets_name_their_number(tmp_path, name, files, split, size, count):
    write(tmp_path, files, split)
    assert not check(tmp_path, name, split).ok
    assert check(tmp_path, name, split).found.startswith(f'1 images instead of {count}, 1 with labels')


@pytest.mark.parametrize(('name', 'files', 'split', 'size', 'count'), [case for case in PUBLISHED + UNLABELLED if case[3]])
def test_other_sizes_and_turned_images_are_found(tmp_path, name, files, split, size, count):
    write(tmp_path, files, split, size=size[::-1])
    found = check(tmp_path, name, split).found
    width, height = size
    assert found.endswith(f' is {height} x {width}, expected {width} x {height} (turned by 90 degrees)')
    write(tmp_path, files, split, size=(width // 2, height // 2))
    assert f'{width // 2} x {height // 2}, expected {width} x {height}' in check(tmp_path, name, split).found
    write(tmp_path, files, split, size=size)
    assert check(tmp_path, name, split).found.startswith(f'1 images instead of {count}')


def test_each_condition_of_acdc_has_its_check(tmp_path):
    write(tmp_path, ACDC, 'fog/val')
    names = [found.name for found in doctor_data.check_data_root('acdc', str(tmp_path))]
    assert names == [f'acdc {condition}/val in {tmp_path}' for condition in CONDITIONS]
    assert check(tmp_path, 'acdc', 'snow/val').found == '0 images instead of 100, 0 with labels'


@pytest.mark.usefixtures('any_size')
@pytest.mark.parametrize(('name', 'files', 'split', 'size', 'count'), UNLABELLED)
def test_splits_without_labels_are_looked_at_where_they_are(tmp_path, name, files, split, size, count):
    before = [found.name for found in doctor_data.check_data_root(name, str(tmp_path))]
    assert not any('test' in found.split(' in ')[0] for found in before)
    fill(tmp_path, files, split, count, labelled=False)
    whole = check(tmp_path, name, split)
    assert whole.ok
    assert not whole.required
    assert whole.found == f'{count} images, 10 opened'
    (tmp_path / files[0].format(split=split, name='0')).unlink()
    fewer = check(tmp_path, name, split)
    assert not fewer.ok
    assert not fewer.required
    assert fewer.found == f'{count - 1} images instead of {count}, 10 opened'
    image = tmp_path / files[0].format(split=split, name='x')
    image.write_bytes(image.read_bytes()[:-30])
    assert 'cannot be read' in check(tmp_path, name, split).found


def noise(path, size=(64, 48)):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)


@pytest.mark.usefixtures('any_size')
@pytest.mark.parametrize(('name', 'files', 'split'), [('cityscapes', CITYSCAPES, 'val'), ('bdd100k', BDD, 'val')])
@pytest.mark.parametrize('kept', [0, 7, 60, 0.5, 0.95])
def test_images_that_are_cut_off_are_found(tmp_path, name, files, split, kept):
    """PNG and JPEG: their headers alone tell the size and would pass."""
    image, _ = write(tmp_path, files, split, size=(64, 48))
    noise(image)
    assert check(tmp_path, name, split).found.startswith('1 images instead')
    content = image.read_bytes()
    image.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    found = check(tmp_path, name, split)
    assert not found.ok
    assert found.found.startswith(f'{image} cannot be read')
    assert found.found.endswith(': restore the file')


@pytest.mark.usefixtures('any_size')
def test_labels_that_are_cut_off_are_found(tmp_path):
    _, label = write(tmp_path, CITYSCAPES, 'val', size=(64, 48))
    label.write_bytes(label.read_bytes()[:-30])
    assert check(tmp_path, 'cityscapes', 'val').found.startswith(f'{label} cannot be read')


@pytest.mark.usefixtures('any_size')
def test_a_label_without_any_labelled_pixel_is_a_problem(tmp_path):
    fill(tmp_path, CITYSCAPES, 'val', 500)
    assert check(tmp_path, 'cityscapes', 'val').ok
    label = write(tmp_path, CITYSCAPES, 'val', name='0', ids=255)[1]
    found = check(tmp_path, 'cityscapes', 'val')
    assert not found.ok
    assert found.found == f'{label.name} is 255 everywhere, so none of its pixels counts'


def test_vistas_at_full_size_says_what_is_left_to_do(tmp_path):
    write(tmp_path, VISTAS, 'validation')
    remedy = f'--targets mapillary takes half/: run python tools/dataset_converters/mapillary.py {tmp_path} --half for it'
    assert check(tmp_path, 'mapillary', 'validation').found.endswith(remedy)
    write(tmp_path, HALF_VISTAS, 'validation')
    assert '--targets' not in check(tmp_path, 'mapillary', 'validation').found


@pytest.mark.usefixtures('any_size')
def test_hidden_files_and_blank_lines_are_no_images(tmp_path):
    """A Mac writes ._NAME beside NAME on disks of other systems."""
    fill(tmp_path, CITYSCAPES, 'val', 500)
    for path in write(tmp_path, CITYSCAPES, 'val'):
        path.with_name(f'._{path.name}').write_bytes(b'Mac OS X')
    assert check(tmp_path, 'cityscapes', 'val').ok
    names = tmp_path / 'ImageSets/Segmentation/val.txt'
    names.parent.mkdir(parents=True)
    names.write_bytes(b'\xef\xbb\xbfa b\r\n\r\nc\r\n')
    (layout,) = doctor_data.DATA_LAYOUTS['voc']
    assert [path.name for path in doctor_data.listed_images(tmp_path, layout.of('val'))] == ['a b.jpg', 'c.jpg']
