"""The whole way from a source to trained networks in less memory than its images take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SIDE, NUMBER = 64, 25_600  # 315 MB
ROOM = 150  # MB of memory of its own that the process may take besides what torch took

CHILD = """
import resource, sys
from pathlib import Path

import numpy as np
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
status = Path("/proc/self/status").read_text().splitlines()
now = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmData"))
most = now + 1_000_000 * int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (most, most))  # what is private and can be written to

spec = DataSpec(sys.argv[1])
images = spec.load()
spec = spec.pinned_to(images)
assert images.x_train.nbytes + images.x_test.nbytes > 2 * most - 2 * now
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
print(examine(training.result, train, held_out_pictures(spec, "cpu"), recipe).accuracy)
"""


def ran(path: Path, resident: float) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", CHILD, str(path), str(resident), str(ROOM)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux alone")
def test_images_of_twice_the_memory(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (NUMBER, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(NUMBER) % 4)
    del x
    streamed = ran(tmp_path / "a.npz", 0.0)
    assert streamed.returncode == 0, streamed.stderr
    assert 0 <= float(streamed.stdout) <= 1
    in_memory = ran(tmp_path / "a.npz", 1e9)  # copies that are too large: the bound is one
    assert in_memory.returncode != 0
    assert "alloc" in in_memory.stderr or "MemoryError" in in_memory.stderr
