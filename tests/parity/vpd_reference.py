"""An independent, plain re-implementation of VPD's forward, with the key names of its official checkpoints.

Written from the description of the method alone: explicit attention everywhere, square images only, maps collected in a
list, latents not scaled, t = 1. Slow and small on purpose.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

GROUPS = 4


def norm(channels, eps):
    return nn.GroupNorm(GROUPS, channels, eps=eps)


class Res(nn.Module):
    def __init__(self, inner, outer, emb):
        super().__init__()
        self.in_layers = nn.Sequential(norm(inner, 1e-5), nn.SiLU(), nn.Conv2d(inner, outer, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, outer))
        self.out_layers = nn.Sequential(norm(outer, 1e-5), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outer, outer, 3, padding=1))
        self.skip_connection = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x, emb, context, maps):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(0.0))

    def forward(self, x, context):
        out, average = [], 0
        for q, k, v in zip(
            *(t.chunk(self.heads, -1) for t in (self.to_q(x), self.to_k(context), self.to_v(context))), strict=True
        ):
            probs = torch.softmax(torch.einsum('bid,bjd->bij', q, k) / math.sqrt(q.shape[-1]), -1)
            out.append(probs @ v)
            average = average + probs / self.heads
        return self.to_out(torch.cat(out, -1)), average


class Gated(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class Block(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.attn1, self.attn2 = Attention(channels, channels, heads), Attention(channels, context, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.ff = nn.Module()
        self.ff.net = nn.Sequential(Gated(channels), nn.Dropout(0.0), nn.Linear(4 * channels, channels))


class Spatial(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.norm = norm(channels, 1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([Block(channels, context, heads)])

    def forward(self, x, emb, context, maps):
        block, size = self.transformer_blocks[0], x.shape[-1]
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        h = h + block.attn1(block.norm1(h), block.norm1(h))[0]
        out, probs = block.attn2(block.norm2(h), context)
        maps.append(probs.transpose(1, 2).reshape(len(x), -1, size, size))
        h = h + out
        h = h + block.ff.net(block.norm3(h))
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class Conv(nn.Conv2d):
    def forward(self, x, emb, context, maps):
        return super().forward(x)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, emb, context, maps):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, emb, context, maps):
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class UNet(nn.Module):
    """Four levels of two residual blocks, transformers on the first three; maps of the down and up path."""

    def __init__(self, widths, context, heads):
        super().__init__()
        self.width, emb = widths[0], 4 * widths[0]
        self.time_embed = nn.Sequential(nn.Linear(self.width, emb), nn.SiLU(), nn.Linear(emb, emb))
        here, skips = widths[0], [widths[0]]
        self.input_blocks = nn.ModuleList([nn.ModuleList([Conv(4, here, 3, padding=1)])])
        for level, width in enumerate(widths):
            for _ in range(2):
                layers = [Res(here, width, emb)] + ([Spatial(width, context, heads)] if level < 3 else [])
                self.input_blocks.append(nn.ModuleList(layers))
                here = width
                skips.append(here)
            if level < 3:
                self.input_blocks.append(nn.ModuleList([Down(here)]))
                skips.append(here)
        self.middle_block = nn.ModuleList([Res(here, here, emb), Spatial(here, context, heads), Res(here, here, emb)])
        self.output_blocks = nn.ModuleList()
        for level in (3, 2, 1, 0):
            for index in range(3):
                layers = [Res(here + skips.pop(), widths[level], emb)] + (
                    [Spatial(widths[level], context, heads)] if level < 3 else []
                )
                here = widths[level]
                if index == 2 and level > 0:
                    layers.append(Up(here))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(norm(here, 1e-5), nn.SiLU(), nn.Conv2d(here, 4, 3, padding=1))

    def forward(self, x, steps, context):
        # in float32, as both codes compute it, whatever the dtype of the network
        angles = steps[:, None] * torch.exp(-math.log(10000) * torch.arange(self.width // 2).float() / (self.width // 2))
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], -1).to(x.dtype))
        maps, ignored, skips, outs, h = [], [], [], [], x
        for block in self.input_blocks:
            for layer in block:
                h = layer(h, emb, context, maps)
            skips.append(h)
        for layer in self.middle_block:
            h = layer(h, emb, context, ignored)
        for index, block in enumerate(self.output_blocks):
            h = torch.cat([h, skips.pop()], 1)
            for layer in block:
                h = layer(h, emb, context, maps)
            if index in (1, 4, 7):
                outs.append(h)
        return [*outs, h], maps


class VAEBlock(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.norm1, self.conv1 = norm(inner, 1e-6), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = norm(outer, 1e-6), nn.Conv2d(outer, outer, 3, padding=1)
        if inner != outer:
            self.nin_shortcut = nn.Conv2d(inner, outer, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, 'nin_shortcut') else x)


class VAEAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        probs = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), -1)
        return x + self.proj_out((v @ probs.transpose(1, 2)).reshape(x.shape))


class Encoder(nn.Module):
    """Four levels of one residual block, one attention in the middle."""

    def __init__(self, width):
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList()
        for level in range(4):
            stage = nn.Module()
            stage.block = nn.ModuleList([VAEBlock(width, width)])
            if level < 3:
                stage.downsample = nn.Module()
                stage.downsample.conv = nn.Conv2d(width, width, 3, stride=2)
            self.down.append(stage)
        self.mid = nn.Module()
        self.mid.block_1, self.mid.attn_1, self.mid.block_2 = VAEBlock(width, width), VAEAttention(width), VAEBlock(width, width)
        self.norm_out, self.conv_out = norm(width, 1e-6), nn.Conv2d(width, 8, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for stage in self.down:
            h = stage.block[0](h)
            if hasattr(stage, 'downsample'):
                h = stage.downsample.conv(F.pad(h, (0, 1, 0, 1)))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h)))
        return self.conv_out(F.silu(self.norm_out(h)))


class VPDReference(nn.Module):
    """Backbone of the official VPDSeg: the same module names, the same numbers."""

    def __init__(self, widths, vae_width, embeddings, heads):
        super().__init__()
        channels = embeddings.shape[-1]
        self.encoder_vq = nn.Module()
        self.encoder_vq.encoder, self.encoder_vq.quant_conv = Encoder(vae_width), nn.Conv2d(8, 8, 1)
        self.unet = nn.Module()
        self.unet.unet = nn.Module()
        self.unet.unet.diffusion_model = UNet(widths, channels, heads)
        self.sd_model = nn.Module()
        self.sd_model.register_buffer('betas', torch.linspace(0, 1, 10))
        self.register_buffer('class_embeddings', embeddings)
        self.gamma = nn.Parameter(torch.ones(channels) * 1e-4)
        self.text_adapter = nn.Module()
        self.text_adapter.fc = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))

    def forward(self, images):
        moments = self.encoder_vq.quant_conv(self.encoder_vq.encoder(images))
        latents = moments[:, :4]  # the posterior's mode, not multiplied by 0.18215
        tokens = self.class_embeddings + self.gamma * self.text_adapter.fc(self.class_embeddings)
        steps = torch.ones(len(images))
        outs, maps = self.unet.unet.diffusion_model(latents, steps, tokens.expand(len(images), -1, -1))
        size = latents.shape[-1]
        for index, level in ((1, size // 4), (2, size // 2)):
            wanted = [m for m in maps if m.shape[-1] == level]
            assert len(wanted) == 5, 'three of the up path and two of the down path'
            outs[index] = torch.cat([outs[index], torch.stack(wanted).mean(0)], 1)
        return outs[::-1]
