"""Pure torch functions on rotations, rigid transforms, projections and bird's-eye-view grids."""
