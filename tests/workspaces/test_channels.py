"""How the server of a workspace begins to speak with a kernel: in the packages that it runs on, with stand-ins for the kernel."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.sandboxes import Environments
from cloister.spaces import JUPYTERLAB
from tests.support import ENVIRONMENTS, ROOT

STAND_INS = """
import asyncio, sys, types
sys.path[:0] = [{packages!r}, {runtimes!r}]
from cloister_kernels import Prompt

class Stream:
    def __init__(self):
        self.hears = self.ended = False
        self.sent = 0
    def on_recv(self, call):
        self.hears = True
        self.call = call
    def stop_on_recv(self):
        self.hears = False
    def closed(self):
        return self.ended
    def close(self):
        self.ended = True

class Page:
    kernel_id, kernel_info_timeout = "k", 60
    _ask, _is_there, nudge = Prompt._ask, Prompt._is_there, Prompt.nudge
    def __init__(self, state):
        self.iopub, self.made = Stream(), []
        self.channels = {{"iopub": self.iopub}}
        self.multi_kernel_manager = {{"k"}}
        def connect():
            self.made.append(Stream())
            return self.made[-1]
        self.kernel_manager = types.SimpleNamespace(
            execution_state=state, ports=[1], connect_shell=connect, connect_control=connect,
            observe=lambda *_: None, unobserve=lambda *_: None,
        )
        def send(channel, kind):
            channel.sent += 1
        self.session = types.SimpleNamespace(send=send)

async def main():
{body}
asyncio.run(main())
"""


async def said(body):
    built = await Environments(ENVIRONMENTS, Path(sys.executable)).ensure(JUPYTERLAB)
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    program = STAND_INS.format(
        packages=str(built.path / "lib"), runtimes=str(ROOT / "runtimes" / "jupyter"), body=lines
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-S", "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_of_a_busy_kernel_nothing_is_asked_and_nothing_that_it_shows_is_taken():
    body = """
page = Page("busy")
await page.nudge()
print(page.iopub.hears, page.made)
"""
    assert await said(body) == "False []"


async def test_a_page_waits_until_its_kernel_has_answered_shown_something_and_begun():
    body = """
page = Page("starting")
nudged = page.nudge()
await asyncio.sleep(0.01)
page.made[0].call([])
page.iopub.call([])
await asyncio.sleep(0.01)
early = nudged.done()
page.kernel_manager.execution_state = "idle"
await nudged
await asyncio.sleep(0)
print(early, page.iopub.hears, [one.ended for one in page.made], page.made[0].sent)
"""
    assert await said(body) == "False False [True, True] 2"


@pytest.mark.parametrize("end", ["page.channels.clear(); page.iopub.close()", "page.multi_kernel_manager.clear()"])
async def test_a_page_or_a_kernel_that_goes_meanwhile_ends_the_wait(end):
    body = f"""
page = Page("starting")
nudged = page.nudge()
await asyncio.sleep(0.01)
{end}
await nudged
await asyncio.sleep(0)
print([one.ended for one in page.made])
"""
    assert await said(body) == "[True, True]"
