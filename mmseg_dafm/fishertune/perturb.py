"""DSU: a simulated unseen domain, by shifting the feature statistics of each sample within the training set's own spread."""

import torch
from torch import Tensor

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
