"""Write the weights of a run as one small file: half precision, no optimiser."""

import argparse
from pathlib import Path

import torch

from mmreid_text.atomic_write import written_beside
from mmreid_text.engine.hooks.protocol_hook import stated_protocol
from mmreid_text.engine.training_run import best_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work_dir", type=Path, help="work dir of the run; its best epoch is taken, or its last")
    parser.add_argument("out", type=Path, help="file to write; init_cfg=dict(type='CLIPPretrained') reads it")
    args = parser.parse_args()
    source = best_checkpoint(args.work_dir)
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(args.out) as beside:
        torch.save({"state_dict": state, "meta": {"protocol": stated_protocol(checkpoint.get("meta"))}}, beside)
    print(f"{source} -> {args.out}, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
