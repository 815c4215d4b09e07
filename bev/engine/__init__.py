"""Training and testing over mmengine: configuration in, checkpoints and scores out."""

from bev.engine import hooks, loops, muon, optim, schedule  # noqa: F401  (register what configurations name)
from bev.engine.api import main, prepare, test, train
from bev.engine.config import load_config
from bev.engine.guard import NonFiniteError
from bev.engine.run_state import last_checkpoint
from bev.engine.runner import Runner

__all__ = ["NonFiniteError", "Runner", "last_checkpoint", "load_config", "main", "prepare", "test", "train"]
