"""What can go wrong with sandboxes. An executor's error is another thing than a job's failure."""

from cloister.core.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable


class SandboxNotFound(NotFound):
    """There is no such sandbox that you may see."""

    code = "sandbox.not_found"


class EnvironmentUnknown(Invalid):
    """This space has no such environment."""

    code = "sandbox.environment_unknown"


class SizeUnknown(Invalid):
    """This space has no such size."""

    code = "sandbox.size_unknown"


class TeamNeeded(Invalid):
    """Say which team the sandbox is for."""

    code = "sandbox.team_needed"


class TooManySandboxes(Conflict):
    """Your team runs as many sandboxes as it may. Stop one first."""

    code = "sandbox.too_many"


class TooManyVolumes(Conflict):
    """Your team has as many volumes as it may. Delete one first."""

    code = "volume.too_many"


class TooManySnapshots(Conflict):
    """There are as many copies of this volume by hand as there may be. Delete one first."""

    code = "volume.too_many_snapshots"


class VolumeNotConfirmed(Invalid):
    """Deleting a volume cannot be undone: say its name to confirm it."""

    code = "volume.not_confirmed"


class VolumeOfWorkspace(Conflict):
    """A workspace has this volume; it goes only with the space."""

    code = "volume.of_workspace"


class WallsMissing(Unavailable):
    """This machine cannot isolate code as it must, so none is started. “cloister doctor” says what is missing."""

    code = "sandbox.walls_missing"


class BackendFailed(Unavailable):
    """The sandbox could not be started on this machine."""

    code = "sandbox.backend_failed"


class EnvironmentBuildFailed(Unavailable):
    """The environment could not be built; the end of the installer's output says why."""

    code = "sandbox.environment_build_failed"


class BuildFailed(Unavailable):
    """The build failed; the end of its log says why."""

    code = "sandbox.build_failed"


class BadImage(Invalid):
    """This image cannot be taken."""

    code = "sandbox.bad_image"


class ImageNotFound(NotFound):
    """This machine has no such image."""

    code = "sandbox.image_not_found"


class EnvironmentNotReady(Unavailable):
    """This environment is still being built. Try again in a minute."""

    code = "sandbox.environment_not_ready"


class EnvironmentFailed(Unavailable):
    """This environment could not be built. The owner of the space can mend its packages."""

    code = "sandbox.environment_failed"


class VolumeNotFound(NotFound):
    """There is no such volume."""

    code = "volume.not_found"


class VolumeBusy(Conflict):
    """The volume is in use. Stop what uses it first."""

    code = "volume.busy"


class VolumeFailed(Unavailable):
    """The volume could not be prepared on this machine."""

    code = "volume.failed"


class VolumeAsleep(Conflict):
    """Nothing uses this volume just now. Open its workspace, then bring the file back."""

    code = "volume.asleep"


class VolumeFull(Conflict):
    """The file does not fit into the volume. Delete something, or ask for a larger disk."""

    code = "volume.full"


class FileNotThere(NotFound):
    """There is no such file or folder there. Links and devices do not count."""

    code = "volume.file_not_found"


class BadToken(Forbidden):
    """This token is not for this sandbox, or was used before."""

    code = "sandbox.bad_token"


class EgressDenied(Forbidden):
    """This space does not let its sandboxes reach that host."""

    code = "egress.denied"
