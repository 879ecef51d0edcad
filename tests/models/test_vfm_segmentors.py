"""Every family with every head in mmseg's EncoderDecoder: nothing trains in vain, any image size is predicted."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from tests.models.vfm_families import FAMILIES, patchy, samples, segmentor

CLASSES = 5


@pytest.mark.parametrize('kind', ['mask2former', 'fpn'])
@pytest.mark.parametrize('family', FAMILIES)
def test_segmentor_trains_every_parameter_and_predicts_a_non_square_image(family, kind):
    torch.manual_seed(0)
    model = MODELS.build(segmentor(family, kind))
    model.train()
    images, labels = [torch.randint(0, 255, (3, 64, 64)).byte() for _ in range(2)], patchy(size=(64, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        data = model.data_preprocessor(dict(inputs=images, data_samples=samples(labels)), True)
        total, log = model.parse_losses(model(**data, mode='loss'))
        assert torch.isfinite(total)
        assert 'decode.acc_seg' in log
        optimizer.zero_grad()
        total.backward()
        assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
        optimizer.step()
    model.eval()
    for test_cfg in (dict(mode='whole'), dict(mode='slide', crop_size=(64, 64), stride=(42, 42))):
        model.test_cfg = ConfigDict(test_cfg)
        one = SegDataSample(metainfo=dict(ori_shape=(70, 108), img_shape=(70, 108)))
        with torch.no_grad():
            out = model.test_step(dict(inputs=[torch.randint(0, 255, (3, 70, 108)).byte()], data_samples=[one]))[0]
        assert out.pred_sem_seg.data.shape == (1, 70, 108)
        assert out.seg_logits.data.shape == (CLASSES, 70, 108)
        assert torch.isfinite(out.seg_logits.data).all()


def test_a_frozen_backbone_trains_the_head_alone():
    torch.manual_seed(0)
    model = MODELS.build(segmentor('mae', 'mask2former', backbone=dict(frozen=True))).train()
    found = model.loss(torch.randn(2, 3, 64, 64), samples(patchy(size=(64, 64))))
    sum(value for key, value in found.items() if 'loss' in key).backward()
    assert {name.split('.')[0] for name, value in model.named_parameters() if value.grad is not None} == {'decode_head'}


@pytest.mark.parametrize('family', ['dinov2', 'sam'])
def test_the_head_learns_its_channels_from_the_segmentor_and_gives_its_raw_output(family):
    cfg = segmentor(family, 'mask2former', type='DomainAwareEncoderDecoder')
    del cfg['decode_head']['in_channels']
    model = MODELS.build(cfg).eval()
    assert model.decode_head.in_channels == [32] * 4
    with torch.no_grad():
        classes, masks = model(torch.randn(1, 3, 64, 96), mode='tensor')
    assert classes[-1].shape == (1, 10, CLASSES + 1)
    assert masks[-1].shape == (1, 10, 16, 24)
    without = dict(cfg, neck=dict(type='FPN', out_channels=32, num_outs=4))
    with pytest.raises(TypeError, match='in_channels'):
        MODELS.build(without)
