"""alpha, W and the image towers."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mmseg_dafm.domino import domain_alpha, image_view
from tests.models_common import CLIP, DOMAINS, segmentor
from tests.models_common import domain_embedding as config


def build(**kwargs):
    return MODELS.build(config(**kwargs))


def images(batch=2, size=32):
    return torch.rand(batch, 3, size, size) * 2 - 1


@pytest.mark.parametrize('space', ['projected', 'pooled'])
def test_module_equals_the_functions(space):
    module = build(space=space, temperature=0.1, w_scale=3.0)
    batch = images()
    domain, alpha = module(batch)
    expected = domain_alpha(module.image_encoder(batch), module.joint, 0.1)
    assert torch.allclose(alpha, expected)
    assert torch.allclose(domain, 3 * expected @ module.summed)
    assert domain.shape == (2, module.out_channels) == (2, 12 if space == 'projected' else 16)
    assert torch.allclose(module.alpha(batch), alpha)
    assert module.domain_names == DOMAINS
    assert set(module.scalars(alpha)) == {'domain_alpha_entropy'}


def test_a_frozen_tower_has_no_graph_and_stays_in_test_mode():
    module = build().train()
    domain, _ = module(images())
    assert not domain.requires_grad
    assert not module.image_encoder.tower.training
    assert not list(filter(lambda p: p.requires_grad, module.parameters()))


def test_a_trained_tower_and_temperature_get_gradients_everywhere():
    module = build(image_encoder=dict(trainable=True), learnable_temperature=True).train()
    domain, _ = module(images())
    (domain * torch.randn_like(domain)).sum().backward()
    without = [name for name, p in module.named_parameters() if p.grad is None]
    assert without == []
    assert module.log_temperature.grad != 0


def test_images_are_resized_and_normalised_as_clip_wants_them():
    encoder = build().image_encoder
    constant = torch.full((1, 3, 50, 70), 0.5) * 2 - 1
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    pixels = ((128 / 255 - mean) / std).expand(1, 3, 32, 32)  # images are resized as bytes
    assert torch.allclose(encoder(constant), encoder.tower(pixel_values=pixels).image_embeds, atol=1e-5)


def test_transformers_weights_load_from_a_folder_and_survive_init(tmp_path):
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP, image_size=32))
    tower.save_pretrained(tmp_path)
    module = build(image_encoder=dict(model=str(tmp_path), config=None, pretrained=True))
    module.init_weights()
    for name, value in module.image_encoder.tower.state_dict().items():
        assert torch.equal(value, tower.state_dict()[name]), name
    other = {**CLIP, 'hidden_size': 32}
    with pytest.raises(ValueError, match='does not fit the configured architecture'):
        build(image_encoder=dict(config=other, pretrained=str(tmp_path))).init_weights()


def test_weights_that_are_missing_from_the_file_are_named_not_drawn(tmp_path):
    from safetensors.torch import load_file, save_file

    CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP, image_size=32)).save_pretrained(tmp_path)
    state = load_file(tmp_path / 'model.safetensors')
    del state['visual_projection.weight']
    save_file(state, tmp_path / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(FileNotFoundError, match='it lacks visual_projection.weight'):
        build(image_encoder=dict(model=str(tmp_path), config=None, pretrained=True)).init_weights()


def test_open_clip_serves_as_provider(tmp_path):
    open_clip = pytest.importorskip('open_clip')
    config = dict(
        embed_dim=12, vision_cfg=dict(image_size=32, layers=2, width=64, patch_size=8), text_cfg=dict(width=16, heads=2, layers=1)
    )
    open_clip.factory._MODEL_CONFIGS['tiny-test'] = config
    full = open_clip.create_model('tiny-test', pretrained=None)
    path = tmp_path / 'tiny.pt'
    torch.save(full.state_dict(), path)
    module = build(image_encoder=dict(provider='open_clip', model='tiny-test', config=None, pretrained=str(path)))
    module.init_weights()
    batch = images()
    encoder = module.image_encoder
    pixels = ((batch + 1) / 2 - encoder.mean) / encoder.std
    assert torch.allclose(encoder(batch), full.encode_image(pixels), atol=1e-5)
    with pytest.raises(ValueError, match='no open_clip model'):
        build(image_encoder=dict(provider='open_clip', model='nope', config=None))


def test_bad_settings_give_one_sentence():
    cases = [
        *(
            (dict(temperature=value), f'temperature={value!r} must be a positive, finite number')
            for value in (0.0, -1, math.nan, math.inf, '0.01', None, True)
        ),
        (dict(w_scale=math.nan), 'w_scale=nan must be a finite number'),
        (dict(cache=-1), 'cache=-1 must be a whole number'),
        (dict(descriptions=dict(provider='hash', classes=['clear'], dim=16, projected_dim=12)), "one name, 'clear', so alpha is"),
        (dict(descriptions=dict(provider='hash', classes=[], dim=16, projected_dim=12)), 'classes is an empty list'),
        (dict(descriptions='domains.safetensors'), "domain_embedding.descriptions='domains.safetensors' must be a dict"),
        (dict(image_encoder=dict(resize='crop')), r"image_encoder.resize='crop' is unknown: use one of \('squash', 'clip'\)"),
        (dict(image_encoder=dict(mean=[0.5])), r'image_encoder.mean=\[0.5\] must hold three numbers'),
        (dict(space='x'), "space='x' is unknown"),
        (dict(descriptions=dict(provider='hash', classes=DOMAINS, dim=16)), 'hold no projected vectors'),
        (
            dict(descriptions=dict(provider='hash', classes=DOMAINS, dim=16, projected_dim=8)),
            'are 8 wide in the joint space .* gives 12',
        ),
        (dict(image_encoder=dict(provider='x')), "provider='x' is unknown"),
        (dict(image_encoder=dict(model='unknown/model', config=None)), 'not one of .* nor a local folder'),
        (dict(image_encoder=dict(config={**CLIP, 'image_size': 64})), 'image_size=32 and the tower of .* takes 64'),
    ]
    for kwargs, message in cases:
        with pytest.raises(ValueError, match=message):
            build(**kwargs)
    with pytest.raises(ValueError, match="image_encoder='openai/clip' must be a dict"):
        MODELS.build({**config(), 'image_encoder': 'openai/clip'})
    with pytest.raises(ValueError, match="domain_embedding='clip' must be a dict"):
        MODELS.build(segmentor(domain_embedding='clip'))
    with pytest.raises(FileNotFoundError, match="pretrained='no/where': no CLIP weights there"):
        build(image_encoder=dict(pretrained='no/where')).init_weights()


def test_the_paper_tower_is_vit_l_14():
    with torch.device('meta'):
        encoder = build_large()
    assert sum(p.numel() for p in encoder.parameters()) == 303_966_208
    assert encoder.out_channels == 768


def build_large():
    from mmseg_dafm.models.domain.image_encoder import ImageEncoder

    return ImageEncoder()


def test_descriptions_and_a_fixed_temperature_are_settings_and_not_weights():
    """A run that starts from the checkpoint of another temperature or other descriptions keeps its own."""
    state = build(temperature=1.0).state_dict()
    assert not {'joint', 'summed', 'log_temperature'} & state.keys()
    other = build(temperature=0.01)
    other.load_state_dict(state)
    assert other.log_temperature.exp().item() == pytest.approx(0.01)
    learnt = build(temperature=0.5, learnable_temperature=True)
    assert 'log_temperature' in learnt.state_dict()


def test_open_clip_towers_of_openai_get_their_activation(monkeypatch):
    open_clip = pytest.importorskip('open_clip')
    from mmseg_dafm.models.domain.image_encoder import ImageEncoder

    def activations(model, **kwargs):
        encoder = ImageEncoder(provider='open_clip', model=model, **kwargs)
        return {type(module).__name__ for module in encoder.modules() if 'GELU' in type(module).__name__}

    assert activations('ViT-B-32', pretrained='openai') == {'QuickGELU'}
    tiny = dict(vision_cfg=dict(image_size=224, layers=1, width=64, patch_size=32), text_cfg=dict(width=16, heads=2, layers=1))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'tiny-gelu', dict(embed_dim=12, **tiny))
    assert activations('tiny-gelu', pretrained=None) == {'GELU'}
    assert activations('tiny-gelu', pretrained='some/file.pt') == {'GELU'}
    assert activations('tiny-gelu', pretrained='some/file.pt', quick_gelu=True) == {'QuickGELU'}


def street(height, width):
    """A smooth image with noise and hard edges, uint8 RGB."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([120 + 100 * np.sin(x / 37 + y / 51), 120 + 100 * np.cos(x / 23), (x + y) % 256], -1)
    smooth[height // 2 :: 17] = 255
    return (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)


def bytes_of(pixels, encoder):
    return (pixels * encoder.std + encoder.mean) * 255


@pytest.mark.parametrize('size', [(1024, 2048), (1080, 1920), (480, 360), (90, 160)])
def test_resize_clip_is_what_transformers_feeds_to_clip(size):
    """At most one of 255 steps apart, where a value lies beside a half; the mean is far below that."""
    from transformers import CLIPImageProcessor

    encoder = build(image_encoder=dict(image_size=224, config={**CLIP, 'patch_size': 32}, resize='clip')).image_encoder
    picture = street(*size)
    expected = CLIPImageProcessor()(Image.fromarray(picture), return_tensors='pt').pixel_values
    found = encoder.view(torch.from_numpy(picture).permute(2, 0, 1)[None])
    difference = (bytes_of(expected, encoder) - found).abs()
    assert difference.max() < 1.01
    assert difference.mean() < 0.02
    squashed = build(image_encoder=dict(image_size=224, config={**CLIP, 'patch_size': 32})).image_encoder
    assert (bytes_of(expected, encoder) - squashed.view(torch.from_numpy(picture).permute(2, 0, 1)[None])).abs().mean() > 5


@pytest.mark.parametrize('size', [(1024, 2048), (480, 360)])
def test_squash_shows_the_whole_image(size):
    """Within a step or two, on average, of one direct resize: the copy is resized in two steps."""
    encoder = build(image_encoder=dict(image_size=224, config={**CLIP, 'patch_size': 32})).image_encoder
    picture = street(*size)
    direct = np.array(Image.fromarray(picture).resize((224, 224), Image.BICUBIC)).astype(float)
    found = encoder.view(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(found - direct).mean() < 1.5


def test_devices_without_a_kernel_for_bytes_agree_with_pillow(monkeypatch):

    class Elsewhere:
        """What a GPU tensor looks like to the choice of the path."""

        def __init__(self, images):
            self.images, self.shape, self.device = images, images.shape, torch.device('meta')

        def float(self):
            return self.images.float()

    images = torch.from_numpy(street(200, 300)).permute(2, 0, 1)[None]
    found = image_view._bicubic(Elsewhere(images), 64, 96)
    assert (found.float() - image_view._bicubic(images, 64, 96).float()).abs().max() <= 1


PREPROCESSING = [
    ('ViT-L-14', 'openai', 0.4815, True),
    ('ViT-L-14', 'laion2b_s32b_b82k', 0.5, True),
    ('ViT-B-16-SigLIP', 'webli', 0.5, False),
    ('ViT-B-32', 'laion2b_s34b_b79k', 0.4815, True),
    ('MobileCLIP-S1', 'datacompdr', 0.0, True),
]


@pytest.mark.parametrize(('model', 'tag', 'mean', 'crop'), PREPROCESSING)
def test_open_clip_weights_bring_their_own_mean_and_resize_mode(model, tag, mean, crop):
    open_clip = pytest.importorskip('open_clip')
    from mmseg_dafm.models.domain.open_clip_models import open_clip_preprocessing

    wanted, found = open_clip.get_pretrained_cfg(model, tag), open_clip_preprocessing(model, tag)
    assert (found.mean, found.std) == (tuple(wanted['mean']), tuple(wanted['std']))
    assert found.mean[0] == pytest.approx(mean, abs=1e-3)
    assert found.crop == (wanted['resize_mode'] == 'shortest') == crop


def test_every_published_open_clip_weight_gets_its_own_mean():
    open_clip = pytest.importorskip('open_clip')
    from mmseg_dafm.models.domain.open_clip_models import open_clip_preprocessing

    others = 0
    for model, tag in open_clip.list_pretrained():
        wanted, found = open_clip.get_pretrained_cfg(model, tag), open_clip_preprocessing(model, tag)
        assert (found.mean, found.std, found.crop) == (
            tuple(wanted['mean']), tuple(wanted['std']), wanted['resize_mode'] == 'shortest'), (model, tag)  # fmt: skip
        others += found.mean != open_clip.OPENAI_DATASET_MEAN
    assert others >= 50


def test_an_open_clip_tower_sees_what_open_clips_own_transform_gives(monkeypatch):
    open_clip = pytest.importorskip('open_clip')
    from mmseg_dafm.models.domain.image_encoder import ImageEncoder

    tiny = dict(vision_cfg=dict(image_size=224, layers=1, width=64, patch_size=32), text_cfg=dict(width=16, heads=2, layers=1))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'tiny-modes', dict(embed_dim=12, **tiny))
    half = dict(mean=(0.5,) * 3, std=(0.5,) * 3, interpolation='bicubic')
    tags = {'crop': {'url': '', **half, 'resize_mode': 'shortest'}, 'stretch': {'url': '', **half, 'resize_mode': 'squash'}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, 'tiny-modes', tags)
    picture = street(300, 501)
    images = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    for tag, entry in tags.items():
        encoder = ImageEncoder(provider='open_clip', model='tiny-modes', pretrained=tag, resize='clip')
        seen = []
        encoder.tower.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        encoder(images)
        cfg = open_clip.transform.PreprocessCfg(**{key: entry[key] for key in ('mean', 'std', 'resize_mode', 'interpolation')})
        expected = open_clip.transform.image_transform_v2(cfg, is_train=False)(Image.fromarray(picture))
        steps = (seen[0][0] - expected).abs() * 127.5
        # the centre is exact up to rounding; stretching takes two steps in place of one
        assert steps.max() < 1.01 if tag == 'crop' else steps.mean() < 1.5
    mixed = ImageEncoder(provider='open_clip', model='tiny-modes', pretrained='a/file.pt', resize='clip')
    assert mixed.mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    del tags['crop']
    alone = ImageEncoder(provider='open_clip', model='tiny-modes', pretrained='a/file.pt', resize='clip')
    assert alone.mean.flatten().tolist() == [0.5] * 3, 'all published weights of the architecture agree'
    given = ImageEncoder(provider='open_clip', model='tiny-modes', pretrained=None, mean=[0.1] * 3, std=[0.2] * 3)
    assert given.mean.flatten().tolist() == pytest.approx([0.1] * 3)
    with pytest.raises(ValueError, match='image_size=336 and the tower of .* takes'):
        ImageEncoder(provider='open_clip', model='tiny-modes', pretrained=None, image_size=336)


def test_a_local_folder_brings_its_preprocessing(tmp_path):
    CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP, image_size=32)).save_pretrained(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}')
    encoder = build(image_encoder=dict(model=str(tmp_path), config=None, pretrained=True)).image_encoder
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    assert encoder.std.flatten().tolist() == [0.25] * 3
