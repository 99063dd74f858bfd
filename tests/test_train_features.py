"""The VGG16 feature loss: nothing for equal pictures, a gradient that mends them, the same in bfloat16."""

import torch
from needs import had

from being.train.feature_loss import FeatureLoss


def test_it_pulls_a_picture_to_its_target():
    loss = had(lambda: FeatureLoss(torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, 64, 64, generator=generator)
    picture = (target + 0.1 * torch.randn(target.shape, generator=generator)).requires_grad_()
    value = loss(picture, target)
    (gradient,) = torch.autograd.grad(value, picture)
    better = (picture - 0.05 * gradient / gradient.abs().mean()).detach()
    assert loss(target, target) == 0 and loss(better, target) < value
    low = FeatureLoss(torch.device("cpu"), low_precision=True)(picture, target).detach()
    assert low.dtype == torch.float32 and abs(float(low / value.detach()) - 1) < 0.02
