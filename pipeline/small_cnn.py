"""Study 004's network from scratch: four blocks of convolution, ReLU and max-pooling."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

WIDTHS = (32, 64, 128, 128)  # the text gives none; these are those of the Keras example that it follows


class SmallCnn(nn.Module):
    """Input (batch, 3, h, w) to feature map (batch, 128, h', w'); at least 46 pixels a side.

    Its eight layers are `conv1`, `pool1` … `pool4`; the convolutions are 3 x 3 without padding, as Keras has them.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, width in enumerate(WIDTHS, start=1):
            layers[f"conv{number}"] = nn.Conv2d(channels, width, kernel_size=3)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            channels = width
        self.features = nn.Sequential(layers)

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, h, w) float32 to feature map (batch, 128, h', w')."""
        features: Tensor = self.features(input_nchw)
        return features
