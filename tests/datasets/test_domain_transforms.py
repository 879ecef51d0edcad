"""KeepDomainImage and PackDomainInputs."""

import inspect

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS

from mmseg_dafm.datasets import KeepDomainImage, PackDomainInputs
from mmseg_dafm.datasets.transforms import domain_image


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


def test_area_interpolation_is_the_mean_of_whole_blocks():
    img = sample((32, 64))['img']
    small = domain_image(img, 8)
    blocks = img.astype(float).reshape(8, 4, 8, 8, 3).mean((1, 3))
    assert small.shape == (3, 8, 8)
    assert small.dtype == torch.uint8
    # OpenCV rounds halves to even.
    np.testing.assert_allclose(small.numpy(), blocks.transpose(2, 0, 1)[::-1], atol=0.51)


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
