"""KeepDomainImage and PackDomainInputs."""

import inspect

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS
from PIL import Image

from mmseg_dafm.datasets import KeepDomainImage, PackDomainInputs
from mmseg_dafm.datasets.transforms import domain_image
from tests.docs.snippets import block_with


def sample(shape=(40, 60)):
    rng = np.random.default_rng(0)
    return dict(
        img=rng.integers(0, 256, (*shape, 3), np.uint8),
        gt_seg_map=rng.integers(0, 6, shape, np.uint8),
        seg_fields=['gt_seg_map'],
        img_shape=shape,
        ori_shape=shape,
        img_path='a.png',
    )


@pytest.mark.parametrize(('shape', 'found'), [((96, 192), (32, 64)), ((150, 100), (48, 32)), ((20, 30), (32, 48))])
def test_the_copy_is_what_pillow_makes_of_the_whole_image(shape, found):
    img = sample(shape)['img']
    small = domain_image(img, 32)
    assert small.shape == (3, *found)
    assert small.dtype == torch.uint8
    expected = np.array(Image.fromarray(img[..., ::-1]).resize(found[::-1], Image.BICUBIC)).transpose(2, 0, 1)
    # coefficients are rounded differently, so a value beside a half may fall to the other side
    assert np.abs(small.numpy().astype(int) - expected).max() <= 1


def test_the_copy_is_its_own_memory():
    img = sample((32, 48))['img']
    kept = domain_image(img, 32, to_rgb=False)
    img[:] = 0
    assert kept.any()


def test_a_crop_in_front_of_it_is_named_once(monkeypatch):
    messages = []
    monkeypatch.setattr('mmseg_dafm.datasets.transforms.domain_inputs.print_log', lambda text, *_: messages.append(text))
    monkeypatch.setattr(KeepDomainImage, 'warned', False)
    keep = dict(type='KeepDomainImage', size=16)
    for whole in (
        [keep],
        [dict(type='Resize', scale=(33, 25), keep_ratio=True), keep],
        [dict(type='Resize', scale=(99, 99)), keep],
    ):
        Compose(whole)(sample())
    assert messages == []
    for _ in range(2):
        Compose([dict(type='RandomCrop', crop_size=(20, 20)), keep])(sample())
    assert messages == [messages[0]]
    assert 'keeps a crop of 20x20 pixels' in messages[0]


def test_channels_are_swapped_only_on_request():
    img = np.zeros((10, 10, 3), np.uint8)
    img[..., 0] = 255
    assert domain_image(img, 4)[:, 0, 0].tolist() == [0, 0, 255]
    assert domain_image(img, 4, to_rgb=False)[:, 0, 0].tolist() == [255, 0, 0]


def test_the_whole_image_rides_through_crop_flip_and_distortion():
    results = sample()
    expected = domain_image(results['img'], 16)
    packed = Compose(
        [
            dict(type='KeepDomainImage', size=16),
            dict(type='RandomCrop', crop_size=(20, 20)),
            dict(type='RandomFlip', prob=1.0),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackDomainInputs'),
        ]
    )(results)
    assert packed['inputs'].shape == (3, 20, 20)
    assert packed['data_samples'].domain_img.equal(expected)


def test_pack_keeps_mmsegs_own_keys_and_tolerates_absent_ones():
    keys = inspect.signature(PackSegInputs.__init__).parameters['meta_keys'].default
    assert PackDomainInputs().meta_keys == (*keys, 'domain', 'domain_img')
    packed = TRANSFORMS.build(dict(type='PackDomainInputs'))(sample())
    assert set(packed['data_samples'].metainfo_keys()) == {'img_path', 'img_shape', 'ori_shape'}
    packed = PackDomainInputs(meta_keys=('domain',))({**sample(), 'domain': 'fog'})
    assert packed['data_samples'].metainfo == {'domain': 'fog'}


def test_failures():
    with pytest.raises(ValueError, match='size must be a positive integer, got 0'):
        KeepDomainImage(size=0)
    with pytest.raises(ValueError, match=r'needs an \(H, W, 3\) uint8 image, got shape \(40, 60, 3\) and float32'):
        KeepDomainImage()(dict(img=sample()['img'].astype(np.float32)))
    with pytest.raises(ValueError, match='uint8 image, got shape'):
        KeepDomainImage()(dict(img=np.zeros((4, 4), np.uint8)))


def test_the_printed_pipeline_keeps_the_whole_image(root):
    snippet = block_with(root / 'docs/domino.md', "type='DominoFPNHead'")
    found = {}
    exec(snippet, found)  # noqa: S102 (a config)
    kinds = [step['type'] for step in found['train_pipeline']]
    assert kinds.index('KeepDomainImage') < kinds.index('RandomCrop')
    steps = [step for step in found['train_pipeline'] if not step['type'].startswith('Load')]
    packed = Compose([*steps])(sample((600, 800)))
    assert packed['inputs'].shape == (3, 512, 512)
    assert packed['data_samples'].domain_img.shape == (3, 224, 298)
