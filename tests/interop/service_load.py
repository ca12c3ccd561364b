"""The service under load: 200 open connections that together send 40 list and get requests a second while a job trains.
No request may fail. Then, without a job, as many requests as the service answers: none of them may fail either.

usage: service_load.py BINARY [--times]

With --times, on a machine that has nothing else to do, the slowest hundredth beside the job may take 50 ms and the
job's median step may be 5 % longer in the seconds with requests than in those without, which take turns.
The standard library alone, so that what is measured is the service and not a client."""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONNECTIONS = 200
RATE = 40  # requests a second, all connections together
TURNS = 4  # times with requests and times without
SECONDS = 5  # of each
PATHS = ["/model-customization-jobs", "/custom-models", "/model-customization-jobs/trains", "/foundation-models"]


class Service:
    def __init__(self, binary, folder):
        self.home = folder / "home"
        log = folder / "serve.log"
        environment = os.environ | {"OUTCROP_HOME": str(self.home)}
        command = [binary, "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=environment, stderr=log.open("w"))
        while not (found := re.search(r"http://(\S+):(\d+)", log.read_text())):
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        self.host, self.port = found.group(1), int(found.group(2))


class Connection:
    """One connection that is kept open."""

    async def open(self, service):
        self.reader, self.writer = await asyncio.open_connection(service.host, service.port)
        self.host = f"{service.host}:{service.port}"
        return self

    async def send(self, method, path, body=b""):
        """Status and body of one request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        self.writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", answer).group(1))
        return int(answer.split(b" ", 2)[1]), json.loads(await self.reader.readexactly(length))


async def create(connection, name):
    request = {
        "jobName": name,
        "roleArn": "arn:aws:iam::123456789012:role/R",
        "baseModelIdentifier": "pebble",
        "trainingDataConfig": {"s3Uri": "s3://outcrop-examples/sentiment/train.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://bucket/out"},
        "hyperParameters": {"epochCount": "10", "batchSize": "4", "trainable": "all", "generalData": "none"},
    }
    status, body = await connection.send("POST", "/model-customization-jobs", json.dumps(request).encode())
    assert status == 201, body
    return body["jobArn"].rsplit("/", 1)[1]


def steps(service, job):
    """Seconds of each step so far."""
    path = service.home / "jobs" / job / "events.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["seconds"] for event in events if event["event"] == "step"]


async def training(service, connection, name):
    """Makes a job and waits until it trains."""
    job = await create(connection, name)
    while not steps(service, job):
        await asyncio.sleep(0.1)
    return job


async def stop(service, name):
    connection = await Connection().open(service)  # one that was silent for the whole run would be closed by now
    await connection.send("POST", f"/model-customization-jobs/{name}/stop")
    while (await connection.send("GET", f"/model-customization-jobs/{name}"))[1]["status"] in ("InProgress", "Stopping"):
        await asyncio.sleep(0.2)


async def paced(connection, number, times, errors):
    """This connection's share of the rate, its turns spread evenly."""
    interval = CONNECTIONS / RATE
    begin = time.perf_counter() + number / RATE
    for turn in range(int(SECONDS / interval)):
        await asyncio.sleep(max(0, begin + turn * interval - time.perf_counter()))
        sent = time.perf_counter()
        status, body = await connection.send("GET", PATHS[(number + turn) % len(PATHS)])
        times.append(time.perf_counter() - sent)
        if status != 200:
            errors.append(body)


async def unthrottled(connection, until, times, errors):
    while (sent := time.perf_counter()) < until:
        status, body = await connection.send("GET", PATHS[len(times) % len(PATHS)])
        times.append(time.perf_counter() - sent)
        if status != 200:
            errors.append(body)


def p99(times):
    return sorted(times)[int(len(times) * 0.99)] * 1e3


async def turn(service, job, work):
    """Seconds of the steps that the job took while `work` went on."""
    before = len(steps(service, job))
    await work
    return steps(service, job)[before + 1 :]  # the first one began before


async def measure(service, strict):
    control = await Connection().open(service)
    connections = [await Connection().open(service) for _ in range(CONNECTIONS)]
    job = await training(service, control, "trains")
    times, errors, alone, loaded = [], [], [], []
    for _ in range(TURNS):
        requests = (paced(connection, number, times, errors) for number, connection in enumerate(connections))
        alone += await turn(service, job, asyncio.sleep(SECONDS))
        loaded += await turn(service, job, asyncio.gather(*requests))
    await stop(service, "trains")
    assert not errors, errors[:3]
    longer = statistics.median(loaded) / statistics.median(alone) - 1
    print(f"{len(times)} requests over {CONNECTIONS} connections beside a job: p99 {p99(times):.1f} ms")
    print(f"median step {statistics.median(alone) * 1e3:.2f} ms alone, {longer:+.1%} beside the requests")
    free = []
    until = time.perf_counter() + SECONDS
    await asyncio.gather(*(unthrottled(connection, until, free, errors) for connection in connections))
    assert not errors, errors[:3]
    print(f"without a job: {len(free) / SECONDS:.0f} requests a second, p99 {p99(free):.0f} ms, no error")
    if strict:
        assert p99(times) < 50, "the slowest hundredth took longer than 50 ms"
        assert longer < 0.05, "the job's steps are more than 5 % longer"


def main():
    with tempfile.TemporaryDirectory() as folder:
        service = Service(sys.argv[1], Path(folder))
        try:
            asyncio.run(measure(service, "--times" in sys.argv[2:]))
        finally:
            service.process.terminate()
            service.process.wait()


if __name__ == "__main__":
    main()
