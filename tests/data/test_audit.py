"""The audit chain: what verification finds, that writers never fork it, and that nothing is told before it is written."""

import asyncio
import hashlib
import importlib
import itertools
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text, update

from cloister.audit import Draft, Name, Recorder, record, seal, verify
from cloister.audit.checkpoints import Checkpoint, CheckpointController, sign
from cloister.audit.models import AuditCheckpoint, AuditHead, AuditRecord
from cloister.audit.record import COLUMNS, GENESIS, link
from cloister.audit.recorder import LogUnavailable
from cloister.bootstrap import upgrade_schema
from cloister.core.clock import Clock
from cloister.core.principal import SYSTEM
from cloister.platform import Database
from cloister.platform.database import UnrecordedWriteError
from cloister.platform.mail import queue_letter

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def connect(settings) -> Database:
    return Database(settings.database_dsn, seal=seal, publish=lambda _events: None)


@pytest.fixture
async def database(settings):
    found = connect(settings)
    await upgrade_schema(found)
    yield found
    await found.close()


def draft(number: int) -> Draft:
    return Draft(
        name=Name.QUERY_ASKED, person=number, space="course", subject=f"q{number}", details={"sql": "SELECT 1"}
    )


async def append(database, count: int = 20) -> None:
    for number in range(count):
        async with database.write() as uow:
            record(uow, Name.QUERY_ASKED, person=number, space="course", subject=f"q{number}", sql="SELECT 'ä'")


async def tamper(database, *statements) -> None:
    async with database.writer.begin() as connection:
        for statement in statements:
            await connection.execute(statement)


def checkpoints(database) -> CheckpointController:
    return CheckpointController(database, KEY, Clock(), 300, None)


async def test_a_whole_chain_is_sound(database):
    await append(database)
    await checkpoints(database).sign_now()
    verdict = await verify(database, PUBLIC)
    assert (verdict.sound, verdict.records, verdict.checkpoints) == (True, 20, 1)


async def test_a_log_that_goes_on_meanwhile_is_sound(database, monkeypatch):
    monkeypatch.setattr(importlib.import_module("cloister.audit.verify"), "_PAGE", 5)
    await append(database)
    going_on = asyncio.create_task(append(database))
    while not going_on.done():
        verdict = await verify(database, None)
        assert verdict.sound, verdict
    assert (await verify(database, None)).records == 40


async def test_an_empty_log_is_sound(database):
    assert (await verify(database, PUBLIC)).sound


CHANGES = {
    "time": "2020-01-01T00:00:00.000000Z", "name": "identity:person:create", "outcome": "refused", "actor": "system2",
    "person": 999, "team": 1, "space": "other", "sandbox": "sbx", "subject": None, "request_id": "r", "details": "{}",
    "hash": bytes(32),
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
async def test_a_changed_field_is_found(database, column):
    await append(database)
    await tamper(database, update(AuditRecord).where(AuditRecord.seq == 7).values({column: CHANGES[column]}))
    verdict = await verify(database, None)
    assert verdict.fault == "record 7 was changed, inserted or reordered"
    assert (verdict.at, verdict.records) == (7, 6)


async def test_a_deleted_record_is_found(database):
    await append(database)
    await tamper(database, delete(AuditRecord).where(AuditRecord.seq == 7))
    verdict = await verify(database, None)
    assert (verdict.fault, verdict.at) == ("record 7 is missing", 7)


async def test_a_deleted_record_whose_gap_was_closed_is_found(database):
    await append(database)
    await tamper(
        database,
        delete(AuditRecord).where(AuditRecord.seq == 7),
        *(update(AuditRecord).where(AuditRecord.seq == seq).values(seq=seq - 1) for seq in range(8, 21)),
        update(AuditHead).values(seq=19),
    )
    verdict = await verify(database, None)
    assert (verdict.at, verdict.fault) == (7, "record 7 was changed, inserted or reordered")


async def test_an_inserted_record_is_found(database):
    await append(database)
    async with database.read() as uow:
        row = (await uow.session.execute(select(AuditRecord.__table__).where(AuditRecord.seq == 7))).mappings().one()
    forged = {**row, "subject": "forged"}
    await tamper(
        database,
        *(update(AuditRecord).where(AuditRecord.seq == seq).values(seq=seq + 1) for seq in range(20, 6, -1)),
        insert(AuditRecord.__table__).values(forged),
        update(AuditHead).values(seq=21),
    )
    verdict = await verify(database, None)
    assert (verdict.at, verdict.fault) == (7, "record 7 was changed, inserted or reordered")


async def test_an_appended_record_is_found(database):
    await append(database)
    async with database.read() as uow:
        row = (await uow.session.execute(select(AuditRecord.__table__).where(AuditRecord.seq == 20))).mappings().one()
        values = [{**row, "seq": 21}[column] for column in COLUMNS]
    await tamper(database, insert(AuditRecord.__table__).values({**row, "seq": 21, "hash": link(row["hash"], values)}))
    verdict = await verify(database, None)
    assert (verdict.at, verdict.fault) == (21, "the log ends at record 21, but its head says 20")


async def test_reordered_records_are_found(database):
    await append(database)
    await tamper(
        database,
        *(
            update(AuditRecord).where(AuditRecord.seq == before).values(seq=after)
            for before, after in ((7, 1000), (8, 7), (1000, 8))
        ),
    )
    verdict = await verify(database, None)
    assert (verdict.at, verdict.fault) == (7, "record 7 was changed, inserted or reordered")


async def test_a_truncated_tail_is_found(database):
    await append(database)
    await tamper(database, delete(AuditRecord).where(AuditRecord.seq > 15))
    verdict = await verify(database, None)
    assert (verdict.at, verdict.fault) == (16, "the log ends at record 15, but its head says 20")


async def truncate_with_head(database) -> None:
    async with database.read() as uow:
        hash_ = await uow.session.scalar(select(AuditRecord.hash).where(AuditRecord.seq == 15))
    await tamper(
        database, delete(AuditRecord).where(AuditRecord.seq > 15), update(AuditHead).values(seq=15, hash=hash_)
    )


async def test_a_truncated_tail_with_its_head_is_found_by_a_checkpoint(database):
    await append(database)
    await checkpoints(database).sign_now()
    await truncate_with_head(database)
    verdict = await verify(database, PUBLIC)
    assert (verdict.at, verdict.fault) == (16, "records after 15 are missing: a checkpoint signs 20")


async def recompute(database) -> None:
    """What somebody who may write the database but has no key can do: a chain that fits, from end to end."""
    async with database.read() as uow:
        rows = (await uow.session.execute(select(AuditRecord.__table__).order_by(AuditRecord.seq))).mappings().all()
    last, changes = GENESIS, []
    for row in rows:
        values = {**row, "subject": "somebody else"} if row["seq"] == 7 else dict(row)
        last = link(last, [values[column] for column in COLUMNS])
        values["hash"] = last
        changes.append(update(AuditRecord).where(AuditRecord.seq == row["seq"]).values(values))
    await tamper(database, *changes, update(AuditHead).values(hash=last), delete(AuditCheckpoint))


async def test_a_recomputed_chain_is_found_by_an_exported_checkpoint(database):
    await append(database)
    point = await checkpoints(database).sign_now()
    exported = [Checkpoint.load(point.dump())]
    assert (await verify(database, PUBLIC, exported)).sound
    await recompute(database)
    assert (await verify(database, PUBLIC)).sound, "from inside it cannot be seen"
    verdict = await verify(database, PUBLIC, exported)
    assert (verdict.at, verdict.fault) == (20, "the chain up to record 20 is not the one signed")


async def test_a_false_signature_is_found(database):
    await append(database)
    await checkpoints(database).sign_now()
    await tamper(database, update(AuditCheckpoint).values(time="2020-01-01T00:00:00.000000Z"))
    verdict = await verify(database, PUBLIC)
    assert (verdict.at, verdict.fault) == (20, "the checkpoint at record 20 has a false signature")


async def test_a_checkpoint_of_another_key_is_found(database):
    await append(database)
    async with database.read() as uow:
        head = (await uow.session.execute(select(AuditHead.seq, AuditHead.hash))).one()
    forged = sign(Ed25519PrivateKey.generate(), head.seq, "2026-01-01T00:00:00.000000Z", head.hash)
    verdict = await verify(database, PUBLIC, [forged])
    assert (verdict.at, verdict.fault) == (20, "the checkpoint at record 20 is signed with a key that is not ours")


async def test_checkpoints_are_exported_and_not_repeated(settings, database, tmp_path):
    controller = CheckpointController(database, KEY, Clock(), 300, tmp_path / "far")
    assert await controller.sign_now() is None, "nothing to sign yet"
    await append(database, 3)
    first = await controller.sign_now()
    assert await controller.sign_now() is None, "signed already"
    await append(database, 1)
    await controller.sign_now()
    lines = (tmp_path / "far" / "checkpoints.jsonl").read_text().splitlines()
    assert [Checkpoint.load(line).seq for line in lines] == [3, 4]
    assert Checkpoint.load(lines[0]) == first


async def test_concurrent_writers_keep_one_chain(settings, database):
    """Many tasks on several connections, as several processes on one database do."""
    others = [connect(settings) for _ in range(3)]
    recorders = [Recorder(each) for each in (database, *others)]

    async def transaction(number: int) -> None:
        async with [database, *others][number % 4].write() as uow:
            record(uow, Name.SIGNED_IN, person=number)
            record(uow, Name.SIGNED_OUT, person=number)

    work = [recorders[number % 4].record(draft(number)) for number in range(400)]
    work += [transaction(number) for number in range(100)]
    await asyncio.gather(*work)
    verdict = await verify(database, None)
    assert (verdict.fault, verdict.records) == (None, 600)
    for other in others:
        await other.close()


async def test_records_of_a_transaction_stand_together_and_vanish_together(database):
    with pytest.raises(ZeroDivisionError):
        async with database.write() as uow:
            record(uow, Name.SIGNED_IN, person=1)
            raise ZeroDivisionError
    async with database.write() as uow:
        record(uow, Name.SIGNED_IN, person=2)
        record(uow, Name.SIGNED_OUT, person=2)
    async with database.read() as uow:
        rows = (await uow.session.execute(select(AuditRecord.seq, AuditRecord.person, AuditRecord.name))).all()
    assert [tuple(row) for row in rows] == [(1, 2, "identity:session:create"), (2, 2, "identity:session:end")]


async def test_a_write_without_a_record_is_refused(database):
    with pytest.raises(UnrecordedWriteError):
        async with database.write() as uow:
            queue_letter(uow, Clock(), to="a@example.org", subject="s", text="t")
    with pytest.raises(UnrecordedWriteError):
        async with database.write() as uow:
            await uow.session.execute(text("UPDATE audit_head SET seq = seq"))
    async with database.read() as uow:
        assert await uow.session.scalar(text("SELECT count(*) FROM letters")) == 0
    async with database.write() as uow:  # what only looks needs none, also on a connection that wrote before
        await uow.session.scalar(text("SELECT count(*) FROM letters"))


async def test_a_writer_may_say_why_it_needs_no_record(database):
    async with database.write() as uow:
        uow.unrecorded("a test")
        queue_letter(uow, Clock(), to="a@example.org", subject="s", text="t")


async def test_who_waits_for_a_record_hears_when_it_cannot_be_written(database):
    """A crash between record and answer: no record, no answer."""
    recorder = Recorder(database)
    await tamper(database, text("ALTER TABLE audit_records RENAME TO away"))
    results = await asyncio.gather(*(recorder.record(draft(n)) for n in range(5)), return_exceptions=True)
    assert {type(result) for result in results} == {LogUnavailable}
    await tamper(database, text("ALTER TABLE away RENAME TO audit_records"))
    await recorder.record(draft(9))
    verdict = await verify(database, None)
    assert (verdict.fault, verdict.records) == (None, 1)


async def test_a_record_is_on_disk_before_its_waiter_goes_on(settings, database):
    """Another connection sees it at once; whatever happens to this process now, it is there."""
    recorder, other = Recorder(database), connect(settings)
    for number in range(5):
        await recorder.record(draft(number))
        async with other.read(SYSTEM) as uow:
            assert await uow.session.scalar(text("SELECT max(seq) FROM audit_records")) == number + 1
    await other.close()


async def test_hostile_text_is_recorded_as_it_is(database):
    odd = ["\ud800", "a\u202eb", "'; DROP TABLE audit_records; --", "12:x,-,", "\n\r\t", "𝔘" * 1000]
    recorder = Recorder(database)
    for subject in odd:
        await recorder.record(Draft(name=Name.QUERY_ASKED, details={"sql": subject, "list": [subject, {"k": None}]}))
    verdict = await verify(database, None)
    assert (verdict.fault, verdict.records) == (None, len(odd))
    async with database.read() as uow:
        kept = (await uow.session.scalars(select(AuditRecord.details).order_by(AuditRecord.seq))).all()
    assert len({json.loads(text_)["sql"] for text_ in kept}) == len(odd)


FIELD = st.none() | st.text(alphabet=st.characters(), max_size=8) | st.integers(0, 2**40)
TRICKY = st.sampled_from(["", "-", "1:a", "-,-", "1:a,-", "a,1:b", ",", ":", "0:", None, "0", 0, "٣", "é", "e\u0301"])
ROW = st.lists(FIELD | TRICKY, min_size=12, max_size=12)


def spelled(row):
    """A number and its digits are one: which column holds which is fixed by the schema."""
    return [None if value is None else str(value) for value in row]


@given(ROW, ROW)
def test_no_two_rows_have_one_encoding(one, two):
    assume(spelled(one) != spelled(two))
    assert link(GENESIS, one) != link(GENESIS, two)


@given(ROW, st.integers(0, 10))
def test_moving_a_fields_end_changes_the_hash(row, where):
    left, right = spelled(row)[where], spelled(row)[where + 1]
    for cut in itertools.chain(range(len((left or "") + (right or "")) + 1)):
        joined = (left or "") + (right or "")
        other = [*row[:where], joined[:cut], joined[cut:], *row[where + 2 :]]
        assert spelled(other) == spelled(row) or link(GENESIS, other) != link(GENESIS, row)


@given(ROW)
def test_the_encoding_is_netstrings_that_anybody_can_recompute(row):
    fields = ["-" if value is None else f"{len(str(value))}:{value}" for value in row]
    encoded = ",".join(fields).encode("utf-8", "surrogatepass")
    assert link(GENESIS, row) == hashlib.sha256(GENESIS + encoded).digest()


@given(ROW)
def test_the_hash_depends_on_the_one_before(row):
    assert link(GENESIS, row) != link(b"\1" * 32, row)
