"""Blocks that several networks share. An edit here changes every network that uses the block."""

from torch import nn

from utils.errors import UserError


def conv2d_bn_relu(in_channels, out_channels, kernel_size=3, stride=1):
    """(N,in,H,W) -> (N,out,H/stride,W/stride).

    Source of the initialization: He et al., "Delving Deep into Rectifiers", 2015.
    """
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def double_conv2d(in_channels, out_channels):
    """(N,in,H,W) -> (N,out,H,W) through two convolutions."""
    return nn.Sequential(
        conv2d_bn_relu(in_channels, out_channels), conv2d_bn_relu(out_channels, out_channels)
    )


def up_conv2d(in_channels, out_channels):
    """(N,in,H,W) -> (N,out,2H,2W)."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode='nearest'), conv2d_bn_relu(in_channels, out_channels, 1)
    )


class TorchvisionSegmenter(nn.Module):
    """One of torchvision's segmentation networks with this project's classes, without weights.

    A subclass names the function that builds it. With --pretrained the backbone starts from
    ImageNet weights, which torchvision downloads once.
    """

    build = None

    def __init__(self, args):
        super().__init__()
        weights = 'DEFAULT' if getattr(args, 'pretrained', False) else None
        try:
            self.net = type(self).build(weights_backbone=weights, num_classes=args.num_classes)
        except OSError as error:  # URLError is one
            advice = 'put them into torch.hub.get_dir() or leave the option out'
            raise UserError(f'--pretrained: cannot download weights ({error}); {advice}') from error

    def forward(self, img):
        """(N,3,H,W) float, normalized -> logits (N,num_classes,H,W)."""
        return self.net(img)['out']
