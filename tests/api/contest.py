"""A competition to get into, and how far somebody has got."""

from tests.support import blueprint, until


def contest(**changes):
    return blueprint(slug="contest", kind="competition", teams={"max_members": 2}, **changes)


async def state(client, space="contest"):
    return (await client.get(f"/spaces/{space}/enrolment")).json()


async def becomes(client, wanted, space="contest"):
    async def there():
        found = await state(client, space)
        return found if found["state"] == wanted else None

    return await until(there, 5)


def problem(answer):
    return answer.status_code, answer.json().get("code")
