"""Definitions of message types, against those that rosbags knows and its own hashes."""

from __future__ import annotations

from typing import Any

import pytest
from bag_rig import typestore
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from sam_ros.tools.bag.definitions import definition_of, type_name_of


@pytest.mark.parametrize("message_type", [Image, CompressedImage, Detection2DArray])
def test_a_definition_and_its_hash_are_those_of_rosbags(message_type: Any) -> None:
    definition = definition_of(message_type)
    assert definition.type_name == type_name_of(message_type)
    assert definition.type_hash == typestore().hash_rihs01(definition.type_name)
    alone = get_typestore(Stores.EMPTY)  # knows nothing but what the text says
    alone.register(get_types_from_msg(definition.text, definition.type_name))
    assert alone.hash_rihs01(definition.type_name) == definition.type_hash


def test_a_type_is_named_as_in_bags() -> None:
    assert type_name_of(Image) == "sensor_msgs/msg/Image"
