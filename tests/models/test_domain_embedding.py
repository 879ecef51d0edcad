"""alpha, W and the image towers."""

import math

import pytest
import torch
from mmseg.registry import MODELS
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mmseg_dafm.models.domain.domain_math import domain_alpha, domain_embedding, entropy
from tests.models_common import CLIP, DOMAINS
from tests.models_common import domain_embedding as config


def build(**kwargs):
    return MODELS.build(config(**kwargs))


def images(batch=2, size=32):
    return torch.rand(batch, 3, size, size) * 2 - 1


def test_alpha_and_w_against_a_loop():
    image, text = torch.randn(3, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64) * 9
    for temperature in (1.0, 0.01, 0.3):
        alpha = domain_alpha(image, text, temperature)
        total = domain_embedding(alpha, text)
        for b in range(3):
            cosines = [float(image[b] @ d / (image[b].norm() * d.norm())) for d in text]
            weights = [math.exp(c / temperature - max(cosines) / temperature) for c in cosines]
            expected = [w / sum(weights) for w in weights]
            assert torch.allclose(alpha[b], torch.tensor(expected, dtype=torch.float64), atol=1e-12)
            w = sum(a * d for a, d in zip(expected, text, strict=True))  # un-normalised descriptions
            assert torch.allclose(total[b], w, atol=1e-10)


def test_temperature_goes_from_uniform_to_one_hot():
    cosines = torch.tensor([0.18, 0.20, 0.22, 0.24, 0.26])
    text = torch.stack([cosines, (1 - cosines**2).sqrt()], 1)
    image = torch.tensor([[1.0, 0.0]])
    literal, sharp, limit = (domain_alpha(image, text, t) for t in (1.0, 0.01, 1e-5))
    assert literal.max() - literal.min() < 0.02
    assert abs(entropy(literal).item() - math.log(5)) < 1e-3
    assert sharp[0, -1].item() == pytest.approx(0.865, abs=1e-3)
    assert torch.allclose(limit, torch.tensor([[0.0, 0, 0, 0, 1]]))
    assert entropy(limit) < 1e-6


def test_half_precision_autocast_does_not_touch_alpha_and_w():
    image, text = torch.randn(2, 6), torch.randn(4, 6)
    expected = domain_embedding(domain_alpha(image, text), text)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(domain_embedding(domain_alpha(image, text), text), expected)


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
    pixels = ((0.5 - mean) / std).expand(1, 3, 32, 32)
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
        (dict(temperature=0.0), 'temperature=0.0 must be positive'),
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
