"""One name for each CLIP; descriptions and image towers of different CLIPs are refused, unknown ones named."""

import logging

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_dafm.models.backbones.vpd_backbone import VPDBackbone
from mmseg_dafm.models.domain import embedding_file as clip_names
from mmseg_dafm.models.domain.embedding_file import EmbeddingBank, clip_name, hash_embeddings, save_embeddings
from tests.models_common import CLIP, DOMAINS

OPENAI = 'openai/clip-vit-large-patch14'


@pytest.fixture
def warnings(monkeypatch):
    """Messages of level WARNING."""
    found = []
    monkeypatch.setattr(
        clip_names, 'print_log', lambda message, logger, level: level == logging.WARNING and found.append(message)
    )
    return found


@pytest.mark.parametrize(
    'identifiers',
    [
        [f'transformers:{OPENAI}', f'{OPENAI} (VPD)', 'open_clip:ViT-L-14/openai', 'open_clip:ViT-L-14-quickgelu/openai',
         'open_clip:ViT-L/14/openai', 'transformers:/data/clip-vit-large-patch14/', 'transformers:/data/stable-diffusion-v1-5'],
        ['transformers:laion/CLIP-ViT-L-14-laion2B-s32B-b82K', 'open_clip:ViT-L-14/laion2b_s32b_b82k',
         'open_clip:hf-hub:laion/CLIP-ViT-L-14-laion2B-s32B-b82K'],
        ['transformers:openai/clip-vit-base-patch16', 'open_clip:ViT-B-16/openai'],
        ['open_clip:ViT-L-14-336/openai', 'transformers:openai/clip-vit-large-patch14-336'],
        ['transformers:/data/stable-diffusion-2-1', 'open_clip:ViT-H-14/laion2b_s32b_b79k'],
    ],
)  # fmt: skip
def test_one_clip_has_one_name_however_it_is_written(identifiers):
    names = {clip_name(identifier) for identifier in identifiers}
    assert len(names) == 1
    assert None not in names


def test_different_clips_have_different_names_and_unknown_ones_none():
    known = [OPENAI, 'openai/clip-vit-base-patch16', 'open_clip:ViT-L-14/laion2b_s32b_b82k', 'open_clip:ViT-L-14-336/openai']
    assert len({clip_name(name) for name in known}) == len(known)
    for unknown in ('hash', 'tiny', 'transformers:/data/mine', 'transformers:me/tuned-clip', 'open_clip:ViT-L-14/weights.pt',
                    'open_clip:ViT-L-14//data/weights.pt', 'open_clip:ViT-B-32/mscoco_finetuned_laion2b'):  # fmt: skip
        assert clip_name(unknown) is None, unknown


def embedding(tmp_path, text_model, **encoder):
    bank = hash_embeddings(DOMAINS, 16, 12)
    path = tmp_path / 'descriptions.safetensors'
    save_embeddings(path, EmbeddingBank(bank.names, bank.pooled, bank.projected, text_model))
    encoder = {**dict(model='tiny', config=CLIP, image_size=32), **encoder}
    return dict(type='DomainEmbedding', descriptions=dict(path=str(path)), image_encoder=encoder)


def test_descriptions_of_another_clip_of_equal_width_are_refused(tmp_path, warnings):
    other = 'open_clip:ViT-L-14/laion2b_s32b_b82k'
    with pytest.raises(ValueError, match=r"by 'open_clip:ViT-L-14/laion2b_.* image tower is 'transformers:openai/clip"):
        MODELS.build(embedding(tmp_path, other, pretrained=OPENAI))
    MODELS.build(embedding(tmp_path, 'open_clip:ViT-L-14/openai', pretrained=OPENAI))
    MODELS.build(embedding(tmp_path, other, pretrained=None))
    assert warnings == []


def test_unknown_pairs_are_named_once_each(tmp_path, warnings):
    MODELS.build(embedding(tmp_path, 'transformers:/data/mine', pretrained=OPENAI))
    assert len(warnings) == 1
    assert "'transformers:/data/mine'" in warnings[0]
    assert f"'transformers:{OPENAI}'" in warnings[0]
    MODELS.build(embedding(tmp_path, 'transformers:/data/mine', pretrained='/data/mine'))
    assert len(warnings) == 1


def test_class_embeddings_of_another_text_encoder_than_the_u_nets_are_named(tmp_path, warnings):
    def build(model):
        bank = hash_embeddings(['road', 'sky'], 768)
        save_embeddings(tmp_path / 'classes.safetensors', EmbeddingBank(bank.names, bank.pooled, None, model))
        with torch.device('meta'):
            VPDBackbone(class_embeddings=dict(path=str(tmp_path / 'classes.safetensors')), pretrained=None)

    build(f'transformers:{OPENAI}')
    build('open_clip:ViT-L-14/openai')
    build('transformers:/data/mine')
    assert warnings == []
    build('open_clip:ViT-L-14/laion2b_s32b_b82k')
    assert len(warnings) == 1
    assert 'clip-vit-l-14-openai' in warnings[0]
