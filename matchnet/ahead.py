"""Items made by a thread while those before them are used."""

import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Generator[Item], count: int) -> Generator[Item]:
    """Yield the same items, up to `count` of them made before they are asked for; a count of 0 needs no thread.

    An error of `items` is raised where its item is asked for. `items` and the thread end with this generator: close it.
    """
    if count == 0:
        yield from items
        return
    made: SimpleQueue[tuple[Item, None] | tuple[None, BaseException]] = SimpleQueue()
    room, given_up = threading.Semaphore(count), threading.Event()

    def make() -> None:
        try:
            while room.acquire() and not given_up.is_set():
                made.put((next(items), None))
        except BaseException as error:  # also StopIteration: the end is passed on like an error
            made.put((None, error))
        finally:
            items.close()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            room.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        given_up.set()
        room.release()
        thread.join()
