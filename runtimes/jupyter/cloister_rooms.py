"""Saves what people write together soon, and before the end.

Jupyter's rooms save a document after a second in which nothing changed. While a cell prints, or somebody types without a
pause, that second does not come; and whoever stops the server meanwhile stops what was waiting to be saved.
"""

import asyncio
import uuid
from time import monotonic

LONGEST = 5.0
"""Seconds that a change waits to be saved, however many come after it."""


def name_session():
    """Tell this server from all others, for pages that come back: what is forked would bear its zygote's name."""
    from jupyter_server_ydoc import handlers, utils

    handlers.SERVER_SESSION = utils.SERVER_SESSION = str(uuid.uuid4())


def install():
    """Let the rooms of this process do so."""
    from jupyter_server_ydoc.app import YDocExtension
    from jupyter_server_ydoc.rooms import DocumentRoom

    save = DocumentRoom._maybe_save_document  # noqa: SLF001 - there is no other way to them
    stop = YDocExtension.stop_extension

    async def maybe_save(self, saving_document, save_now=False):
        if not save_now and self._save_delay is not None:
            waiting = self.__dict__.setdefault("_cloister_waiting", set())
            if saving_document in waiting:  # one that has begun to save goes on
                saving_document.cancel()
            saving_document = None
            since = self.__dict__.setdefault("_cloister_unsaved", monotonic())
            waiting.add(asyncio.current_task())
            try:
                await asyncio.sleep(min(self._save_delay, max(0.0, since + LONGEST - monotonic())))
            except asyncio.CancelledError:
                return  # a later change takes it along
            finally:
                waiting.discard(asyncio.current_task())
            save_now = True
        self.__dict__.pop("_cloister_unsaved", None)
        await save(self, saving_document, save_now=save_now)

    async def stop_extension(self):
        unsaved = [
            room._save_to_disc()  # noqa: SLF001
            for room in self.ywebsocket_server.rooms.values()
            if isinstance(room, DocumentRoom)
            and room._saving_document is not None  # noqa: SLF001
            and not room._saving_document.done()  # noqa: SLF001
        ]
        await asyncio.gather(*(task for task in unsaved if task is not None), return_exceptions=True)
        await stop(self)

    DocumentRoom._maybe_save_document = maybe_save  # noqa: SLF001
    YDocExtension.stop_extension = stop_extension
