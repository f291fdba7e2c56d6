"""What the gateway remembers: never an answer from before a change of what it rests on."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from cloister.gateway.memory import Memory

grounds = st.sampled_from(["a", "b", "c", "d"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), grounds),
        st.tuples(st.just("clear"), st.just("")),
        st.tuples(st.just("look"), st.sampled_from(["q1", "q2"]), st.sets(grounds), st.sets(grounds)),
    )
)


@given(steps)
def test_an_answer_is_never_older_than_the_last_change_of_what_it_rests_on(steps):
    memory: Memory[str, dict[str, int]] = Memory(60, 100)
    world = dict.fromkeys("abcd", 0)

    def change(ground: str) -> None:
        world[ground] += 1
        memory.forget(ground)

    for step in steps:
        match step:
            case "change", ground:
                change(ground)
            case "clear", _:
                memory.clear()
                assert memory.get("q1") is memory.get("q2") is None
            case "look", question, resting, meanwhile:
                with memory.looking(news := set()):
                    seen = {ground: world[ground] for ground in resting}
                    for ground in meanwhile:
                        change(ground)
                memory.keep(question, seen, float("inf"), resting, news)
        for question in ("q1", "q2"):
            kept = memory.get(question) or {}
            assert all(world[ground] == version for ground, version in kept.items())


def test_news_of_one_leaves_the_others_remembered():
    memory: Memory[str, str] = Memory(60, 100)
    memory.keep("ours", "yes", float("inf"), ["our workspace"], set())
    memory.keep("theirs", "yes", float("inf"), ["their workspace"], set())
    memory.forget("their workspace")
    assert (memory.get("ours"), memory.get("theirs")) == ("yes", None)


def test_it_holds_no_more_than_it_was_told_to():
    memory: Memory[int, str] = Memory(60, 10)
    for number in range(25):
        memory.keep(number, "yes", float("inf"), ["everybody"], set())
    assert sum(memory.get(number) is not None for number in range(25)) <= 10


class Looks:
    """Looks that end when they are told to, and what they found."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []

    async def __call__(self, _question: str) -> tuple[str, list[str]]:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1], ["here"]


async def asking(memory: Memory[str, str], looks: Looks) -> asyncio.Task[str]:
    task = asyncio.create_task(memory.ask("may I?", looks))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_crowd_that_asks_the_same_thing_waits_for_one_look():
    memory, looks = Memory[str, str](60, 10), Looks()
    crowd = [await asking(memory, looks) for _ in range(64)]
    crowd[0].cancel()  # who asked first goes away, and the others still get their answer
    await asyncio.sleep(0)
    looks.begun[0].set_result("yes")
    assert set(await asyncio.gather(*crowd[1:])) == {"yes"}
    assert len(looks.begun) == 1


async def test_who_asks_after_a_change_is_not_told_what_was_looked_up_before_it():
    memory, looks = Memory[str, str](60, 10), Looks()
    before = await asking(memory, looks)
    memory.forget("here")
    after = await asking(memory, looks)
    looks.begun[1].set_result("no")
    assert await after == "no"
    looks.begun[0].set_result("yes")
    assert await before == "yes"
    assert memory.get("may I?") == "no"


async def test_an_answer_that_grows_old_is_looked_for_anew_while_it_is_still_given():
    memory, looks = Memory[str, str](0.5, 10), Looks()
    first = await asking(memory, looks)
    looks.begun[0].set_result("yes")
    assert await first == "yes"
    while len(looks.begun) < 2:
        assert await memory.ask("may I?", looks) == "yes"
        await asyncio.sleep(0.01)
    looks.begun[1].set_result("no")
    await asyncio.sleep(0.01)
    assert memory.get("may I?") == "no"


async def test_a_look_that_fails_fails_for_all_who_wait_and_the_next_one_looks_again():
    memory, looks = Memory[str, str](60, 10), Looks()
    crowd = [await asking(memory, looks) for _ in range(3)]
    looks.begun[0].set_exception(OSError("no database"))
    assert all(isinstance(found, OSError) for found in await asyncio.gather(*crowd, return_exceptions=True))
    again = await asking(memory, looks)
    looks.begun[1].set_result("yes")
    assert await again == "yes"


async def test_a_look_that_takes_longer_than_an_answer_counts_is_not_joined():
    memory, looks = Memory[str, str](0.05, 10), Looks()
    before = await asking(memory, looks)
    await asyncio.sleep(0.06)
    after = await asking(memory, looks)
    looks.begun[1].set_result("no")
    assert await after == "no"
    looks.begun[0].set_result("yes")
    assert await before == "yes"


async def test_a_look_that_nobody_waits_for_is_given_up_and_the_next_who_asks_gets_an_answer():
    memory, looks = Memory[str, str](60, 10), Looks()
    crowd = [await asking(memory, looks) for _ in range(2)]
    for one in crowd:
        one.cancel()
    await asyncio.wait(crowd)
    again = await asking(memory, looks)
    assert looks.begun[0].cancelled()
    looks.begun[1].set_result("yes")
    assert await again == "yes"
