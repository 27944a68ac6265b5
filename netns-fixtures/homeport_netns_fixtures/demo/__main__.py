"""`make demo`: checks the machine, tells the story, cleans up.

    python -m homeport_netns_fixtures.demo [EXAMPLES]

Exit code 0 when everything was as told, 1 when a step failed (its name is the last thing printed), 2 when this machine
cannot run it, 128 + N when signal N ended it. In each case everything that was made is gone.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from homeport_netns_fixtures import accel, capability, containerd, debian_kernel, guest, leftovers, programs
from homeport_netns_fixtures.agent import AgentProcess
from homeport_netns_fixtures.demo import vlans
from homeport_netns_fixtures.demo.narrator import Narrator
from homeport_netns_fixtures.demo.scene import NotAsTold, Scene
from homeport_netns_fixtures.demo.story import Story
from homeport_netns_fixtures.topology import build

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked for the end. No `except Exception` on the way may keep it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def lacks() -> str | None:
    """Why the demonstration cannot run on this machine, with the remedy; None when it can."""
    reason = capability.host_lacks() or programs.missing_programs("etcd") or guest.lacks() or containerd.lacks()
    if reason is None and capability.kernel_lacks() is not None:
        reason = debian_kernel.lacks()
    return reason


def play(narrator: Narrator, examples: Path) -> None:
    """All steps. Whatever they made is gone when this returns or raises."""
    with ExitStack() as stack:
        world = stack.enter_context(build("alpha"))
        node = world.node("alpha")
        elsewhere = vlans.Elsewhere(examples, world.directory)
        stack.callback(elsewhere.close)
        stack.push(_tell_log(node.agent))
        story = Story(Scene(narrator, world, node, examples), stack)
        story.start_node()
        story.apply_networks()
        story.boot_machines()
        story.kill_and_restart()
        story.delete_and_recreate()
        elsewhere.tell(narrator, examples)
        story.run_containers()
        narrator.step("The end")
        narrator.say("Guests, container, agent, etcd and namespaces are taken down.")


def _tell_log(agent: AgentProcess) -> Callable[..., None]:
    """For an exit stack: where something did not happen as told, the end of the agent's log is printed, since the file
    goes with the rest. Errors of the fixtures bring their logs along."""

    def tell(_kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        if isinstance(error, NotAsTold) and (log := agent.log_tail(15)):
            print(f"\nThe last lines of the agent's log:\n{log}", file=sys.stderr)

    return tell


def main(argv: Sequence[str]) -> int:
    examples = Path(argv[0] if argv else "examples").absolute()
    if not examples.is_dir():
        print(f"{examples} is no directory: run this at the top of a checkout, or name the manifests", file=sys.stderr)
        return 2
    os.environ["PATH"] = programs.search_path()
    os.environ[leftovers.SESSION] = str(os.getpid())
    if (reason := lacks()) is not None:
        print(f"The demo cannot run here: {reason}", file=sys.stderr)
        return 2
    narrator = Narrator()
    narrator.say(
        """Homeport gives virtual machines a place on the network that stays theirs. This shows it with real guests, on
        a node made for the purpose; it takes about three minutes where guests are emulated. Ctrl-C ends it at any time,
        and cleans up."""
    )
    if accel.find_known() is None:
        narrator.say("First a look whether KVM boots a guest here, once for this machine; at most ten seconds.")
    before = leftovers.take_inventory()
    for number in ENDING:
        signal.signal(number, _interrupt)
    code = 0
    try:
        play(narrator, examples)
    except Interrupted as interrupted:
        code = 128 + interrupted.number
        print(f"\n{interrupted} in {narrator.title}: everything made so far is taken down.", file=sys.stderr)
    except (NotAsTold, AssertionError, OSError, subprocess.SubprocessError) as error:
        code = 1
        print(f"\nError: {narrator.title} failed: {error}", file=sys.stderr)
    left = leftovers.take_inventory().since(before, everything=False)
    for line in left:
        print(f"left behind: {line}", file=sys.stderr)
    if code == 0 and not left:
        narrator.say("Nothing of it is left.")
    return code or (1 if left else 0)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Once; the cleaning up that follows is not interrupted again."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
