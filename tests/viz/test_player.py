"""Play, step and scrub without a window: the Python player, and the same rules in the web page's."""

import pytest

from bev.viz.player import Player
from tests.viz.node import in_node


def test_steps_go_around_and_stop_playing():
    player = Player(3)
    player.toggle(0.0)
    player.step(-1)
    assert (player.at, player.playing) == (2, False)
    player.step(2)
    assert player.at == 1


def test_a_slider_goes_to_the_nearest_frame_there_is():
    player = Player(5)
    for to, at in ((2.6, 3), (-4, 0), (99, 4)):
        player.seek(to)
        assert player.at == at


def test_playing_keeps_the_rate_and_a_slow_window_does_not_race():
    player = Player(10, fps=2)
    player.toggle(100.0)
    shown = [player.tick(100.0 + t) for t in (0.1, 0.49, 0.5, 0.9, 1.0)]
    assert shown == [False, False, True, False, True] and player.at == 2
    assert player.tick(160.0) and player.at == 3  # one frame after a minute's pause, and then at the rate again
    assert player.tick(160.01) and not player.tick(160.4) and player.tick(160.52)


def test_every_key_does_what_the_list_says():
    player = Player(4, fps=2)
    seen = {}
    for key in Player.KEYS:
        player.at, player.playing, player.fps = 1, False, 2
        assert player.key(key, 0.0)
        seen[key] = (player.at, player.playing, player.fps)
    assert seen["space"] == (1, True, 2) and seen["right"][0] == 2 and seen["left"][0] == 0
    assert (seen["home"][0], seen["end"][0]) == (0, 3) and seen["up"][2] == 3 and seen["down"][2] < 2
    assert not player.key("q", 0.0)


def test_a_single_frame_is_never_played():
    player = Player(1)
    player.toggle(0.0)
    assert not player.playing and not player.tick(10.0)


@pytest.mark.parametrize("count, fps", [(0, 2), (3, 0), (3, float("nan"))])
def test_nonsense_is_refused(count, fps):
    with pytest.raises(ValueError, match="player"):
        Player(count, fps)


def test_the_page_plays_as_the_window_does():
    moves = [("toggle", 5.0), ("tick", 5.2), ("tick", 5.6), ("tick", 9.0), ("step", -3), ("seek", 7.4), ("step", 1)]
    ours, player = [], Player(4, 2)
    for name, value in moves:
        getattr(player, name)(value)
        ours.append([player.at, player.playing])
    theirs = in_node(
        "const p = new viewer.Player(4, 2);"
        "return data.map(([name, value]) => { p[name](value); return [p.at, p.playing]; });",
        moves,
    )
    assert theirs == ours
