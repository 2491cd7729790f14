"""How the engine works, as one value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from sam_ros.core.follower import VIEWS_KEPT
from sam_ros.core.segmenter import Options
from sam_ros.node.settings import Settings


@pytest.mark.parametrize(
    ("follow", "encode_always", "expected"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_objects_are_followed_only_where_every_frame_is_encoded(
    follow: bool, encode_always: bool, expected: bool
) -> None:
    assert Settings(follow=follow, encode_always=encode_always).is_following is expected


def test_views_reach_as_far_back_as_a_prompt_may() -> None:
    assert Settings().views_kept == VIEWS_KEPT
    far_back = Settings(images_kept=300, embeddings_kept=256)
    assert far_back.views_kept == 556 > VIEWS_KEPT


def test_settings_are_replaced_as_a_whole() -> None:
    before = Settings()
    with pytest.raises(FrozenInstanceError):
        before.follow = True  # type: ignore[misc]
    assert replace(before, follow=True) != before


def test_the_segmenter_gets_its_options_from_them() -> None:
    assert isinstance(Settings(), Options)
