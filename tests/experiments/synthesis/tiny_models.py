"""A Stable Diffusion and a ControlNet of a few thousand random weights, in diffusers' layout on disk."""

import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH = 8
# Room for a prompt of one token per letter.
TOKENS = 200


def write_tokenizer(folder: Path) -> None:
    """A vocabulary of single letters in the layout of CLIPTokenizer."""
    folder.mkdir(parents=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ['<|startoftext|>', '<|endoftext|>', *letters, *(f'{letter}</w>' for letter in letters), 'th']
    (folder / 'vocab.json').write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / 'merges.txt').write_text('#version: 0.2\nt h\n')
    settings = dict(
        tokenizer_class='CLIPTokenizer',
        model_max_length=TOKENS,
        bos_token='<|startoftext|>',
        eos_token='<|endoftext|>',
        unk_token='<|endoftext|>',
        pad_token='<|endoftext|>',
    )
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))


def write_models(folder: Path, text_width: int = WIDTH) -> tuple[str, str]:
    """Write both models and return their folders (Stable Diffusion, ControlNet)."""
    torch.manual_seed(0)
    base, control = folder / 'sd', folder / 'controlnet'
    write_tokenizer(base / 'tokenizer')
    text = CLIPTextConfig(
        vocab_size=512, hidden_size=text_width, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=TOKENS, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    CLIPTextModel(text).save_pretrained(base / 'text_encoder')
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        cross_attention_dim=text_width, down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
    )  # fmt: skip
    unet.save_pretrained(base / 'unet')
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8))
    with torch.no_grad():
        # its output layers begin at zero, and then the control image would change nothing
        for weight in net.parameters():
            weight.normal_(std=0.5)
    net.save_pretrained(control)
    AutoencoderKL(
        block_out_channels=(4, 4, 8, 8), norm_num_groups=4, down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4, layers_per_block=1,
    ).save_pretrained(base / 'vae')  # fmt: skip
    # the sampler of Stable Diffusion 1.5
    PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1).save_pretrained(base / 'scheduler')
    index = dict(
        _class_name='StableDiffusionPipeline', _diffusers_version='0.30.0', text_encoder=['transformers', 'CLIPTextModel'],
        tokenizer=['transformers', 'CLIPTokenizer'], unet=['diffusers', 'UNet2DConditionModel'],
        vae=['diffusers', 'AutoencoderKL'], scheduler=['diffusers', 'PNDMScheduler'],
        safety_checker=['stable_diffusion', 'StableDiffusionSafetyChecker'],
        feature_extractor=['transformers', 'CLIPImageProcessor'],
    )  # fmt: skip
    (base / 'model_index.json').write_text(json.dumps(index))
    return str(base), str(control)
