"""Train sam_tiny on generated scenes: ``python -m training.train``, with ``--resume`` after a break."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import torch
from matplotlib.figure import Figure
from segment_anything.modeling import Sam
from torch import Tensor, distributed, nn
from torch.nn.functional import avg_pool2d, pixel_shuffle
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sam_ros.core.architecture import Architecture, VitArchitecture
from sam_ros.core.model import build_sam
from sam_ros.predictor import is_fast
from training.batches import Batch, SceneBatches
from training.enlarge import enlarged
from training.export import load_exported
from training.initial import initialise
from training.losses import edge_loss, grouping_loss, prompt_loss, true_iou
from training.muon import Muon
from training.prompting import (
    chosen_logits,
    decode,
    embed_logits,
    embed_points_and_boxes,
    mask_prompts,
    sample_correction,
)

SAM_TINY = VitArchitecture(
    encoder_embed_dim=192,
    encoder_depth=5,
    encoder_num_heads=3,
    encoder_global_attn_indexes=(2, 4),
    image_size=256,
    window_size=8,
    prompt_embed_dim=128,
    decoder_mlp_dim=512,
    iou_head_hidden_dim=128,
)
CPU = torch.device("cpu")
EDGE_WEIGHT = 0.5
GROUPING_WEIGHT = 0.5
FEATURES = 16  # of each low-res pixel, for the grouping loss
ANCHORS = 24  # pixels of an image that its others are compared with
BALANCED_STEPS = 600
ENCODER_ALONE = (200, 500)  # steps between which the gradient of the masks comes in
LOG_EVERY = 20  # steps
BATCHES_AHEAD = 2  # of each worker: 100 MB each for 64 scenes of 512 pixels
MOST_WORKERS = 16
SEEDS_APART = 1_000  # between the seeds of processes that train together
SHOWN = ("loss", "click_iou", "box_iou")  # in the progress bar


@dataclass(frozen=True)
class Settings:
    """What decides a training run; ``steps`` and ``scenes`` may be changed when it is resumed.

    ``first_step`` is that of the weights that a run goes on from: what helps in the beginning is behind it.
    """

    steps: int = 5000
    scenes: int = 8
    prompts: int = 6
    learning_rate: float = 2e-3
    last_rate_share: float = 0.0
    warmup: int = 50
    decay_share: float = 0.4
    weight_decay: float = 0.05
    ema_decay: float = 0.995
    seed: int = 0
    pool_size: int = 8000
    whitening_scenes: int = 64
    first_step: int = 0
    architecture: Architecture = SAM_TINY


@dataclass
class Run:
    """The state of a training run, all that a checkpoint holds."""

    settings: Settings
    sam: Sam
    pixel_head: nn.Conv2d
    average: AveragedModel
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    records: list[dict[str, float]] = field(default_factory=list)


def start(settings: Settings, folder: Path | None = None, device: torch.device = CPU) -> Run:
    """A run at step 0, its weights decided by the seed; ``folder`` keeps its scenes."""
    torch.manual_seed(settings.seed)
    sam = build_sam(settings.architecture).train()
    pixel_head = _pixel_head(settings)
    initialise(sam, pixel_head, sample_batch(settings, folder))
    return _run(settings, sam, pixel_head, device)


def start_from(weights: Path, settings: Settings, device: torch.device = CPU) -> Run:
    """A run that goes on from other weights, on images of ``settings.architecture``.

    Args:
        weights: another run's ``checkpoint.pt``, of which it takes the averaged weights and goes on with the
            log, or an exported file.
        settings: of the new run.
        device: where it trains.
    """
    torch.manual_seed(settings.seed)
    if weights.suffix == ".safetensors":
        (sam, metadata), pixel_head = load_exported(weights), _pixel_head(settings)
        step, records = int(metadata["training_steps"]), []
    else:
        state = torch.load(weights, CPU, weights_only=True)
        sam, pixel_head = _averaged(state)
        step, records = state["step"], state["records"]
    settings = replace(settings, first_step=step)
    run = _run(settings, enlarged(sam, settings.architecture), pixel_head, device)
    run.step, run.records = step, records
    return run


def _averaged(state: dict[str, Any]) -> tuple[Sam, nn.Conv2d]:
    """The averaged model of a checkpoint, and what it was trained with."""
    settings = _settings(state["settings"])
    run = _run(settings, build_sam(settings.architecture), _pixel_head(settings), CPU)
    run.average.load_state_dict(state["average"])
    run.pixel_head.load_state_dict(state["pixel_head"])
    return run.average.module, run.pixel_head


def _pixel_head(settings: Settings) -> nn.Conv2d:
    return nn.Conv2d(settings.architecture.prompt_embed_dim, 16 * (1 + FEATURES), 1)


def _run(settings: Settings, sam: Sam, pixel_head: nn.Conv2d, device: torch.device) -> Run:
    sam, pixel_head = sam.to(device), pixel_head.to(device)
    update = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(sam, multi_avg_fn=update)
    return Run(settings, sam, pixel_head, average, _optimizers(settings, sam, pixel_head))


def sample_batch(settings: Settings, folder: Path | None) -> Batch:
    """Scenes that show the initial weights what patches look like."""
    size = settings.architecture.image_size
    data = SceneBatches(settings.whitening_scenes, 1, size, settings.seed, settings.pool_size, folder)
    return data[settings.steps]


def _optimizers(settings: Settings, sam: Sam, pixel_head: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the transformers, AdamW for everything else."""
    hidden = [*sam.image_encoder.blocks.parameters(), *sam.mask_decoder.transformer.parameters()]
    tables = {
        id(p)
        for n, p in sam.image_encoder.blocks.named_parameters()
        if n.rsplit(".", 1)[-1].startswith("rel_pos")
    }
    matrices = [p for p in hidden if p.ndim == 2 and id(p) not in tables]
    others = [*sam.parameters(), *pixel_head.parameters()]
    others = [p for p in others if all(p is not matrix for matrix in matrices)]
    decay = settings.weight_decay
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = settings.learning_rate
    return [
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True),
        Muon(matrices, lr=rate, weight_decay=decay),
    ]


def learning_rate(settings: Settings, step: int) -> float:
    """Linear warm-up, constant, then linear decay over the last ``decay_share`` of the run's steps."""
    steps = settings.steps - settings.first_step
    warm = (step - settings.first_step + 1) / settings.warmup
    cool = (settings.steps - step) / (settings.decay_share * steps)
    share = settings.last_rate_share
    return settings.learning_rate * min(1.0, warm, share + (1 - share) * cool)


# ---------------------------------------------------------------- one step


def train_step(run: Run, batch: Batch) -> dict[str, float]:
    """Learn from one batch; what happened, for the log."""
    rate = learning_rate(run.settings, run.step)
    with run.sam.device as device:  # all that a step makes is made there
        loss, record = _losses(run, batch.to(device))
    for optimizer in run.optimizers:
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    parameters = [*run.sam.parameters(), *run.pixel_head.parameters()]
    average_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    run.average.update_parameters(run.sam)
    run.step += 1
    return {**record, "loss": loss.item(), "gradient_norm": norm.item(), "learning_rate": rate}


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the training processes, where there are several."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Bfloat16 where the device multiplies matrices in it; elsewhere it would be many times slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast("bfloat16", device))


def _losses(run: Run, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    generator = torch.Generator(run.sam.device).manual_seed(run.settings.seed * 1_000_003 + run.step)
    with autocast(run.sam.device):
        embeddings = run.sam.image_encoder(normalised(run.sam, batch))  # (B, E, h, w)
        pixels = pixel_shuffle(run.pixel_head(embeddings), 4).float()  # (B, 1 + FEATURES, 4h, 4w)
    edges = edge_loss(pixels[:, 0], batch.edges)
    anchors = torch.randint(batch.labels[0].numel(), (len(pixels), ANCHORS), generator=generator)
    groups = grouping_loss(pixels[:, 1:], batch.labels, anchors)
    share = mask_gradient_share(run.step)
    embeddings = share * embeddings + (1 - share) * embeddings.detach()
    prompts = batch.targets.shape[1]
    first, record, logits = _first_round(run, embeddings, batch)
    fewer = -(-prompts // 4)  # the second round sees a quarter of the objects, for speed
    again = torch.arange(len(logits)).reshape(-1, prompts)[:, :fewer].flatten()
    second = _second_round(
        run, embeddings.repeat_interleave(fewer, 0), batch, again, logits[again], generator
    )
    loss = first + 0.5 * second + EDGE_WEIGHT * edges + GROUPING_WEIGHT * groups
    return loss, {**record, "edge_loss": edges.item(), "grouping_loss": groups.item()}


def mask_gradient_share(step: int) -> float:
    """How much of the gradient of the masks reaches the encoder.

    None at first: what the decoder learns first is to draw a blob around the prompt, and an encoder that is
    told so makes its output constant. Edges and groups teach it to tell objects apart meanwhile.
    """
    start, end = ENCODER_ALONE
    return min(1.0, max(0.0, (step - start) / (end - start)))


def normalised(sam: Sam, batch: Batch) -> Tensor:
    """(B, 3, S, S) float32 as ``Sam.preprocess`` makes it: the padding is zero after normalisation."""
    return (batch.images - sam.pixel_mean) / sam.pixel_std * batch.valid


def _shares(batch: Batch) -> Tensor:
    """(N, S/2, S/2) float32 covered shares of all prompted objects, N = B * P."""
    return batch.targets.flatten(0, 1).float() / 255


def balanced_weight(step: int) -> float:
    """Weight of ``balanced_loss``: it falls to zero over the first ``BALANCED_STEPS`` steps."""
    return max(0.0, 1 - step / BALANCED_STEPS)


def _first_round(run: Run, embeddings: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float], Tensor]:
    """A click or a box for every object: loss, IoU for the log, and (N, h, w) chosen logits."""
    sam = run.sam
    is_box = batch.is_box.flatten()
    points, boxes = batch.points.reshape(-1, 1, 2), batch.boxes.reshape(-1, 4)
    with autocast(run.sam.device):
        sparse = embed_points_and_boxes(sam, points, torch.ones(points.shape[:2]), boxes, is_box, 0)
        dense = embed_logits(sam, None, len(points))
        repeated = embeddings.repeat_interleave(batch.targets.shape[1], 0)
        logits, predicted = decode(sam, repeated, sparse, dense)
    targets = avg_pool2d(_shares(batch)[:, None], 2)
    loss = prompt_loss(logits, predicted, targets, ~is_box, balanced_weight(run.step))
    chosen = chosen_logits(logits, predicted, is_box)
    iou = true_iou(chosen[:, None], targets)[:, 0]
    record = {"click_iou": iou[~is_box].mean().item(), "box_iou": iou[is_box].mean().item()}
    return loss, record, chosen


def _second_round(
    run: Run, embeddings: Tensor, batch: Batch, again: Tensor, logits: Tensor, generator: torch.Generator
) -> Tensor:
    """Loss of a correcting click or, every fourth step, of a mask prompt alone, on the objects ``again``."""
    shares = _shares(batch)[again]
    with autocast(run.sam.device):
        if run.step % 4 == 3:
            given = logits if run.step % 8 == 7 else mask_prompts(shares, generator)
            sparse = torch.empty(len(again), 0, embeddings.shape[1])
        else:
            given = logits
            sparse = _corrected(run.sam, batch, again, logits, shares, generator)
        dense = embed_logits(run.sam, given.detach(), len(again))
        if run.step % 4 == 0:  # clicks also come without the logits of the mask they correct
            dense = embed_logits(run.sam, None, len(again))
        logits, predicted = decode(run.sam, embeddings, sparse, dense)
    targets = avg_pool2d(shares[:, None], 2)
    return prompt_loss(logits, predicted, targets, torch.zeros(len(again), dtype=torch.bool))


def _corrected(
    sam: Sam, batch: Batch, again: Tensor, logits: Tensor, shares: Tensor, generator: torch.Generator
) -> Tensor:
    """(N, 3, E) tokens of the first prompt and a correcting click."""
    clicks, labels = sample_correction(logits, shares, generator)
    points = torch.stack([batch.points.flatten(0, 1)[again], clicks], 1)  # (N, 2, 2)
    all_labels = torch.stack([torch.ones_like(labels), labels], 1)
    boxes, is_box = batch.boxes.flatten(0, 1)[again], batch.is_box.flatten()[again]
    return embed_points_and_boxes(sam, points, all_labels, boxes, is_box, 1)


# ---------------------------------------------------------------- the run and its files


def batches(
    settings: Settings, first_step: int, workers: int, rank: int, folder: Path | None
) -> Iterator[Batch]:
    """The batches of one training process from ``first_step`` on, made ahead by worker processes."""
    seed = settings.seed + rank * SEEDS_APART
    size = settings.architecture.image_size
    data = SceneBatches(settings.scenes, settings.prompts, size, seed, settings.pool_size, folder)
    apart: dict[str, Any] = (
        {"prefetch_factor": BATCHES_AHEAD, "multiprocessing_context": "spawn"} if workers else {}
    )
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(first_step, settings.steps),
        num_workers=workers,
        worker_init_fn=_single_threaded,
        **apart,
    )
    return iter(loader)


def _single_threaded(_worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def train(
    run: Run, output: Path, workers: int, save_seconds: float, rank: int = 0, folder: Path | None = None
) -> None:
    """Run to the last step, saving the checkpoint, log and curves into ``output`` now and then.

    ``folder`` keeps the scenes. Of several processes, only that of rank 0 writes and shows its progress; the
    weights of all are equal.
    """
    parent = multiprocessing.parent_process()
    saved = time.monotonic()
    waiting: list[dict[str, float]] = []
    progress = tqdm(total=run.settings.steps, initial=run.step, unit="step", smoothing=0.02, disable=rank > 0)
    for batch in batches(run.settings, run.step, workers, rank, folder):
        if parent is not None and not parent.is_alive():
            sys.exit("the process that started this one has ended")
        waiting.append(train_step(run, batch))
        progress.update()
        if len(waiting) == LOG_EVERY:
            run.records.append({"step": run.step, **_mean(waiting)})
            progress.set_postfix({key: f"{run.records[-1][key]:.3f}" for key in SHOWN})
            waiting.clear()
        if rank == 0 and time.monotonic() - saved > save_seconds:
            save(run, output)
            saved = time.monotonic()
    if rank == 0:
        save(run, output)


def _mean(records: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(record[key] for record in records) / len(records) for key in records[0]}


def save(run: Run, output: Path) -> None:
    """Write ``checkpoint.pt`` (replaced in one go), ``log.jsonl`` and ``curves.png``."""
    output.mkdir(parents=True, exist_ok=True)
    temporary = output / "checkpoint.pt.partial"
    torch.save(_state(run), temporary)
    temporary.replace(output / "checkpoint.pt")
    (output / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in run.records))
    if run.records:
        plot_curves(run.records, output / "curves.png")


def _state(run: Run) -> dict[str, Any]:
    return {
        "settings": asdict(run.settings),
        "sam": run.sam.state_dict(),
        "pixel_head": run.pixel_head.state_dict(),
        "average": run.average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "step": run.step,
        "records": run.records,
    }


def resume(
    checkpoint: Path, steps: int | None = None, scenes: int | None = None, device: torch.device = CPU
) -> Run:
    """The run of a checkpoint, to be continued; to another number of steps, with other batches, if given.

    Everything random is a function of seed and step, so there is no generator state to restore.
    """
    state = torch.load(checkpoint, CPU, weights_only=True)
    settings = _settings(state["settings"])
    settings = replace(settings, steps=steps or settings.steps, scenes=scenes or settings.scenes)
    run = _run(settings, build_sam(settings.architecture).train(), _pixel_head(settings), device)
    for name in ("sam", "pixel_head", "average"):
        getattr(run, name).load_state_dict(state[name])
    for optimizer, stored in zip(run.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(stored)
    run.step, run.records = state["step"], state["records"]
    return run


def _settings(values: dict[str, Any]) -> Settings:
    return Settings(**{**values, "architecture": Architecture.from_dict(values["architecture"])})


def plot_curves(records: list[dict[str, float]], path: Path) -> None:
    """Loss and training IoU over the steps, as a picture."""
    steps = [record["step"] for record in records]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [record["loss"] for record in records], label="loss")
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for key, label in (("click_iou", "one click"), ("box_iou", "box")):
        right.plot(steps, [record[key] for record in records], label=label)
    right.set(xlabel="step", ylabel="mean IoU on training scenes", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("training/runs/sam_tiny"), help="folder of the run"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --output")
    parser.add_argument("--steps", type=int, help="total number of steps (also when resuming)")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--scenes", type=int, help="in a batch of each process (also when resuming)")
    parser.add_argument("--prompts", type=int, default=Settings.prompts, help="objects of each scene")
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument(
        "--decay-share",
        type=float,
        default=Settings.decay_share,
        help="of the steps, in which the rate falls",
    )
    parser.add_argument("--start-from", type=Path, help="checkpoint or exported file to go on from")
    parser.add_argument("--image-size", type=int, default=SAM_TINY.image_size)
    parser.add_argument(
        "--pool", type=Path, default=Path("training/runs/scenes"), help="folder that keeps generated scenes"
    )
    parser.add_argument(
        "--pool-size", type=int, default=Settings.pool_size, help="how many scenes to choose from"
    )
    parser.add_argument("--device", type=torch.device, default=_best_device(), help="default: %(default)s")
    parser.add_argument(
        "--processes",
        type=int,
        help="that train on a CPU, each on its own scenes; default: one for each core",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that make scenes, for each; default: 1, more for a GPU",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--save-seconds", type=float, default=180, help="time between two checkpoints")
    arguments = parser.parse_args()
    cores, on_gpu = os.cpu_count() or 1, arguments.device.type == "cuda"
    arguments.processes = arguments.processes or (1 if on_gpu else cores)
    arguments.workers = arguments.workers or (min(max(1, cores - 1), MOST_WORKERS) if on_gpu else 1)
    if arguments.processes == 1:
        _train_process(0, arguments, "")
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = f"file://{folder}/meeting_point"
        processes = [
            context.Process(target=_train_process, args=(rank, arguments, meeting_point))
            for rank in range(arguments.processes)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _train_process(rank: int, arguments: argparse.Namespace, meeting_point: str) -> None:
    """One of the processes that train together."""
    torch.set_num_threads(arguments.threads)
    if meeting_point:
        distributed.init_process_group("gloo", meeting_point, rank=rank, world_size=arguments.processes)
    run = _new_run(arguments)
    train(run, arguments.output, arguments.workers, arguments.save_seconds, rank, arguments.pool)
    if meeting_point:
        distributed.destroy_process_group()  # its threads would abort the process at its end, now and then


def _new_run(arguments: argparse.Namespace) -> Run:
    """The run that the command line asks for."""
    if arguments.resume:
        checkpoint = arguments.output / "checkpoint.pt"
        return resume(checkpoint, arguments.steps, arguments.scenes, arguments.device)
    settings = Settings(
        steps=arguments.steps or Settings.steps,
        seed=arguments.seed,
        scenes=arguments.scenes or Settings.scenes,
        prompts=arguments.prompts,
        learning_rate=arguments.learning_rate,
        decay_share=arguments.decay_share,
        pool_size=arguments.pool_size,
        architecture=replace(SAM_TINY, image_size=arguments.image_size),
    )
    if arguments.start_from:
        return start_from(arguments.start_from, settings, arguments.device)
    return start(settings, arguments.pool, arguments.device)


if __name__ == "__main__":
    main()
