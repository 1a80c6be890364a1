"""Starts ranks as torchrun does, with its options, and says which rank ended a job and how to go on."""

import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main as torchrun


def main() -> None:
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        raise SystemExit(last_words(*error.get_first_failure(), sys.argv[1:])) from None


def last_words(rank: int, failure: ProcessFailure, command: list[str]) -> str:
    """What happened to a rank that ended a job, and how the job goes on."""
    if failure.exitcode < 0:
        what = f"was ended by {failure.signal_name()}"
        if failure.signal_name() == "SIGKILL":
            what += ", which the system also sends where memory runs out"
        else:  # a rank that raised may abort while its process group is torn down
            what += "; what it said stands above"
    else:
        what = f"ended with code {failure.exitcode}; its error stands above"
    text = f"error: rank {rank} (process {failure.pid}) {what}. The other ranks were ended, too."
    if "train.py" in {Path(part).name for part in command}:
        repeat = "repeat the command" + ("" if "--resume" in command else " with --resume")
        text += (
            f"\nCheckpoints and noise tables are whole: {repeat} to go on after the last finished epoch. Any number of "
            "processes will do."
        )
    return text


if __name__ == "__main__":
    main()
