"""Which frame of a scene is shown: play, pause, step and scrub, apart from any window and any clock.

This file imports nothing of the library: the drawing process loads it alone.
"""

from __future__ import annotations


class Player:
    """The state of a player.

    Args:
        count: number of frames.
        fps: frames a second when it plays.

    Attributes:
        at: number of the frame that is shown.
        playing: whether it plays.

    Raises:
        ValueError: no frames, or a rate that is not positive.
    """

    # The only place that says what a key does; the window's help lists it.
    KEYS = {
        "space": "play or pause",
        "right": "next frame",
        "left": "previous frame",
        "home": "first frame",
        "end": "last frame",
        "up": "faster",
        "down": "slower",
    }

    def __init__(self, count: int, fps: float = 2.0) -> None:
        if count < 1 or not fps > 0:
            raise ValueError(f"a player needs frames and a positive rate, got {count} and {fps}")
        self.count, self.fps = count, fps
        self.at, self.playing = 0, False
        self._due_s = 0.0

    def step(self, by: int) -> None:
        """Go ``by`` frames on (or back), around the ends, and stop."""
        self.playing, self.at = False, (self.at + by) % self.count

    def seek(self, to: float) -> None:
        """Go to a frame, the nearest there is, and stop: for a slider."""
        self.playing, self.at = False, min(max(round(to), 0), self.count - 1)

    def toggle(self, now_s: float) -> None:
        """Play or pause; a single frame is never played."""
        self.playing = not self.playing and self.count > 1
        self._due_s = now_s + 1 / self.fps

    def tick(self, now_s: float) -> bool:
        """To be called often; True where the next frame has come on.

        A slow window shows every frame later rather than leaving some out, and does not race afterwards.
        """
        if not self.playing or now_s < self._due_s:
            return False
        self.at = (self.at + 1) % self.count
        self._due_s = max(self._due_s + 1 / self.fps, now_s)
        return True

    def key(self, name: str, now_s: float) -> bool:
        """Do what a key of ``KEYS`` says; False for any other."""
        if name == "space":
            self.toggle(now_s)
        elif name in ("right", "left"):
            self.step(1 if name == "right" else -1)
        elif name in ("home", "end"):
            self.seek(0 if name == "home" else self.count - 1)
        elif name in ("up", "down"):
            self.fps = min(max(self.fps * (1.5 if name == "up" else 1 / 1.5), 0.25), 30.0)
        else:
            return False
        return True
