"""nuScenes: tables, index, splits and data set."""
