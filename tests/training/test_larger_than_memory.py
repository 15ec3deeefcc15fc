"""The whole way from a source to trained networks in less memory than its images take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SIDE, NUMBER = 64, 40_000  # 492 MB
ROOM = 250  # MB of memory of its own that the process may take besides what torch took

CHILD = """
import sys, threading, time
from pathlib import Path

import numpy as np
import scipy.linalg, scipy.sparse.csgraph, scipy.special  # whose BLAS takes memory of its own
import torch

from nanonas.core import Budget, Candidate, Proposal
from nanonas.data.doctor.examination import Subject
from nanonas.data.images import DataSpec
from nanonas.spaces.nano import NanoSpace
from nanonas.training import pictures
from nanonas.training.beginning import fresh_module
from nanonas.training.examination import examine
from nanonas.training.pictures import final_pictures, held_out_pictures, prepare_sizes
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training
from nanonas.training.trial import Trial

pictures.RESIDENT = float(sys.argv[2])
torch.set_num_threads(1)
torch.nn.functional.conv2d(torch.ones(8, 3, 64, 64), torch.ones(4, 3, 3, 3))


def own():  # memory that is not mapped from files, in MB
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in status if line.startswith("RssAnon"))


def watch():
    while True:
        seen.append(own())
        time.sleep(0.01)


seen = [own()]
threading.Thread(target=watch, daemon=True).start()
spec = DataSpec(sys.argv[1])
images = spec.load()
spec = spec.pinned_to(images)
Subject(images, 2000).examined()
prepare_sizes(spec, {48}, "cpu")
space = NanoSpace(images.input_shape, images.classes, channels=2, length=2)
trial = Trial(space, spec, Recipe(batch_size=32), 0)
budget = Budget(1, share=0.02, image_size=48)
found = trial(Candidate(0, Proposal((0, 3), budget=budget), "key"), lambda: True)
assert found.accuracy is not None, found
network, train = space.decode((0, 3)), final_pictures(spec, "cpu")
recipe = Recipe(batch_size=32)
training = Training(fresh_module(network, 0, train, recipe), train, recipe, 0.02, 0)
training.whole_epoch()
test = held_out_pictures(spec, "cpu")
assert 0 <= examine(training.result, train, test, recipe).accuracy <= 1
print(images.x_train.nbytes + images.x_test.nbytes, max(seen) - seen[0])
"""


def ran(path: Path, resident: float) -> float:
    """The memory that the process took, in MB."""
    words = [sys.executable, "-c", CHILD, str(path), str(resident)]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=600, env=alone
    )
    assert done.returncode == 0, done.stderr
    images, most = map(float, done.stdout.split())
    assert images == NUMBER * SIDE * SIDE * 3 > 1.9e6 * ROOM
    return most


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells memory from mapped files")
def test_images_of_twice_the_memory(tmp_path: Path, cache: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (NUMBER, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(NUMBER) % 4)
    del x
    streamed = ran(tmp_path / "a.npz", 0.0)
    assert streamed < ROOM
    in_memory = ran(tmp_path / "a.npz", 1e9)  # with a copy of the shrunk images
    assert in_memory > streamed + 150
