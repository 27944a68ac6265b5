"""Wheel build hook: puts the built C shim beside its source, so that a node without a compiler gets it too.

Without a compiler the wheel is a pure one, and `homeport install-cni` takes the Python shim there."""

import importlib.util
import platform
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShimHook(BuildHookInterface[Any]):
    """Runs for wheels alone; an editable installation builds the shim when it installs it."""

    _directory: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        package = Path(self.root) / "cni" / "homeport_cni"
        spec = importlib.util.spec_from_file_location("homeport_cni_build", package / "build.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(package / "build.py")
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)

        self._directory = tempfile.TemporaryDirectory(prefix="homeport-shim-")
        shim = Path(self._directory.name) / "shim"
        try:
            compiler = build.build(shim)
        except build.CannotBuild as error:
            self.app.display_warning(f"the wheel carries no built CNI shim: {error}")
            return
        self.app.display_info(f"built the CNI shim with {compiler}")
        build_data["force_include"][str(shim)] = "homeport_cni/shim"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if self._directory is not None:
            self._directory.cleanup()
