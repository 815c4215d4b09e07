"""Published checkpoints as weights of this library's detectors: names, box codes, colours and camera order."""

from bev.models.checkpoints.convert import Conversion, convert
from bev.models.checkpoints.families import FAMILIES, Family, detect_family, register_family
from bev.models.checkpoints.files import PublishedWeights, read_published
from bev.models.checkpoints.properties import Colours, Properties, properties_of_model

__all__ = [
    "FAMILIES",
    "Colours",
    "Conversion",
    "Family",
    "Properties",
    "PublishedWeights",
    "convert",
    "detect_family",
    "properties_of_model",
    "read_published",
    "register_family",
]
