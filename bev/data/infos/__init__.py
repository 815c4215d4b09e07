"""Info files (pickles) of mmdet3d: read safely, put into the same columns as tables."""

from bev.data.infos.columns import index_of_infos
from bev.data.infos.dataset import InfoDataset, load_frame
from bev.data.infos.export import write_infos
from bev.data.infos.read import Infos, open_infos, read_infos

__all__ = ["InfoDataset", "Infos", "index_of_infos", "load_frame", "open_infos", "read_infos", "write_infos"]
