"""DomainEmbedding: from an image to its domain embedding W, with CLIP."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.domino import domain_alpha, domain_embedding, entropy
from mmseg_dafm.models.domain.embedding_file import build_bank, check_same_space
from mmseg_dafm.models.domain.image_encoder import ImageEncoder


def image_key(image: Tensor) -> bytes:
    """A key of an image's content, for a uint8 tensor of any shape on the CPU; equal images have equal keys."""
    return blake2b(image.numpy().tobytes(), digest_size=16).digest()


class EmbeddingCache:
    """Embeddings by image content; forgets nothing until it is full, and then takes nothing new.

    Args:
        capacity: Largest number of embeddings; 3 KB each for ViT-L/14.
    """

    def __init__(self, capacity: int):
        self.capacity, self.stored, self.weights = capacity, {}, ()

    def keep_to(self, parameters: Iterable[Tensor]) -> None:
        """Forget everything if the tower's weights have changed, however they were loaded or written.

        Args:
            parameters: The tower's parameters. torch counts the writes to each, so that no value is read; only writes
                through ``.data`` go unseen.
        """
        weights = tuple((id(p), 0 if p.is_inference() else p._version) for p in parameters)
        if weights != self.weights:
            self.stored.clear()
            self.weights = weights

    def lookup(self, images: Tensor, keys: Sequence[bytes], embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings of a batch, computed only for the images that are new.

        Args:
            images: ``(B, 3, H, W)``.
            keys: Key of each image.
            embed: The frozen tower, ``(b, 3, H, W)`` to ``(b, P)``, called at most once.

        Returns:
            ``(B, P)``, on the images' device.
        """
        # an embedding made in half precision is not the one that a test in full precision would make; autocast shows in the
        # dtype of a product, on every device and in every version of torch
        corner = images[0, 0, :1, :1]
        keys = [(key, (corner @ corner).dtype) for key in keys]
        new = [index for index, key in enumerate(keys) if key not in self.stored]
        found = {}
        if new:
            found = dict(zip((keys[index] for index in new), embed(images[new]).detach().unbind(), strict=True))
            room = max(self.capacity - len(self.stored), 0)
            self.stored.update(list(found.items())[:room])
        return torch.stack([found[key] if key in found else self.stored[key].to(images.device) for key in keys])


SPACES = ('projected', 'pooled')


@MODELS.register_module()
class DomainEmbedding(BaseModule):
    r"""Domain embedding W of images: a similarity-weighted sum of description embeddings, by CLIP, frozen or trained.

    .. math:: \alpha = \mathrm{softmax}(\cos(I, d_i) / T), \qquad W = \lambda \sum_i \alpha_i d_i

    Args:
        descriptions: Where the description embeddings come from, see
            :func:`mmseg_dafm.models.domain.embedding_file.build_bank`.
        image_encoder: Arguments of :class:`~mmseg_dafm.models.domain.image_encoder.ImageEncoder`.
        temperature: T, > 0 and finite; 1.0 is the printed equation, 0.01 CLIP's own logit scale.
        learnable_temperature: Learn log T.
        space: Vectors summed in W: ``projected`` (joint space, as printed) or ``pooled`` (the space and scale of the
            class tokens). alpha always lives in the joint space.
        w_scale: Factor lambda on W.
        cache: Largest number of image embeddings that a frozen tower remembers, for images whose keys are given (whole
            images kept by KeepDomainImage); 0 switches it off.
        crop: Compute W from the training crop even if the pipeline supplies the whole image.
        init_cfg: mmengine's.

    Raises:
        ValueError: If T is not positive and finite, there are fewer than two descriptions, a space is unknown or missing in
            the file, joint widths differ, or the descriptions are by the text tower of another CLIP.

    Source: Domino, sec. 2.2; the tower is trainable in its Fig. 2, which ``image_encoder.trainable`` follows.
    """

    def __init__(
        self,
        descriptions: dict,
        image_encoder: dict,
        temperature: float = 1.0,
        learnable_temperature: bool = False,
        space: str = 'projected',
        w_scale: float = 1.0,
        cache: int = 20000,
        crop: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if not _is_number(temperature) or not 0 < temperature < math.inf:
            raise ValueError(f'domain_embedding.temperature={temperature!r} must be a positive, finite number.')
        if not _is_number(w_scale) or not math.isfinite(w_scale):
            raise ValueError(f'domain_embedding.w_scale={w_scale!r} must be a finite number.')
        if not isinstance(cache, int) or cache < 0:
            raise ValueError(f'domain_embedding.cache={cache!r} must be a whole number of embeddings, 0 or more.')
        if not isinstance(image_encoder, Mapping):
            raise ValueError(f"domain_embedding.image_encoder={image_encoder!r} must be a dict, such as dict(model='...').")
        if space not in SPACES:
            raise ValueError(f'space={space!r} is unknown: use one of {SPACES}.')
        bank = build_bank(descriptions, 'domain_embedding.descriptions')
        if len(bank.names) < 2:
            raise ValueError(
                f'domain_embedding.descriptions hold one name, {bank.names[0]!r}, so alpha is always 1: give at least two.'
            )
        self.image_encoder = ImageEncoder(**image_encoder)
        for name in {'projected', space}:
            if getattr(bank, name) is None:
                raise ValueError(f'descriptions={descriptions} hold no {name} vectors: write them with tools/embed_text.py.')
        if bank.projected.shape[-1] != self.image_encoder.out_channels:
            raise ValueError(
                f'the descriptions are {bank.projected.shape[-1]} wide in the joint space and the image tower '
                f'{self.image_encoder.model_name!r} gives {self.image_encoder.out_channels}: use the text tower of the same CLIP.'
            )
        check_same_space(bank, self.image_encoder)
        self.domain_names, self.space, self.w_scale, self.crop = tuple(bank.names), space, w_scale, crop
        # settings, not weights: a checkpoint trained with other descriptions or temperature must not bring them along
        self.register_buffer('joint', bank.projected.float(), persistent=False)
        self.register_buffer('summed', getattr(bank, space).float(), persistent=False)
        self.cache = EmbeddingCache(cache) if cache and self.image_encoder.frozen else None
        log_temperature = torch.tensor(float(temperature)).log()
        if learnable_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer('log_temperature', log_temperature, persistent=False)

    @property
    def out_channels(self) -> int:
        """Width of W."""
        return self.summed.shape[-1]

    def init_weights(self) -> None:
        """Load the image tower; nothing else here has random weights."""
        self.image_encoder.init_weights()
        self._is_init = True

    def alpha(self, images: Tensor, keys: Sequence[bytes] | None = None) -> Tensor:
        """Similarities ``(B, N)`` of RGB images ``(B, 3, H, W)`` in [-1, 1] to the N descriptions; rows sum to 1.

        Args:
            images: The images.
            keys: Key of each image's content, see :func:`~mmseg_dafm.models.domain.domain_embedding.image_key`; lets a
                frozen tower look the embedding up.
        """
        if keys is None or self.cache is None:
            embeddings = self.image_encoder(images)
        else:
            self.cache.keep_to(self.image_encoder.parameters())
            embeddings = self.cache.lookup(images, keys, self.image_encoder)
        return domain_alpha(embeddings, self.joint, self.log_temperature.exp())

    def forward(self, images: Tensor, keys: Sequence[bytes] | None = None) -> tuple[Tensor, Tensor]:
        """Embed the domain of each image.

        Args:
            images: RGB ``(B, 3, H, W)`` in [-1, 1].
            keys: As for :meth:`alpha`.

        Returns:
            W ``(B, D)`` and alpha ``(B, N)``.
        """
        alpha = self.alpha(images, keys)
        return domain_embedding(alpha, self.summed, self.w_scale), alpha

    @staticmethod
    def scalars(alpha: Tensor) -> dict[str, Tensor]:
        """What is worth logging of alpha ``(B, N)``: its entropy in nats (log N: W says nothing about the image)."""
        return dict(domain_alpha_entropy=entropy(alpha.detach()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
