"""resnet50_fcn: a fully convolutional network on ResNet-50."""

from torchvision.models.segmentation import fcn_resnet50

from model.submodules import TorchvisionSegmenter


class ResNet50FCN(TorchvisionSegmenter):
    """Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks", 2015."""

    build = staticmethod(fcn_resnet50)
