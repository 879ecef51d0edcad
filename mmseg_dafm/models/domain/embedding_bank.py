"""Text embeddings by name, and the prompts that they are made from.

The paper asks for fixed descriptions of "different weather conditions and time of the day" and does not list them
(Domino, section 2.2). Deviation: the two presets below are our choice; a config may give its own dict.
"""

import hashlib
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DOMAIN_PROMPTS: dict[str, dict[str, str]] = {
    # Cityscapes' own condition and the four of ACDC.
    'acdc5': {
        'clear': 'a photo of a driving scene on a clear day',
        'night': 'a photo of a driving scene at night',
        'snow': 'a photo of a snowy driving scene',
        'fog': 'a photo of a foggy driving scene',
        'rain': 'a photo of a rainy driving scene',
    },
    # Five kinds of weather and three times of day, for data without named conditions.
    'weather8': {
        'sunny': 'a photo of a driving scene in clear sunny weather',
        'cloudy': 'a photo of a driving scene in cloudy weather',
        'rainy': 'a photo of a driving scene in rainy weather',
        'foggy': 'a photo of a driving scene in foggy weather',
        'snowy': 'a photo of a driving scene in snowy weather',
        'daytime': 'a photo of a driving scene in the daytime',
        'dusk': 'a photo of a driving scene at dusk or dawn',
        'nighttime': 'a photo of a driving scene at nighttime',
    },
}


def domain_prompts(preset: str | dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the short names and the sentences of a set of domain descriptions.

    Args:
        preset: A key of `DOMAIN_PROMPTS`, or an own dict of short name -> sentence.

    Returns:
        The N names and the N sentences, in the order of the dict.

    Raises:
        ValueError: If the preset is unknown, has fewer than two entries or holds an empty sentence.
        TypeError: If it is neither a string nor a dict of strings.

    Source: Domino, section 2.2 (the set K = {k_1, ..., k_N}).
    """
    if isinstance(preset, str):
        if preset not in DOMAIN_PROMPTS:
            raise ValueError(
                f'domain prompt preset {preset!r} is unknown: use one of {sorted(DOMAIN_PROMPTS)} '
                'or give a dict of short name -> sentence'
            )
        preset = DOMAIN_PROMPTS[preset]
    if not isinstance(preset, dict) or not all(isinstance(text, str) for item in preset.items() for text in item):
        raise TypeError(f'domain prompts must be a preset name or a dict of short name -> sentence, got {preset!r}')
    if len(preset) < 2:
        raise ValueError(f'domain prompts need at least two entries, else alpha is always 1, got {dict(preset)!r}')
    if not all(sentence.strip() for sentence in preset.values()):
        raise ValueError(f'domain prompts hold an empty sentence: {dict(preset)!r}')
    return tuple(preset), tuple(preset.values())


@dataclass(frozen=True, eq=False)
class EmbeddingBank:
    """N named text embeddings in one or both of CLIP's two spaces.

    Attributes:
        names: The N names, all different.
        pooled: (N, D) state of the text tower at the end-of-text token, before the projection; or None.
        projected: (N, P) embedding in the space shared with images, not normalised; or None.
        model: Identifier of the text encoder.
        templates: Sentence templates that were averaged.
        source: Where the bank was read from, for messages.

    Raises:
        ValueError: If both spaces are missing, a shape does not fit the names, a name is repeated, or a value is not
            finite.
    """

    names: tuple[str, ...]
    pooled: Tensor | None
    projected: Tensor | None
    model: str
    templates: tuple[str, ...] = ()
    source: str = 'memory'

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(f'names in {self.source} must be present and unique, got {list(self.names)}')
        if self.pooled is None and self.projected is None:
            raise ValueError(f'embeddings in {self.source} hold neither pooled nor projected vectors')
        for key in ('pooled', 'projected'):
            rows = getattr(self, key)
            if rows is None:
                continue
            if rows.ndim != 2 or len(rows) != len(self.names):
                raise ValueError(
                    f'{key} in {self.source} has shape {tuple(rows.shape)}, expected ({len(self.names)}, D) '
                    f'for {len(self.names)} names'
                )
            if not torch.isfinite(rows).all():
                raise ValueError(f'{key} in {self.source} holds values that are not finite')


def resolve_classes(classes: Sequence[str] | str) -> tuple[str, ...]:
    """Turn a list of names, a registered dataset's class name or a domain prompt preset into a tuple of names.

    Raises:
        ValueError: If the dataset is not registered or carries no class names, or the list is empty.
        TypeError: If `classes` is neither a string nor a sequence of strings.
    """
    if isinstance(classes, str):
        if classes in DOMAIN_PROMPTS:
            return domain_prompts(classes)[0]
        # Imported here so that reading a file does not load mmsegmentation.
        from mmseg.registry import DATASETS

        dataset = DATASETS.get(classes)
        if dataset is None:
            raise ValueError(
                f'classes={classes!r} is neither a dataset registered in mmseg nor a domain prompt preset '
                f'{sorted(DOMAIN_PROMPTS)}: correct it or list the names'
            )
        classes = getattr(dataset, 'METAINFO', {}).get('classes')
        if not classes:
            raise ValueError(f'dataset {dataset.__name__} has no METAINFO["classes"]: list the names instead')
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f'classes must be a dataset name or a list of names, got {classes!r}')
    if not classes:
        raise ValueError('classes is an empty list: give the names, or leave the key out.')
    return tuple(classes)


def select_rows(
    bank: EmbeddingBank,
    classes: Sequence[str] | str,
    aliases: Mapping[str, str] | None = None,
    subset: bool = False,
) -> EmbeddingBank:
    """Reorder a bank's rows to a list of classes.

    Args:
        bank: N named rows.
        classes: The M classes wanted, as `resolve_classes` takes them.
        aliases: Class -> name in the bank, where they differ.
        subset: Allow the bank to hold names that no class uses.

    Returns:
        A bank of M rows named by `classes`, in their order.

    Raises:
        ValueError: If a class is missing from the bank, an alias names no class, or (without `subset`) the bank holds
            more names; the message lists both differences.
    """
    names, aliases = resolve_classes(classes), dict(aliases or {})
    if unknown := sorted(set(aliases) - set(names)):
        raise ValueError(f'aliases has keys that are not among the classes: {unknown}')
    wanted = [aliases.get(name, name) for name in names]
    missing = [name for name in dict.fromkeys(wanted) if name not in bank.names]
    extra = [] if subset else [name for name in bank.names if name not in wanted]
    if missing or extra:
        raise ValueError(
            f'embeddings in {bank.source} do not match the classes: missing from the file {missing}, '
            f'only in the file {extra}; map names with aliases, allow more names with subset=True, '
            f'or make the file anew: {embed_command(wanted, bank.source)}'
        )
    # by stacking: a tensor of indices would land on the device of a surrounding `with torch.device('meta')`
    order = [bank.names.index(name) for name in wanted]
    return replace(
        bank,
        names=names,
        pooled=None if bank.pooled is None else torch.stack([bank.pooled[row] for row in order]),
        projected=None if bank.projected is None else torch.stack([bank.projected[row] for row in order]),
    )


def embed_command(classes: Sequence[str] | str | None, path: str | os.PathLike) -> str:
    """Return the `tools/embed_text.py` command line that makes `path`; without classes, guess from the file's name."""
    if classes is None:
        classes = next((preset for preset in DOMAIN_PROMPTS if preset in Path(path).stem), ['NAME', '...'])
    if isinstance(classes, str):
        what = ['--domains' if classes in DOMAIN_PROMPTS else '--dataset', classes]
    else:
        what = ['--names', *classes]
    target = Path(path).with_suffix('.safetensors')
    return shlex.join(['python', 'tools/embed_text.py', *what, '--out', str(target)])


def hash_embeddings(names: Sequence[str], dim: int = 768, projected_dim: int | None = None, scale: float = 1.0) -> EmbeddingBank:
    """Make vectors that depend on the names alone, for tests and for runs without a CLIP.

    Each entry is N(0, scale^2) by Box and Muller's transform of raw PCG64 words seeded with SHA-256 of the
    name: the same on every platform and library version, whatever the order of the names.

    Args:
        names: N names.
        dim: D of the pooled vectors.
        projected_dim: P of the projected vectors; None leaves them out.
        scale: Standard deviation.

    Returns:
        A bank with `model='hash'`.
    """
    pooled = torch.stack([_hash_vector(f'pooled {name}', dim) for name in names]) * scale
    projected = None
    if projected_dim is not None:
        projected = torch.stack([_hash_vector(f'projected {name}', projected_dim) for name in names]) * scale
    return EmbeddingBank(tuple(names), pooled, projected, 'hash', source='hash_embeddings')


def _hash_vector(text: str, dim: int) -> Tensor:
    bits = np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest(), 'big'))
    # 53 bits per word, shifted into (0, 1] so that the logarithm is finite.
    uniform = ((bits.random_raw(2 * dim) >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniform[:dim]))
    return torch.from_numpy(radius * np.cos(2 * math.pi * uniform[dim:])).float()
