"""Read and write text embeddings, and tell which CLIP they come from."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmseg_dafm.core.files import replacing
from mmseg_dafm.models.domain.embedding_bank import EmbeddingBank, embed_command, hash_embeddings, resolve_classes, select_rows

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


__all__ = [
    'EmbeddingBank',
    'build_bank',
    'embed_command',
    'hash_embeddings',
    'load_embeddings',
    'resolve_classes',
    'save_embeddings',
    'select_rows',
]

FORMAT = 'mmseg_dafm.text_embeddings.1'
_FILE_KEYS = {'path', 'classes', 'row_names', 'aliases', 'subset'}
_HASH_KEYS = {'provider', 'classes', 'dim', 'projected_dim', 'scale'}


def save_embeddings(path: str | os.PathLike, bank: EmbeddingBank) -> None:
    """Write a bank as safetensors with names, model and templates in the metadata; appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: getattr(bank, key) for key in ('pooled', 'projected') if getattr(bank, key) is not None}
    tensors = {key: rows.detach().cpu().float().contiguous() for key, rows in tensors.items()}
    metadata = {
        'format': FORMAT,
        'names': json.dumps(bank.names),
        'templates': json.dumps(bank.templates),
        'model': bank.model,
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_embeddings(path: str | os.PathLike, row_names: Sequence[str] | str | None = None) -> EmbeddingBank:
    """Read a bank written by `save_embeddings`, or VPD's bare `class_embeddings.pth`.

    Args:
        path: A `.safetensors` file of ours, or a `.pth` file that holds one (N, D) tensor (read as pooled vectors,
            which is what VPD stores). Nothing is unpickled beyond tensors.
        row_names: What `resolve_classes` takes; names the rows of a bare tensor, and must be None otherwise.

    Returns:
        The bank, float32, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not of either format, or `row_names` is missing, not wanted or of the wrong number.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'embedding file {path} does not exist')
    if path.suffix == '.safetensors':
        if row_names is not None:
            raise ValueError(f'row_names is for bare tensor files; {path} carries its own names: remove row_names')
        return _load_safetensors(path)
    try:
        rows = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise ValueError(f'embedding file {path} is neither .safetensors nor a plain tensor file: {error}') from error
    if not isinstance(rows, Tensor) or rows.ndim != 2:
        raise ValueError(f'embedding file {path} must hold one (N, D) tensor, got {type(rows).__name__}')
    if row_names is None:
        raise ValueError(
            f"embedding file {path} does not name its {len(rows)} rows: set row_names to a list or to a dataset's "
            "class name such as 'ADE20KDataset'"
        )
    names = resolve_classes(row_names)
    if len(names) != len(rows):
        raise ValueError(f'row_names gives {len(names)} names but embedding file {path} has {len(rows)} rows')
    return EmbeddingBank(names, rows.float(), None, 'openai/clip-vit-large-patch14 (VPD)', source=str(path))


def _load_safetensors(path: Path) -> EmbeddingBank:
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f'embedding file {path} is not a whole safetensors file: {error}') from error
    if metadata.get('format') != FORMAT:
        raise ValueError(
            f'embedding file {path} has format {metadata.get("format")!r}, expected {FORMAT!r}: '
            'write it anew with tools/embed_text.py'
        )
    return EmbeddingBank(
        names=tuple(json.loads(metadata['names'])),
        pooled=tensors['pooled'].float() if 'pooled' in tensors else None,
        projected=tensors['projected'].float() if 'projected' in tensors else None,
        model=metadata['model'],
        templates=tuple(json.loads(metadata['templates'])),
        source=str(path),
    )


def build_bank(cfg: Mapping, key: str = 'embeddings') -> EmbeddingBank:
    """Build a bank from a config dict, which stays as it is.

    Args:
        cfg: Either `dict(path, classes=None, row_names=None, aliases=None, subset=False)` for a file (all its rows when
            `classes` is absent), or `dict(provider='hash', classes, dim=768, projected_dim=None, scale=1.0)`.
        key: Where the config stands, for messages.

    Returns:
        The bank, rows in the order of `classes`.

    Raises:
        FileNotFoundError: If the file is missing; the message holds the command that makes it.
        ValueError: If `cfg` is no dict, a key is unknown or missing, or the file does not match the classes.
    """
    if not isinstance(cfg, Mapping):
        raise ValueError(f"{key}={cfg!r} must be a dict, such as dict(path='FILE.safetensors').")
    cfg = dict(cfg)
    if ('path' in cfg) == ('provider' in cfg):
        raise ValueError(f"an embedding config needs either 'path' or 'provider', got keys {sorted(cfg)}")
    allowed = _FILE_KEYS if 'path' in cfg else _HASH_KEYS
    if unknown := sorted(set(cfg) - allowed):
        raise ValueError(f'unknown keys {unknown} in an embedding config; known are {sorted(allowed)}')
    if 'provider' in cfg:
        if cfg.pop('provider') != 'hash':
            raise ValueError("an embedding config's provider can only be 'hash'; real text goes through tools/embed_text.py")
        if 'classes' not in cfg:
            raise ValueError("an embedding config with provider='hash' needs classes")
        return hash_embeddings(resolve_classes(cfg.pop('classes')), **cfg)

    path, classes = Path(cfg['path']).expanduser(), cfg.get('classes')
    if not path.is_file():
        command = embed_command(classes, path)
        raise FileNotFoundError(f'embedding file {path} (key path) does not exist; make it with: {command}')
    bank = load_embeddings(path, cfg.get('row_names'))
    if classes is None:
        if cfg.get('aliases') or cfg.get('subset'):
            raise ValueError(f'aliases and subset have no effect without classes in the embedding config of {path}')
        return bank
    return select_rows(bank, classes, cfg.get('aliases'), cfg.get('subset', False))
