"A network whose predictions are known."
import torch
from torch import nn


class Reads(nn.Module):
    "Reads the class from the red level of an image; the probability falls with the distance from it"
    def __init__(self, classes=7): super().__init__(); self.classes = classes
    def forward(self, x):
        red = ((x[:, 0].mean((1, 2)) + 1) * 127.5 / 30).round()
        return -((torch.arange(self.classes) - red[:, None]) % 7)
