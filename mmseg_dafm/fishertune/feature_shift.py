"""DSU: a simulated unseen domain, by shifting the feature statistics of each image inside the backbone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_dafm.core.processes import sum_over_ranks, world_size

EPS = 1e-6


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each sample's channels over positions.

    Args:
        x: Tokens (B, N, C) or channel-last maps (B, H, W, C).

    Returns:
        mu and sigma, (B, C) each; sigma = sqrt(var + 1e-6), var unbiased.
    """
    flat = x.reshape(len(x), -1, x.shape[-1]).float()
    return flat.mean(1), (flat.var(1) + EPS).sqrt()


def perturb(x: Tensor, mu_noise: Tensor, sigma_noise: Tensor, mu_spread: Tensor, sigma_spread: Tensor) -> Tensor:
    """Perturbed features x' = beta (x - mu) / sigma + alpha, alpha = mu + eps_mu Sigma_mu, beta = sigma + eps_sigma Sigma_sigma.

    Args:
        x: Tokens (B, N, C) or channel-last maps (B, H, W, C); mu and sigma are its own.
        mu_noise: eps_mu, (B, C).
        sigma_noise: eps_sigma, (B, C).
        mu_spread: Sigma_mu, (C,): how much mu varies over images.
        sigma_spread: Sigma_sigma, (C,).

    Source: FisherTune, equation 6; DSU.
    """
    mu, sigma = channel_statistics(x)
    alpha, beta = mu + mu_noise * mu_spread, sigma + sigma_noise * sigma_spread
    over = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
    scale = (beta / sigma).view(over)
    return (scale * (x.float() - mu.view(over)) + alpha.view(over)).to(x.dtype)


class StatisticsBank:
    """Sums of the images' channel statistics at one position, from which their spread over images follows.

    Deviation: DSU takes the spread over the batch, which is undefined for one image and noisy for four; here it is taken
    once over a few hundred images, and single images are perturbed with it.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Take in the statistics of a batch (B, N, C)."""
        values = torch.stack(channel_statistics(x)).double()
        sums = torch.stack([torch.full_like(values[:, 0], len(x)), values.sum(1), values.square().sum(1)])
        self.sums = sums if self.sums is None else self.sums + sums

    def spread(self) -> tuple[Tensor, Tensor]:
        """Sigma_mu and Sigma_sigma, (C,) each: sqrt(unbiased variance over images + 1e-6).

        Raises:
            ValueError: With fewer than two images.
        """
        if self.sums is None or self.sums[0, 0, 0] < 2:
            raise ValueError('the spread of feature statistics needs at least two images: raise bank_images.')
        count, total, squares = self.sums
        variance = (squares - total.square() / count).clamp(min=0) / (count - 1)
        return tuple((variance + EPS).sqrt().float())


NOISES = ('channel', 'sample')
EMBEDDING = 'embedding'


def default_positions(blocks: int) -> tuple[str | int, ...]:
    """The embedding, and the outputs of the blocks at a third, half and two thirds of the depth: 7, 11 and 15 of 24."""
    return (EMBEDDING, *sorted({max(blocks * part // 6 - 1, 0) for part in (2, 3, 4)} - {blocks - 1}))


class FeatureShift:
    """Simulate an unseen domain x' in feature space.

    A weight in block l sees the shift only through what comes before it, so the embedding is always perturbed.

    Noise is drawn from one generator per sample, seeded by the caller: the same on every machine, for every batch size and
    number of processes.

    Args:
        model: The backbone.
        paths: Module paths of its transformer blocks, whose outputs are tokens (B, N, C) or maps (B, H, W, C).
        positions: ``'embedding'`` (the input of the first block) and block numbers (their outputs); None takes
            :func:`default_positions`.
        probability: With which the position of a block is perturbed for a sample; the embedding always is.
        factor: Scale of the noise.
        noise: ``'channel'``: eps per sample and channel, as DSU; ``'sample'``: one number for all channels, so that the
            strength of the shift varies from sample to sample.
        prefix_tokens: Leading tokens that are no patches (class token, registers): they are neither measured nor changed.
        widths: Channels that enter each block, to refuse features of another layout; None does not look.

    Raises:
        ValueError: For a position or a noise that does not exist.

    Source: FisherTune, equation 6; DSU (Li et al., ICLR 2022).
    """

    def __init__(
        self,
        model: nn.Module,
        paths: Sequence[str],
        positions: Sequence[str | int] | None = None,
        probability: float = 0.5,
        factor: float = 1.0,
        noise: str = 'channel',
        prefix_tokens: int = 0,
        widths: Sequence[int] | None = None,
    ) -> None:
        positions = default_positions(len(paths)) if positions is None else tuple(positions)
        wrong = [p for p in positions if p != EMBEDDING and not (isinstance(p, int) and 0 <= p < len(paths))]
        if wrong or not positions:
            raise ValueError(
                f'perturbation positions {list(positions)}: use {EMBEDDING!r} and block numbers 0 to {len(paths) - 1}.'
            )
        if noise not in NOISES:
            raise ValueError(f'noise={noise!r} is unknown: use one of {NOISES}.')
        if not 0 <= probability <= 1 or factor < 0:
            raise ValueError(f'probability={probability} must lie in [0, 1] and factor={factor} must not be negative.')
        self.model, self.paths, self.positions = model, tuple(paths), positions
        self.probability, self.factor, self.noise, self.prefix = probability, factor, noise, prefix_tokens
        self.widths = widths
        self.banks: dict[str | int, StatisticsBank] = {}
        self.spreads: dict[str | int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def measuring(self, size: int) -> Iterator[None]:
        """Take in the statistics of a forward pass of ``size`` samples.

        Raises:
            ValueError: In the pass, where features are not (samples, ..., channels): a perturbation would then go along another
                axis, or per part of an image.
        """

        def look(position, tokens: Tensor) -> None:
            block = 0 if position == EMBEDDING else position
            width = None if self.widths is None else self.widths[block]
            if len(tokens) != size or width not in (None, tokens.shape[-1]):
                raise ValueError(
                    f'the features at {self.paths[block]} (position {position!r}) have shape {tuple(tokens.shape)}, not '
                    f'({size}, ..., {width or "channels"}): the backbone folds patches into the batch or has channels first, and '
                    "its features cannot be perturbed per image. Use a criterion without data (criterion='random')."
                )
            self.banks.setdefault(position, StatisticsBank()).add(tokens)

        with self._hooked(look):
            yield

    def join_ranks(self, device: torch.device) -> None:
        """Add up what all processes measured; one that saw no image takes the number of channels from the others."""
        if world_size() == 1:
            return
        sizes = torch.zeros(len(self.positions), device=device)
        for place, position in enumerate(self.positions):
            if position in self.banks and (sums := self.banks[position].sums) is not None:
                sizes[place] = sums.shape[-1]
        torch.distributed.all_reduce(sizes, op=torch.distributed.ReduceOp.MAX)
        for size, position in zip(sizes.int().tolist(), self.positions, strict=True):
            bank = self.banks.setdefault(position, StatisticsBank())
            if bank.sums is None:
                bank.sums = torch.zeros(3, 2, size, dtype=torch.float64, device=device)
            sum_over_ranks([bank.sums])

    def set_spreads(self) -> None:
        """Turn what was measured into the spreads that :meth:`shifting` uses."""
        self.spreads = {position: self.banks[position].spread() for position in self.positions if position in self.banks}
        missing = [position for position in self.positions if position not in self.spreads]
        if missing:
            raise ValueError(f'no features were seen at the perturbation positions {missing}.')

    @contextmanager
    def shifting(self, seeds: Sequence[int]) -> Iterator[list[Tensor]]:
        """Perturb the forward pass of a batch of ``len(seeds)`` samples.

        Yields:
            A list that holds the drawn noises (mean eps_mu + eps_sigma, mean |eps_mu| + |eps_sigma|), (B, 2) per position,
            after the forward pass.
        """
        drawn: list[Tensor] = []

        def change(position, tokens: Tensor) -> Tensor:
            mu, sigma, on = self.draw(position, seeds, tokens.shape[-1])
            active = on.any(1, keepdim=True)
            if active.any():
                strength = torch.cat([(mu + sigma).mean(1, keepdim=True), (mu.abs() + sigma.abs()).mean(1, keepdim=True)], 1)
                drawn.append(torch.where(active, strength, torch.nan))
            spreads = [spread.to(tokens.device) * self.factor for spread in self.spreads[position]]
            return torch.where(
                on[:, :1].view(-1, *[1] * (tokens.ndim - 1)).to(tokens.device),
                perturb(tokens, mu.to(tokens.device), sigma.to(tokens.device), *spreads),
                tokens,
            )

        with self._hooked(change):
            yield drawn

    def draw(self, position: str | int, seeds: Sequence[int], channels: int) -> tuple[Tensor, Tensor, Tensor]:
        """eps_mu and eps_sigma (B, C), and whether the position is perturbed (B, 1)."""
        place = self.positions.index(position)
        width = channels if self.noise == 'channel' else 1
        noises, active = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed((seed * 1009 + place) % 2**63)
            active.append(torch.rand(1, generator=generator) < (1.0 if position == EMBEDDING else self.probability))
            noises.append(torch.randn(2, width, generator=generator).expand(2, channels))
        noise = torch.stack(noises)
        return noise[:, 0], noise[:, 1], torch.stack(active)

    @contextmanager
    def _hooked(self, act: Callable[[str | int, Tensor], Tensor | None]) -> Iterator[None]:
        """Call ``act`` with the patch tokens at each position; what it returns takes their place."""

        def replaced(position, tokens: Tensor) -> Tensor | None:
            patches = tokens[:, self.prefix :] if self.prefix and tokens.ndim == 3 else tokens
            changed = act(position, patches)
            if changed is None or patches is tokens:
                return changed
            return torch.cat([tokens[:, : self.prefix], changed], 1)

        def before(position) -> Callable[..., Any]:
            def hook(module, args, kwargs):
                # some libraries pass the tokens by name
                if args:
                    changed = replaced(position, args[0])
                    return None if changed is None else ((changed, *args[1:]), kwargs)
                changed = replaced(position, kwargs['hidden_states'])
                return None if changed is None else (args, {**kwargs, 'hidden_states': changed})

            return hook

        def after(position) -> Callable[..., Any]:
            def hook(module, args, output):
                tokens = output[0] if isinstance(output, tuple) else output
                changed = replaced(position, tokens)
                if changed is None:
                    return None
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            return hook

        handles = []
        try:
            for position in self.positions:
                module = self.model.get_submodule(self.paths[position if isinstance(position, int) else 0])
                if position == EMBEDDING:
                    handles.append(module.register_forward_pre_hook(before(position), with_kwargs=True))
                else:
                    handles.append(module.register_forward_hook(after(position)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def prefix_tokens(backbone: nn.Module) -> int:
    """Number of leading tokens that are no patches, class token and registers; 0 where nothing tells.

    timm's ViTs tell it; those of mmseg, Hugging Face (CLIP, DINOv2 with and without registers) and open_clip are known by the
    names of their parameters.
    """
    for module in backbone.modules():
        count = getattr(module, 'num_prefix_tokens', None)
        if isinstance(count, int):
            return count
        if any(isinstance(getattr(module, name, None), nn.Parameter) for name in ('cls_token', 'class_embedding')):
            registers = getattr(module, 'register_tokens', None)
            # mmseg's ViT may cut its class token off before the first block
            return int(getattr(module, 'with_cls_token', True)) + (0 if registers is None else registers.shape[1])
    return 0
