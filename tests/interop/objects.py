"""`s3://` in a real store of objects: moto's S3 server.

usage: objects.py BINARY

A job of the command line and one of the service read their data from the store and leave their results there; a model is
made again from them, by both; an evaluation job writes its results there; what isn't there is refused. Prints what was
checked; any difference is an error."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from service import REPOSITORY, Service, ended, pairs, refused, wait

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}
SETTINGS = {"epochCount": "1", "batchSize": "8", "learningRate": ".0001", "generalData": "none"}


def request(name):
    return {
        "jobName": name,
        "customModelName": f"{name}-model",
        "roleArn": "arn:aws:iam::123456789012:role/R",
        "baseModelIdentifier": "amazon.titan-text-express-v1",
        "trainingDataConfig": {"s3Uri": "s3://my-bucket/data/train.jsonl"},
        "validationDataConfig": {"validators": [{"s3Uri": "s3://outcrop-examples/sentiment/validation.jsonl"}]},
        "outputDataConfig": {"s3Uri": "s3://my-bucket/out/"},
        "hyperParameters": SETTINGS,
    }


def keys(s3, prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="my-bucket", Prefix=prefix)
    return {entry["Key"].removeprefix(prefix): entry["Size"] for page in pages for entry in page.get("Contents", [])}


def results(s3, folder, home, job):
    """What a job left in the store is what it has in its own folder; gives where its artifacts are."""
    name = f"model-customization-job-{job}"
    local = home / "jobs" / job / "objects/outputs/my-bucket/out" / name
    expected = {str(path.relative_to(local)): path.stat().st_size for path in local.rglob("*") if path.is_file()}
    found = keys(s3, f"out/{name}/")
    assert found == expected and len(found) >= 5, (found, expected)
    assert not (home / "s3").exists(), "the home's buckets are not used"
    return f"s3://my-bucket/out/{name}/model_artifacts"


def command_line(binary, s3, folder, environment):
    home = folder / "home"
    environment = environment | {"OUTCROP_HOME": str(home)}

    def outcrop(*arguments):
        done = subprocess.run([binary, *arguments], env=environment, cwd=folder, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    (folder / "job.json").write_text(json.dumps(request("by-hand")))
    code, out, err = outcrop("train", "job.json")
    assert code == 0, err
    (job,) = os.listdir(home / "jobs")
    artifacts = results(s3, folder, home, job)
    copy = home / "jobs" / job / "objects/inputs/my-bucket/data/train.jsonl"
    assert copy.read_text() == pairs(24)
    assert outcrop("models", "delete", "by-hand-model")[0] == 0
    code, out, err = outcrop("models", "restore", artifacts)
    assert code == 0 and "by-hand-model" in out, err
    code, out, err = outcrop(
        *("train", "job.json", "--set", "trainingDataConfig.s3Uri=s3://my-bucket/none", "--set", "customModelName=none")
    )
    assert code == 1 and err.count("\n") == 1 and "`s3://my-bucket/none` doesn't exist" in err, err
    print(f"{len(keys(s3, 'out/'))} objects of a job of the command line")


def service_jobs(binary, s3, folder, environment):
    with Service(binary, folder, environment=environment) as service:
        client = service.client()
        made = client.create_model_customization_job(**request("served"))
        job = ended(client, made["jobArn"])
        assert job["status"] == "Completed", job
        artifacts = results(s3, folder, service.home, made["jobArn"][-12:])
        again = client.create_custom_model(
            modelName="again", modelSourceConfig={"s3DataSource": {"s3Uri": artifacts}}, roleArn=request("x")["roleArn"]
        )

        def active():
            model = client.get_custom_model(modelIdentifier=again["modelArn"])
            assert model["modelStatus"] != "Failed", model
            return model["modelStatus"] == "Active"

        wait(active)
        message = refused(
            "ValidationException",
            client.create_model_customization_job,
            **(request("other") | {"trainingDataConfig": {"s3Uri": "s3://my-bucket/data"}}),
        )
        assert "Uri should be a file, not a directory" in message, message
        message = refused(
            "ValidationException",
            client.create_model_customization_job,
            **(request("other") | {"outputDataConfig": {"s3Uri": "s3://no-bucket/out"}}),
        )
        assert "s3://no-bucket/out" in message and "check the bucket's name" in message, message
        evaluated(client, s3)
    print("a job, a model made again and an evaluation of the service")


def evaluated(client, s3):
    dataset = {"name": "mine", "datasetLocation": {"s3Uri": "s3://my-bucket/data/train.jsonl"}}
    config = {"taskType": "Classification", "dataset": dataset, "metricNames": ["Builtin.Accuracy"]}
    made = client.create_evaluation_job(
        jobName="scores",
        roleArn="arn:aws:iam::123456789012:role/R",
        evaluationConfig={"automated": {"datasetMetricConfigs": [config]}},
        inferenceConfig={"models": [{"bedrockModel": {"modelIdentifier": "served-model"}}]},
        outputDataConfig={"s3Uri": "s3://my-bucket/scores/"},
    )
    job = wait(lambda: (job := client.get_evaluation_job(jobIdentifier=made["jobArn"]))["status"] != "InProgress" and job)
    assert job["status"] == "Completed", job
    found = keys(s3, f"scores/scores/{made['jobArn'][-12:]}/models/1-served-model/")
    names = [name for name in found if name.endswith("_output.jsonl")]
    assert len(names) == 1 and "report/report.json" in found, found


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}".replace("0.0.0.0", "127.0.0.1")
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1",
        config=Config(proxies={}),
    )
    s3.create_bucket(Bucket="my-bucket")
    s3.put_object(Bucket="my-bucket", Key="data/train.jsonl", Body=pairs(24).encode())
    environment = os.environ | KEYS | {"OUTCROP_S3_ENDPOINT": endpoint}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        command_line(sys.argv[1], s3, Path(one), environment)
        service_jobs(sys.argv[1], s3, Path(other), environment)
    server.stop()
    print("moto's S3 is where s3:// is")


if __name__ == "__main__":
    main()
