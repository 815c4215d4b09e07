"""Image normalisation."""

import torch

from bev.models.preprocess import ImageNormalizer

MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)


def test_values_order_and_input_untouched():
    images = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8)
    before = images.clone()
    expected = (images.double() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    result = ImageNormalizer(MEAN, STD)(images)
    assert result.dtype == torch.float32 and torch.equal(images, before)
    torch.testing.assert_close(result.double(), expected)
    flipped = ImageNormalizer(MEAN, STD, "bgr")(images.flip(1))
    assert torch.equal(flipped, result)


def test_float_images_are_not_written_to():
    images = torch.rand(1, 3, 2, 2)
    before = images.clone()
    ImageNormalizer(MEAN, STD)(images)
    assert torch.equal(images, before)


def test_autocast_gives_its_own_type():
    images = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    normalizer = ImageNormalizer(MEAN, STD)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = normalizer(images)
    assert torch.equal(rounded, normalizer(images).bfloat16())
