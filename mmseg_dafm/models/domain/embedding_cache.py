"""Image embeddings of a frozen tower, remembered: each training image is seen dozens of times and its embedding never changes."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor


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
