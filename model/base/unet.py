"""base_model: a small U-Net."""

import torch
from torch import nn

from model.submodules import double_conv2d, up_conv2d

WIDTHS = (16, 32, 64, 96, 128)


class UNet(nn.Module):
    """U-Net of about a million parameters for images of any size.

    Source: Ronneberger, Fischer, Brox, "U-Net", 2015; here with padding and BatchNorm.
    """

    def __init__(self, args):
        super().__init__()
        self.down = nn.ModuleList(
            double_conv2d(before, after)
            for before, after in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        deep_first = WIDTHS[::-1]
        pairs = list(zip(deep_first[:-1], deep_first[1:], strict=True))
        self.up = nn.ModuleList(up_conv2d(deep, shallow) for deep, shallow in pairs)
        self.merge = nn.ModuleList(double_conv2d(2 * shallow, shallow) for _, shallow in pairs)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # odd sizes keep their last row
        self.head = nn.Conv2d(WIDTHS[0], args.num_classes, 1)

    def forward(self, img):
        """(N,3,H,W) float, normalized -> logits (N,num_classes,H,W)."""
        x, skips = img, []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            x = up(x)[..., : skip.shape[-2], : skip.shape[-1]]
            x = merge(torch.cat([x, skip], dim=1))
        return self.head(x)
