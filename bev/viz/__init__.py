"""Pictures of frames: boxes over camera images, and the bird's-eye view drawn by Open3D."""

from bev.viz.draw import draw_frame, draw_results, frame_picture, show_results
from bev.viz.options import DrawOptions
from bev.viz.renderer import BEVRenderer, RenderError

__all__ = ["BEVRenderer", "DrawOptions", "RenderError", "draw_frame", "draw_results", "frame_picture", "show_results"]
