"""resnet101_fcn: the same as resnet50_fcn on a deeper backbone."""

from torchvision.models.segmentation import fcn_resnet101

from model.submodules import TorchvisionSegmenter


class ResNet101FCN(TorchvisionSegmenter):
    """Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks", 2015."""

    build = staticmethod(fcn_resnet101)
