"""mobilenetv3_fcn: DeepLabV3's head on MobileNetV3-Large, small and quick."""

from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from model.submodules import TorchvisionSegmenter


class MobileNetV3(TorchvisionSegmenter):
    """Source: Howard et al., "Searching for MobileNetV3", 2019."""

    build = staticmethod(deeplabv3_mobilenet_v3_large)
