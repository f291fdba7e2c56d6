"""One person is never two, and two are never one."""

import asyncio

import pytest
from sqlalchemy import func, select

from cloister.core.clock import Clock
from cloister.identity import Claims, EmailTaken, Person, sign_in_person
from tests.support import blueprint, declare, until


async def register(platform, claims):
    async with platform.database.write() as uow:
        uow.unrecorded("the second sign-in of somebody known changes nothing")
        return (await sign_in_person(uow, claims, Clock())).number


async def count(platform):
    async with platform.database.read() as uow:
        return await uow.session.scalar(select(func.count()).select_from(Person))


async def test_a_hundred_simultaneous_first_sign_ins_make_exactly_the_right_people(api):
    different = [Claims("idp", f"subject-{i}", f"N{i}", f"person{i}@example.org") for i in range(50)]
    same = [Claims("idp", "the-one", "One", address) for address in ["one@gmail.com"] * 50]
    numbers = await asyncio.gather(*(register(api.platform, claims) for claims in [*different, *same]))
    assert len(set(numbers[:50])) == 50
    assert len(set(numbers[50:])) == 1
    assert await count(api.platform) == 51


async def test_people_without_name_or_address_stay_apart(api):
    """The published fault: three registrations whose look-up had failed shared an account called “NA”."""
    numbers = [await register(api.platform, Claims("idp", f"s{i}", "NA", None)) for i in range(3)]
    assert len(set(numbers)) == 3


async def test_spellings_of_one_address_are_one_person_to_a_trusted_provider(api):
    first = await register(api.platform, Claims("a", "1", "Ada", "Ada.Lovelace@googlemail.com", email_trusted=True))
    second = await register(api.platform, Claims("b", "2", "Ada", "adalovelace+course@gmail.com", email_trusted=True))
    assert first == second


async def test_an_untrusted_provider_cannot_take_somebodys_address(api):
    await register(api.platform, Claims("a", "1", "Ada", "ada@example.org", email_trusted=True))
    with pytest.raises(EmailTaken):
        await register(api.platform, Claims("evil", "2", "Eve", "ADA@example.org"))


async def test_a_hundred_simultaneous_registrations_end_in_a_hundred_teams_of_one(api):
    await declare(api.platform, blueprint())
    clients = await asyncio.gather(*(api.sign_in(f"learner{i}") for i in range(100)))
    answers = await asyncio.gather(*(api.apply(client) for client in clients))
    assert {answer.status_code for answer in answers} == {202}

    async def all_in():
        states = [(await client.get("/spaces/course/enrolment")).json() for client in clients]
        return states if all(state["state"] == "active" for state in states) else None

    states = await until(all_in, 30, 0.1)
    assert len({state["team"] for state in states}) == 100
    assert len({state["person"] for state in states}) == 100
