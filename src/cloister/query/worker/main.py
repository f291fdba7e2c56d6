"""The worker's server: one connection per query over the app socket, one thread each.

A connection goes so: a line of JSON comes in with the statement; a line goes out with the tables it touches, or with
why it may not run; the broker writes its record and answers ``GO``; the result follows in frames (4 bytes of length,
then as many of data; length 0 is the end) and a last line with the counts, or with the error that ended it. When the
connection closes, the query is interrupted.
"""

import base64
import datetime
import decimal
import json
import math
import os
import socket
import struct
import sys
import threading
import time
import uuid

import duckdb
import faults
import gate
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc

SOCKET = "/run/app/app.sock"
BATCH_ROWS = 65536
COALESCE = 128 * 1024


class Frames:
    """A file for pyarrow whose bytes leave in frames; counts, and stops at a cap."""

    closed = False

    def __init__(self, sock, cap):
        self._sock, self._cap, self.bytes, self._buffer = sock, cap, 0, bytearray()

    def write(self, data):
        view = memoryview(data).cast("B")
        self.bytes += view.nbytes
        if self._cap is not None and self.bytes > self._cap:
            raise faults.ResultTooLarge
        if view.nbytes >= COALESCE:
            self.flush()
            self._send(view)
        else:
            self._buffer += view
            if len(self._buffer) >= COALESCE:
                self.flush()
        return view.nbytes

    def _send(self, view):
        self._sock.sendall(struct.pack(">I", len(view)))
        self._sock.sendall(view)

    def flush(self):
        if self._buffer:
            self._send(memoryview(bytes(self._buffer)))
            self._buffer.clear()

    def end(self, *, whole):
        if whole:  # what waits to be sent of a failed answer is nobody's: the error must be able to come first
            self.flush()
        self._sock.sendall(struct.pack(">I", 0))

    def writable(self):
        return True

    def close(self):
        pass


class ArrowWriter:
    def __init__(self, frames, schema):
        self._out = pa.ipc.new_stream(frames, schema)

    def batch(self, batch):
        self._out.write_batch(batch)

    def close(self):
        self._out.close()


class CsvWriter:
    def __init__(self, frames, schema):
        self._out = pa.csv.CSVWriter(frames, schema)

    def batch(self, batch):
        self._out.write_batch(batch)

    def close(self):
        self._out.close()


class JsonWriter:
    """``{"columns": [{"name", "type"}], "rows": [[…]]}``, streamed. What JSON has no form for becomes text."""

    def __init__(self, frames, schema):
        self._frames, self._first = frames, True
        columns = [{"name": field.name, "type": str(field.type)} for field in schema]
        frames.write(b'{"columns":' + json.dumps(columns).encode() + b',"rows":[')

    def batch(self, batch):
        columns = [column.to_pylist() for column in batch.columns]
        rows = (json.dumps([plain(value) for value in row], ensure_ascii=False) for row in zip(*columns))
        text = ",\n".join(rows)
        if text:
            self._frames.write((b"" if self._first else b",\n") + text.encode())
            self._first = False

    def close(self):
        self._frames.write(b"]}")


def plain(value):
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, decimal.Decimal) and value == value.to_integral_value() and abs(value) <= 2**53:
        return int(value) if value.as_tuple().exponent == 0 else str(value)  # sums of integers are decimals here
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple) and len(value) == 2:
        return [plain(value[0]), plain(value[1])]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


WRITERS = {"arrow": ArrowWriter, "csv": CsvWriter, "json": JsonWriter}


def batches(reader):
    """Failures after the first batch come out of pyarrow with the engine's text, not its type."""
    while True:
        try:
            yield reader.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            raise translate(str(error)) from None


def translate(text, error=None):
    if isinstance(error, duckdb.InterruptException) or text.startswith("INTERRUPT Error"):
        return faults.Cancelled()
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory Error" in text[:40]:
        return faults.OutOfMemory()
    if isinstance(error, duckdb.PermissionException) or text.startswith("Catalog Error: Table with name "):
        return faults.UnknownRelation()
    return faults.QueryError(gate.clean(text))


class Worker:
    def __init__(self, configuration):
        self.relations = [gate.Relation(**relation) for relation in configuration["relations"]]
        self.gate = gate.Gate(self.relations)
        self.guarded = any(relation.min_group for relation in self.relations)
        self.database = gate.open_locked(self.relations, configuration["memory_mb"], configuration["threads"])
        self.database.execute("SELECT 1").fetchall()

    def serve(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        partial = SOCKET + ".new"
        listener.bind(partial)
        listener.listen(64)
        os.rename(partial, SOCKET)  # the name appears when it is ready
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            lines = connection.makefile("rb")
            try:
                self.ask(connection, lines)
            except (BrokenPipeError, ConnectionResetError, ValueError):
                return
            except (
                TypeError,
                KeyError,
                IndexError,
                RecursionError,
                AttributeError,
            ):  # a tree that the gate does not know
                say(connection, error=problem(gate.StatementNotAllowed("This form of statement is not known here.")))

    def ask(self, connection, lines):
        request = json.loads(lines.readline(16 * 1024 * 1024))
        try:
            found = self.gate.classify(request["sql"])
        except faults.QueryError as error:
            say(connection, error=problem(error))
            return
        except duckdb.Error as error:
            say(connection, error=problem(faults.QueryError(gate.clean(str(error)))))
            return
        say(connection, tables=list(found.tables), volatile=found.volatile)
        go = json.loads(lines.readline(65536) or b"{}")
        if go.get("go"):
            self.run(connection, lines, found.sql, request, go)

    def run(self, connection, lines, sql, request, limits):
        cursor = self.database.cursor()
        state = {"why": None, "done": False}

        def interrupt(why):
            if not state["done"]:
                state["why"] = state["why"] or why
                cursor.interrupt()

        def watch():
            try:
                lines.read(1)  # nothing comes: this returns when the broker hangs up
            except (OSError, ValueError):
                pass
            interrupt(faults.Cancelled)

        threading.Thread(target=watch, daemon=True).start()
        timer = threading.Timer(limits["seconds"], interrupt, [faults.OutOfTime])
        timer.daemon = True
        timer.start()
        begun = time.perf_counter()
        frames = Frames(connection, limits.get("bytes"))
        failure, rows = None, 0
        try:
            rows = self.stream(cursor, sql, request, limits, frames)
        except faults.QueryError as error:
            failure = error
        except duckdb.Error as error:
            failure = translate(str(error), error)
        except (pa.ArrowException, OverflowError, MemoryError, ValueError) as error:
            failure = faults.QueryError(f"The result has a value that this form cannot carry: {error}"[:500])
        finally:
            state["done"] = True
            timer.cancel()
            cursor.close()
        if isinstance(failure, faults.Cancelled) and state["why"] is not None:
            failure = state["why"]()
        if failure is not None and self.guarded and type(failure) is faults.QueryError:
            failure = faults.QueryError("The statement failed. (Details could show values that your grant hides.)")
        milliseconds = (time.perf_counter() - begun) * 1000
        frames.end(whole=failure is None)
        say(connection, rows=rows, bytes=frames.bytes, milliseconds=milliseconds, error=failure and problem(failure))

    @staticmethod
    def stream(cursor, sql, request, limits, frames):
        rows = 0
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        parameters = request.get("params")
        relation = cursor.sql(sql, params=parameters) if parameters else cursor.sql(sql)
        reader = relation.to_arrow_reader(BATCH_ROWS)
        try:
            writer = WRITERS[request["format"]](frames, reader.schema)
            for batch in batches(reader):
                rows += batch.num_rows
                if limits.get("rows") is not None and rows > limits["rows"]:
                    raise faults.ResultTooLarge
                writer.batch(batch)
            writer.close()
        finally:
            reader.close()
        return rows


def problem(error):
    return {"code": error.code, "detail": str(error) or type(error).__doc__}


def say(connection, **message):
    connection.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        worker = Worker(json.load(file))
    worker.serve()
