"""Manifests: what a folder was made with, and refusals."""

import json

import pytest

from mmseg_dafm.experiments.synthesis.manifest import claim, read_manifest


def picture(folder):
    (folder / 'town').mkdir(parents=True)
    (folder / 'town/a.png').write_bytes(b'x')


def test_begun_folder_takes_the_same_settings_only(tmp_path):
    folder = tmp_path / 'night'
    claim(folder, {'steps': 25, 'size': (512, 1024)})
    assert read_manifest(folder) == {'steps': 25, 'size': [512, 1024]}
    picture(folder)
    claim(folder, {'steps': 25, 'size': (512, 1024)})
    with pytest.raises(ValueError, match=r"night was begun with steps = 25 \(now 10\), word = None \(now 'x'\): go on with what"):
        claim(folder, {'steps': 10, 'size': (512, 1024), 'word': 'x'})
    assert read_manifest(folder)['steps'] == 25


def test_one_folder_has_many_names(tmp_path, monkeypatch):
    (tmp_path / 'sd').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'sd')
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'night'
    claim(folder, {'pretrained': 'sd', 'controlnet': 'owner/name', 'scene': 'sd'})
    full = str((tmp_path / 'sd').resolve())
    assert read_manifest(folder) == {'pretrained': full, 'controlnet': 'owner/name', 'scene': 'sd'}, 'words are no folder'
    picture(folder)
    for name in ('./sd', 'link', f'{tmp_path}/night/../sd'):
        claim(folder, {'pretrained': name, 'controlnet': 'owner/name', 'scene': 'sd'})
    # as written before folders were resolved
    (folder / 'manifest.json').write_text(json.dumps({'imported_from': 'sd'}))
    claim(folder, {'imported_from': full})
    with pytest.raises(ValueError, match='night was begun with imported_from = '):
        claim(folder, {'imported_from': str(tmp_path)})


def test_settings_may_change_before_the_first_image(tmp_path):
    claim(tmp_path, {'steps': 25})
    claim(tmp_path, {'steps': 10})
    assert read_manifest(tmp_path) == {'steps': 10}


def test_images_of_unknown_origin_are_left_alone(tmp_path):
    picture(tmp_path / 'night')
    with pytest.raises(ValueError, match=r'night holds images but no manifest\.json.*--out.*--import'):
        claim(tmp_path / 'night', {})
    assert read_manifest(tmp_path / 'night') is None


@pytest.mark.parametrize(('text', 'message'), [('{', 'is no JSON'), (json.dumps([1]), 'must hold a JSON object, got a list')])
def test_damaged_manifest(tmp_path, text, message):
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(ValueError, match=rf'manifest\.json {message}.*choose another --out'):
        read_manifest(tmp_path)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match=r'--out: .*file/night cannot be written .*; choose a folder that can be'):
        claim(tmp_path / 'file/night', {})
