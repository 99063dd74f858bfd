"""`run_farm`: a farm on Ray, from checked subjects to their states."""

from __future__ import annotations

from collections.abc import Sequence

from being.console import console
from being.deploy.farm import Farm, SubjectState, check_datasets
from being.deploy.farm_display import FarmDisplay
from being.deploy.farm_manifest import Subject
from being.deploy.farm_stages import Place
from being.deploy.ray_cluster import check_resources, cluster, nodes_resources
from being.deploy.ray_workers import RayWorkers
from being.errors import BeingError, ExitCode
from being.locks import locked


def run_farm(subjects: Sequence[Subject], place: Place, address: str | None) -> list[SubjectState]:
    """The states of all subjects when nothing more can be done.

    address: of a Ray cluster; None: this machine. Raises InputRejected (a dataset of somebody else
    stands where one belongs), EnvironmentFault (no Ray, no cluster, too few GPUs or CPUs), each
    before any work; BeingError with exit code 130 when interrupted, after all stages have saved
    what they have.
    """
    check_datasets(subjects, place)
    wait = "Wait for it to end, or give the manifest another name"
    with locked(place.state, "runs this farm", wait):
        try:
            with cluster(address) as ray:
                nodes = nodes_resources(ray)
                for subject in subjects:
                    check_resources(nodes, f"subject '{subject.name}'", subject.cpus, subject.gpus)
                place.state.mkdir(parents=True, exist_ok=True)
                console.info(f"{len(subjects)} subjects; logs in {place.state}")
                with FarmDisplay(place.log_file) as display:
                    farm = Farm(subjects, place, RayWorkers(ray, place), display.changed)
                    return farm.run(display.tick)
        except KeyboardInterrupt as error:
            raise BeingError(
                "interrupted", fix="The same command goes on", code=ExitCode.INTERRUPTED
            ) from error
