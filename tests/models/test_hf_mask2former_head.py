"""HFMask2FormerHead: transformers' own losses on the same input, mmseg's way of calling, ignored pixels at no cost."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from mmseg.registry import MODELS
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from mmseg_dafm.models.heads.hf_mask2former_head import class_masks, hide_ignored, semantic_scores
from tests.models.test_mask_classification import blocks
from tests.models.vfm_families import head, patchy, samples, segmentor
from tests.processes import run_ranks

CLASSES, SIZE = 5, (64, 96)
SETTINGS = dict(num_queries=10, encoder_layers=2, num_heads=4, encoder_ffn=24, decoder_ffn=40, num_points=96)


def build_head(**changes):
    return MODELS.build(head('mask2former', **{'in_channels': [8] * 4, **changes})['decode_head'])


def features(batch=2, channels=(8,) * 4, size=SIZE):
    return [torch.randn(batch, c, size[0] // s, size[1] // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)]


@pytest.fixture(scope='module')
def library():
    """transformers' complete model on a tiny Swin, and our head with its weights."""
    torch.manual_seed(5)
    swin = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, drop_path_rate=0.0,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, num_labels=CLASSES, feature_size=32, mask_feature_size=32, hidden_dim=32, num_queries=10,
        encoder_layers=2, decoder_layers=4, num_attention_heads=4, encoder_feedforward_dim=24, dim_feedforward=40,
        train_num_points=96, dropout=0.0,
    )  # fmt: skip
    whole = Mask2FormerForUniversalSegmentation(config).train()
    # transformers < 5 fixes the class cost of the matching at 1; Mask2Former and Rein use the class weight
    whole.criterion.matcher.cost_class = config.class_weight
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    ours = build_head(in_channels=[8, 16, 32, 64], decoder_layers=3, **SETTINGS).train()
    names = {'model.pixel_level_module.decoder.': 'pixel_decoder.', 'model.transformer_module.': 'transformer_module.'}
    state = {}
    for key, value in whole.state_dict().items():
        for old, new in names.items():
            key = key.replace(old, new)
        state[key] = value
    mine = ours.mask2former.state_dict()
    ours.mask2former.load_state_dict({key: state[key] for key in mine}, strict=True)
    return whole, ours


def test_loss_and_gradients_equal_the_librarys(library):
    whole, ours = library
    images, labels = torch.randn(2, 3, *SIZE), patchy()
    masks, classes = zip(*(class_masks(label, CLASSES) for label in labels), strict=True)
    maps = [x.detach() for x in whole.model.pixel_level_module.encoder(images).feature_maps]
    torch.manual_seed(11)
    expected = whole(pixel_values=images, mask_labels=list(masks), class_labels=list(classes))
    torch.manual_seed(11)
    found = ours.loss(maps, samples(labels), {})
    parts = {key: value for key, value in found.items() if 'loss' in key}
    assert len(parts) == 3 * (3 + 1)
    assert len({round(float(value.detach()), 5) for value in parts.values()}) == len(parts)
    torch.testing.assert_close(sum(parts.values()), expected.loss.reshape(()), rtol=1e-5, atol=1e-5)
    whole.zero_grad()
    ours.zero_grad()
    expected.loss.backward()
    sum(parts.values()).backward()
    pairs = (
        (ours.mask2former.pixel_decoder, whole.model.pixel_level_module.decoder),
        (ours.mask2former.transformer_module, whole.model.transformer_module),
        (ours.mask2former.class_predictor, whole.class_predictor),
    )
    for one, other in pairs:
        gradients = {name: value.grad for name, value in other.named_parameters()}
        for name, value in one.named_parameters():
            torch.testing.assert_close(value.grad, gradients[name], rtol=1e-3, atol=1e-4)


def test_single_losses_and_their_weights_are_the_librarys(library):
    whole, ours = library
    labels = patchy()
    masks, classes = zip(*(class_masks(label, CLASSES) for label in labels), strict=True)
    with torch.no_grad():
        class_logits, mask_logits = ours(features(channels=(8, 16, 32, 64)))
        torch.manual_seed(1)
        inner = zip(class_logits[:-1], mask_logits[:-1], strict=True)
        inner = [dict(class_queries_logits=scores, masks_queries_logits=maps) for scores, maps in inner]
        plain = whole.criterion(mask_logits[-1], class_logits[-1], list(masks), list(classes), inner)
        torch.manual_seed(1)
        found = ours.loss_by_feat((class_logits, mask_logits), samples(labels))
    assert found.keys() - {'acc_seg'} == plain.keys()
    for key, value in plain.items():
        weight = 2 if 'cross_entropy' in key else 5
        torch.testing.assert_close(found[key], weight * value)


def test_defaults_are_reins():
    with torch.device('meta'):
        built = MODELS.build(dict(type='HFMask2FormerHead', in_channels=[1024] * 4, num_classes=19))
    modules, criterion = built.mask2former, built.mask2former.criterion
    assert modules.transformer_module.queries_features.weight.shape == (100, 256)
    assert (len(modules.pixel_decoder.encoder.layers), len(modules.transformer_module.decoder.layers)) == (6, 9)
    assert modules.pixel_decoder.num_feature_levels == modules.transformer_module.num_feature_levels == 3
    assert modules.loss_weights == dict(loss_cross_entropy=2, loss_mask=5, loss_dice=5)
    matcher = criterion.matcher
    assert (matcher.cost_class, matcher.cost_mask, matcher.cost_dice, matcher.num_points) == (2, 5, 5, 12544)
    assert (criterion.num_points, criterion.oversample_ratio, criterion.importance_sample_ratio) == (12544, 3, 0.75)
    assert criterion.eos_coef == 0.1


def test_scores_equal_a_slow_sum_over_queries():
    torch.manual_seed(0)
    built = build_head().eval()
    inputs = features()
    with torch.no_grad():
        class_logits, mask_logits = built(inputs)
        found = built.predict(inputs, [dict(img_shape=(999, 999), pad_shape=SIZE)], {})
        masks = F.interpolate(mask_logits[-1], SIZE, mode='bilinear', align_corners=False).double()
        expected = torch.zeros(2, CLASSES, *SIZE, dtype=torch.float64)
        for image in range(2):
            for query in range(10):
                raised = class_logits[-1][image, query].double().exp()
                for c in range(CLASSES):
                    expected[image, c] += raised[c] / raised.sum() / (1 + (-masks[image, query]).exp())
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        # a window of slide inference says its size by torch.Size
        window = built.predict(inputs, [dict(img_shape=torch.Size((20, 30)), pad_shape=SIZE)], {})
    assert window.shape == (2, CLASSES, 20, 30)


def test_what_is_predicted_inside_an_ignored_region_changes_no_loss():
    torch.manual_seed(0)
    built = build_head()
    labels = patchy()
    ignored = torch.cat([blocks(1), blocks(2)])
    labels[ignored] = 255
    class_logits, mask_logits = built(features())
    hidden = hide_ignored(mask_logits[-1], ignored) == -1e4

    def losses(maps):
        torch.manual_seed(2)
        return built.loss_by_feat((class_logits, maps), samples(labels))

    maps = [x.detach().requires_grad_() for x in mask_logits]
    found = losses(maps)
    changed = losses([torch.where(hidden, 50 * torch.randn_like(x), x) for x in mask_logits])
    for key, value in found.items():
        if 'loss' in key:
            assert torch.equal(value, changed[key])
    sum(value for key, value in found.items() if 'loss_mask' in key or 'loss_dice' in key).backward()
    assert all((x.grad[hidden] == 0).all() and (x.grad[~hidden] != 0).any() for x in maps)
    # counted as background, as in the original, they would
    torch.manual_seed(2)
    masks, classes = zip(*(class_masks(label, CLASSES) for label in labels), strict=True)
    original = built.mask2former.losses(class_logits, mask_logits, classes, masks)
    assert original['loss_mask'] > found['loss_mask']


def test_accuracy_is_mmsegs():
    torch.manual_seed(0)
    built, inputs, labels = build_head(), features(), patchy()
    labels[:, :9] = 255
    with torch.no_grad():
        class_logits, mask_logits = built(inputs)
        scores = F.interpolate(semantic_scores(class_logits[-1], mask_logits[-1]), SIZE, mode='bilinear', align_corners=False)
        right = (scores.argmax(1) == labels)[labels != 255].double().mean()
        found = built.loss(inputs, samples(labels), {})['acc_seg']
    torch.testing.assert_close(found.double().squeeze(), 100 * right, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('labels', [torch.full((2, *SIZE), 255), torch.stack([torch.full(SIZE, 255), torch.full(SIZE, 3)])])
def test_images_without_a_labelled_pixel_train_all_the_same(labels):
    torch.manual_seed(0)
    built = build_head()
    found = built.loss(features(), samples(labels), {})
    assert all(torch.isfinite(value).all() for value in found.values())
    sum(value for key, value in found.items() if 'loss' in key).backward()
    assert [name for name, value in built.named_parameters() if value.grad is None] == []


def test_under_autocast_pixel_decoder_and_losses_stay_in_full_precision():
    torch.manual_seed(0)
    built = build_head()
    seen = {}
    modules = built.mask2former
    modules.pixel_decoder.register_forward_hook(lambda _, __, out: seen.update(pixels=out.mask_features.dtype))
    modules.class_predictor.register_forward_hook(lambda _, __, out: seen.update(classes=out.dtype))
    with torch.autocast('cpu', torch.bfloat16):
        found = built.loss([x.bfloat16() for x in features()], samples(patchy()), {})
        scores = built.predict(features(), [dict(img_shape=SIZE)], {})
    assert seen == dict(pixels=torch.float32, classes=torch.bfloat16)
    assert {value.dtype for value in found.values()} == {torch.float32} == {scores.dtype}
    sum(value for key, value in found.items() if 'loss' in key).backward()
    assert all(torch.isfinite(value.grad).all() for value in built.parameters())


def test_init_weights_leaves_the_weights_alone(tmp_path):
    torch.manual_seed(0)
    built = MODELS.build(segmentor('dinov2', 'mask2former')).decode_head
    torch.manual_seed(0)
    model = MODELS.build(segmentor('dinov2', 'mask2former'))
    # nothing is left as memory had it
    same = model.decode_head.state_dict()
    assert all(torch.equal(value, same[key]) for key, value in built.state_dict().items())
    assert all(torch.isfinite(value).all() and value.abs().max() < 10 for value in same.values())
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # a checkpoint of the whole segmentor
    tuned = {key: value + 1 for key, value in before.items()}
    torch.save({'state_dict': tuned}, tmp_path / 'w.pth')
    other = MODELS.build(segmentor('dinov2', 'mask2former', init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'w.pth'))))
    other.init_weights()
    assert all(torch.equal(value, tuned[key]) for key, value in other.state_dict().items())
    copied = copy.deepcopy(other).decode_head
    inputs = features(channels=(32,) * 4)
    with torch.no_grad():
        assert torch.equal(copied(inputs)[1][-1], other.decode_head(inputs)[1][-1])
        next(iter(copied.mask2former.pixel_decoder.adapter_1.parameters())).zero_()
        assert not torch.equal(copied(inputs)[1][-1], other.decode_head(inputs)[1][-1])


def test_impossible_settings_are_refused(monkeypatch):
    for changes, text in (
        (dict(in_channels=[8] * 3), r'in_channels=\(8, 8, 8\) .* must name four maps'),
        (dict(channels=48), 'channels=48 must be a multiple of 32'),
        (dict(num_heads=6), 'channels=32 must be a multiple of 32 .* and of num_heads=6'),
        (dict(align_corners=True), 'set align_corners=False'),
    ):
        with pytest.raises(ValueError, match=text):
            build_head(**changes)
    with pytest.raises(ValueError, match=r'holds the labels .*num_classes=5'):
        build_head().loss(features(), samples(patchy(classes=9)), {})
    monkeypatch.setattr('mmseg_dafm.models.heads.hf_mask2former_head.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'mmseg_dafm\[vfm\]'):
        build_head()


@pytest.mark.slow
def test_two_ranks_divide_by_their_mean_number_of_masks_and_train_all_parameters(tmp_path):
    run_ranks(Path(__file__).with_name('mask2former_ranks.py'), tmp_path, [tmp_path / 'out{rank}.pth'])
    one, other = (torch.load(tmp_path / f'out{rank}.pth', weights_only=True) for rank in (0, 1))
    # 1 mask here, 3 there
    assert one['masks'] == other['masks'] == 2
    assert all(torch.equal(value, other['weights'][name]) for name, value in one['weights'].items())
