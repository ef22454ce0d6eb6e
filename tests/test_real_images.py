"""Real photographs and real ImageNet weights, where they lie beside the project."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tunesvc import study, train
from tunesvc.leases import Leases
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.trial import AtOnce, Attempt, Desk, run

SHARED = Path(__file__).parents[1] / "../shared"
PHOTOS = SHARED / "data" / "hymenoptera"
WEIGHTS = SHARED / "weights" / "mobilenet_v2-tf2ptq-82f7e551.pth"


@pytest.mark.slow
@pytest.mark.skipif(
    not (PHOTOS.exists() and WEIGHTS.exists()),
    reason="needs ants and bees, and MobileNetV2's ImageNet weights, in ../shared",
)
def test_a_linear_probe_tells_ants_from_bees(store: Store, tmp_path: Path) -> None:
    """244 photographs and a frozen MobileNetV2 reach 0.92 on the 153 others."""
    spec = StudySpec.model_validate(
        {
            "name": "hymenoptera",
            "data": {"kind": "folder", "path": str(PHOTOS)},
            "backbones": [{"name": "mobilenet_v2", "weights": str(WEIGHTS)}],
            "search_space": {
                "strategy": "linear-probe",
                "lr": [3e-3, 1e-3],
                "augmentation": "none",
            },
            "defaults": {"lr": 3e-3, "augmentation": "none"},
            "budget": {"trials": 1, "epochs": 5},
        }
    )
    made = study.create(store, spec, base=tmp_path)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    with closing(Leases(store.engine)) as leases:
        lease = leases.claim(made.id, desk.terms)
        assert lease
        outcome = run(Attempt(desk, lease, train.place("cpu"), leases, AtOnce()))
    assert outcome is not None
    assert outcome.value is not None
    assert outcome.value >= 0.92
