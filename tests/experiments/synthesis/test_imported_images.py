"""Images of another generator: which names are taken, and what is refused."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from mmseg_dafm.experiments.synthesis.imported_images import layout_of
from mmseg_dafm.experiments.synthesis.layouts import Layout
from tests.experiments.synthesis.conftest import STEMS, pictures


@pytest.fixture
def folder(tmp_path):
    """Three night images of other sizes and names, and one that belongs to nothing."""
    names = [f'{STEMS[0]}.png', f'zurich/{STEMS[3]}_leftImg8bit.jpg', f'zurich/{STEMS[4]}-night-3.PNG', 'grid.png']
    for i, name in enumerate(names):
        path = tmp_path / 'aldm' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 64, 3), 40 * i, np.uint8)).save(path)
    return tmp_path / 'aldm'


def test_stem_ends_at_a_mark_and_the_longest_is_taken():
    layouts = {stem: Layout(stem, '.', None) for stem in ('a_1', 'a_1_2', 'b')}
    expected = {
        'a_1': 'a_1',
        'a_1_2': 'a_1_2',
        'a_1_3': 'a_1',
        'a_1_2.5': 'a_1_2',
        'b-x-y': 'b',
        'a_10': None,
        'bb': None,
        'x_b': None,
    }
    for name, stem in expected.items():
        found = layout_of(name, layouts)
        assert (found and found.stem) == stem, name


@pytest.mark.parametrize('link', [False, True])
def test_images_are_paired_and_written_as_png(folder, tool, tmp_path, capsys, link):
    out = tmp_path / 'out'
    arguments = ['--import', folder, '--domain', 'night', *(['--link'] if link else [])]
    # what a Mac puts beside each file on disks of other systems
    for path in [*folder.rglob('*.*')]:
        path.with_name(f'._{path.name}').write_bytes(b'Mac OS X')
    tool(out, *arguments)
    assert 'night: 3 of 5 layouts have an image; 1 images belong to no layout' in capsys.readouterr().out
    names = [f'night/{STEMS[i].split("_")[0]}/{STEMS[i]}.png' for i in (0, 3, 4)]
    assert list(pictures(out)) == names
    values = []
    for name in names:
        with Image.open(out / name) as image:
            assert image.format == 'PNG'
            values.append(int(np.asarray(image)[0, 0, 0]))
    assert values == [0, 40, 80]
    assert [os.path.islink(out / name) for name in names] == [link, False, link]
    assert json.loads((out / 'night/manifest.json').read_text()) == {'domain': 'night', 'imported_from': str(folder)}
    assert (out / 'contact_sheet.png').is_file()
    tool(out, *arguments)
    assert list(pictures(out)) == names


def test_sheet_names_the_label_with_other_ids(folder, data, tool, tmp_path):
    path = next((data / 'gtFine/train').glob(f'*/{STEMS[0]}*'))
    Image.fromarray(np.full((64, 128), 26, np.uint8)).save(path)
    with pytest.raises(SystemExit, match=rf'error: --labels: the label file {path} holds the ids \[26\]'):
        tool(tmp_path / 'out', '--import', folder, '--domain', 'night')


def test_imported_and_generated_images_are_not_mixed(folder, tool, tmp_path):
    tool(tmp_path / 'out', '--import', folder, '--domain', 'night')
    with pytest.raises(SystemExit, match=r'error: .*night was begun with .*imported_from = '):
        tool(tmp_path / 'out', '--domains', 'night')


def test_broken_images_are_named_before_anything_is_written(folder, tool, tmp_path):
    whole = {path: path.read_bytes() for path in (folder / f'{STEMS[0]}.png', folder / f'zurich/{STEMS[3]}_leftImg8bit.jpg')}
    for size in (0, 0.5):
        for path, content in whole.items():
            path.write_bytes(content[: int(size * len(content))])
        names = ', '.join(map(str, whole))
        with pytest.raises(SystemExit, match=rf'error: --import: 2 of 3 images cannot be decoded: make or copy {names} again'):
            tool(tmp_path / 'out', '--import', folder, '--domain', 'night')
        assert not (tmp_path / 'out').exists()
    for path, content in whole.items():
        path.write_bytes(content)
    tool(tmp_path / 'out', '--import', folder, '--domain', 'night')
    # a copy that was cut off is made again
    before = pictures(tmp_path / 'out')
    name = next(iter(before))
    (tmp_path / 'out' / name).write_bytes(before[name][:20])
    tool(tmp_path / 'out', '--import', folder, '--domain', 'night')
    assert pictures(tmp_path / 'out') == before


def test_refusals(folder, tool, tmp_path):
    def refused(message, source=folder, domain='night'):
        with pytest.raises(SystemExit, match=message):
            tool(tmp_path / 'out', '--import', source, '--domain', domain)
        assert not (tmp_path / 'out').exists()

    refused(r'error: --import /nowhere: there is no such folder', '/nowhere')
    refused(r"error: a domain is NAME=words, .*got 'a/b=imported'", domain='a/b')
    (tmp_path / 'empty').mkdir()
    refused(r'error: --import .*: none of its 0 images .* begins with the stem of one of the 5 layouts', tmp_path / 'empty')
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / f'{STEMS[1]}.png')
    refused(rf'error: .*{STEMS[1]}\.png is 32 x 32 .* is 64 x 128: expected the same proportion, such as 32 x 64')
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(folder / f'{STEMS[0]}_1.png')
    refused(rf'error: --import .*{STEMS[0]}\.png and .*{STEMS[0]}_1\.png both belong to {STEMS[0]}')
