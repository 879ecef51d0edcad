"""The words: classes of a layout, sentences, choice of domains."""

import numpy as np
import pytest

from mmseg_dafm.experiments.synthesis.plan import SCENES, chosen_scenes, present_classes, prompt


def test_classes_are_named_from_a_share_of_the_labelled_pixels_on():
    labels = np.full((20, 20), 255, np.uint8)
    labels[:10] = 10  # 198 of 200 labelled pixels are sky
    labels[0, :2] = (16, 0)
    assert present_classes(labels) == ('sky',)
    assert present_classes(labels, 0.005) == ('road', 'sky', 'train')
    assert present_classes(labels, 0) == ('road', 'sky', 'train')
    assert present_classes(np.full((2, 2), 255, np.uint8)) == ()


def test_sentence():
    assert prompt('night scene', ('road', 'car')) == 'a photo of a city street with road, car, night scene'
    assert prompt('night scene') == 'a photo of a city street, night scene'
    assert prompt('dusk', ('road',), '{scene} of a town') == 'dusk of a town'


@pytest.mark.parametrize('template', ['a street', '{scene} {city}', '{scene} {', '{classes}'])
def test_template_that_cannot_be_filled(template):
    with pytest.raises(ValueError, match=r'--template needs \{scene\} and may have \{classes\}'):
        prompt('night scene', (), template)


def test_choice_of_domains():
    assert chosen_scenes() == SCENES
    assert set(SCENES) == {'fog', 'night', 'rain', 'snow'}
    assert list(chosen_scenes(None, ['dusk=a street at dusk'])) == [*SCENES, 'dusk']
    own = chosen_scenes(['night', 'dusk'], ['dusk=at dusk', 'night=late = dark'])
    assert list(own.items()) == [('night', 'late = dark'), ('dusk', 'at dusk')]


def test_refusals():
    with pytest.raises(ValueError, match=r"--domains: \['dusk'\] unknown, expected some of .*--prompts"):
        chosen_scenes(['night', 'dusk'])
    with pytest.raises(ValueError, match='each of them once'):
        chosen_scenes(['night', 'night'])
    for entry in ('dusk', 'a/b=x', '=x', 'dusk= '):
        with pytest.raises(ValueError, match=f'a domain is NAME=words, .*got {entry!r}'):
            chosen_scenes(None, [entry])
