"""Which CLIP a text embedding or an image tower comes from: one name for each training, however its source is written."""

import logging
from pathlib import Path

from mmengine.logging import print_log

from mmseg_dafm.models.domain.embedding_bank import EmbeddingBank

OPENAI_L14, LAION_H14 = 'clip-vit-l-14-openai', 'clip-vit-h-14-laion2b-s32b-b79k'
# last part of a hub id or folder -> the name that open_clip's model and tag give
ALIASES = {
    'clip-vit-large-patch14': OPENAI_L14,
    'clip-vit-large-patch14-336': 'clip-vit-l-14-336-openai',
    'clip-vit-base-patch16': 'clip-vit-b-16-openai',
    'clip-vit-base-patch32': 'clip-vit-b-32-openai',
    # their text encoders
    'stable-diffusion-v1-4': OPENAI_L14,
    'stable-diffusion-v1-5': OPENAI_L14,
    'stable-diffusion-2': LAION_H14,
    'stable-diffusion-2-1': LAION_H14,
}
# whose hub ids name a training of both towers, and no fine-tuned copy of another's
PUBLISHERS = ('openai', 'laion')
# text encoder that each U-Net was trained with
TEXT_ENCODERS = {'sd1.5': OPENAI_L14, 'sd2.1': LAION_H14}


def clip_name(identifier: str) -> str | None:
    """The name of the training that an identifier stands for, or None where it does not tell.

    Args:
        identifier: ``transformers:`` with a hub id or folder, ``open_clip:`` with ``model/tag``, or what an embedding file
            holds as its model.

    Returns:
        The same name for the same pair of towers, such as ``clip-vit-l-14-openai`` for OpenAI's ViT-L/14 from either library.
        None for local files, folders of unknown names, and hub ids that may be fine-tuned copies.
    """
    provider, _, source = identifier.removesuffix(' (VPD)').rpartition(':')
    head, _, last = source.rstrip('/').rpartition('/')
    last = last.lower().replace('_', '-')
    if last in ALIASES:
        return ALIASES[last]
    if provider.startswith('open_clip') and 'hf-hub' not in provider:
        is_file = '.' in last or Path(source).expanduser().exists()
        model = head.lower().replace('/', '-').replace('_', '-').removesuffix('-quickgelu')
        return None if is_file or not model or 'finetuned' in last else f'clip-{model}-{last}'
    return last if head in PUBLISHERS else None


def check_same_space(bank: EmbeddingBank, encoder) -> None:
    """Compare the text tower of descriptions with the image tower that they are compared with.

    Args:
        bank: The descriptions' embeddings.
        encoder: The :class:`~mmseg_dafm.models.domain.image_encoder.ImageEncoder`; without pretrained weights it passes.

    Raises:
        ValueError: If both are known and of different trainings: their spaces have nothing in common but the width.
    """
    if encoder.source is None or bank.model == encoder.identifier:
        return
    text, image = clip_name(bank.model), clip_name(encoder.identifier)
    found = f'descriptions ({bank.source}) were embedded by {bank.model!r}, the image tower is {encoder.identifier!r}'
    if text is None or image is None:
        print_log(
            f'{found}: make sure that both are towers of one CLIP, alpha means nothing otherwise.', 'current', logging.WARNING
        )
    elif text != image:
        raise ValueError(
            f'{found}, which share no space: embed the descriptions with the text tower of that CLIP (tools/embed_text.py '
            '--provider, --model, --pretrained), or change image_encoder.'
        )


def warn_of_text_encoder(bank: EmbeddingBank, architecture: str | dict) -> None:
    """Warn if class embeddings are known to come from another text encoder than the U-Net's own, of equal width."""
    wanted = TEXT_ENCODERS.get(architecture) if isinstance(architecture, str) else None
    found = clip_name(bank.model)
    if wanted and found and found != wanted:
        print_log(
            f'class embeddings ({bank.source}) were made by {bank.model!r}, and the U-Net of {architecture} was trained with '
            f'{wanted}: embed the names with that text encoder, or fine-tune the U-Net to this one.',
            'current',
            logging.WARNING,
        )
