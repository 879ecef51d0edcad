"""Finding and checking label maps."""

import numpy as np
import pytest
from PIL import Image

from mmseg_dafm.experiments.synthesis.layouts import check_labels, find_layouts, read_labels
from tests.experiments.synthesis.conftest import STEMS


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def check(path, size=(32, 64)):
    check_labels([path], size, print)


def test_stems_and_folders_of_cityscapes(data):
    layouts = find_layouts(data / 'gtFine/train')
    assert tuple(layout.stem for layout in layouts) == STEMS
    assert [layout.folder for layout in layouts] == [stem.split('_')[0] for stem in STEMS]
    assert layouts[0].path.name == f'{STEMS[0]}_gtFine_labelTrainIds.png'


def test_flat_folder_with_its_own_pattern(tmp_path):
    write(tmp_path / 'a_label.png', [[0]])
    write(tmp_path / 'b.png', [[0]])
    (layout,) = find_layouts(tmp_path, '*_label.png')
    assert (layout.stem, layout.folder) == ('a', '.')


def test_nothing_found_names_folder_pattern_and_remedy(tmp_path):
    with pytest.raises(ValueError, match=r'--labels .*nowhere: there is no such folder'):
        find_layouts(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match=r"no file matches '\*\.tif'; check --labels and --pattern"):
        find_layouts(tmp_path, '*.tif')
    write(tmp_path / 'x/a_gtFine_labelIds.png', [[0]])
    with pytest.raises(ValueError, match=r'no file matches .*; run tools/dataset_converters/cityscapes\.py first'):
        find_layouts(tmp_path)


@pytest.mark.parametrize('pattern', ['labels/a.png', '*', '**/x*.png', '*_*.png'])
def test_pattern_without_a_clear_stem(tmp_path, pattern):
    with pytest.raises(ValueError, match=r"--pattern must end in '\*' and the labels' ending"):
        find_layouts(tmp_path, pattern)


def test_two_labels_with_one_stem(tmp_path):
    write(tmp_path / 'x/a.png', [[0]])
    write(tmp_path / 'y/a.png', [[0]])
    with pytest.raises(ValueError, match=r'x/a\.png and .*y/a\.png have the same stem'):
        find_layouts(tmp_path, '**/*.png')


def test_labels_are_resized_by_taking_neighbours(tmp_path):
    ids = np.random.default_rng(0).integers(0, 19, (8, 16))
    path = write(tmp_path / 'a.png', ids.repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(read_labels(path, 8, 16), ids)
    np.testing.assert_array_equal(read_labels(path, 64, 128), ids.repeat(8, 0).repeat(8, 1))


def test_good_labels_pass(tmp_path):
    check(write(tmp_path / 'a.png', np.full((100, 201), 18)))


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.full((32, 64), 33), r'--labels: the label file .*a\.png holds the ids \[33\], expected 0 to 18 or 255'),
        (np.zeros((32, 64, 3)), r'--labels: the label file .*a\.png has shape \(32, 64, 3\)'),
        (np.full((32, 64), 255), r'a\.png has no labelled pixel: take it out'),
        (np.zeros((72, 96)), r'--size is 32 x 64 .* label .*a\.png is 72 x 96: expected the same proportion, such as 32 x 40'),
    ],
)
def test_wrong_labels(tmp_path, array, message):
    path = write(tmp_path / 'a.png', array)
    with pytest.raises(ValueError, match=message):
        check(path)


def test_damaged_label(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(b'\x89PNG\r\n')
    with pytest.raises(ValueError, match=r'a\.png cannot be read \(.*\); restore the file'):
        check(path)
