"""TensorRT plugins of the fused operators: what each takes and gives, its kernel, and PTX compiled ahead of time.

``specs`` and ``ptx`` need neither TensorRT nor a GPU and are tested; ``definitions`` hands the same to
``tensorrt.plugin`` and needs the real library.
"""

from bev.deploy.plugins.definitions import register_plugins
from bev.deploy.plugins.ptx import Ptx, compile_ptx
from bev.deploy.plugins.specs import PLUGINS, Launch, PluginSpec

__all__ = ["PLUGINS", "Launch", "PluginSpec", "Ptx", "compile_ptx", "register_plugins"]
