"""Published weights as a checkpoint of this library: ``python tools/convert_checkpoint.py CONFIG WEIGHTS OUT``.

WEIGHTS is an official YOLOX checkpoint (``.pth``) or its ONNX export (``.onnx``, batch norms folded).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from torch import Tensor

from bev.engine import load_config, main
from bev.io.checkpoint import load_checkpoint, load_weights, save_checkpoint, weights_of
from bev.models.detectors import DenseDetector
from bev.models.detectors.yolox_weights import from_official, load_onnx
from bev.registry import MODELS, ConfigError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Convert published YOLOX weights.")
    parser.add_argument("config", help="configuration of the same network, e.g. configs/yolox/yolox_nano_coco.py")
    parser.add_argument("weights", help="official checkpoint (.pth), or its ONNX export (.onnx)")
    parser.add_argument("out", help="checkpoint to write")
    return parser.parse_args(arguments)


def official_weights(path: str) -> dict[str, Tensor]:
    """The state dict of an official checkpoint, which calls it ``model``."""
    checkpoint = load_checkpoint(path)
    return weights_of(checkpoint["model"] if isinstance(checkpoint.get("model"), dict) else checkpoint, path)


def run() -> int:
    args = parse()
    model = MODELS.build(load_config(args.config).model)
    if not isinstance(model, DenseDetector):
        raise ConfigError(f"config key 'model' builds a {type(model).__name__}, expected a DenseDetector")
    if args.weights.endswith(".onnx"):
        load_onnx(model, args.weights)
    else:
        load_weights(model, from_official(official_weights(args.weights)), args.weights)
    save_checkpoint({"state_dict": model.state_dict(), "meta": {"source": args.weights}}, args.out)
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
