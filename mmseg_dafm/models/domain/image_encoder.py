"""CLIP image towers of transformers and open_clip behind one forward."""

from pathlib import Path

import torch
from torch import Tensor, nn

from mmseg_dafm.core.quiet import quiet_loading
from mmseg_dafm.models.domain.open_clip_models import create_open_clip, import_open_clip, needs_quick_gelu
from mmseg_dafm.models.domain.resize import resize_square
from mmseg_dafm.models.layers.fill import fill
from mmseg_dafm.models.layers.frozen_tower import FrozenTower

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Facts of the published config.json files, so that a model can be built before its weights are fetched.
_VIT = dict(intermediate_size=3072, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, projection_dim=512)
VISION_CONFIGS = {
    'openai/clip-vit-base-patch32': dict(_VIT, patch_size=32),
    'openai/clip-vit-base-patch16': dict(_VIT, patch_size=16),
    'openai/clip-vit-large-patch14': dict(
        intermediate_size=4096,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        projection_dim=768,
        patch_size=14,
    ),
}
PROVIDERS = ('transformers', 'open_clip')


class ImageEncoder(FrozenTower):
    """A CLIP image tower: RGB images in [-1, 1] to embeddings in CLIP's joint space.

    Args:
        provider: ``transformers`` or ``open_clip``.
        model: transformers: hub id or local folder; open_clip: model name such as ``ViT-L-14``.
        pretrained: Where the weights are: transformers: hub id or folder, True for ``model`` itself; open_clip: tag or
            file. None leaves them random. Read by ``init_weights``, before training.
        config: transformers: vision config overriding the known or stored one.
        trainable: Train the tower (Domino, Fig. 2) instead of freezing it.
        image_size: Side in pixels to which images are resized, without crop.
        save_frozen: Keep a frozen tower in checkpoints.
        quick_gelu: open_clip: the activation that OpenAI's weights were trained with; None: known for tags, else off. Set
            True for a file of OpenAI's weights.

    Raises:
        ValueError: For an unknown provider or an unknown model without config.
    """

    def __init__(
        self,
        provider: str = 'transformers',
        model: str = 'openai/clip-vit-large-patch14',
        pretrained: str | bool | None = True,
        config: dict | None = None,
        trainable: bool = False,
        image_size: int = 224,
        save_frozen: bool = True,
        quick_gelu: bool | None = None,
    ):
        if provider not in PROVIDERS:
            raise ValueError(f'image_encoder.provider={provider!r} is unknown: use one of {PROVIDERS}.')
        source = model if pretrained is True else pretrained
        super().__init__(source or None, frozen=not trainable, save=save_frozen or trainable)
        self.provider, self.model_name, self.quick_gelu = provider, model, quick_gelu
        self.image_size = image_size
        if provider == 'transformers':
            self.tower, self.out_channels = _build_transformers(model, config, image_size)
        else:
            self.tower, self.out_channels = _build_open_clip(model, source, quick_gelu)
        self.register_buffer('mean', torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: RGB ``(B, 3, H, W)`` in [-1, 1].

        Returns:
            Un-normalised embeddings ``(B, P)``.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            images = resize_square(images, self.image_size)
            pixels = ((images + 1) / 2 - self.mean) / self.std
            if self.provider == 'transformers':
                return self.tower(pixel_values=pixels).image_embeds
            return self.tower(pixels)

    def read_pretrained(self) -> None:
        """Fill the tower from ``source``."""
        where = f'image_encoder.pretrained={self.source!r}'
        try:
            if self.provider == 'transformers':
                from transformers import CLIPVisionModelWithProjection

                with quiet_loading():
                    tower, report = CLIPVisionModelWithProjection.from_pretrained(self.source, output_loading_info=True)
                if report['missing_keys']:
                    raise ValueError(f'it lacks {", ".join(sorted(report["missing_keys"])[:3])}')
                state = tower.state_dict()
            else:
                state = create_open_clip(self.model_name, self.source, self.quick_gelu).visual.state_dict()
        except (OSError, ValueError, RuntimeError) as error:
            raise FileNotFoundError(
                f'{where}: no CLIP weights there. Give a local folder or file, or a hub id that this machine can reach '
                f'({type(error).__name__}: {str(error).splitlines()[0][:120]}).'
            ) from error
        fill(self.tower, state, f'the image tower of {where}')


def _build_transformers(model: str, config: dict | None, image_size: int) -> tuple[nn.Module, int]:
    """Build a random CLIPVisionModelWithProjection and return it with its joint width."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    if config is None and model not in VISION_CONFIGS:
        if not (Path(model) / 'config.json').is_file():
            raise ValueError(
                f'image_encoder.model={model!r} is not one of {sorted(VISION_CONFIGS)} nor a local folder with config.json: '
                f'give image_encoder.config=dict(hidden_size=..., patch_size=..., projection_dim=...).'
            )
        vision = CLIPVisionConfig.from_pretrained(model)
    else:
        vision = CLIPVisionConfig(**{'image_size': image_size, **VISION_CONFIGS.get(model, {}), **(config or {})})
    if vision.image_size != image_size:
        raise ValueError(
            f'image_encoder.image_size={image_size} and the tower of {model!r} takes {vision.image_size}; make them equal.'
        )
    return CLIPVisionModelWithProjection(vision), vision.projection_dim


def _build_open_clip(model: str, source: str | None, quick_gelu: bool | None) -> tuple[nn.Module, int]:
    """Build a random open_clip image tower, with the activation its weights need, and return it with its joint width."""
    open_clip = import_open_clip()
    if model not in open_clip.list_models():
        raise ValueError(f'image_encoder.model={model!r} is no open_clip model; see open_clip.list_models().')
    if quick_gelu is None:
        quick_gelu = source is not None and needs_quick_gelu(model, source)
    return create_open_clip(model, quick_gelu=quick_gelu).visual, open_clip.get_model_config(model)['embed_dim']
