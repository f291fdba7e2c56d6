"""The demo's check of workspaces: a team's JupyterLab opens at its own name, and a notebook runs through the gateway."""

import asyncio
import json
import uuid
from time import perf_counter
from typing import Any

import aiohttp
import httpx2

NOTEBOOK = (
    "import cloister",
    "table = cloister.sql('select gender, count(*) as patients, round(avg(age), 1) as age from actg175 group by gender')",
    "print(table.to_pylist())",
)
"""A notebook's cells."""


class Visitor:
    """Somebody at a workspace's own origin, as a browser would be."""

    def __init__(self, url: str, host: str) -> None:
        self._base, self._host = url, host
        self._cookie = ""
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        await self._http.close()

    def _headers(self, **more: str) -> dict[str, str]:
        return {"Host": self._host, "Cookie": self._cookie, "Origin": f"http://{self._host}", **more}

    async def get(self, path: str, **more: str) -> tuple[int, Any, bytes]:
        async with self._http.get(self._base + path, headers=self._headers(**more), allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()

    async def enter(self, person: httpx2.AsyncClient) -> None:
        """Go in: to the platform, with a code back to the workspace, and from then on with a cookie of its own."""
        answer = await person.get("/workspaces/enter", params={"host": self._host, "to": "/lab"})
        path = "/" + answer.headers["location"].split("/", 3)[3]
        _, headers, _ = await self.get(path)
        self._cookie = headers["Set-Cookie"].split(";")[0]

    async def run_notebook(self, cells: tuple[str, ...]) -> tuple[str, list[float]]:
        """Run cells in a new kernel; return what they printed and each one's milliseconds."""
        url = f"{self._base}/api/kernels"
        async with self._http.post(url, headers=self._headers(), json={"name": "python3"}) as answer:
            kernel = (await answer.json())["id"]
        printed, times = "", []
        async with self._http.ws_connect(f"{url}/{kernel}/channels", headers=self._headers()) as ws:
            for number, code in enumerate(cells):
                begun = perf_counter()
                printed += await self._run(ws, code, f"cell-{number}")
                times.append((perf_counter() - begun) * 1000)
        return printed.strip(), times

    async def _run(self, ws: aiohttp.ClientWebSocketResponse, code: str, cell: str) -> str:
        id_ = uuid.uuid4().hex
        header = {"msg_id": id_, "msg_type": "execute_request", "username": "", "session": id_, "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        await ws.send_json(
            {"header": {**header, "date": ""}, "parent_header": {}, "metadata": {"cellId": cell}, "content": content,
             "channel": "shell", "buffers": []}
        )  # fmt: skip
        printed, idle, replied = "", False, False
        async with asyncio.timeout(60):
            while not (idle and replied):
                said = json.loads((await ws.receive_str()) or "{}")
                if said["parent_header"].get("msg_id") != id_:
                    continue
                kind, body = said["msg_type"], said["content"]
                printed += body["text"] if kind == "stream" else ""
                printed += body["evalue"] if kind == "error" else ""
                replied = replied or kind == "execute_reply"
                idle = idle or (kind == "status" and body["execution_state"] == "idle")
        return printed
