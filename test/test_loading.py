"""A model that is loaded and warmed up: what it is asked for, what is said, and that it can be given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import MINIATURE, save_random_sam

from sam_ros.errors import EncodeCancelledError, WeightsError
from sam_ros.node.loading import load_warm_predictor, warm_up
from sam_ros.node.parameters import Parameters
from sam_ros.predictor import Predictor, load_predictor


class Log:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, text: str) -> None:
        self.said.append(f"info: {text}")

    def warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "miniature.safetensors"
    save_random_sam(MINIATURE, path)
    return path


def never() -> bool:
    return False


def test_the_predictor_is_the_one_that_the_parameters_ask_for(checkpoint: Path) -> None:
    asked: list[Any] = []

    def load(*arguments: Any) -> Predictor:
        asked.extend(arguments)
        return load_predictor(*arguments)

    log = Log()
    parameters = Parameters(checkpoint=str(checkpoint), device="cpu", precision="float32")
    predictor = load_warm_predictor(load, parameters, never, log)
    assert asked == ["sam_tiny", str(checkpoint), "cpu", "float32", False]
    assert (predictor.model_type, predictor.device.type, predictor.precision) == (
        "sam_tiny",
        "cpu",
        "float32",
    )
    (said,) = log.said
    assert said.startswith("info: sam_tiny on cpu in float32: loaded in ") and "warmed up in" in said


def test_an_empty_checkpoint_means_the_shipped_one() -> None:
    def load(_: str, checkpoint: str | None, *__: Any) -> Predictor:
        raise WeightsError(f"asked for {checkpoint}")

    with pytest.raises(WeightsError, match="asked for None"):
        load_warm_predictor(load, Parameters(), never, Log())


def test_no_number_of_threads_is_torchs_own_choice_again() -> None:
    own, used = torch.get_num_threads(), []

    def load(*_: Any) -> Predictor:
        used.append(torch.get_num_threads())
        raise WeightsError("none")

    try:
        for threads in (0, own + 2, 0, own + 1):
            with pytest.raises(WeightsError, match="none"):
                load_warm_predictor(load, Parameters(threads=threads), never, Log())
    finally:
        torch.set_num_threads(own)
    assert used == [own, own + 2, own, own + 1]


def test_warming_up_encodes_once_and_decodes_every_kind_of_first_prompt(checkpoint: Path) -> None:
    predictor = load_predictor("sam_tiny", checkpoint, device="cpu", precision="float32")
    prompted: list[tuple[int, bool, bool]] = []

    class Recording:
        """The real predictor, and what it was asked."""

        image_size, device, encode = predictor.image_size, predictor.device, predictor.encode

        def decode(self, embedding: Any, prompts: Any) -> Any:
            for prompt in prompts:
                points = 0 if prompt.point_coords is None else len(prompt.point_coords)
                prompted.append((points, prompt.box is not None, prompt.low_res_logits is not None))
            return predictor.decode(embedding, prompts)

    recording: Any = Recording()
    warm_up(recording, never)
    assert prompted == [
        (1, False, False),
        (2, False, False),
        (3, False, False),
        (0, False, True),
        (1, False, True),
    ]


def test_warming_up_can_be_given_up(checkpoint: Path) -> None:
    predictor = load_predictor("sam_tiny", checkpoint, device="cpu", precision="float32")
    with pytest.raises(EncodeCancelledError):
        warm_up(predictor, lambda: True)
