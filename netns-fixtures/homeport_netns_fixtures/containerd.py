"""A containerd of a test's own: its own root, state and socket, its own CNI directories, an image made by hand.

It runs inside the namespace given, so that what a stock plugin makes on "the host" (a bridge, for instance) is made
there. Its plugin directory holds the stock CNI plugins; a test adds its own executables and configuration.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homeport_netns_fixtures import image, leftovers
from homeport_netns_fixtures.cri import Cri, CriFailed, Sandbox
from homeport_netns_fixtures.netns import CommandFailed, Namespace
from homeport_netns_fixtures.programs import find_busybox, find_cni_plugins, missing_programs

_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  disable_hugetlb_controller = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"""


def lacks() -> str | None:
    """Why no containerd can run here, with the remedy; None when one can."""
    if reason := missing_programs("containerd", "containerd-shim-runc-v2", "ctr", "runc"):
        return reason
    if find_busybox() is None:
        return "no static busybox: `make setup` unpacks one"
    return None if find_cni_plugins() else "no stock CNI plugins: `make setup` unpacks them"


class Containerd:
    """A running containerd; a context manager. Leaving it ends every container, shim and namespace it had."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace, self.directory = namespace, directory
        self.cni_bin, self.cni_conf = directory / "cni-bin", directory / "cni-conf"
        self.socket = directory / "containerd.sock"
        self.cri: Cri
        self._log = directory / "containerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, name: str, plugins: list[Mapping[str, Any]], version: str = "1.0.0") -> None:
        """The one network of every sandbox from now on; atomic, as an installer writes it."""
        new = self.cni_conf / ".new"
        new.write_text(json.dumps({"cniVersion": version, "name": name, "plugins": plugins}))
        new.rename(self.cni_conf / "10-test.conflist")

    def wait_network_ready(self, within: float = 30) -> None:
        """Until the runtime has read the configuration, which it watches for."""
        end = time.monotonic() + within
        while (reason := self.cri.network_ready()) is not None:
            if time.monotonic() > end:
                raise CommandFailed(f"no network after {within:.0f} s: {reason}")
            time.sleep(0.05)

    def sandbox_namespace(self, sandbox_id: str) -> Namespace:
        """The network namespace of a sandbox, to look into and to ping from."""
        return Namespace(self.cri.pod_sandbox_status(sandbox_id).netns)

    def run_container(self, sandbox_id: str, sandbox: Sandbox, name: str = "main") -> str:
        return self.cri.run_container(sandbox_id, sandbox, name, image.NAME)

    def start(self) -> None:
        """Returns when the CRI answers and the image is there."""
        for path in (self.cni_bin, self.cni_conf):
            path.mkdir()
        stock = find_cni_plugins()
        busybox = find_busybox()
        assert stock is not None and busybox is not None, lacks()
        for plugin in stock.iterdir():
            (self.cni_bin / plugin.name).symlink_to(plugin)
        config = self.directory / "containerd.toml"
        config.write_text(
            _CONFIG.format(
                root=self.directory / "root",
                state=self.directory / "state",
                socket=self.socket,
                image=image.NAME,
                cni_bin=self.cni_bin,
                cni_conf=self.cni_conf,
            )
        )
        self._launch()
        archive = self.directory / "image.tar"
        archive.write_bytes(image.build(busybox))
        self._ctr("images", "import", "--snapshotter", "native", os.fspath(archive))

    def restart(self) -> None:
        """Kills the daemon and starts it again; sandboxes live on and are found by it, as after an upgrade."""
        assert self._process is not None, "containerd was never started"
        self._process.kill()
        self._process.wait(30)
        self.cri.close()
        self._launch()
        self.wait_network_ready()

    def stop(self) -> None:
        """Sandboxes are stopped and removed as a kubelet would, so that the plugins see their DEL; then the rest."""
        if self._process is None:
            return
        with contextlib.ExitStack() as stack:
            stack.callback(self._unmount)
            stack.callback(leftovers.kill_processes_naming, os.fspath(self.directory))
            stack.callback(self._process.wait, 30)
            stack.callback(self._process.send_signal, signal.SIGTERM)
            stack.callback(self.cri.close)
            for sandbox_id in self.cri.list_pod_sandboxes():
                # One whose plugin refuses its DEL must not keep the others alive.
                with contextlib.suppress(CriFailed):
                    self.cri.stop_pod_sandbox(sandbox_id)
                    self.cri.remove_pod_sandbox(sandbox_id)

    def _launch(self) -> None:
        config = os.fspath(self.directory / "containerd.toml")
        self._process = self.namespace.popen("containerd", "--config", config, log=self._log)
        self.cri = Cri(self.socket)
        try:
            self.cri.network_ready()
        except CriFailed as error:
            raise CommandFailed(f"containerd does not answer:\n{self._log.read_text()[-3000:]}") from error

    def __enter__(self) -> "Containerd":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ctr(self, *arguments: str) -> None:
        self.namespace.run("ctr", "--address", os.fspath(self.socket), "-n", "k8s.io", *arguments, timeout=60)

    def _unmount(self) -> None:
        """What a killed container leaves mounted below the directory, the deepest first."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run([shutil.which("umount") or "umount", "--lazy", mount], check=True)
