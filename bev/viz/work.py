"""What tools/visualize.py draws: frames from one of its sources, with everything that is laid over them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bev.data import NuScenesDataset
from bev.data.infos.dataset import load_frame
from bev.engine import load_config, prepare
from bev.registry import ConfigError
from bev.structures import Boxes3D, Sample
from bev.viz.draw import draw_frame, draw_results, frame_pictures, show_results, write_picture
from bev.viz.insight import with_insight
from bev.viz.lidar_sheet import lidar_sheet
from bev.viz.map_raster import MapMasks
from bev.viz.movie import FILM_SUFFIXES, write_film
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, Overlay
from bev.viz.recorder import Insight, Recorder
from bev.viz.sources import choose, first_scene, predicted, submitted, tokens_of_scene, tracked
from bev.viz.tracks import TrackHistory


@dataclass(frozen=True)
class Work:
    """Frames to draw.

    Attributes:
        frames: a data set with original pictures and LiDAR points.
        positions: of the frames to draw.
        predictions: by token, in the frames' reference frame; None where there are none.
        history, maps, insights: what is laid over them; None or empty for nothing.
        heat: ``depth`` and ``bev``, as asked for.
    """

    frames: Any
    positions: Sequence[int]
    predictions: Mapping[str, Boxes3D] | None = None
    history: TrackHistory | None = None
    maps: MapMasks | None = None
    insights: Mapping[str, Insight] = field(default_factory=dict)
    heat: Sequence[str] = ()
    range_m: float = 55.0

    def overlay(self, sample: Sample) -> Overlay:
        """What lies over a frame."""
        tracks = () if self.history is None else self.history.ways(sample)
        ground = () if self.maps is None else (self.maps.around(sample, self.range_m),)
        overlay = Overlay(tracks, ground) if tracks or ground else NOTHING
        if sample.token in self.insights:
            insight = self.insights[sample.token]
            overlay = with_insight(overlay, insight, sample, "depth" in self.heat, "bev" in self.heat)
        return overlay

    def arguments(self, options: DrawOptions) -> dict[str, Any]:
        """As :func:`bev.viz.draw.draw_results` and its like take them."""
        return {
            "frames": self.frames,
            "predictions": self.predictions,
            "indices": self.positions,
            "options": options,
            "overlay_of": self.overlay,
        }


def gather(args: argparse.Namespace) -> Work:
    """The work of a command line.

    Raises:
        FileError, ConfigError, CheckpointError: a source cannot be used.
    """
    if args.frame:
        return _with_map(Work([load_frame(args.frame)], [0], range_m=args.range), args.map)
    if args.config:
        return _with_map(_predicted(args), args.map)
    frames = NuScenesDataset(args.root, args.version, args.split, load_points=True)
    wanted = args.tokens
    if args.scene or (args.scenic and not wanted):
        wanted = tokens_of_scene(frames, args.scene or first_scene(frames))
    work = Work(frames, [], range_m=args.range)
    if args.results:
        positions, boxes = submitted(args.results, frames, wanted, args.frames)
        work = replace(work, positions=positions, predictions=boxes)
    elif args.tracks:
        positions, boxes, history = tracked(args.tracks, frames, wanted, args.frames)
        work = replace(work, positions=positions, predictions=boxes, history=history)
    else:
        where = f"split {args.split} of {args.root}"
        work = replace(work, positions=choose(frames.tokens, wanted, args.frames, where))
    return _with_map(work, args.map)


def _predicted(args: argparse.Namespace) -> Work:
    cfg = prepare(load_config(args.config, args.cfg_options))
    recorder = Recorder(tuple(args.query) if args.query else None) if args.show or args.query else None
    scene = args.scene or ("" if args.scenic and not args.tokens else None)
    found = predicted(cfg, args.checkpoint, args.tokens, args.frames, scene, recorder)
    frames, positions, boxes, insights = found
    return Work(frames, positions, boxes, insights=insights, heat=args.show, range_m=args.range)


def _with_map(work: Work, wanted: bool) -> Work:
    if not wanted:
        return work
    if not hasattr(work.frames, "version"):
        raise ConfigError("--map needs frames from a nuScenes folder, whose tables name the map masks")
    return replace(work, maps=MapMasks(work.frames.root, work.frames.version))


def write(work: Work, args: argparse.Namespace, options: DrawOptions) -> list[Path]:
    """Draw the work into the files, or the window, that a command line asks for; returns the files."""
    out: Path | None = args.out or (Path("frame.png") if args.frame else None)
    if args.window:
        show_results(**work.arguments(options))
        return []
    if out is None:
        return draw_results(directory=args.out_dir, **work.arguments(options))
    if out.suffix in FILM_SUFFIXES:
        return [write_film(frame_pictures(**work.arguments(options)), out, args.fps)]
    if out.suffix == ".html":
        from bev.viz.page import write_page

        return [write_page(out, **work.arguments(options))]
    if out.suffix == ".rrd":
        from bev.viz.rerun_file import write_rerun

        return [write_rerun(out, **work.arguments(options))]
    sample = work.frames[work.positions[0]]
    if args.lidar:
        return [write_picture(lidar_sheet(sample, options), out)]
    boxes = None if work.predictions is None else work.predictions[sample.token]
    return [draw_frame(sample, boxes, out, options, overlay=work.overlay(sample))]
