"""deeplabv3_fcn: DeepLabV3 on ResNet-50."""

from torchvision.models.segmentation import deeplabv3_resnet50

from model.submodules import TorchvisionSegmenter


class DeepLabV3(TorchvisionSegmenter):
    """Source: Chen et al., "Rethinking Atrous Convolution", 2017."""

    build = staticmethod(deeplabv3_resnet50)
