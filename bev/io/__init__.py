"""Files: checkpoints, pictures, point clouds."""
