"""The colours of the page's objects."""

from sam_ros.core.overlay import PALETTE_RGB
from sam_ros.tools.web.colours import IDS_KEPT, Colours


def test_ids_get_the_overlay_s_colours_in_the_order_of_coming_and_keep_them() -> None:
    colours = Colours()
    assert [colours.of(id) for id in ("_1", "cup", "_2")] == list(PALETTE_RGB[:3])
    assert [colours.of(id) for id in ("_2", "_1", "cup")] == [PALETTE_RGB[k] for k in (2, 0, 1)]


def test_after_the_last_colour_the_first_one_comes_again() -> None:
    colours = Colours()
    first = [colours.of(str(number)) for number in range(len(PALETTE_RGB) + 1)]
    assert first[-1] == first[0]


def test_ids_seen_long_ago_are_forgotten() -> None:
    colours = Colours()
    for number in range(IDS_KEPT):
        colours.of("stays")
        colours.of(str(number))
    assert len(colours._numbers) == IDS_KEPT
    assert colours.of("stays") == PALETTE_RGB[0]
