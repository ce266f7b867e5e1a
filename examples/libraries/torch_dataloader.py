"""A DataLoader of torch, its workers started by manyhands: `multiprocessing_context=`.

pip install manyhands torch
"""

from __future__ import annotations

import torch
from comparing import compare
from torch.utils.data import DataLoader, Dataset

import manyhands


class Pictures(Dataset):
    """512 pictures that take some time to make."""

    def __len__(self) -> int:
        return 512

    def __getitem__(self, index: int) -> torch.Tensor:
        noise = torch.Generator().manual_seed(index)
        picture = torch.rand(3, 96, 96, generator=noise)
        for _ in range(10):
            picture = torch.nn.functional.avg_pool2d(picture, 3, stride=1, padding=1)
        return picture


def load(workers: int, context=None) -> float:
    loader = DataLoader(Pictures(), batch_size=32, num_workers=workers, multiprocessing_context=context)
    return round(sum(float(batch.sum()) for batch in loader), 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    compare(
        "DataLoader, 16 batches of 32",
        {
            "no workers": lambda: load(0),
            "2 workers (default)": lambda: load(2),
            "2 workers, manyhands": lambda: load(2, manyhands.get_context("fork")),
        },
    )
