"""DomainAwareEncoderDecoder: W once per image, exact baseline at step 0, windows, padding, errors."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_dafm.analysis.domain_explorer import compute_alphas
from mmseg_dafm.datasets.transforms import domain_image
from mmseg_dafm.models.domain.domain_embedding import DomainEmbedding
from mmseg_dafm.models.domain.image_encoder import domain_images, to_unit_rgb
from mmseg_dafm.models.segmentors import DomainAwareEncoderDecoder, domain_aware_encoder_decoder
from mmseg_dafm.models.segmentors.domain_aware_encoder_decoder import window_boxes
from tests.models_common import preprocessor, segmentor, vpd_backbone


def samples(batch, size, **meta):
    found = []
    for _ in range(batch):
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 6, (1, *size))))
        sample.set_metainfo({**dict(img_shape=size, ori_shape=size, pad_shape=size), **meta})
        found.append(sample)
    return found


def images(batch=2, size=(64, 96), dtype=torch.float32):
    return torch.rand(batch, 3, *size, dtype=dtype) * 2 - 1


@pytest.fixture
def calls(monkeypatch):
    """Batch sizes of every call of DomainEmbedding.forward."""
    found = []
    forward = DomainEmbedding.forward

    def counted(self, batch, keys=None):
        found.append(len(batch))
        return forward(self, batch, keys)

    monkeypatch.setattr(DomainEmbedding, 'forward', counted)
    return found


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_domino_with_w_zero_and_fresh_norms_is_the_vpd_baseline_bit_for_bit(mode):
    baseline = MODELS.build(segmentor(domain=False, head='FPNHead')).double()
    domino = MODELS.build(segmentor(fuse='sub')).double()
    missing, unexpected = domino.load_state_dict(baseline.state_dict(), strict=False)
    assert unexpected == []
    assert all(k.startswith(('domain_embedding.', 'backbone.domain_projection.')) or '.bn.' in k for k in missing)
    domino.domain_embedding.w_scale = 0.0
    domino.backbone.domain_projection.bias.data.zero_()
    for model in (baseline, domino):
        model.train(mode == 'train')
    x, truth = images(dtype=torch.float64), samples(2, (64, 96))
    ours, theirs = domino.loss(x, truth), baseline.loss(x, truth)
    assert torch.equal(ours['decode.loss_ce'], theirs['decode.loss_ce'])
    assert torch.equal(domino(x), baseline(x))


def test_with_mode_none_a_fresh_domino_head_alone_is_the_baseline_for_any_w():
    baseline = MODELS.build(segmentor(domain=False, head='FPNHead')).double().eval()
    domino = MODELS.build(segmentor(fuse='none')).double().eval()
    domino.load_state_dict(baseline.state_dict(), strict=False)
    x = images(dtype=torch.float64)
    assert torch.equal(domino(x), baseline(x))


@pytest.mark.parametrize('fuse', ['none', 'add', 'sub', 'token'])
def test_loss_predict_and_tensor_modes_and_a_gradient_for_every_parameter(fuse):
    cfg = segmentor(fuse=fuse)
    cfg['domain_embedding'].update(learnable_temperature=True)
    cfg['domain_embedding']['image_encoder']['trainable'] = True
    model = MODELS.build(cfg)
    # a fresh DominoNorm passes no gradient on to W, which only matters where nothing else takes W
    losses = model(images(), samples(2, (64, 96)), mode='loss')
    assert set(losses) == {'decode.loss_ce', 'decode.acc_seg', 'domain_alpha_entropy'}
    losses['decode.loss_ce'].backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.eval()
    predicted = model(images(), samples(2, (64, 96)), mode='predict')
    assert predicted[0].pred_sem_seg.data.shape == (1, 64, 96)
    assert model(images(), mode='tensor').shape == (2, 6, 8, 12)


def test_auxiliary_heads_are_conditioned_too():
    aux = dict(
        type='FCNHead', in_channels=16, in_index=2, channels=8, num_convs=1, num_classes=6, norm_cfg=dict(type='DominoNorm'),
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    )  # fmt: skip
    model = MODELS.build(segmentor(auxiliary_head=[aux]))
    assert model.auxiliary_head[0].convs[0].bn.domain_channels == 12
    assert 'aux_0.loss_ce' in model.loss(images(), samples(2, (64, 96)))


def test_a_resnet_with_a_domino_head_is_a_valid_model():
    backbone = dict(type='ResNet', depth=18, base_channels=8, out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN'))
    neck = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=4)
    cfg = segmentor(backbone=backbone, neck=neck, data_preprocessor=preprocessor(mean=[123.675, 116.28, 103.53], std=[58.0] * 3))
    model = MODELS.build(cfg)
    assert torch.isfinite(model.loss(images(), samples(2, (64, 96)))['decode.loss_ce'])


def test_slide_inference_computes_w_once_and_equals_a_loop_over_windows(calls):
    test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(40, 40))
    model = MODELS.build(segmentor(test_cfg=test_cfg)).eval()
    x = images(2, (100, 150))
    metas = [sample.metainfo for sample in samples(2, (100, 150))]
    with torch.no_grad():
        results = []
        for window_batch in (1, 3, 100):
            model.test_cfg = {**test_cfg, 'window_batch': window_batch}
            results.append(model.inference(x, metas))
        assert calls == [2, 2, 2], 'W is computed once per image, whatever the windows'
        domain, _ = model._embed_domain(x, metas)
        total, count = torch.zeros(2, 6, 100, 150), torch.zeros(100, 150)
        for top in (0, 36):
            for left in (0, 40, 80, 86):
                window = x[..., top : top + 64, left : left + 64]
                total[..., top : top + 64, left : left + 64] += model.encode_decode(window, metas, domain)
                count[top : top + 64, left : left + 64] += 1
    assert (count > 0).all()
    for result in results:
        assert torch.allclose(result, total / count, atol=1e-5)


def test_windows_cover_everything_and_are_mmsegs():
    assert window_boxes((100, 150), (64, 64), (40, 40))[0] == (0, 64, 0, 64)
    assert len(window_boxes((1024, 2048), (512, 512), (341, 341))) == 18
    assert window_boxes((30, 40), (64, 64), (40, 40)) == [(0, 30, 0, 40)]
    for stride in ((0, 40), (65, 40)):
        with pytest.raises(ValueError, match='must be between 1 and crop_size'):
            window_boxes((100, 150), (64, 64), stride)


@pytest.mark.parametrize('size', [(64, 64), (70, 100), (33, 47)])
def test_logits_have_the_images_size_and_padding_is_exact(size):
    model = MODELS.build(segmentor()).eval()
    x = images(1, size)
    with torch.no_grad():
        logits = model.inference(x, [samples(1, size)[0].metainfo])
        assert logits.shape == (1, 6, *size)
        padded = torch.zeros(1, 3, -(-size[0] // 64) * 64, -(-size[1] // 64) * 64)
        padded[..., : size[0], : size[1]] = x
        domain, _ = model._embed_domain(x, [])
        whole = model.encode_decode(padded, [], domain)
    assert torch.allclose(logits, whole[..., : size[0], : size[1]], atol=1e-6)


def test_training_uses_the_whole_image_where_the_pipeline_keeps_it(calls):
    cfg = segmentor()
    cfg['domain_embedding'].update(cache=0)
    model = MODELS.build(cfg)
    x, whole = images(), torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    seen = []
    original = model.domain_embedding.image_encoder.forward
    model.domain_embedding.image_encoder.forward = lambda batch: seen.append(batch) or original(batch)
    model.loss(x, samples(2, (64, 96), domain_img=whole))
    assert torch.allclose(seen[-1], (whole / 127.5 - 1).expand(2, 3, 32, 32))
    model.domain_embedding.crop = True
    model.loss(x, samples(2, (64, 96), domain_img=whole))
    assert not torch.allclose(seen[-1], (whole / 127.5 - 1).expand(2, 3, 32, 32))


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_normalisation_is_undone_and_padding_cut_off(bgr_to_rgb):
    module = MODELS.build(preprocessor(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], bgr_to_rgb=bgr_to_rgb, size=(40, 48)))
    raw = [torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    inputs = module(dict(inputs=raw, data_samples=samples(2, (32, 32))), training=True)['inputs']
    metas = [dict(img_shape=(32, 32))] * 2
    encoder = MODELS.build(segmentor()).domain_embedding.image_encoder
    found = domain_images(inputs, metas, module, encoder, crop=False)
    expected = torch.stack([image.flip(0) for image in raw]) / 127.5 - 1  # loaded as BGR
    assert torch.allclose(found, expected, atol=1e-5)
    assert to_unit_rgb(inputs, module).shape == inputs.shape


def test_the_neck_learns_its_channels_or_refuses_wrong_ones():
    cfg = segmentor()
    before = copy.deepcopy(cfg)
    model = MODELS.build(cfg)
    assert cfg == before, 'building leaves the config alone'
    assert [conv.in_channels for conv in (c.conv for c in model.neck.lateral_convs)] == [16, 22, 38, 32]
    cfg['neck']['in_channels'] = [16, 16, 32, 32]
    with pytest.raises(ValueError, match=r'neck.in_channels=\[16, 16, 32, 32\] does not fit VPDBackbone, which gives \[16, 22'):
        MODELS.build(cfg)


def test_w_must_come_from_somewhere_and_go_somewhere():
    cfg = segmentor()
    cfg['domain_embedding'] = None
    cfg['decode_head'].update(domain_channels=12)
    with pytest.raises(ValueError, match='backbone needs the domain embedding W'):
        MODELS.build(cfg)
    cfg['backbone']['fuse'] = 'none'
    with pytest.raises(ValueError, match='decode_head.scale_heads.0.0.bn needs the domain embedding W'):
        MODELS.build(cfg)
    with pytest.raises(ValueError, match='nothing takes W'):
        MODELS.build(segmentor(head='FPNHead', fuse='none'))


def test_imagenet_statistics_are_refused_at_build():
    with pytest.raises(ValueError, match=r'takes images in \[-1, 1\]: set mean=\[127.5\]'):
        MODELS.build(segmentor(data_preprocessor=preprocessor(mean=[123.675, 116.28, 103.53])))


def test_a_plain_vpd_backbone_works_in_mmsegs_own_encoder_decoder():
    cfg = segmentor(domain=False, head='FPNHead', type='EncoderDecoder')
    del cfg['domain_embedding']
    cfg['neck']['in_channels'] = [16, 22, 38, 32]
    cfg['backbone'] = vpd_backbone()
    model = MODELS.build(ConfigDict(cfg)).eval()
    assert model.predict(images(1, (70, 100)), samples(1, (70, 100)))[0].pred_sem_seg.data.shape == (1, 70, 100)


def test_an_unknown_test_mode_is_refused():
    model = MODELS.build(segmentor(test_cfg=dict(mode='tiles')))
    with pytest.raises(ValueError, match="test_cfg.mode='tiles'"):
        model.predict(images(), samples(2, (64, 96)))


def test_a_baseline_checkpoint_in_init_cfg_leaves_the_clip_tower_pretrained(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from tests.models_common import CLIP

    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP, image_size=32))
    tower.save_pretrained(tmp_path / 'clip')
    baseline = MODELS.build(segmentor(domain=False, head='FPNHead'))
    torch.save(dict(state_dict=baseline.state_dict()), tmp_path / 'baseline.pth')
    cfg = segmentor(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'baseline.pth')))
    cfg['domain_embedding']['image_encoder'].update(pretrained=str(tmp_path / 'clip'))
    model = MODELS.build(cfg)
    model.init_weights()
    assert torch.equal(model.backbone.unet.conv_in.weight, baseline.backbone.unet.conv_in.weight)
    assert torch.equal(model.decode_head.conv_seg.weight, baseline.decode_head.conv_seg.weight)
    projection = model.domain_embedding.image_encoder.tower.visual_projection.weight
    assert torch.equal(projection, tower.visual_projection.weight)
    assert not model.decode_head.scale_heads[0][0].bn.gamma.weight.any()


def test_the_full_baseline_has_the_papers_868_million_parameters(root):
    from mmengine.config import Config

    cfg = Config.fromfile(str(root / 'configs/domino/vpd_cityscapes.py')).model
    cfg.backbone.class_embeddings = dict(provider='hash', classes='CityscapesDataset', dim=768)
    with torch.device('meta'):
        model = MODELS.build(cfg)
    vae = sum(p.numel() for p in model.backbone.latents.parameters())
    output_layers = 12_164  # dropped here, counted there
    assert sum(p.numel() for p in model.parameters()) - vae + output_layers == 868_112_343


def test_a_frozen_tower_sees_each_kept_image_once_and_w_stays_the_same():
    model = MODELS.build(segmentor())
    wholes = [torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in range(3)]
    metas = [dict(domain_img=whole) for whole in wholes]
    seen = []
    original = model.domain_embedding.image_encoder.forward
    model.domain_embedding.image_encoder.forward = lambda batch: seen.append(len(batch)) or original(batch)
    first, _ = model._embed_domain(images(), metas[:2])
    second, _ = model._embed_domain(images(), [metas[1].copy(), metas[2]])
    assert seen == [2, 1]
    assert torch.equal(second[0], first[1])
    with torch.autocast('cpu', torch.bfloat16):
        model._embed_domain(images(), metas[:1])
    assert seen == [2, 1, 1], 'half precision has entries of its own'
    model.load_state_dict(model.state_dict())
    model._embed_domain(images(), metas[:1])
    assert seen == [2, 1, 1, 1], 'new weights, new embeddings'
    model.domain_embedding.cache.capacity = 1
    model._embed_domain(images(), metas[1:])
    model._embed_domain(images(), metas[1:])
    assert seen[-2:] == [2, 2], 'a full cache takes nothing new'


def test_weights_loaded_into_the_tower_alone_renew_its_cache():
    model = MODELS.build(segmentor())
    module, metas = model.domain_embedding, [dict(domain_img=torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8))] * 2
    model._embed_domain(images(), metas)
    other = MODELS.build(segmentor()).domain_embedding.image_encoder
    for load in (
        lambda: module.image_encoder.load_state_dict(other.state_dict()),
        lambda: module.image_encoder.tower.load_state_dict({k: v + 0.01 for k, v in other.tower.state_dict().items()}),
        lambda: torch.nn.init.normal_(next(module.image_encoder.parameters())),
    ):
        load()
        found, _ = model._embed_domain(images(), metas)
        module.cache.stored.clear()
        fresh, _ = model._embed_domain(images(), metas)
        assert torch.equal(found, fresh)


def test_a_kept_image_below_the_towers_size_is_refused():
    model = MODELS.build(segmentor())
    model._embed_domain(images(1), [dict(domain_img=torch.zeros(3, 64, 96, dtype=torch.uint8))])
    for shape in ((3, 16, 24), (3, 96, 31)):
        with pytest.raises(
            ValueError, match=r'short side of (16|31) pixels and the image tower takes 32: set KeepDomainImage.size=32'
        ):
            model._embed_domain(images(1), [dict(domain_img=torch.zeros(shape, dtype=torch.uint8))])


def test_w_from_crops_in_training_is_said_once(monkeypatch):
    messages = []
    monkeypatch.setattr(domain_aware_encoder_decoder, 'print_log', lambda text, *_: messages.append(text))
    monkeypatch.setattr(DomainAwareEncoderDecoder, 'warned_of_crops', False)
    model, whole = MODELS.build(segmentor()), torch.zeros(3, 32, 48, dtype=torch.uint8)
    model.loss(images(), samples(2, (64, 96), domain_img=whole))
    model.eval().predict(images(), samples(2, (64, 96)))
    model.train()
    model.domain_embedding.crop = True
    model.loss(images(), samples(2, (64, 96)))
    assert messages == []
    model.domain_embedding.crop = False
    for _ in range(2):
        model.loss(images(), samples(2, (64, 96)))
    assert len(messages) == 1
    assert 'KeepDomainImage' in messages[0]
    assert 'PackDomainInputs' in messages[0]


@pytest.mark.parametrize('resize', ['squash', 'clip'])
def test_training_testing_and_the_explorer_see_the_same_pixels(resize, tmp_path):
    """One image of 90 x 160: kept in training, kept in test, as the test's input, and read by the explorer."""
    pixels = torch.randint(0, 256, (90, 160, 3), dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(tmp_path / 'street.png')
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    cfg = segmentor()
    cfg['domain_embedding'].update(cache=0)
    cfg['domain_embedding']['image_encoder'].update(resize=resize)
    model = MODELS.build(cfg)
    seen, tower = [], model.domain_embedding.image_encoder.tower
    tower.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs['pixel_values']), with_kwargs=True)
    whole = model.data_preprocessor(dict(inputs=[torch.from_numpy(bgr).permute(2, 0, 1)], data_samples=samples(1, (90, 160))))
    kept = dict(img_shape=(64, 64), domain_img=domain_image(bgr, 32))
    model.train()._embed_domain(images(1, (64, 64)), [kept])
    model.eval()._embed_domain(whole['inputs'], [dict(img_shape=(90, 160), domain_img=kept['domain_img'])])
    model._embed_domain(whole['inputs'], [dict(img_shape=(90, 160))])
    list(compute_alphas([tmp_path / 'street.png'], model.domain_embedding.alpha))
    assert len(seen) == 4
    for pixels in seen[1:]:
        assert torch.equal(pixels, seen[0])


def test_a_trained_tower_is_never_cached():
    cfg = segmentor()
    cfg['domain_embedding']['image_encoder']['trainable'] = True
    assert MODELS.build(cfg).domain_embedding.cache is None


@pytest.mark.parametrize('size', [(96, 112), (50, 70)])
def test_training_pads_images_and_labels_as_testing_does(size):
    model = MODELS.build(segmentor(stats='LN')).double()
    x, truth = images(2, size, torch.float64), samples(2, size)
    loss = model.loss(x, truth)['decode.loss_ce']
    logits = model.inference(x, [sample.metainfo for sample in truth])
    labels = torch.cat([sample.gt_sem_seg.data for sample in truth])
    # mmseg's loss divides by all pixels, padding included
    share = size[0] * size[1] / (-(-size[0] // 64) * 64 * -(-size[1] // 64) * 64)
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(logits, labels) * share, rtol=1e-10)
    assert truth[0].gt_sem_seg.data.shape == (1, *size), 'the samples themselves stay as they are'
    raw = model(x, mode='tensor')
    assert raw.shape[2:] == (-(-size[0] // 8), -(-size[1] // 8))
