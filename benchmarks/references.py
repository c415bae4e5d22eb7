"""What the scripts are held against, as programs of Python, and parts of the scripts that are measured alone."""

PARSE = "import orjson, sys\nwith open(sys.argv[1], 'rb') as file:\n    for line in file: orjson.loads(line)"
READ = "import csv, sys\nwith open(sys.argv[1], newline='', encoding='utf-8') as f:\n    for row in csv.reader(f): pass"
SEND = """
import hashlib, os, sys, time
sys.path.insert(0, sys.argv[1])
import requests
from doubleword.server.api import Api
from doubleword.server.transfers import Upload
from doubleword.system import System
with open(sys.argv[3], "rb") as file:
    sha256 = hashlib.sha256()
    while block := file.read(1 << 20): sha256.update(block)
    file.seek(0)
    began = time.perf_counter()
    body = Upload(file, os.path.getsize(sys.argv[3]), sha256.hexdigest(), "u.jsonl", "boundary", lambda size: None)
    Api(sys.argv[2], "any", System()).upload(body)
    print(time.perf_counter() - began)
"""
RECEIVE = """
import sys, time
sys.path.insert(0, sys.argv[1])
import requests
from doubleword.server.api import Api
from doubleword.system import System
began = time.perf_counter()
with open(sys.argv[3], "wb") as file:
    for block in Api(sys.argv[2], "any", System()).content("out-f"): file.write(block)
print(time.perf_counter() - began)
"""
JOIN = """
import csv, json, sys
answers = {}
for path in sys.argv[3:]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            body = value["response"]["body"]
            first, usage = body["choices"][0], body["usage"]
            answers[value["custom_id"]] = (
                first["message"]["content"], first["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]
            )
with open(sys.argv[1], newline="", encoding="utf-8") as f, open(sys.argv[2], "w", newline="", encoding="utf-8") as out:
    rows, writer = csv.reader(f), csv.writer(out)
    writer.writerow([*next(rows), "custom_id", "answer", "finish_reason", "prompt_tokens", "completion_tokens"])
    for number, row in enumerate(rows, 1):
        custom_id = f"row-{number:07d}"
        writer.writerow([*row, custom_id, *answers[custom_id]])
"""
JOIN_PARQUET = """
import json, sys
import pyarrow, pyarrow.parquet
answers = {}
for path in sys.argv[3:]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            body = value["response"]["body"]
            first, usage = body["choices"][0], body["usage"]
            answers[value["custom_id"]] = (
                first["message"]["content"], first["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]
            )
table = pyarrow.parquet.read_table(sys.argv[1])
ids = [f"row-{number:07d}" for number in range(1, len(table) + 1)]
added = zip(*(answers[custom_id] for custom_id in ids))
for name, column in zip(["custom_id", "answer", "finish_reason", "prompt_tokens", "completion_tokens"], [ids, *added]):
    table = table.append_column(name, pyarrow.array(column))
pyarrow.parquet.write_table(table, sys.argv[2])
"""
TO_PARQUET = """
import sys
import pyarrow.csv, pyarrow.parquet
options = pyarrow.csv.ParseOptions(newlines_in_values=True)
pyarrow.parquet.write_table(pyarrow.csv.read_csv(sys.argv[1], parse_options=options), sys.argv[2])
"""
