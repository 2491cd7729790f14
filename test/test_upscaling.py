"""Upscaling against the transposed convolutions whose weights it uses, and the order of cells."""

from __future__ import annotations

import torch
from random_models import MINIATURE, random_sam

from sam_ros.fast.upscaling import Answer, Upscaling

DECODER = random_sam(MINIATURE).mask_decoder
CHANNELS, HEIGHT, WIDTH = MINIATURE.prompt_embed_dim, 3, 5
NO_TOKENS = torch.zeros(1, 0, CHANNELS)  # nothing here reads them


def in_cells(convolution: torch.nn.Module, positions: torch.Tensor) -> torch.Tensor:
    """(n, C) -> (n, 4, C'), by a transposed convolution of a row of n positions."""
    upscaled = convolution(positions.T[None, :, None])[0]  # (C', 2, 2n)
    return upscaled.view(-1, 2, len(positions), 2).permute(2, 1, 3, 0).reshape(len(positions), 4, -1)


def test_logits_are_those_of_the_transposed_convolutions() -> None:
    image, hyper = torch.randn(1, CHANNELS, HEIGHT, WIDTH), torch.randn(1, 2, CHANNELS // 8)
    upscaling = Upscaling(DECODER)

    def logits_in_cells(row: int, hyper: torch.Tensor) -> torch.Tensor:
        positions = image[row].flatten(1).T  # (h * w, C)
        upscaled = upscaling.once(positions, None, slice(None)).flatten(0, 1)
        return upscaling.logits(upscaled, None, slice(None), hyper)

    answer = Answer(torch.zeros(1, 2), hyper, NO_TOKENS, (HEIGHT, WIDTH), logits_in_cells)
    upscaled = DECODER.output_upscaling(image)[0]  # (C/8, 4h, 4w)
    expected = (hyper[0] @ upscaled.flatten(1)).view(2, 4 * HEIGHT, 4 * WIDTH)
    torch.testing.assert_close(answer.low_res_logits(0, torch.arange(2)), expected, atol=1e-5, rtol=1e-4)


def test_once_upscaled_a_position_is_a_cell_of_two_by_two() -> None:
    image = torch.randn(1, CHANNELS, HEIGHT, WIDTH)
    convolution, norm, activation, *_ = DECODER.output_upscaling
    expected = activation(norm(convolution(image)))[0].view(-1, HEIGHT, 2, WIDTH, 2)  # C/4, h, dy, w, dx
    cells = Upscaling(DECODER).once(image[0].flatten(1).T, None, slice(None))  # (h * w, 4, C/4)
    in_order = expected.permute(1, 3, 2, 4, 0).reshape(HEIGHT * WIDTH, 4, -1)
    torch.testing.assert_close(cells, in_order, atol=1e-5, rtol=1e-4)


def test_cells_of_cells_are_put_where_they_lie() -> None:
    """One position of the embedding becomes 4 x 4: four cells, each of four."""
    in_cells = torch.tensor([[11.0, 12, 21, 22], [13, 14, 23, 24], [31, 32, 41, 42], [33, 34, 43, 44]])
    nothing = torch.zeros(1, 1)
    answer = Answer(nothing, nothing[None], NO_TOKENS, (1, 1), lambda *_: in_cells[..., None])
    expected = [[11.0, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34], [41, 42, 43, 44]]
    assert answer.low_res_logits(0, torch.tensor([0])).tolist() == [expected]


def test_only_the_masks_asked_for_are_weighted() -> None:
    hyper = torch.arange(12.0).view(1, 4, 3)
    asked: list[tuple[int, torch.Tensor]] = []

    def remember(row: int, hyper: torch.Tensor) -> torch.Tensor:
        asked.append((row, hyper))
        return torch.zeros(4, 4, len(hyper))

    answer = Answer(torch.zeros(1, 4), hyper, NO_TOKENS, (1, 1), remember)
    assert answer.low_res_logits(0, torch.tensor([2, 0])).shape == (2, 4, 4)
    ((row, weights),) = asked
    assert row == 0 and torch.equal(weights, hyper[0, [2, 0]])


def test_finer_levels_are_added_before_each_activation_at_the_positions_asked_for() -> None:
    first, norm, activation, second, _ = DECODER.output_upscaling
    image, hyper, upscaling = torch.randn(7, CHANNELS), torch.randn(2, CHANNELS // 8), Upscaling(DECODER)
    eighth, quarter = torch.randn(7, 4, CHANNELS // 4), torch.randn(28, 4, CHANNELS // 8)
    detailed = (in_cells(first, image) + eighth).view(28, -1, 1, 1)
    expected_once = activation(norm(detailed)).view(7, 4, -1)
    expected = activation(in_cells(second, expected_once.flatten(0, 1)) + quarter) @ hyper.T
    for begin, end in ((0, 3), (3, 7)):
        once = upscaling.once(image[begin:end], eighth, slice(begin, end))
        torch.testing.assert_close(once, expected_once[begin:end], atol=1e-5, rtol=1e-4)
        four = slice(4 * begin, 4 * end)
        logits = upscaling.logits(once.flatten(0, 1), quarter, four, hyper)
        torch.testing.assert_close(logits, expected[four], atol=1e-5, rtol=1e-4)
