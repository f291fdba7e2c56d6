"""What the gateway remembers: never an answer from before a change of what it rests on."""

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
                with memory.looking() as news:
                    seen = {ground: world[ground] for ground in resting}
                    for ground in meanwhile:
                        change(ground)
                memory.keep(question, seen, float("inf"), resting, news)
        for question in ("q1", "q2"):
            kept = memory.get(question) or {}
            assert all(world[ground] == version for ground, version in kept.items())


def test_news_of_one_leaves_the_others_remembered():
    memory: Memory[str, str] = Memory(60, 100)
    with memory.looking() as news:
        pass
    memory.keep("ours", "yes", float("inf"), ["our workspace"], news)
    memory.keep("theirs", "yes", float("inf"), ["their workspace"], news)
    memory.forget("their workspace")
    assert (memory.get("ours"), memory.get("theirs")) == ("yes", None)


def test_it_holds_no_more_than_it_was_told_to():
    memory: Memory[int, str] = Memory(60, 10)
    for number in range(25):
        memory.keep(number, "yes", float("inf"), ["everybody"], set())
    assert sum(memory.get(number) is not None for number in range(25)) <= 10
