"""The training step of the flagship, ViT-B/16 at 384x128, against the published recipe in plain PyTorch.

On a CPU: float32, 8 pairs, in parts. On a GPU as well: 256 pairs, ours in bfloat16, the recipe under float16 autocast.
"""

import statistics
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.common import Job, Row, ceiling_gemm, interleaved, peak_memory
from benchmarks.plain_clip import PlainCLIP, fetch, plain_loss, plain_optimizer
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch.utils.flop_counter import FlopCounterMode

from mmreid_text.datasets.transforms.tokenizer import EOT, MASK, SOT
from mmreid_text.engine.config import load_config
from mmreid_text.engine.noise_table import NoiseTable
from mmreid_text.models.layouts import layout_of
from mmreid_text.registry import MODELS

CONFIG = Path(__file__).parents[2] / "configs/nam/clip_b16_luperson.py"
CPU_BATCH, MEMORY_BATCH, GPU_BATCH = 8, 32, 256
LAYER = 10
Batch = dict[str, Any]
# Loss and gradient of ours may differ from the recipe's by this share: rounding in float32.
LOSS_BOUND, GRADIENT_BOUND = 1e-5, 1e-4


def run(rounds: int) -> list[Row]:
    rows = cpu_rows(rounds)
    return rows + gpu_rows(rounds) if torch.cuda.is_available() else rows


def memory_job(name: str, argument: str) -> Job:
    """Two steps, so that the second meets the optimiser's state and all activations at once.

    Options of ours, and ``without``, are measured without optimiser, forward and backward only.
    """
    size = int(argument)
    device = "cuda" if size == GPU_BATCH else "cpu"
    contestant = Plain(device) if name == "plain" else Ours(device)
    batch = random_batch(size, device)
    if isinstance(contestant, Ours) and name != "ours":
        contestant.set_option(name, size)
        return lambda: contestant.forward(batch).backward()

    def job() -> None:
        for _ in range(2):
            contestant.step(batch)

    return job


def cpu_rows(rounds: int) -> list[Row]:
    memory = {name: peak_memory("step", name, str(CPU_BATCH)) for name in ("plain", "ours")}
    for name in ("without", "checkpointing", "cached"):
        memory[name] = peak_memory("step", name, str(MEMORY_BATCH))
    plain, ours = Plain("cpu"), Ours("cpu")
    ours.load(plain.model)
    batch = random_batch(CPU_BATCH, "cpu")
    remark = compare(plain, ours, batch)
    flops = {contestant: count_flops(contestant, batch) for contestant in (plain, ours)}
    jobs = {"plain": partial(plain.step, batch), "ours": partial(ours.step, batch)}
    for name in ("checkpointing", "cached"):
        jobs[name] = partial(ours.step_as, name, batch)
    seconds = interleaved(jobs, rounds)
    part = f"training step, {CPU_BATCH} pairs"
    rows = [
        Row(
            part,
            "published recipe",
            seconds["ours"],
            seconds["plain"],
            memory["ours"],
            memory["plain"],
            remark,
            flops[ours],
            flops[plain],
        )
    ]
    for phase in ours.phases:
        ours_s, plain_s = (statistics.median(one.phases[phase][-rounds:]) for one in (ours, plain))
        rows.append(Row(f"- {phase}", "published recipe", ours_s, plain_s))
    remark = f"memory of forward and backward over {MEMORY_BATCH} pairs, gradients included"
    for name, label in (("checkpointing", "with_cp"), ("cached", "micro_batch of a quarter")):
        times, peaks = (seconds[name], seconds["ours"]), (memory[name], memory["without"])
        rows.append(Row(f"{part}, {label}", "ours without", *times, *peaks, remark))
    return rows


def gpu_rows(rounds: int) -> list[Row]:
    memory = {name: peak_memory("step", name, str(GPU_BATCH)) for name in ("plain", "ours")}
    plain, ours = Plain("cuda"), Ours("cuda")
    ours.load(plain.model)
    batch = random_batch(GPU_BATCH, "cuda")
    flops = {contestant: count_flops(contestant, batch) for contestant in (plain, ours)}
    seconds = interleaved({"plain": lambda: plain.step(batch), "ours": lambda: ours.step(batch)}, 10 * rounds, "cuda")
    used = flops[ours] / seconds["ours"] / ceiling_gemm("cuda", torch.bfloat16)
    return [
        Row(
            f"training step on the GPU, {GPU_BATCH} pairs, bfloat16",
            "published recipe, float16 autocast",
            seconds["ours"],
            seconds["plain"],
            memory["ours"],
            memory["plain"],
            f"ours at {100 * used:.0f}% of the matrix products' rate",
            flops[ours],
            flops[plain],
        )
    ]


class Contestant(ABC):
    """A model and its optimiser; ``phases`` keeps the CPU seconds of every step's parts."""

    def __init__(self, model: torch.nn.Module, device: str) -> None:
        self.model = model.to(device)
        self.device = device
        self.phases: dict[str, list[float]] = defaultdict(list)
        self._time_images(*self.image_forward_of(self.model))

    @abstractmethod
    def image_forward_of(self, model: Any) -> tuple[Any, str]:
        """Owner and name of what encodes images."""

    @abstractmethod
    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss; values that the loop reads every step are fetched."""

    @abstractmethod
    def update(self) -> None:
        """The optimiser's step; gradients are cleared after it."""

    def step(self, batch: Batch) -> None:
        start = time.process_time()
        loss = self.forward(batch)
        done_forward = time.process_time()
        loss.backward()
        done_backward = time.process_time()
        self.update()
        end = time.process_time()
        image = self._image_seconds
        self.phases["image forward"].append(image)
        self.phases["text forward, noise and loss"].append(done_forward - start - image)
        self.phases["backward"].append(done_backward - done_forward)
        self.phases["optimiser"].append(end - done_backward)

    def _time_images(self, owner: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any) -> Any:
            start = time.process_time()
            result = inner(*args)
            self._image_seconds = time.process_time() - start
            return result

        setattr(owner, name, timed)


class Plain(Contestant):
    """The published recipe."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        super().__init__(PlainCLIP(), device)
        self.optimizer = plain_optimizer(self.model)

    def image_forward_of(self, model: Any) -> tuple[Any, str]:
        return model.visual, "forward"

    def forward(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device, dtype=torch.float16, enabled=self.device == "cuda"):
            loss, noise = plain_loss(self.model, batch, LAYER)
        fetch(loss, noise)
        return loss

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours(Contestant):
    """The flagship's model and optimiser as its config builds them."""

    def __init__(self, device: str) -> None:
        cfg = load_config(str(CONFIG), {"model.init_cfg": None})
        with DefaultScope.overwrite_default_scope("mmreid_text"):
            super().__init__(MODELS.build(cfg.model), device)
            self.optim = build_optim_wrapper(self.model, cfg.optim_wrapper)

    def image_forward_of(self, model: Any) -> tuple[Any, str]:
        return model.image_encoder, "encode"

    def load(self, plain: torch.nn.Module) -> None:
        """Take the recipe's weights."""
        self.model.load_state_dict(in_our_names(plain.state_dict()), strict=False)

    def forward(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda"):
            losses = self.model(**trimmed(batch), mode="loss")
        NoiseTable.quantise(self.model.last_noise).to("cpu", non_blocking=True)  # as NoiseAwareMaskingHook takes it
        return self.model.parse_losses(losses)[0]

    def update(self) -> None:
        self.optim.step()
        self.optim.zero_grad()

    def step_as(self, option: str, batch: Batch) -> None:
        """One step with ``checkpointing`` of activations or with ``cached`` gradients; its phases are not kept."""
        phases, self.phases = self.phases, defaultdict(list)
        self.set_option(option, len(batch["pid"]))
        self.step(batch)
        self.set_option("without", len(batch["pid"]))
        self.phases = phases

    def set_option(self, option: str, size: int) -> None:
        self.model.micro_batch = size // 4 if option == "cached" else None
        for encoder in (self.model.image_encoder, self.model.text_encoder):
            encoder.with_cp = option == "checkpointing"


def random_batch(size: int, device: str) -> Batch:
    """Noise for images; captions of 25 to 60 tokens, as templates make them, with 15% of the words masked."""
    generator = torch.Generator().manual_seed(0)
    text = torch.zeros(size, 77, dtype=torch.int64)
    lengths = torch.randint(25, 61, (size,), generator=generator).tolist()
    for row, length in zip(text, lengths):
        row[0], row[length - 1] = SOT, EOT
        row[1 : length - 1] = torch.randint(1, MASK, (length - 2,), generator=generator)
    masked = (torch.rand(text.shape, generator=generator) < 0.15) & (text > 0) & (text < MASK)
    return {
        "image": torch.randn(size, 3, 384, 128, generator=generator).to(device),
        "text": text.to(device),
        "masked_text": torch.where(masked, MASK, text).to(device),
        "pid": (torch.arange(size) // 2).to(device),
        "lengths": lengths,
    }


def trimmed(batch: Batch) -> Batch:
    """As our data preprocessor hands the batch on."""
    longest = max(batch["lengths"])
    return {**batch, "text": batch["text"][:, :longest], "masked_text": batch["masked_text"][:, :longest]}


def in_our_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return layout_of(tensors, Path("the recipe's weights")).convert(tensors)[0]


def compare(plain: Contestant, ours: Contestant, batch: Batch) -> str:
    """Stop unless both give the same loss and gradients; says how near they are."""
    losses = [contestant.forward(batch) for contestant in (plain, ours)]
    for loss in losses:
        loss.backward()
    theirs_loss, ours_loss = (float(loss.detach()) for loss in losses)
    loss_error = abs(theirs_loss - ours_loss) / abs(theirs_loss)
    theirs = in_our_names({name: p.grad for name, p in plain.model.named_parameters()})
    difference = total = 0.0
    for name, p in ours.model.named_parameters():
        difference += float((p.grad - theirs[name]).double().square().sum())
        total += float(theirs[name].double().square().sum())
    error = (difference / total) ** 0.5
    assert loss_error <= LOSS_BOUND, f"losses differ by {loss_error:.1e}"
    assert error <= GRADIENT_BOUND, f"gradients differ by {error:.1e}"
    for contestant in (plain, ours):
        contestant.model.zero_grad()
    return f"loss equal to {loss_error:.0e}, gradient to {error:.0e}"


def count_flops(contestant: Contestant, batch: Batch) -> float:
    """FLOP of a step's matrix products and attention, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        contestant.forward(batch).backward()
    contestant.model.zero_grad()
    return float(counter.get_total_flops())
