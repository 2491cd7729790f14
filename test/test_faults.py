"""Every row of the contract's table of faults is held by a test, and the tests it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = ROOT / "docs" / "design.md"

# By fault, as docs/design.md words it: the tests that hold its row.
TESTS = {
    "data shorter than step*height; step < width*bpp": [
        "test_images.py::test_an_image_whose_size_step_and_data_disagree_is_refused",
        "test_sam_node.py::test_bad_images_are_counted_and_survived",
        "test_sizes.py::test_an_image_is_refused_as_it_is_when_it_is_read",
    ],
    "0x0 or more than max_image_pixels": [
        "test_images.py::test_an_image_whose_size_step_and_data_disagree_is_refused",
        "test_images.py::test_the_limit_of_pixels_is_inclusive",
    ],
    "padded rows; big-endian 16 bit": [
        "test_images.py::test_padding_of_rows_is_left_out",
        "test_images.py::test_sixteen_bits_are_scaled_in_the_messages_byte_order",
        "test_sam_node.py::test_grey_images_with_padded_rows_are_read",
    ],
    "unknown encoding; truncated JPEG/PNG": [
        "test_images.py::test_encodings_that_are_no_picture_are_refused_by_name",
        "test_images.py::test_a_file_truncated_at_any_byte_is_refused",
        "test_sizes.py::test_an_image_is_refused_as_it_is_when_it_is_read",
    ],
    "decompression bomb": ["test_images.py::test_a_decompression_bomb_is_refused_from_its_header"],
    "NaN/inf coordinates; z not 0": [
        "test_conversions.py::test_points_far_outside_not_finite_or_with_z_are_refused",
        "test_sam_node.py::test_a_refusal_is_told_at_once",
    ],
    "point up to 1 px outside (rqt rounds)": [
        "test_conversions.py::test_points_up_to_one_pixel_outside_are_clamped"
    ],
    "point further out": ["test_conversions.py::test_points_far_outside_not_finite_or_with_z_are_refused"],
    "box partly outside": [
        "test_conversions.py::test_a_region_is_a_box_of_half_open_edges_clipped_to_the_image",
        "test_sam_node.py::test_a_box_is_clipped_and_answered_on_the_newest_frame",
    ],
    "box empty or fully outside": [
        "test_conversions.py::test_regions_that_are_no_box_are_refused",
        "test_conversions.py::test_a_bad_object_is_refused_and_the_others_stay",
    ],
    "mask prompt of wrong size/encoding": [
        "test_conversions.py::test_mask_prompts_that_do_not_fit_are_refused"
    ],
    "10,000 boxes": [
        "test_conversions.py::test_ten_thousand_detections_are_read",
        "test_engine.py::test_more_than_max_objects_is_said_once",
        "test_predictor.py::test_more_prompts_than_one_batch_holds",
    ],
    "prompt before the first image": [
        "test_engine.py::test_a_prompt_before_the_first_image_is_held_for_it",
        "test_engine.py::test_a_prompt_is_refused_when_no_image_comes_in_time",
    ],
    "prompt newer than any image": [
        "test_engine.py::test_a_prompt_newer_than_any_image_waits_for_its_frame",
        "test_engine.py::test_a_prompt_is_refused_when_no_image_as_new_comes_in_time",
    ],
    "prompt for a frame no longer kept": [
        "test_engine.py::test_what_is_no_longer_kept_is_stale",
        "test_frames.py::test_a_frame_that_never_arrived_is_told_from_one_that_is_no_longer_kept",
    ],
    "wrong frame_id": ["test_engine.py::test_the_frame_id_must_be_the_images_or_empty"],
    "resolution changes mid-stream": [
        "test_engine.py::test_objects_of_another_resolution_are_not_mixed_in",
        "test_segmenter.py::test_objects_of_another_resolution_are_dropped",
    ],
    "camera stops, comes back": [
        "test_diagnostics.py::test_a_camera_that_stopped_makes_it_stale_until_it_comes_back"
    ],
    "clock jumps back, bag loops": [
        "test_frames.py::test_how_images_arrive",
        "test_frames.py::test_a_bag_that_loops_is_taken_on_every_loop",
        "test_engine.py::test_swapped_images_are_no_jump_of_the_clock",
        "test_engine.py::test_a_jump_of_the_clock_is_told_with_how_far_back_it_went",
    ],
    "GPU out of memory": [
        "test_predictor.py::test_with_too_little_memory_half_as_many_prompts_are_decoded_at_once",
        "test_engine.py::test_too_little_memory_is_a_refusal_and_no_failure",
    ],
    "fatal device error": ["test_sam_node.py::test_a_device_that_fails_ends_the_node"],
    "weights missing, truncated, wrong hash": [
        "test_sam_node.py::test_bad_configuration_exits_and_says_what_to_do",
        "test_checkpoint.py::test_damaged_files_are_refused_wherever_they_end",
        "test_checkpoint.py::test_a_download_of_another_digest_is_never_read",
    ],
    "malicious pickle": ["test_checkpoint.py::test_a_malicious_pickle_is_not_executed"],
    "non-finite model output": ["test_predictor.py::test_values_that_are_not_finite_are_an_error"],
    "SIGINT/SIGTERM or deactivate mid-inference": [
        "test_sam_node.py::test_signals_end_the_node_cleanly",
        "test_sam_node.py::test_signals_end_the_node_while_its_model_is_loaded",
        "test_engine.py::test_stopping_cancels_an_encode",
        "test_start.py::test_a_signal_while_modules_are_imported_ends_the_program_quietly",
    ],
    "invalid parameter at run time": [
        "test_sam_node.py::test_invalid_and_fixed_parameters_are_rejected_at_run_time",
        "test_sam_node.py::test_a_parameter_of_a_type_that_does_not_exist_is_answered_as_failed",
    ],
    "flood of images or prompts; slow subscriber": [
        "test_engine.py::test_only_the_newest_of_a_flood_is_encoded",
        "test_engine.py::test_waiting_prompts_are_bounded_and_the_newest_win",
        "test_waiting.py::test_a_later_set_of_a_program_makes_earlier_ones_superfluous",
    ],
    "malformed message; stamp that is no time": [
        "test_sam_node.py::test_a_malformed_prompt_message_is_refused_and_named",
        "test_sam_node.py::test_a_malformed_image_message_is_dropped_and_counted",
        "test_sam_node.py::test_an_image_whose_stamp_is_no_time_is_dropped_and_counted",
    ],
    "JPEG of very many scans": [
        "test_images.py::test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded"
    ],
    "second camera on the topic": [
        "test_frames.py::test_two_cameras_on_one_topic",
        "test_engine.py::test_images_of_a_second_camera_are_left_out_and_told",
    ],
    "odd size with shared chroma": [
        "test_images.py::test_an_odd_size_of_pixels_that_share_their_colour_is_refused"
    ],
    "more than 256 points of an object; longer names": [
        "test_edits.py::test_an_object_can_have_only_so_many_points",
        "test_edits.py::test_a_name_that_is_too_long_is_refused_and_shown_in_short",
    ],
    "a callback or service that raises": [
        "test_guards.py::test_a_trigger_that_raises_says_so",
        "test_sam_node.py::test_a_parameter_of_a_type_that_does_not_exist_is_answered_as_failed",
    ],
    "two nodes, same name": ["test_sam_node.py::test_two_nodes_of_one_name_both_work"],
}


def faults_in_the_contract() -> list[str]:
    """The first and third cells of the rows of its table of faults."""
    section = DESIGN.read_text().split("## Bad input")[1]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows[2:] for cell in (row[0], row[2])]
    return [cell for cell in cells if cell]


def test_the_table_of_faults_and_the_tests_agree() -> None:
    assert sorted(TESTS) == sorted(faults_in_the_contract())


@pytest.mark.parametrize("name", sorted({name for names in TESTS.values() for name in names}))
def test_the_test_of_a_fault_exists(name: str) -> None:
    file, function = name.split("::")
    assert re.search(rf"^def {function}\(", (ROOT / "test" / file).read_text(), re.MULTILINE), name
