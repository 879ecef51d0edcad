"""CLIP text embeddings of names: what `tools/embed_text.py` computes, once, before any training."""

import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ftfy
import torch
from torch import Tensor, nn

from mmseg_dafm.core.quiet import quiet_loading
from mmseg_dafm.models.domain.embedding_file import EmbeddingBank
from mmseg_dafm.models.domain.open_clip_models import create_open_clip

DEFAULT_TEMPLATE = 'a photo of a {}'
DEFAULT_MODELS = {'transformers': 'openai/clip-vit-large-patch14', 'open_clip': 'ViT-L-14'}

# Sentences -> (pooled (B, D) or None, projected (B, P) or None).
Encoder = Callable[[list[str]], tuple[Tensor | None, Tensor | None]]


def encode_texts(
    names: Sequence[str],
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    provider: str = 'transformers',
    model: str | None = None,
    pretrained: str | None = None,
    phrases: Sequence[str] | None = None,
    device: str = 'cpu',
    batch_size: int = 64,
) -> EmbeddingBank:
    r"""Encode N names into CLIP's pooled and projected text spaces.

    For a name k with synonyms k_1..k_S, written `car; automobile`, and templates t_1..t_T the row is the mean of
    un-normalised vectors, \( d_k = \frac{1}{S T} \sum_{i,j} \mathrm{CLIP}(t_j(k_i)) \). Texts are cleaned as CLIP's own
    code cleans them, before either provider's tokenizer, see :func:`clean_text`. The pooled vector is the text tower's state
    at the end-of-text token after the final LayerNorm; the projected one is the same state in the space shared with images.

    Args:
        names: N names, all different; they name the rows, as they are written.
        templates: Sentences with one `{}` each. VPD's published class embeddings use the default.
        provider: 'transformers' or 'open_clip'.
        model: Hub id or local folder (transformers), or architecture name (open_clip). A local Stable Diffusion folder
            works too; its text encoder has no projection, so only pooled vectors result.
        pretrained: Weights of an open_clip model: a tag or a local file. For a local file of OpenAI's weights name the
            architecture that ends in `-quickgelu`; a tag needs no such care.
        phrases: N phrases to put into the templates in place of the names.
        device: Where to run the text tower.
        batch_size: Sentences per forward pass.

    Returns:
        A bank of N rows, float32, on the CPU.

    Raises:
        ValueError: If there are no names, one is empty, a template lacks its `{}`, a sentence is too long for the model, or the
            model cannot be loaded.

    Source: Domino, section 2.2, d_i = CLIP_Text(k_i); VPD for the pooled class embeddings.
    """
    if not names:
        raise ValueError('there are no names to embed: give at least one')
    if not templates or any(template.count('{}') != 1 for template in templates):
        raise ValueError(f'each template must hold {{}} exactly once, got {list(templates)}')
    if phrases is not None and len(phrases) != len(names):
        raise ValueError(f'got {len(phrases)} phrases for {len(names)} names')
    if provider not in DEFAULT_MODELS:
        raise ValueError(f'text provider {provider!r} is unknown: use one of {sorted(DEFAULT_MODELS)}')
    model = model or DEFAULT_MODELS[provider]
    if provider == 'transformers':
        if pretrained is not None:
            raise ValueError('pretrained is for open_clip; for transformers give the folder or hub id as model')
        encode = _transformers_encoder(model, device)
    else:
        encode = _open_clip_encoder(model, pretrained, device)

    words = [synonyms(phrase) for phrase in (phrases or names)]
    sentences = [clean_text(template.format(word)) for group in words for word in group for template in templates]
    counts = [len(group) * len(templates) for group in words]
    with torch.no_grad():
        parts = [encode(batch) for batch in _batches(sentences, batch_size)]
    pooled, projected = (
        None if column[0] is None else torch.stack([rows.mean(0) for rows in torch.cat(column).cpu().float().split(counts)])
        for column in zip(*parts, strict=True)
    )
    identifier = f'{model}/{pretrained}' if pretrained else model
    return EmbeddingBank(tuple(names), pooled, projected, f'{provider}:{identifier}', tuple(templates), 'encode_texts')


def clean_text(text: str) -> str:
    """Mend a text as CLIP's own tokenizer does first: encoding, typographic characters, HTML entities, white space.

    `it’s`, full-width letters, ligatures and `&amp;` then give the ids that CLIP was trained on. transformers' tokenizer
    alone does not do this.

    Source: CLIP's published code, `clip/simple_tokenizer.py`.
    """
    return ' '.join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def synonyms(name: str) -> list[str]:
    """The synonyms of a name, cleaned: `car; automobile` is two.

    Raises:
        ValueError: If nothing is left of the name.
    """
    # entities end in a semicolon, so they are resolved first
    found = [word for word in map(str.strip, clean_text(name).split(';')) if word]
    if not found:
        raise ValueError(f'the name {name!r} is empty: give a word, or several with ; between them')
    return found


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _refuse_long(sentence: str, tokens: int, limit: int) -> None:
    if tokens > limit:
        raise ValueError(f'{sentence!r} has {tokens} tokens, more than the {limit} that the text model reads: shorten it')


def _transformers_encoder(model: str, device: str) -> Encoder:
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    folder = Path(model).expanduser()
    is_diffusion = (folder / 'text_encoder').is_dir() and (folder / 'tokenizer').is_dir()
    tower_at, tokenizer_at = (folder / 'text_encoder', folder / 'tokenizer') if is_diffusion else (model, model)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_at)
        # Pickled weights are refused: loading them can run code.
        with quiet_loading():
            tower, report = CLIPTextModelWithProjection.from_pretrained(tower_at, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'CLIP text model {model!r} cannot be loaded with transformers: give a hub id that can be reached, or a local '
            f'folder with config.json, model.safetensors and the tokenizer files ({str(error).splitlines()[0]})'
        ) from error
    missing = {key for key in report['missing_keys'] if not key.endswith('position_ids')}
    has_projection = 'text_projection.weight' not in missing
    if missing - {'text_projection.weight'}:
        raise ValueError(f'{model!r} holds no weights for {sorted(missing)}: it is not a CLIP text model')
    tower.eval().to(device)
    limit = tower.config.max_position_embeddings

    def encode(sentences: list[str]) -> tuple[Tensor, Tensor | None]:
        ids = tokenizer(sentences, padding=True, return_tensors='pt').input_ids
        ends = (ids == tokenizer.eos_token_id).int().argmax(dim=1)
        for sentence, end in zip(sentences, ends.tolist(), strict=True):
            _refuse_long(sentence, end + 1, limit)
        output = tower(input_ids=ids.to(device))
        pooled = output.last_hidden_state[torch.arange(len(ids)), ends.to(device)]
        return pooled, output.text_embeds if has_projection else None

    return encode


def _open_clip_encoder(model: str, pretrained: str | None, device: str) -> Encoder:
    if pretrained is None and ':' not in model:
        raise ValueError(f'open_clip model {model!r} needs pretrained: a tag such as "openai" or a local file')
    try:
        clip = create_open_clip(model, pretrained).to(device)
        from open_clip import get_tokenizer

        tokenizer = get_tokenizer(model)
    except ImportError as error:
        raise ValueError(str(error)) from error
    except Exception as error:
        raise ValueError(
            f'CLIP model {model!r} with pretrained={pretrained!r} cannot be loaded with open_clip: check both names, or give '
            f'a local file as pretrained ({str(error).splitlines()[0]})'
        ) from error
    clip.eval()

    def encode(sentences: list[str]) -> tuple[Tensor | None, Tensor]:
        if hasattr(tokenizer, 'encode'):
            for sentence in sentences:
                _refuse_long(sentence, len(tokenizer.encode(sentence)) + 2, tokenizer.context_length)
        tokens = tokenizer(sentences).to(device)
        return _encode_unprojected(clip, tokens), clip.encode_text(tokens)

    return encode


def _encode_unprojected(clip: nn.Module, tokens: Tensor) -> Tensor | None:
    """Run an open_clip text tower without its projection; None if the tower has no separate one."""
    tower = clip if hasattr(clip, 'text_projection') else getattr(clip, 'text', None)
    projection = getattr(tower, 'text_projection', None)
    if projection is None:
        return None
    tower.text_projection = None
    try:
        return clip.encode_text(tokens)
    finally:
        tower.text_projection = projection
