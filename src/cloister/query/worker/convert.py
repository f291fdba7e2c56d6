"""Turns a file nobody trusts into Parquet, or narrows Parquet to what a policy shows. One job, then it ends."""

import contextlib
import gzip
import json
import os
import shutil
import sys
import threading

import duckdb
import gate

OUT = "/home/user/result.parquet"
MAX_HEADER = 10_000


def tell(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def finish(**message):
    with open("/home/user/result.json", "w") as file:
        json.dump(message, file)


def reader(job):
    source = gate.literal(job["source"])
    types = job["types"]
    kind = job["format"]
    if kind == "parquet":
        return f"read_parquet({source})"
    if kind == "json":
        return f"read_json({source}, sample_size=-1)"
    if kind == "excel":
        return f"read_csv({gate.literal(excel_to_csv(job['source'], job['sheet']))}, header=true, sample_size=-1)"
    options = ["header=true", "sample_size=-1"]
    if kind == "tsv":
        options.append("delim='\t'")
    if types:
        pairs = ", ".join(f"{gate.literal(name)}: {gate.literal(type_)}" for name, type_ in types.items())
        options.append(f"types={{{pairs}}}")
    nulls = ["", *([job["null"]] if job["null"] is not None else [])]
    options.append(f"nullstr=[{', '.join(gate.literal(null) for null in nulls)}]")
    return f"read_csv({source}, {', '.join(options)})"


def excel_to_csv(path, sheet):
    """A sheet (the first when none is named) as CSV, so that types are found as for any CSV."""
    import csv

    from python_calamine import CalamineWorkbook

    target = "/home/user/sheet.csv"
    book = CalamineWorkbook.from_path(path)
    if sheet is not None and sheet not in book.sheet_names:
        raise ValueError(f"there is no sheet “{sheet}”; there are {', '.join(book.sheet_names)}")
    rows = (book.get_sheet_by_index(0) if sheet is None else book.get_sheet_by_name(sheet)).iter_rows()
    with open(target, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return target


def select(job, con):
    if job["kind"] == "narrow":
        columns = ", ".join(gate.identifier(name) for name in job["columns"]) if job["columns"] else "*"
        where = f" WHERE ({job['rows']}\n)" if job["rows"] else ""
        return f"SELECT {columns} FROM read_parquet({gate.literal(job['source'])}){where}"
    source = reader(job)
    if job["format"] in {"csv", "tsv"} or not job["types"]:
        return f"SELECT * FROM {source}"
    have = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    items = [
        f"CAST({gate.identifier(name)} AS {job['types'][name]}) AS {gate.identifier(name)}"
        if name in job["types"]
        else gate.identifier(name)
        for name in have
    ]
    return f"SELECT {', '.join(items)} FROM {source}"


@contextlib.contextmanager
def reported(con):
    """Tell every half second how far the engine is.

    The thread is waited for: Python ends those that are left by unwinding their stacks, which aborts the process when
    there is C++ on one.
    """
    done = threading.Event()

    def report():
        while not done.wait(0.5):
            tell(progress=max(0.0, con.query_progress()) / 100)

    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main():
    with open(sys.argv[1]) as file:
        job = json.load(file)
    if job["source"].endswith(".gz") and job["format"] in {"parquet", "excel"}:
        with gzip.open(job["source"]) as packed, open("/home/user/source", "wb") as plain:
            shutil.copyfileobj(packed, plain)
        job["source"] = "/home/user/source"
    con = duckdb.connect(
        ":memory:",
        config={
            **gate.CONFIG,
            "memory_limit": f"{job['memory_mb']}MB",
            "threads": str(job["threads"]),
            "temp_directory": "/home/user/tmp",
            "max_temp_directory_size": "100GB",
        },
    )
    for setting in ("enable_progress_bar = true", "enable_progress_bar_print = false", "progress_bar_time = 0"):
        con.execute(f"SET {setting}")
    con.execute(f"SET allowed_directories = ['/home/user', {gate.literal(os.path.dirname(job['source']))}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    try:
        with reported(con):
            con.execute(
                f"COPY ({select(job, con)}) TO {gate.literal(OUT)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
            )
        described = con.execute(f"DESCRIBE SELECT * FROM read_parquet({gate.literal(OUT)})").fetchall()
        count = con.execute(f"SELECT count(*) FROM read_parquet({gate.literal(OUT)})").fetchone()
        if len(described) > MAX_HEADER:
            finish(error=f"a table may have {MAX_HEADER} columns, this one has {len(described)}")
            return
        finish(rows=count[0], columns=[{"name": row[0], "type": row[1]} for row in described])
    except Exception as error:  # whatever is wrong with the file, its owner must be told
        finish(error=gate.clean(str(error)).replace("/data/in/", ""))


main()
